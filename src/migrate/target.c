/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/target.h"

#include "base/bytes.h"
#include "base/log.h"
#include "base/thread.h"
#include "migrate/pages.h"
#include "state/crc32c.h"
#include "state/state.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define STACK_SIZE (128U << 10)
/* All streams of a source are there. */
#define STREAMS_S 30
/* A connection that says nothing holds up others for so long. */
#define HELLO_S 10

struct lane {
	struct target *target;
	struct channel channel;
	struct message message;
	struct wire_last seen;
	struct decompressor *decompressor; /* null: no pages came compressed so far */
	pthread_t thread;
	bool started;
	int result;
	struct error err;
};

struct target {
	const struct target_ops *ops;
	int listening, stop;
	const struct mtls *tls;
	struct wire_hello hello; /* of the source that was welcomed */
	struct memory *memory;
	struct arrival *arrival; /* null: all of memory comes before it runs */
	struct lane lanes[WIRE_STREAMS_MAX + 1];
	unsigned connected, streams; /* streams: those that bring pages in rounds */
	_Atomic bool broken;
	bool late;  /* pages lack when it runs */
	bool ready; /* and it was said so: from then on the source may give it away */
};

/* ---- they come to know each other ---- */

/* A source's first stream, or another of one that was welcomed already. */
static int check_hello(
	const struct target *target, const struct wire_hello *hello, struct error *err)
{
	if (hello->index != target->connected)
		return error_set(err, EPROTO, "stream %u came where %u was to come", hello->index,
			target->connected);
	if (target->connected &&
		(hello->streams != target->hello.streams || hello->wait != target->hello.wait ||
			memcmp(hello->id, target->hello.id, WIRE_ID) != 0))
		return error_set(err, EBUSY,
			"another machine is on its way here; start a second duet run --incoming");
	return 0;
}

static int read_hello(const struct target *target, struct channel *channel,
	struct wire_hello *hello, struct error *err)
{
	struct message message = {0};
	uint8_t bytes[WIRE_HELLO_SIZE];
	int ret = channel_expect(channel, &message, WIRE_HELLO, err);

	if (ret == 0)
		ret = wire_get_hello(hello, message.body, message.header.length, err);
	if (ret == 0)
		ret = check_hello(target, hello, err);
	message_free(&message);
	wire_put_hello(bytes, hello);
	return ret == 0 ? channel_send(channel, WIRE_WELCOME, bytes, sizeof(bytes), "", 0, err)
			: ret;
}

/* 1: one that is of no use, which was told so. */
static int welcome(struct target *target, int fd, struct error *err)
{
	struct channel channel;
	struct wire_hello hello = {0};
	int ret = channel_open(&channel, fd, target->stop, target->tls, true, HELLO_S, err);

	if (ret == 0)
		ret = read_hello(target, &channel, &hello, err);
	if (ret < 0) {
		if (ret == -ECANCELED)
			error_set(err, ECANCELED, "the target was ended");
		channel_fail(&channel, err->text);
		channel_close(&channel);
		return ret == -ECANCELED ? ret : 1;
	}
	channel.until = 0;
	target->hello = hello;
	target->lanes[target->connected].channel = channel;
	target->lanes[target->connected].target = target;
	target->connected++;
	target->streams = hello.streams;
	return 0;
}

static int await_source(struct target *target, struct error *err)
{
	int ret = 0;

	while (ret >= 0 &&
		(!target->connected || target->connected < wire_connections(&target->hello))) {
		int fd = address_accept(
			target->listening, target->stop, target->connected ? STREAMS_S : 0, err);

		ret = fd < 0 ? fd : welcome(target, fd, err);
		if (ret > 0)
			log_warning("--incoming: a connection was turned away: %s", err->text);
	}
	if (ret >= 0)
		*err = (struct error){0};
	return ret < 0 ? ret : 0;
}

