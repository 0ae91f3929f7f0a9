/* SPDX-License-Identifier: Apache-2.0 */
/* What comes to duet run --incoming: raw bytes, and messages with right checksums in any order. The
 * machine is memory alone. */
#include "base/log.h"
#include "input.h"
#include "migrate/target.h"
#include "state/state.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define MEMORY (4U << 20)
/* A socket takes so much without a reader. */
#define SENT_MAX 65536

struct rig {
	struct memory memory;
	int client, urgent;
	int listening;
	size_t sent;
	bool runs, late; /* late: memory may come after it runs */
	struct arrival *arrival;
};

static void arrival_ended(void *opaque, int result, const struct error *err)
{
	(void)opaque;
	(void)result;
	(void)err;
}

static void arrival_closed(void *opaque)
{
	(void)opaque;
}

/* Where the host lets us. */
static int make_arrival(struct rig *rig, struct arrival **arrival, struct error *err)
{
	const struct arrival_terms terms = {.memory = &rig->memory,
		.listening = rig->listening,
		.ops = {.ended = arrival_ended, .closed = arrival_closed}};

	if (arrival_new(&rig->arrival, &terms, err) < 0)
		return 0;
	*arrival = rig->arrival;
	return arrival_start(rig->arrival, err);
}

static int build(void *opaque, const char *text, size_t length, struct memory **memory,
	struct arrival **arrival, struct error *err)
{
	struct rig *rig = opaque;

	if (strnlen(text, length + 1) > length)
		abort();
	*memory = &rig->memory;
	if (rig->late && arrival && make_arrival(rig, arrival, err) < 0)
		return -EINVAL;
	return length % 7 ? 0 : error_set(err, EINVAL, "refused");
}

static int restore(void *opaque, struct state_reader *state, struct error *err)
{
	int ret;

	(void)opaque;
	while ((ret = state_section_next(state, err)) > 0)
		if (state_section_skip(state, err) < 0)
			return -EINVAL;
	return ret;
}

static int run(void *opaque, struct error *err)
{
	struct rig *rig = opaque;

	(void)err;
	rig->runs = true;
	return 0;
}

static void say(struct rig *rig, const void *bytes, size_t length)
{
	if (length > SENT_MAX - rig->sent)
		return;
	rig->sent += length;
	if (send(rig->client, bytes, length, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return;
}

static void say_message(struct rig *rig, enum wire_kind kind, const void *body, size_t length)
{
	uint8_t header[WIRE_HEADER];

	wire_seal(header, kind, body, length, "", 0);
	say(rig, header, sizeof(header));
	say(rig, body, length);
}

static void say_hello(struct rig *rig)
{
	struct wire_hello hello = {.version = WIRE_VERSION, .streams = 1, .wait = rig->late};
	uint8_t header[WIRE_HEADER], body[WIRE_HELLO_SIZE];

	wire_put_hello(body, &hello);
	say_message(rig, WIRE_HELLO, body, sizeof(body));
	if (!rig->late)
		return;
	hello.index = 1;
	wire_put_hello(body, &hello);
	wire_seal(header, WIRE_HELLO, body, sizeof(body), "", 0);
	if (send(rig->urgent, header, sizeof(header), MSG_NOSIGNAL) < 0 ||
		send(rig->urgent, body, sizeof(body), MSG_NOSIGNAL) < 0)
		abort();
}

static void say_messages(struct rig *rig, struct input *input)
{
	static uint8_t body[8192];

	say_hello(rig);
	say_message(rig, WIRE_CONFIG, "{\"duet\": 1}", 11);
	while (input->left) {
		unsigned kind = input_number(input, 1) % (WIRE_KINDS + 1);
		size_t length = input_number(input, 2) % sizeof(body);

		input_bytes(input, body, length);
		say_message(rig, kind, body, length);
	}
}

/* Of the kernel's choice: no file is left behind. */
static int make_listener(struct sockaddr_un *address, socklen_t *size)
{
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	*size = sizeof(sa_family_t);
	if (fd < 0 || bind(fd, (struct sockaddr *)address, *size) < 0 || listen(fd, 2) < 0)
		abort();
	*size = sizeof(*address);
	if (getsockname(fd, (struct sockaddr *)address, size) < 0)
		abort();
	return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};
	struct rig rig = {.client = socket(AF_UNIX, SOCK_STREAM, 0),
		.urgent = socket(AF_UNIX, SOCK_STREAM, 0)};
	unsigned how = input_number(&input, 1);
	const struct target_ops ops = {
		.build = build, .restore = restore, .run = run, .opaque = &rig};
	struct sockaddr_un address;
	struct error err = {0};
	socklen_t length;
	int listening = make_listener(&address, &length), stop = eventfd(0, EFD_NONBLOCK);

	log_set_level(LOG_LEVEL_ERROR);
	memory_init(&rig.memory);
	rig.listening = listening;
	rig.late = (how & 3) == 2;
	if (connect(rig.client, (struct sockaddr *)&address, length) < 0 ||
		(rig.late && connect(rig.urgent, (struct sockaddr *)&address, length) < 0) ||
		memory_add(&rig.memory, GPA(0), MEMORY, MEMORY_ANONYMOUS, "fuzz", &err) < 0)
		abort();
	if (how & 1)
		say(&rig, input.at, input.left);
	else
		say_messages(&rig, &input);
	shutdown(rig.client, SHUT_WR);
	/* Nobody else will come. */
	shutdown(listening, SHUT_RD);
	if ((target_run(&ops, listening, stop, NULL, &err) == 0) != rig.runs)
		abort();
	arrival_free(rig.arrival, false);
	close(rig.client);
	close(rig.urgent);
	close(listening);
	close(stop);
	memory_free(&rig.memory);
	return 0;
}
