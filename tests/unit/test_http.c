/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP server of the API: clients on real unix sockets, all on one loop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "loop_rig.h"

#include "base/checked.h"
#include "base/clock.h"
#include "http/server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BODY_MAX 1000
#define LINE     " HTTP/1.1\r\nHost: localhost\r\n"

struct rig {
	struct loop *loop;
	struct http_server *server;
	char directory[32], path[64];
	/* The last request, and what it gets. */
	char method[64], target[256];
	char body[BODY_MAX + 1];
	size_t length;
	unsigned requests;
	bool later;
	struct exchange *waiting[16];
	unsigned waiting_count;
};

static void take(void *opaque, const struct request *request, struct exchange *exchange)
{
	struct rig *rig = opaque;

	rig->requests++;
	snprintf(rig->method, sizeof(rig->method), "%s", request->method);
	snprintf(rig->target, sizeof(rig->target), "%s", request->path);
	assert_true(request->length <= BODY_MAX);
	memcpy(rig->body, request->body, request->length + 1);
	rig->length = request->length;
	if (rig->later)
		rig->waiting[rig->waiting_count++] = exchange;
	else if (strcmp(request->path, "/nothing") == 0)
		exchange->answer(exchange, 204, EXCHANGE_JSON, NULL);
	else if (strcmp(request->path, "/empty") == 0)
		exchange->answer(exchange, 200, EXCHANGE_TEXT, calloc(1, 1));
	else
		exchange->answer(exchange, 200, EXCHANGE_JSON, strdup("{\"good\": true}"));
}

static int open_server(struct rig *rig, unsigned patience_ms, struct error *err)
{
	const struct http_options options = {.option = "--api-sock",
		.name = "Firecracker API",
		.path = rig->path,
		.body_max = BODY_MAX,
		.patience_ms = patience_ms,
		.request = take,
		.opaque = rig};

	return http_server_open(&rig->server, rig->loop, &options, err);
}

static struct rig *rig_new(unsigned patience_ms)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	assert_non_null(rig);
	strcpy(rig->directory, "/tmp/duet-http-XXXXXX");
	assert_non_null(mkdtemp(rig->directory));
	snprintf(rig->path, sizeof(rig->path), "%s/api.sock", rig->directory);
	assert_int_equal(loop_new(&rig->loop, 64, NULL), 0);
	assert_int_equal(open_server(rig, patience_ms, NULL), 0);
	return rig;
}

static void rig_free(struct rig *rig)
{
	struct stat status;

	http_server_close(rig->server);
	loop_run_for(rig->loop, 1);
	assert_int_equal(lstat(rig->path, &status), -1);
	loop_free(rig->loop);
	assert_int_equal(rmdir(rig->directory), 0);
	free(rig);
}

static int connect_to(const struct rig *rig)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	assert_true(fd >= 0);
	strcpy(address.sun_path, rig->path);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

/* How much of it was taken. */
static size_t put(int fd, const void *text, size_t length)
{
	ssize_t sent = send(fd, text, length, MSG_NOSIGNAL);

	return sent < 0 ? 0 : (size_t)sent;
}

static void say(int fd, const char *text)
{
	assert_int_equal(put(fd, text, strlen(text)), strlen(text));
}

static bool complete(const char *got)
{
	const char *end = strstr(got, "\r\n\r\n"), *length = strcasestr(got, "Content-Length: ");

	if (!end)
		return false;
	return !length || strlen(end + 4) >= strtoul(length + 16, NULL, 10);
}

/* Up to the end of an answer, or of the connection: true. */
static bool hear(struct rig *rig, int fd, char *got, size_t room)
{
	size_t used = 0;

	got[0] = 0;
	for (unsigned tries = 0; tries < 2000 && !complete(got); tries++) {
		ssize_t count = recv(fd, got + used, room - used - 1, 0);

		if (count == 0 || (count < 0 && errno != EAGAIN))
			return true;
		used += count > 0 ? (size_t)count : 0;
		got[used] = 0;
		if (count < 0)
			loop_run_for(rig->loop, 1);
	}
	return false;
}