static int take_config(struct target *target, struct error *err)
{
	struct lane *lane = &target->lanes[0];
	int ret = channel_expect(&lane->channel, &lane->message, WIRE_CONFIG, err);

	if (ret == 0)
		ret = target->ops->build(target->ops->opaque, (const char *)lane->message.body,
			lane->message.header.length, &target->memory,
			target->hello.wait ? &target->arrival : NULL, err);
	return ret == 0 ? channel_say(&lane->channel, WIRE_BUILT, err) : ret;
}

/* ---- memory ---- */

static int take_pages(struct lane *lane, struct error *err)
{
	const struct message *message = &lane->message;
	struct pages_seen seen = {0};
	uint8_t crc[4];
	int ret = pages_apply(lane->target->memory, NULL, message->body, message->header.length,
		&lane->decompressor, &seen, err);

	store_le32(crc, message->header.crc);
	lane->seen.crc = crc32c(lane->seen.crc, crc, sizeof(crc));
	lane->seen.messages++;
	lane->seen.pages += seen.full + seen.zero;
	return ret;
}

/* 0: that was the last of it; 1: there is more. */
static int take_message(struct lane *lane, struct error *err)
{
	struct message *message = &lane->message;
	int ret = channel_receive_either(&lane->channel, message, WIRE_PAGES, WIRE_LAST, err);

	if (ret < 0)
		return ret;
	if (atomic_load(&lane->target->broken))
		return error_set(err, ECANCELED, "another stream has failed");
	if (message->header.kind == WIRE_LAST)
		return wire_check_last(&lane->seen, message->body, message->header.length, err);
	ret = take_pages(lane, err);
	return ret < 0 ? ret : 1;
}

static void *take_lane(void *opaque)
{
	struct lane *lane = opaque;

	do
		lane->result = take_message(lane, &lane->err);
	while (lane->result > 0);
	if (lane->result < 0)
		atomic_store(&lane->target->broken, true);
	return NULL;
}

/* A stream whose source says nothing while others go on: the source decides how long that is. */
static void set_patience(struct target *target, unsigned patience)
{
	for (unsigned i = 0; i < target->streams; i++)
		target->lanes[i].channel.patience = patience;
}

static int result_of(const struct target *target, struct error *err)
{
	const struct lane *failed = NULL;

	for (unsigned i = 0; i < target->streams; i++) {
		const struct lane *lane = &target->lanes[i];

		if (lane->result < 0 && (!failed || failed->result == -ECANCELED))
			failed = lane;
	}
	return failed ? error_set(err, failed->err.code, "%s", failed->err.text) : 0;
}

static int start_lanes(struct target *target, struct error *err)
{
	for (unsigned i = 1; i < target->streams; i++) {
		struct lane *lane = &target->lanes[i];
		int ret = thread_start(&lane->thread, STACK_SIZE, take_lane, lane);

		lane->started = ret == 0;
		if (ret)
			return error_errno(err, ret, "--incoming: a thread for each stream");
	}
	return 0;
}

static int take_memory(struct target *target, struct error *err)
{
	int ret;

	set_patience(target, 0);
	ret = start_lanes(target, err);
	if (ret == 0)
		take_lane(&target->lanes[0]);
	else
		atomic_store(&target->broken, true);
	for (unsigned i = 1; i < target->streams; i++) {
		struct lane *lane = &target->lanes[i];

		/* Those that wait for more: there is no use in it. */
		if (lane->started && atomic_load(&target->broken))
			shutdown(lane->channel.fd, SHUT_RD);
		if (lane->started)
			pthread_join(lane->thread, NULL);
	}
	return ret < 0 ? ret : result_of(target, err);
}

/* ---- the rest ---- */

