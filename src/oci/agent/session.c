/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/agent/session.h"

#include "base/bytes.h"
#include "base/cleanup.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

enum {
	AT_CONNECTION,
	AT_IN,
	AT_OUT,
	AT_ERR,
};

void session_begin(struct session *session, int fd, bool control)
{
	*session = (struct session){.fd = fd,
		.control = control,
		.input = {.limit = frame_agent_takes},
		.child = {.in = -1, .out = -1, .err = -1}};
}

static void close_end(int *fd)
{
	cleanup_close(fd);
	*fd = -1;
}

void session_end(struct session *session)
{
	if (session->process && !session->exited && session->child.pid > 0)
		kill(session->child.pid, SIGHUP);
	close_end(&session->child.in);
	close_end(&session->child.out);
	close_end(&session->child.err);
	close_end(&session->fd);
	frame_input_free(&session->input);
	free(session->held);
	free(session->queue);
	session->held = session->queue = NULL;
	session->held_length = 0;
	session->queue_at = session->queue_length = 0;
}

int session_queue(struct session *session, uint32_t type, const void *payload, uint32_t length)
{
	uint8_t *queue = realloc(session->queue, session->queue_length + FRAME_HEAD + length);

	if (!queue)
		return -ENOMEM;
	session->queue = queue;
	store_le32(queue + session->queue_length, type);
	store_le32(queue + session->queue_length + 4, length);
	if (length)
		memcpy(queue + session->queue_length + FRAME_HEAD, payload, length);
	session->queue_length += FRAME_HEAD + length;
	return 0;
}

int session_queue_numbers(struct session *session, uint32_t type, uint32_t first, uint32_t second)
{
	uint8_t payload[8];

	store_le32(payload, first);
	store_le32(payload + 4, second);
	return session_queue(session, type, payload, sizeof(payload));
}

static int flush(struct session *session)
{
	ssize_t sent;

	while (session->queue_at < session->queue_length) {
		sent = send(session->fd, session->queue + session->queue_at,
			session->queue_length - session->queue_at, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (sent < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		session->queue_at += (size_t)sent;
	}
	free(session->queue);
	session->queue = NULL;
	session->queue_at = session->queue_length = 0;
	return 0;
}

void session_exited(struct session *session, int status)
{
	if (session->fd < 0 || session->exited)
		return;
	session->exited = true;
	session->status = WIFSIGNALED(status) ? 128 + (uint32_t)WTERMSIG(status)
					      : (uint32_t)WEXITSTATUS(status);
}

bool session_has_more(const struct session *session)
{
	return session->fd >= 0 && session->exited && !session->ended && !session->queue_length;
}

void session_polls(const struct session *session, struct pollfd *items)
{
	const bool clear = !session->queue_length;

	for (unsigned i = 0; i < SESSION_POLLS; i++)
		items[i] = (struct pollfd){.fd = -1};
	items[AT_CONNECTION] = (struct pollfd){.fd = session->fd,
		.events = (short)((session->queue_length < SESSION_QUEUE_MAX ? POLLIN : 0) |
				  (clear ? 0 : POLLOUT))};
	if (session->held_length)
		items[AT_IN] = (struct pollfd){.fd = session->child.in, .events = POLLOUT};
	if (clear) {
		items[AT_OUT] = (struct pollfd){.fd = session->child.out, .events = POLLIN};
		items[AT_ERR] = (struct pollfd){.fd = session->child.err, .events = POLLIN};
	}
}

/* ---- to the process ---- */

static int give_input(struct session *session)
{
	ssize_t given = 0;

	if (session->held_length && session->child.in >= 0) {
		given = write(session->child.in, session->held, session->held_length);
		if (given < 0 && (errno == EAGAIN || errno == EINTR))
			return 0;
		/* Nobody reads any more: what comes is passed over. */
		if (given < 0)
			close_end(&session->child.in);
	}
	if (session->child.in < 0)
		given = session->held_length;
	memmove(session->held, session->held + given, session->held_length - (size_t)given);
	session->held_length -= (uint32_t)given;
	if (session->input_ended && !session->held_length)
		close_end(&session->child.in);
	return given ? session_queue_numbers(session, FRAME_TAKEN, (uint32_t)given, 0) : 0;
}

static int take_input(struct session *session, const struct frame *frame)
{
	if (session->input_ended || frame->length > FRAME_INPUT_ROOM - session->held_length)
		return -EPROTO;
	if (!session->held)
		session->held = malloc(FRAME_INPUT_ROOM);
	if (!session->held)
		return -ENOMEM;
	memcpy(session->held + session->held_length, frame->payload, frame->length);
	session->held_length += frame->length;
	session->input_ended = !frame->length;
	return give_input(session);
}

static int take_size(const struct session *session, uint32_t rows, uint32_t columns)
{
	const struct winsize size = {
		.ws_row = (unsigned short)rows, .ws_col = (unsigned short)columns};

	/* What has no terminal has no size. */
	if (session->child.out >= 0)
		ioctl(session->child.out, TIOCSWINSZ, &size);
	return 0;
}

static int take_signal(const struct session *session, uint32_t number)
{
	if (!number || number > (uint32_t)SIGRTMAX)
		return -EPROTO;
	if (!session->exited && session->child.pid > 0)
		kill(session->child.pid, (int)number);
	return 0;
}

int session_take(struct session *session, const struct frame *frame)
{
	uint32_t first, second;

	if (!session->process)
		return -EPROTO;
	if (frame->type == FRAME_INPUT)
		return take_input(session, frame);
	if (frame_numbers(frame, &first, &second) < 0)
		return -EPROTO;
	if (frame->type == FRAME_RESIZE)
		return take_size(session, first, second);
	return frame->type == FRAME_SIGNAL ? take_signal(session, first) : -EPROTO;
}

/* ---- from it ---- */

/* One piece, if there is one. The end closes it; so does, once the process has ended, that there
 * is nothing: who still holds the other end is not what was waited for. */
static int take_output(struct session *session, int *fd, uint32_t type)
{
	uint8_t some[FRAME_DATA_MAX];
	ssize_t got;

	if (*fd < 0 || session->queue_length)
		return 0;
	got = read(*fd, some, sizeof(some));
	if (got > 0)
		return session_queue(session, type, some, (uint32_t)got);
	if (got == 0 || (errno != EAGAIN && errno != EINTR) || (errno == EAGAIN && session->exited))
		close_end(fd);
	return 0;
}

int session_go_on(struct session *session, const struct pollfd *items)
{
	int ret = flush(session);

	if (ret == 0 && items[AT_IN].revents)
		ret = give_input(session);
	if (ret == 0 && (items[AT_OUT].revents || session->exited))
		ret = take_output(session, &session->child.out, FRAME_OUTPUT);
	if (ret == 0 && (items[AT_ERR].revents || session->exited))
		ret = take_output(session, &session->child.err, FRAME_ERRORS);
	if (ret == 0 && session->exited && !session->ended && session->child.out < 0 &&
		session->child.err < 0) {
		session->ended = true;
		ret = session_queue_numbers(session, FRAME_EXIT, session->status, 0);
	}
	return ret ?: flush(session);
}