static void assert_closed(struct rig *rig, int fd)
{
	char got[4096];

	assert_true(hear(rig, fd, got, sizeof(got)));
	close(fd);
}

/* An answer that begins with @status and has @text in it. */
static void assert_hears(struct rig *rig, int fd, const char *status, const char *text)
{
	char got[4096];

	hear(rig, fd, got, sizeof(got));
	if (strncmp(got, status, strlen(status)) != 0 || !strstr(got, text))
		fail_msg("\"%s\" and \"%s\" expected, not \"%s\"", status, text, got);
}

static void answers(void **state)
{
	struct rig *rig = rig_new(0);
	int fd = connect_to(rig);

	say(fd, "GET /machine-config?x=1" LINE "\r\n");
	assert_hears(rig, fd, "HTTP/1.1 200 ", "\r\n\r\n{\"good\": true}");
	assert_string_equal(rig->method, "GET");
	assert_string_equal(rig->target, "/machine-config");
	assert_int_equal(rig->length, 0);
	say(fd, "PUT /a%20b" LINE "Content-Length: 4\r\n\r\n{ }\n");
	assert_hears(rig, fd, "HTTP/1.1 200 ", "Server: Firecracker API\r\n");
	assert_string_equal(rig->target, "/a%20b");
	assert_string_equal(rig->body, "{ }\n");
	say(fd, "GET /x" LINE "\r\n");
	assert_hears(rig, fd, "HTTP/1.1 200 ", "Content-Type: application/json\r\n");
	close(fd);
	rig_free(rig);
}

static void answers_without_a_body(void **state)
{
	struct rig *rig = rig_new(0);
	int fd = connect_to(rig);
	char got[1024];

	say(fd, "PATCH /nothing" LINE "Content-Length: 2\r\n\r\n{}");
	hear(rig, fd, got, sizeof(got));
	assert_true(strncmp(got, "HTTP/1.1 204 ", 13) == 0);
	assert_null(strstr(got, "Content-Type"));
	assert_string_equal(strstr(got, "\r\n\r\n"), "\r\n\r\n");
	say(fd, "GET /empty" LINE "\r\n");
	assert_hears(rig, fd, "HTTP/1.1 200 ", "Content-Length: 0\r\n");
	close(fd);
	rig_free(rig);
}

static void hands_over_odd_methods(void **state)
{
	static const char *const methods[] = {"DELETE", "POST", "OPTIONS", "BREW"};
	struct rig *rig = rig_new(0);
	int fd = connect_to(rig);
	char text[128], got[1024];

	for (unsigned i = 0; i < ARRAY_SIZE(methods); i++) {
		snprintf(text, sizeof(text), "%s /x" LINE "\r\n", methods[i]);
		say(fd, text);
		assert_hears(rig, fd, "HTTP/1.1 200 ", "good");
		assert_string_equal(rig->method, methods[i]);
	}
	say(fd, "HEAD /x" LINE "\r\n");
	loop_run_for(rig->loop, 5);
	assert_true(recv(fd, got, sizeof(got), 0) > 0);
	assert_string_equal(rig->method, "HEAD");
	close(fd);
	rig_free(rig);
}

static void answers_later(void **state)
{
	struct rig *rig = rig_new(0);
	int fd = connect_to(rig), other = connect_to(rig);
	char got[16];

	rig->later = true;
	say(fd, "GET /x" LINE "\r\n");
	loop_run_for(rig->loop, 5);
	assert_int_equal(rig->waiting_count, 1);
	assert_int_equal(recv(fd, got, sizeof(got), 0), -1);
	rig->later = false;
	say(other, "GET /y" LINE "\r\n");
	assert_hears(rig, other, "HTTP/1.1 200 ", "good");
	rig->waiting[0]->answer(rig->waiting[0], 400, EXCHANGE_JSON, strdup("{\"late\": 1}"));
	assert_hears(rig, fd, "HTTP/1.1 400 ", "{\"late\": 1}");
	say(fd, "GET /x" LINE "\r\n");
	assert_hears(rig, fd, "HTTP/1.1 200 ", "good");
	close(fd);
	close(other);
	rig_free(rig);
}

