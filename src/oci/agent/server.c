/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/agent/server.h"

#include "base/cleanup.h"
#include "oci/agent/session.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

struct server {
	const struct server_ops *ops;
	void *opaque;
	int listener, signals;
	bool over;
	bool set_up;
	struct session sessions[SERVER_SESSIONS];
};

#define POLLS (2 + SERVER_SESSIONS * SESSION_POLLS)

static int answer(struct session *session, int ret, const struct error *err)
{
	if (ret < 0)
		return session_queue(session, FRAME_FAILED, err->text, (uint32_t)strlen(err->text));
	return session_queue(session, FRAME_OK, NULL, 0);
}

static int answer_wire(struct session *session, struct wire *wire)
{
	int ret = wire_end(wire)
			  ?: session_queue(session, FRAME_OK, wire->bytes, (uint32_t)wire->length);

	free(wire->bytes);
	return ret;
}

/* ---- what is asked ---- */

static int do_setup(struct server *server, struct session *session, const struct frame *frame)
{
	struct setup setup = {0};
	struct error err = {0};
	struct wire wire;
	int ret;

	if (!session->control || server->set_up)
		return -EPROTO;
	server->set_up = true;
	wire_read(&wire, frame->payload, frame->length);
	wire_setup(&wire, &setup);
	ret = wire_end(&wire);
	if (ret == 0) {
		ret = server->ops->setup(server->opaque, &setup, &session->child, &err);
		session->process = ret == 0;
		ret = answer(session, ret, &err);
	}
	setup_free(&setup);
	return ret;
}

static int do_exec(struct server *server, struct session *session, const struct frame *frame)
{
	struct process process = {0};
	struct error err = {0};
	struct wire wire;
	int ret;

	if (session->process || session->control)
		return -EPROTO;
	wire_read(&wire, frame->payload, frame->length);
	wire_process(&wire, &process);
	ret = wire_end(&wire);
	if (ret == 0) {
		ret = server->ops->exec(server->opaque, &process, &session->child, &err);
		session->process = ret == 0;
		ret = answer(session, ret, &err);
	}
	process_free(&process);
	return ret;
}

static int do_kill(struct server *server, struct session *session, const struct frame *frame)
{
	uint32_t number, all;
	struct error err = {0};

	if (frame_numbers(frame, &number, &all) < 0 || number > (uint32_t)SIGRTMAX || all > 1)
		return -EPROTO;
	return answer(session, server->ops->kill(server->opaque, (int)number, all, &err), &err);
}

static int do_list(struct server *server, struct session *session)
{
	struct listing listing = {0};
	struct error err = {0};
	struct wire wire;
	int ret = server->ops->list(server->opaque, &listing, &err);

	if (ret < 0) {
		ret = answer(session, ret, &err);
	} else {
		wire_write(&wire);
		wire_listing(&wire, &listing);
		ret = answer_wire(session, &wire);
	}
	listing_free(&listing);
	return ret;
}

static int do_usage(struct server *server, struct session *session)
{
	struct usage usage = {0};
	struct error err = {0};
	struct wire wire;
	int ret = server->ops->usage(server->opaque, &usage, &err);

	if (ret < 0)
		return answer(session, ret, &err);
	wire_write(&wire);
	wire_usage(&wire, &usage);
	return answer_wire(session, &wire);
}

static int take(struct server *server, struct session *session, const struct frame *frame)
{
	struct error err = {0};

	switch (frame->type) {
	case FRAME_SETUP:
		return do_setup(server, session, frame);
	case FRAME_EXEC:
		return do_exec(server, session, frame);
	case FRAME_START:
		return answer(session, server->ops->start(server->opaque, &err), &err);
	case FRAME_KILL:
		return do_kill(server, session, frame);
	case FRAME_LIST:
		return do_list(server, session);
	case FRAME_USAGE:
		return do_usage(server, session);
	default:
		return session_take(session, frame);
	}
}

