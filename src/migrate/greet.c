/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/greet.h"

#include "base/clock.h"

#include <errno.h>
#include <string.h>

static int greet(struct source *source, unsigned index, struct error *err)
{
	struct channel *channel = &source->channels[index];
	struct wire_hello hello = {.version = WIRE_VERSION,
		.streams = source->streams,
		.index = index,
		.wait = source->wait};
	uint8_t bytes[WIRE_HELLO_SIZE];
	struct message answer = {0};
	int ret;

	memcpy(hello.id, source->id, sizeof(hello.id));
	wire_put_hello(bytes, &hello);
	ret = channel_send(channel, WIRE_HELLO, bytes, sizeof(bytes), "", 0, err);
	if (ret == 0)
		ret = channel_expect(channel, &answer, WIRE_WELCOME, err);
	if (ret == 0)
		ret = wire_get_hello(&hello, answer.body, answer.header.length, err);
	if (ret == 0 && memcmp(bytes, answer.body, sizeof(bytes)) != 0)
		ret = error_set(err, EPROTO, "the other side welcomes somebody else");
	message_free(&answer);
	return ret;
}

/* By a target that may not have noticed yet that the line before was cut. */
#define AGAIN_S 20

int greet_all(struct source *source, bool again, struct error *err)
{
	const unsigned count = source->streams + (source->wait ? 1 : 0);
	int ret = 0;

	for (unsigned i = 0; ret == 0 && i < count; i++) {
		if (i > 0 || again)
			ret = source->connect(source->opaque, &source->channels[i], err);
		if (ret == 0 && again)
			source->channels[i].until = clock_ns() + AGAIN_S * SECOND_NS;
		if (ret == 0)
			ret = greet(source, i, err);
		if (ret == 0)
			source->channels[i].until = 0;
	}
	return ret;
}