/* It goes while it waits; its answer comes afterwards, or after the server. */
static void survives_clients_that_go(void **state)
{
	struct rig *rig = rig_new(0);

	rig->later = true;
	for (unsigned i = 0; i < 3; i++) {
		int fd = connect_to(rig);

		say(fd, "GET /x" LINE "\r\n");
		loop_run_for(rig->loop, 5);
		assert_int_equal(rig->waiting_count, i + 1);
		close(fd);
	}
	rig->waiting[0]->answer(rig->waiting[0], 200, EXCHANGE_JSON, strdup("{}"));
	loop_run_for(rig->loop, 5);
	/* Resumed, and the server ends before it has gone on. */
	rig->waiting[1]->answer(rig->waiting[1], 200, EXCHANGE_JSON, strdup("{}"));
	http_server_close(rig->server);
	rig->server = NULL;
	rig->waiting[2]->answer(rig->waiting[2], 200, EXCHANGE_JSON, strdup("{}"));
	rig_free(rig);
}

static void survives_clients_that_go_in_the_middle(void **state)
{
	static const char *const parts[] = {
		"", "P", "PUT /x", "PUT /x" LINE, "PUT /x" LINE "Content-Length: 9\r\n\r\nabc"};
	struct rig *rig = rig_new(0);
	int fd;

	for (unsigned i = 0; i < 100; i++) {
		fd = connect_to(rig);
		say(fd, parts[i % ARRAY_SIZE(parts)]);
		if (i % 3)
			loop_run_for(rig->loop, 1);
		close(fd);
	}
	assert_int_equal(rig->requests, 0);
	fd = connect_to(rig);
	say(fd, "GET /x" LINE "\r\n");
	assert_hears(rig, fd, "HTTP/1.1 200 ", "good");
	close(fd);
	rig_free(rig);
}

static void refuses_one_connection_too_many(void **state)
{
	struct rig *rig = rig_new(0);
	int fds[HTTP_CONNECTIONS], more;

	for (unsigned i = 0; i < HTTP_CONNECTIONS; i++) {
		fds[i] = connect_to(rig);
		loop_run_for(rig->loop, 1);
	}
	more = connect_to(rig);
	assert_hears(rig, more, "HTTP/1.1 503 ", "{ \"error\": \"Too many open connections\" }");
	assert_closed(rig, more);
	say(fds[9], "GET /x" LINE "\r\n");
	assert_hears(rig, fds[9], "HTTP/1.1 200 ", "good");
	/* One that goes makes room at once. */
	close(fds[3]);
	fds[3] = connect_to(rig);
	say(fds[3], "GET /x" LINE "\r\n");
	assert_hears(rig, fds[3], "HTTP/1.1 200 ", "good");
	for (unsigned i = 0; i < HTTP_CONNECTIONS; i++)
		close(fds[i]);
	rig_free(rig);
}

#define TOO_LARGE(size)                                                                            \
	"Request payload with size " size " is larger than the limit of 1000 allowed by server."