/* What lacks is named before the state, which is restored with an eye on memory. */
static int take_lacks(struct target *target, struct error *err)
{
	const enum wire_kind other = target->arrival ? WIRE_LACKS : WIRE_STATE;
	struct lane *lane = &target->lanes[0];

	for (;;) {
		int ret = channel_receive_either(
			&lane->channel, &lane->message, WIRE_STATE, other, err);

		if (ret < 0)
			return ret;
		if (lane->message.header.kind == WIRE_STATE)
			break;
		target->late = true;
		ret = arrival_lack(target->arrival, &lane->message, err);
		if (ret < 0)
			return ret;
	}
	return target->late ? arrival_begin(target->arrival, &target->hello,
				      &target->lanes[target->streams].channel, err)
			    : 0;
}

static int take_state(struct target *target, struct error *err)
{
	struct lane *lane = &target->lanes[0];
	struct state_reader reader;
	int ret = take_lacks(target, err);

	if (ret == 0)
		ret = state_reader_init(
			&reader, lane->message.body, lane->message.header.length, err);
	if (ret == 0)
		ret = target->ops->restore(target->ops->opaque, &reader, err);
	if (ret == 0)
		ret = channel_say(&lane->channel, WIRE_READY, err);
	target->ready = ret == 0 && target->late;
	return ret;
}

/* No limit to the wait: the source may have given it away already, and only the end of the
 * connection says that it has not, or that nobody will ever know. */
static int await_commit(struct target *target, struct error *err)
{
	struct lane *lane = &target->lanes[0];
	int ret;

	lane->channel.patience = 0;
	ret = channel_expect(&lane->channel, &lane->message, WIRE_COMMIT, err);
	lane->channel.patience = CHANNEL_PATIENCE_S;
	return ret == 0 && target->late ? arrival_commit(target->arrival, err) : ret;
}

static int take(struct target *target, struct error *err)
{
	int ret = await_source(target, err);

	if (ret == 0)
		ret = take_config(target, err);
	if (ret == 0)
		ret = take_memory(target, err);
	if (ret == 0)
		ret = take_state(target, err);
	if (ret == 0)
		ret = await_commit(target, err);
	return ret == 0 ? target->ops->run(target->ops->opaque, err) : ret;
}

/* The rest comes by the streams that brought the most of it. */
static void go_on(struct target *target)
{
	struct channel channels[WIRE_STREAMS_MAX];

	for (unsigned i = 0; i < target->streams; i++) {
		channels[i] = target->lanes[i].channel;
		target->lanes[i].channel = (struct channel){.fd = -1};
	}
	arrival_run(target->arrival, channels);
}

/* It does not run. Where the line may be made anew a source that has given it away asks once more,
 * and has to hear of it; what it answers is the same word. */
static void give_up(struct target *target, int result, const struct error *err)
{
	struct channel *channel = &target->lanes[0].channel;
	bool heard = !target->ready || result == -EREMOTEIO;

	if (!heard && channel_say_failed(channel, err->text))
		heard = channel_hear_failed(channel, CHANNEL_PATIENCE_S);
	else if (heard)
		channel_fail(channel, err->text);
	if (!heard)
		arrival_give_up(target->arrival, target->stop, err);
}

/* Whether or not the source hears of it. Of a line by which that was not said it hears that it is
 * cut, and need not wait for the word. */
static void say_running(struct channel *channel)
{
	if (channel_say(channel, WIRE_RUNNING, NULL) < 0)
		shutdown(channel->fd, SHUT_RDWR);
}

int target_run(const struct target_ops *ops, int listening, int stop, const struct mtls *tls,
	struct error *err)
{
	struct target *target = calloc(1, sizeof(*target));
	int ret;

	if (!target)
		return error_errno(err, ENOMEM, "--incoming");
	*target = (struct target){.ops = ops, .listening = listening, .stop = stop, .tls = tls};
	ret = take(target, err);
	if (ret == 0)
		say_running(&target->lanes[0].channel);
	else if (target->connected)
		give_up(target, ret, err);
	if (ret == 0 && target->late)
		go_on(target);
	for (unsigned i = 0; i < target->connected; i++) {
		channel_close(&target->lanes[i].channel);
		message_free(&target->lanes[i].message);
		decompressor_free(target->lanes[i].decompressor);
	}
	free(target);
	return ret;
}
