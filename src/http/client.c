/* SPDX-License-Identifier: Apache-2.0 */
#include "http/client.h"
#include "base/cleanup.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>

#define ROOM_FIRST 4096
/* An answer comes in no more pieces than these, and one for each so many bytes: who sends byte by
 * byte would keep whoever asks at nothing but reading. */
#define PIECES_MOST 1024
#define PIECE_BYTES 1024

struct http_question {
	int fd;
	char *socket;
	char *text; /* of the request */
	size_t length, sent;
	char *got; /* head and body */
	size_t room, count, most;
	size_t pieces;
};

static int connect_to(const char *path, struct error *err)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (strlen(path) >= sizeof(address.sun_path))
		return error_set(err, ENAMETOOLONG,
			"%s: longer than a socket's path may be; use a shorter one", path);
	memcpy(address.sun_path, path, strlen(path));
	if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return steal_fd(&fd);
	return error_set(err, errno,
		"%s: no machine answers there: %s; name the socket of a running one, which was "
		"started with --api-sock %s",
		path, strerror(errno), path);
}

static int write_request(struct http_question *question, const struct http_ask *ask)
{
	const char *body = ask->body ? ask->body : "";
	char size[64] = "";
	int length;

	if (ask->body)
		snprintf(size, sizeof(size), "Content-Length: %zu\r\n", strlen(body));
	length = asprintf(&question->text,
		"%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%s\r\n%s", ask->method,
		ask->path, size, body);
	if (length < 0) {
		question->text = NULL;
		return -ENOMEM;
	}
	question->length = (size_t)length;
	return 0;
}

int http_question_open(struct http_question **out, const struct http_ask *ask, struct error *err)
{
	struct http_question *question = calloc(1, sizeof(*question));

	if (!question)
		return error_errno(err, ENOMEM, "%s", ask->socket);
	question->most = ask->answer_max;
	question->fd = connect_to(ask->socket, err);
	if (question->fd < 0) {
		int ret = question->fd;

		free(question);
		return ret;
	}
	question->socket = strdup(ask->socket);
	if (!question->socket || write_request(question, ask) < 0) {
		http_question_close(question);
		return error_errno(err, ENOMEM, "%s", ask->socket);
	}
	*out = question;
	return 0;
}

int http_question_fd(const struct http_question *question)
{
	return question->fd;
}

short http_question_events(const struct http_question *question)
{
	return question->sent < question->length ? POLLOUT : POLLIN;
}

/* A server that has refused may have closed already; what it said can be read yet. */
static int send_some(struct http_question *question)
{
	while (question->sent < question->length) {
		ssize_t count = send(question->fd, question->text + question->sent,
			question->length - question->sent, MSG_NOSIGNAL);

		if (count < 0 && errno == EAGAIN)
			return 1;
		if (count < 0 && (errno == EPIPE || errno == ECONNRESET))
			question->sent = question->length;
		else if (count < 0 && errno != EINTR)
			return -errno;
		question->sent += count > 0 ? (size_t)count : 0;
	}
	return 0;
}

/* One byte more than what may come, for the null at the end. */
static int make_room(struct http_question *question)
{
	size_t room = question->room ? question->room * 2 : ROOM_FIRST;
	char *got;

	if (question->room - question->count >= 2)
		return 0;
	if (question->count > question->most)
		return -EMSGSIZE;
	got = realloc(question->got, room);
	if (!got)
		return -ENOMEM;
	question->got = got;
	question->room = room;
	return 0;
}

/* Up to the end of the connection, which the request asked for. 0: it is there. */
static int read_some(struct http_question *question)
{
	for (;;) {
		int ret = make_room(question);
		ssize_t count;

		if (ret < 0)
			return ret;
		count = recv(question->fd, question->got + question->count,
			question->room - question->count - 1, 0);
		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0 && errno == EAGAIN)
			return 1;
		if (count < 0 && !question->count)
			return -errno;
		if (count <= 0) {
			question->got[question->count] = 0;
			return 0;
		}
		question->count += (size_t)count;
		if (++question->pieces > PIECES_MOST + question->count / PIECE_BYTES)
			return -EBADMSG;
	}
}

/* "HTTP/1.1 200": three digits, no sign and no other blanks, which scanf() would take. */
static bool read_status(const char *text, unsigned *status)
{
	static const char version[] = "HTTP/1.1 ";
	const size_t length = sizeof(version) - 1;

	if (strncmp(text, version, length) != 0)
		return false;
	*status = 0;
	for (unsigned i = 0; i < 3; i++) {
		if (text[length + i] < '0' || text[length + i] > '9')
			return false;
		*status = *status * 10 + (unsigned)(text[length + i] - '0');
	}
	return true;
}

/* Its body must be whole. */
static bool parse(const struct http_question *question, struct http_answer *answer)
{
	const char *end, *length;
	size_t body;

	if (!read_status(question->got, &answer->status))
		return false;
	end = strstr(question->got, "\r\n\r\n");
	if (!end)
		return false;
	answer->body = end + 4;
	answer->length = question->count - (size_t)(answer->body - question->got);
	length = strcasestr(question->got, "\r\nContent-Length:");
	if (!length || length > end)
		return true;
	body = strtoull(length + 17, NULL, 10);
	if (body > answer->length)
		return false;
	answer->length = body;
	return true;
}

static int no_answer(const struct http_question *question, int error, struct error *err)
{
	if (error == EMSGSIZE)
		return error_set(err, error, "%s: its answer is larger than %zu bytes",
			question->socket, question->most);
	if (question->pieces > PIECES_MOST + question->count / PIECE_BYTES)
		return error_set(err, error, "%s: its answer comes in %zu pieces; is it a duet?",
			question->socket, question->pieces);
	return error_set(err, error,
		"%s: no answer that is one; see whether duet still runs, and whether it is its "
		"--api-sock",
		question->socket);
}

int http_question_go_on(
	struct http_question *question, struct http_answer *answer, struct error *err)
{
	int ret = send_some(question);

	if (ret == 0)
		ret = read_some(question);
	if (ret == 0 && !parse(question, answer))
		ret = -EBADMSG;
	return ret < 0 ? no_answer(question, -ret, err) : ret;
}

int http_question_wait(struct http_question *question, unsigned patience_ms,
	struct http_answer *answer, struct error *err)
{
	struct pollfd fd = {.fd = question->fd, .events = http_question_events(question)};

	if (poll(&fd, 1, (int)patience_ms) == 0)
		return error_set(err, ETIMEDOUT, "%s: nothing came for %u ms", question->socket,
			patience_ms);
	return http_question_go_on(question, answer, err);
}

int http_question_finish(struct http_question *question, unsigned patience_ms,
	struct http_answer *answer, struct error *err)
{
	int ret;

	do
		ret = http_question_wait(question, patience_ms, answer, err);
	while (ret > 0);
	return ret;
}

void http_question_close(struct http_question *question)
{
	if (!question)
		return;
	close(question->fd);
	free(question->socket);
	free(question->text);
	free(question->got);
	free(question);
}