static void refuses_large_bodies(void **state)
{
	struct rig *rig = rig_new(0);
	int fd = connect_to(rig);
	char body[1001];

	memset(body, ' ', sizeof(body));
	say(fd, "PUT /x" LINE "Content-Length: 1001\r\n\r\n");
	assert_int_equal(put(fd, body, 1001), 1001);
	assert_hears(rig, fd, "HTTP/1.1 400 ", TOO_LARGE("1001"));
	assert_int_equal(rig->requests, 0);
	say(fd, "PUT /x" LINE "Content-Length: 1000\r\n\r\n");
	assert_int_equal(put(fd, body, 1000), 1000);
	assert_hears(rig, fd, "HTTP/1.1 200 ", "good");
	assert_int_equal(rig->length, 1000);
	/* Nobody waits for that much, or for what the client would send only if it may. */
	say(fd, "PUT /x" LINE "Content-Length: 18446744073709551615\r\n\r\n");
	assert_hears(rig, fd, "HTTP/1.1 4", "");
	assert_closed(rig, fd);
	fd = connect_to(rig);
	say(fd, "PUT /x" LINE "Expect: 100-continue\r\nContent-Length: 1001\r\n\r\n");
	assert_hears(rig, fd, "HTTP/1.1 400 ", TOO_LARGE("1001"));
	assert_closed(rig, fd);
	assert_int_equal(rig->requests, 1);
	rig_free(rig);
}

static void asks_for_a_body_that_waits(void **state)
{
	struct rig *rig = rig_new(0);
	int fd = connect_to(rig);

	say(fd, "PUT /x" LINE "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n");
	assert_hears(rig, fd, "HTTP/1.1 100 ", "");
	say(fd, "{}");
	assert_hears(rig, fd, "HTTP/1.1 200 ", "good");
	close(fd);
	rig_free(rig);
}

static void takes_chunks(void **state)
{
	struct rig *rig = rig_new(0);
	int fd = connect_to(rig);

	say(fd, "PUT /x" LINE "Transfer-Encoding: chunked\r\n\r\n3\r\n{\"a\r\n");
	loop_run_for(rig->loop, 2);
	say(fd, "5\r\n\": 1}\r\n0\r\n\r\n");
	assert_hears(rig, fd, "HTTP/1.1 200 ", "good");
	assert_string_equal(rig->body, "{\"a\": 1}");
	say(fd, "PUT /x" LINE "Transfer-Encoding: chunked\r\n\r\n");
	for (unsigned i = 0; i < 11; i++) {
		char chunk[128];

		memset(chunk, 'x', sizeof(chunk));
		memcpy(chunk, "64\r\n", 4);
		memcpy(chunk + 104, "\r\n", 2);
		assert_int_equal(put(fd, chunk, 106), 106);
		loop_run_for(rig->loop, 1);
	}
	say(fd, "0\r\n\r\n");
	assert_hears(rig, fd, "HTTP/1.1 400 ", TOO_LARGE("1100"));
	say(fd, "PUT /x" LINE "Transfer-Encoding: chunked\r\n\r\nno\r\n");
	assert_hears(rig, fd, "HTTP/1.1 400 ", "");
	assert_closed(rig, fd);
	assert_int_equal(rig->requests, 1);
	rig_free(rig);
}

/* Swallowed for a while, then closed: nothing is kept of it. */
static void ends_endless_chunks(void **state)
{
	static char data[4096];
	struct rig *rig = rig_new(0);
	int fd = connect_to(rig);
	size_t sent = 0;

	say(fd, "PUT /x" LINE "Transfer-Encoding: chunked\r\n\r\nffffffff\r\n");
	for (unsigned i = 0; i < 100; i++) {
		sent += put(fd, data, sizeof(data));
		loop_run_for(rig->loop, 1);
	}
	assert_true(sent < 100 * sizeof(data));
	assert_closed(rig, fd);
	rig_free(rig);
}

static void hands_over_nulls_in_a_body(void **state)
{
	static const char text[] = "PUT /x" LINE "Content-Length: 4\r\n\r\na\0b";
	struct rig *rig = rig_new(0);
	int fd = connect_to(rig);

	assert_int_equal(put(fd, text, sizeof(text)), sizeof(text));
	assert_hears(rig, fd, "HTTP/1.1 200 ", "good");
	assert_int_equal(rig->length, 4);
	assert_memory_equal(rig->body, "a\0b", 4);
	close(fd);
	rig_free(rig);
}