/* All that came, as long as who asks takes the answers too. */
static int read_frames(struct server *server, struct session *session)
{
	struct frame frame;
	int ret = 0;

	while (ret == 0 && session->queue_length < SESSION_QUEUE_MAX) {
		ret = frame_take(&session->input, session->fd, &frame);
		if (ret <= 0)
			return ret;
		ret = take(server, session, &frame);
	}
	return ret;
}

/* ---- who is there ---- */

static struct session *find_place(struct server *server)
{
	for (unsigned i = 0; i < SERVER_SESSIONS; i++)
		if (server->sessions[i].fd < 0)
			return &server->sessions[i];
	return NULL;
}

static void add(struct server *server, int fd, bool control)
{
	struct session *session = find_place(server);

	if (session)
		session_begin(session, fd, control);
	else
		close(fd); /* he sees the end, and says so */
}

static void accept_one(struct server *server)
{
	const int fd = accept4(server->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd >= 0 && server->ops->trusts(server->opaque, fd))
		add(server, fd, false);
	else if (fd >= 0)
		close(fd);
}

static void note_end(struct server *server, pid_t pid, int status)
{
	for (unsigned i = 0; i < SERVER_SESSIONS; i++)
		if (server->sessions[i].child.pid == pid)
			session_exited(&server->sessions[i], status);
}

static void reap(struct server *server)
{
	struct signalfd_siginfo info;
	int status;
	pid_t pid;

	if (read(server->signals, &info, sizeof(info)) < 0)
		return;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		note_end(server, pid, status);
}

static void attend(struct server *server, struct session *session, const struct pollfd *items)
{
	int ret = 0;

	if (session->fd < 0)
		return;
	if (items->revents & (POLLIN | POLLHUP | POLLERR))
		ret = read_frames(server, session);
	if (ret == 0)
		ret = session_go_on(session, items);
	if (ret == 0)
		return;
	server->over = server->over || session->control;
	session_end(session);
}

static bool is_busy(const struct server *server)
{
	for (unsigned i = 0; i < SERVER_SESSIONS; i++)
		if (session_has_more(&server->sessions[i]))
			return true;
	return false;
}

static int run(struct server *server, struct pollfd *items)
{
	while (!server->over) {
		items[0] = (struct pollfd){.fd = server->listener, .events = POLLIN};
		items[1] = (struct pollfd){.fd = server->signals, .events = POLLIN};
		for (unsigned i = 0; i < SERVER_SESSIONS; i++)
			session_polls(&server->sessions[i], items + 2 + (size_t)i * SESSION_POLLS);
		if (poll(items, POLLS, is_busy(server) ? 0 : -1) < 0 && errno != EINTR)
			return -errno;
		if (items[1].revents)
			reap(server);
		for (unsigned i = 0; i < SERVER_SESSIONS; i++)
			attend(server, &server->sessions[i], items + 2 + (size_t)i * SESSION_POLLS);
		if (items[0].revents)
			accept_one(server);
	}
	return 0;
}

int server_run(const struct server_ops *ops, void *opaque, int control, int listener)
{
	struct server *server = calloc(1, sizeof(*server));
	struct pollfd *items = calloc(POLLS, sizeof(*items));
	sigset_t set;
	int ret = -ENOMEM;

	if (server && items) {
		*server = (struct server){.ops = ops, .opaque = opaque, .listener = listener};
		for (unsigned i = 0; i < SERVER_SESSIONS; i++)
			session_begin(&server->sessions[i], -1, false);
		sigemptyset(&set);
		sigaddset(&set, SIGCHLD);
		server->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
		add(server, control, true);
		ret = server->signals < 0 ? -errno : run(server, items);
		for (unsigned i = 0; i < SERVER_SESSIONS; i++)
			session_end(&server->sessions[i]);
		cleanup_close(&server->signals);
	}
	close(listener);
	free(items);
	free(server);
	return ret;
}
