/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes from a host to the guest's agent: a session of its server, whose process is a pair of
 * pipes. */
#include "oci/agent/session.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void take_message(const struct frame *frame)
{
	struct setup setup = {0};
	struct process process = {0};
	struct wire wire;

	wire_read(&wire, frame->payload, frame->length);
	if (frame->type == FRAME_SETUP)
		wire_setup(&wire, &setup);
	else
		wire_process(&wire, &process);
	if (wire_end(&wire) == 0 && frame->type == FRAME_SETUP &&
		(!setup.process.args.count || !setup.root_type || !setup.process.cwd))
		abort();
	setup_free(&setup);
	process_free(&process);
}

static void run(struct session *session)
{
	struct pollfd items[SESSION_POLLS];
	struct frame frame;
	int ret;

	do {
		ret = frame_take(&session->input, session->fd, &frame);
		if (ret <= 0)
			return;
		if (frame.type == FRAME_SETUP || frame.type == FRAME_EXEC)
			take_message(&frame);
		else
			ret = session_take(session, &frame);
		if (session->held_length > FRAME_INPUT_ROOM)
			abort();
		session_polls(session, items);
		poll(items, SESSION_POLLS, 0);
		if (ret >= 0)
			ret = session_go_on(session, items);
	} while (ret >= 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct session session;
	int line[2], in[2], out[2];

	if (size > 65536 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, line) < 0)
		return 0;
	if (pipe2(in, O_NONBLOCK) < 0 || pipe2(out, O_NONBLOCK) < 0 ||
		write(line[1], data, size) != (ssize_t)size)
		abort();
	shutdown(line[1], SHUT_WR);
	session_begin(&session, line[0], false);
	session.process = true;
	session.child = (struct child){0, in[1], out[0], -1};
	run(&session);
	session_end(&session);
	close(line[1]);
	close(in[0]);
	close(out[1]);
	return 0;
}