#define UNSOUND(what)                                                                              \
	"{ \"error\": \"Invalid header. Reason: " what                                             \
	"\\nAll previous unanswered requests will be dropped.\" }"
#define CHUNKED    "Transfer-Encoding: chunked\r\n"
#define HEAD(text) text, sizeof(text) - 1

/* Refused and closed, or not even answered. Those that the library refuses have a page of its own,
 * and its status. */
static void refuses_heads_that_are_none(void **state)
{
	static const struct {
		const char *text;
		size_t length;
		const char *status, *says; /* null: closed, and not answered or refused */
	} heads[] = {
		{HEAD("GET\r\n\r\n"), NULL, NULL},
		{HEAD("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"), NULL, NULL},
		{HEAD("GET /x\r\n\r\n"), "HTTP/1.1 400 ", "Connection: close\r\n"},
		{HEAD("GET /x TTP\r\nHost: a\r\n\r\n"), "HTTP/1.1 400 ", "Connection: close\r\n"},
		{HEAD("GET /x HTTP/1.1\r\nHo\0st: a\r\n\r\n"), "HTTP/1.1 400 ",
			"Connection: close\r\n"},
		{HEAD("GET /x HTTP/1.1\r\nno colon\r\n\r\n"), "HTTP/1.1 400 ",
			"Connection: close\r\n"},
		{HEAD("GET /x HTTP/9.9\r\nHost: a\r\n\r\n"), "HTTP/1.1 505 ",
			"Connection: close\r\n"},
		{HEAD("PUT /x" LINE "Content-Length: -1\r\n\r\n"), "HTTP/1.1 400 ",
			"Connection: close\r\n"},
		{HEAD("PUT /x" LINE "Content-Length: 1e3\r\n\r\n"), "HTTP/1.1 400 ",
			"Connection: close\r\n"},
		{HEAD("PUT /x" LINE "Content-Length: 99999999999999999999999\r\n\r\n"),
			"HTTP/1.1 413 ", "Connection: close\r\n"},
		{HEAD("PUT /x" LINE "Content-Length: 2\r\n" CHUNKED "\r\n2\r\n{}\r\n0\r\n\r\n"),
			"HTTP/1.1 400 ", UNSOUND("Transfer-Encoding beside Content-Length")},
		{HEAD("PUT /x" LINE CHUNKED "Content-Length: 2\r\n\r\n{}"), "HTTP/1.1 400 ",
			UNSOUND("Transfer-Encoding beside Content-Length")},
		{HEAD("PUT /x" LINE "Content-Length: 2\r\ncontent-length: 3\r\n\r\n{}"),
			"HTTP/1.1 400 ", UNSOUND("Content-Length more than once")},
		{HEAD("PUT /x" LINE "Transfer-Encoding: gzip\r\n\r\n"), "HTTP/1.1 400 ",
			UNSOUND("Unsupported value. Key:Transfer-Encoding")},
		{HEAD("PUT /x" LINE "Transfer-Encoding: gzip\r\n" CHUNKED "\r\n0\r\n\r\n"),
			"HTTP/1.1 400 ", UNSOUND("Transfer-Encoding more than once")},
	};
	struct rig *rig = rig_new(0);

	for (unsigned i = 0; i < ARRAY_SIZE(heads); i++) {
		int fd = connect_to(rig);
		char got[4096];

		assert_int_equal(put(fd, heads[i].text, heads[i].length), heads[i].length);
		if (heads[i].status)
			assert_hears(rig, fd, heads[i].status, heads[i].says);
		while (!hear(rig, fd, got, sizeof(got)))
			assert_true(*got);
		assert_true(heads[i].status || !*got || strncmp(got, "HTTP/1.1 4", 10) == 0);
		close(fd);
		assert_int_equal(rig->requests, 0);
	}
	rig_free(rig);
}

/* The library knows of no zeroes in a path: it ends there. Empty lines before a head are none. */
static void reads_paths_to_their_end(void **state)
{
	static const char text[] = "\r\n\r\nGET /x\0y" LINE "\r\n";
	struct rig *rig = rig_new(0);
	int fd = connect_to(rig);

	assert_int_equal(put(fd, text, sizeof(text) - 1), sizeof(text) - 1);
	assert_hears(rig, fd, "HTTP/1.1 200 ", "good");
	assert_string_equal(rig->target, "/x");
	close(fd);
	rig_free(rig);
}

static void refuses_long_heads(void **state)
{
	struct rig *rig = rig_new(0);
	int fd = connect_to(rig);
	char line[1024];
	size_t sent = 0;

	memset(line, 'a', sizeof(line));
	say(fd, "GET /");
	for (unsigned i = 0; i < 64; i++) {
		sent += put(fd, line, sizeof(line));
		loop_run_for(rig->loop, 1);
	}
	assert_true(sent < 64 * sizeof(line));
	assert_hears(rig, fd, "HTTP/1.1 414 ", "Connection: close\r\n");
	assert_int_equal(rig->requests, 0);
	close(fd);
	fd = connect_to(rig);
	say(fd, "GET /x" LINE "X: ");
	for (unsigned i = 0; i < 64; i++) {
		put(fd, line, sizeof(line));
		loop_run_for(rig->loop, 1);
	}
	assert_hears(rig, fd, "HTTP/1.1 431 ", "Connection: close\r\n");
	assert_int_equal(rig->requests, 0);
	close(fd);
	rig_free(rig);
}

static void answers_pipelined_requests_in_order(void **state)
{
	struct rig *rig = rig_new(0);
	int fd = connect_to(rig);

	rig->later = true;
	say(fd, "GET /1" LINE "\r\nPUT /2" LINE "Content-Length: 1\r\n\r\nbGET /3" LINE "\r\n");
	for (unsigned i = 0; i < 3; i++) {
		char text[32];

		loop_run_for(rig->loop, 5);
		/* The next one is not looked at before this one has its answer. */
		assert_int_equal(rig->waiting_count, i + 1);
		snprintf(text, sizeof(text), "{\"number\": %u}", i + 1);
		rig->waiting[i]->answer(rig->waiting[i], 200, EXCHANGE_JSON, strdup(text));
		assert_hears(rig, fd, "HTTP/1.1 200 ", text);
	}
	close(fd);
	rig_free(rig);
}

static void ends_slow_clients(void **state)
{
	struct rig *rig = rig_new(60);
	int silent = connect_to(rig), slow = connect_to(rig), body = connect_to(rig);
	unsigned taken = 0;

	say(body, "PUT /x" LINE "Content-Length: 999\r\n\r\n");
	for (unsigned i = 0; i < 40; i++) {
		taken += (unsigned)put(slow, "G", 1);
		put(body, " ", 1);
		loop_run_for(rig->loop, 5);
	}
	assert_true(taken < 40);
	assert_closed(rig, silent);
	assert_closed(rig, slow);
	assert_closed(rig, body);
	assert_int_equal(rig->requests, 0);
	rig_free(rig);
}

/* A client may wait for its answer, and go on in time. */
static void is_patient_with_answers(void **state)
{
	struct rig *rig = rig_new(600);
	int fd = connect_to(rig);

	rig->later = true;
	say(fd, "GET /x" LINE "\r\n");
	loop_run_for(rig->loop, 1500);
	assert_int_equal(rig->waiting_count, 1);
	rig->waiting[0]->answer(rig->waiting[0], 200, EXCHANGE_JSON, strdup("{}"));
	assert_hears(rig, fd, "HTTP/1.1 200 ", "{}");
	rig->later = false;
	loop_run_for(rig->loop, 20);
	say(fd, "GET /x" LINE "\r\n");
	assert_hears(rig, fd, "HTTP/1.1 200 ", "good");
	assert_closed(rig, fd);
	rig_free(rig);
}

static void ends_clients_that_take_no_answer(void **state)
{
	struct rig *rig = rig_new(60);
	int fd = connect_to(rig);
	char *large = malloc(4 << 20);
	static char got[8 << 20];

	rig->later = true;
	say(fd, "GET /x" LINE "\r\n");
	loop_run_for(rig->loop, 5);
	assert_int_equal(rig->waiting_count, 1);
	memset(large, 'x', (4 << 20) - 1);
	large[(4 << 20) - 1] = 0;
	rig->waiting[0]->answer(rig->waiting[0], 200, EXCHANGE_JSON, large);
	loop_run_for(rig->loop, 150);
	assert_true(hear(rig, fd, got, sizeof(got)));
	assert_true(strlen(got) < 4 << 20);
	close(fd);
	rig_free(rig);
}

static void is_for_its_owner_alone(void **state)
{
	struct rig *rig = rig_new(0);
	struct stat status;

	assert_int_equal(lstat(rig->path, &status), 0);
	assert_int_equal(status.st_mode, S_IFSOCK | 0600);
	rig_free(rig);
}

static void leaves_what_is_there(void **state)
{
	struct rig *rig = rig_new(0);
	struct http_server *first = rig->server;
	struct error err = {0};
	struct stat status;

	assert_int_equal(open_server(rig, 0, &err), -EADDRINUSE);
	assert_non_null(strstr(err.text, "--api-sock /tmp/duet-http-"));
	assert_non_null(strstr(err.text, "remove it"));
	assert_int_equal(lstat(rig->path, &status), 0);
	/* Somebody else's by now. */
	unlink(rig->path);
	close(open(rig->path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	http_server_close(first);
	assert_int_equal(lstat(rig->path, &status), 0);
	unlink(rig->path);
	rig->server = NULL;
	rig_free(rig);
}

static void says_what_a_path_lacks(void **state)
{
	struct rig *rig = rig_new(0);
	struct http_server *good = rig->server;
	struct error err = {0};
	char path[64];

	strcpy(path, rig->path);
	strcpy(rig->path, "/nonexistent/api.sock");
	assert_int_equal(open_server(rig, 0, &err), -ENOENT);
	assert_non_null(strstr(err.text, "--api-sock /nonexistent/api.sock: "));
	rig->path[0] = 0;
	assert_int_equal(open_server(rig, 0, &err), -EINVAL);
	strcpy(rig->path, path);
	rig->server = good;
	rig_free(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers),
		cmocka_unit_test(answers_without_a_body),
		cmocka_unit_test(hands_over_odd_methods),
		cmocka_unit_test(answers_later),
		cmocka_unit_test(survives_clients_that_go),
		cmocka_unit_test(survives_clients_that_go_in_the_middle),
		cmocka_unit_test(refuses_one_connection_too_many),
		cmocka_unit_test(refuses_large_bodies),
		cmocka_unit_test(asks_for_a_body_that_waits),
		cmocka_unit_test(takes_chunks),
		cmocka_unit_test(ends_endless_chunks),
		cmocka_unit_test(hands_over_nulls_in_a_body),
		cmocka_unit_test(refuses_heads_that_are_none),
		cmocka_unit_test(reads_paths_to_their_end),
		cmocka_unit_test(refuses_long_heads),
		cmocka_unit_test(answers_pipelined_requests_in_order),
		cmocka_unit_test(ends_slow_clients),
		cmocka_unit_test(is_patient_with_answers),
		cmocka_unit_test(ends_clients_that_take_no_answer),
		cmocka_unit_test(is_for_its_owner_alone),
		cmocka_unit_test(leaves_what_is_there),
		cmocka_unit_test(says_what_a_path_lacks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
