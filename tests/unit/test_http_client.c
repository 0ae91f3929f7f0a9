/* SPDX-License-Identifier: Apache-2.0 */
/* A question and what servers make of it: one that answers, and those that do not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "http/client.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define MOST 8192

struct rig {
	char directory[32], path[64];
	int listening, server; /* the server's end of the connection */
	struct http_question *question;
	struct http_answer answer;
	struct error err;
};

static int make(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	strcpy(rig->directory, "/tmp/duet-client-XXXXXX");
	assert_non_null(mkdtemp(rig->directory));
	snprintf(rig->path, sizeof(rig->path), "%s/sock", rig->directory);
	strcpy(address.sun_path, rig->path);
	rig->listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(rig->listening, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(rig->listening, 1), 0);
	rig->server = -1;
	*state = rig;
	return 0;
}

static int drop(void **state)
{
	struct rig *rig = *state;

	http_question_close(rig->question);
	if (rig->server >= 0)
		close(rig->server);
	close(rig->listening);
	unlink(rig->path);
	rmdir(rig->directory);
	free(rig);
	return 0;
}

static int go_on(struct rig *rig)
{
	return http_question_go_on(rig->question, &rig->answer, &rig->err);
}

/* Asks, and lets the server read it to its end. */
static void ask(struct rig *rig, const char *method, const char *body, char got[512])
{
	const struct http_ask ask = {.socket = rig->path,
		.method = method,
		.path = "/duet/brief",
		.body = body,
		.answer_max = MOST};
	ssize_t length;

	assert_int_equal(http_question_open(&rig->question, &ask, &rig->err), 0);
	assert_int_equal(http_question_events(rig->question), POLLOUT);
	assert_int_equal(go_on(rig), 1);
	assert_int_equal(http_question_events(rig->question), POLLIN);
	rig->server = accept(rig->listening, NULL, NULL);
	length = read(rig->server, got, 511);
	assert_true(length > 0);
	got[length] = 0;
}

static void says(struct rig *rig, const char *text, size_t length)
{
	assert_int_equal(write(rig->server, text, length), (ssize_t)length);
}

static void leaves(struct rig *rig)
{
	close(rig->server);
	rig->server = -1;
}

static void asks_and_reads(void **state)
{
	static const char head[] = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
	struct rig *rig = *state;
	char got[512];

	ask(rig, "GET", NULL, got);
	assert_string_equal(
		got, "GET /duet/brief HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
	/* As it comes. */
	says(rig, head, 10);
	assert_int_equal(go_on(rig), 1);
	says(rig, head + 10, sizeof(head) - 11);
	says(rig, "12\0", 3);
	assert_int_equal(go_on(rig), 1);
	says(rig, "45more", 6);
	leaves(rig);
	assert_int_equal(go_on(rig), 0);
	assert_int_equal(rig->answer.status, 200);
	assert_int_equal(rig->answer.length, 5);
	assert_memory_equal(rig->answer.body, "12\00045", 5);
}

/* Each piece costs whoever asks a turn. */
static void takes_no_answer_in_crumbs(void **state)
{
	struct rig *rig = *state;
	unsigned crumbs = 0;
	char got[512];
	int ret;

	ask(rig, "GET", NULL, got);
	do {
		says(rig, "H", 1);
		ret = go_on(rig);
	} while (ret == 1 && ++crumbs < MOST / 2);
	assert_int_equal(ret, -EBADMSG);
	assert_in_range(crumbs, 1000, 1100);
	assert_non_null(strstr(rig->err.text, "pieces"));
}

static void sends_a_body(void **state)
{
	static const char head[] = "HTTP/1.1 204 \r\n\r\n";
	struct rig *rig = *state;
	char got[512];

	ask(rig, "PATCH", "{\"a\": 1}", got);
	assert_non_null(strstr(got, "\r\nContent-Length: 8\r\n\r\n{\"a\": 1}"));
	says(rig, head, sizeof(head) - 1);
	leaves(rig);
	assert_int_equal(go_on(rig), 0);
	assert_int_equal(rig->answer.status, 204);
	assert_int_equal(rig->answer.length, 0);
}

static void is_nonsense(void **state, const char *text, size_t length)
{
	struct rig *rig = *state;
	char got[512];

	ask(rig, "GET", NULL, got);
	says(rig, text, length);
	leaves(rig);
	assert_int_equal(go_on(rig), -EBADMSG);
	assert_non_null(strstr(rig->err.text, rig->path));
}

static void refuses_what_is_no_answer(void **state)
{
	is_nonsense(state, "SSH-2.0-OpenSSH\r\n", 17);
}

static void refuses_a_status_that_is_none(void **state)
{
	is_nonsense(state, "HTTP/1.1-411\r\n\r\n", 16);
}

static void refuses_nothing(void **state)
{
	is_nonsense(state, "", 0);
}

static void refuses_a_head_without_an_end(void **state)
{
	is_nonsense(state, "HTTP/1.1 200 OK\r\nContent-Le", 27);
}

static void refuses_a_body_cut_off(void **state)
{
	is_nonsense(state, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n12345678", 46);
}

static void refuses_too_much(void **state)
{
	struct rig *rig = *state;
	char got[512], much[1024];
	int ret = 1;

	memset(much, 'x', sizeof(much));
	ask(rig, "GET", NULL, got);
	for (unsigned i = 0; i < 64 && ret > 0; i++) {
		says(rig, much, sizeof(much));
		ret = go_on(rig);
	}
	assert_int_equal(ret, -EMSGSIZE);
	assert_non_null(strstr(rig->err.text, "larger than 8192 bytes"));
}

/* One that refuses need not read the body. */
static void reads_what_was_said_before_it_closed(void **state)
{
	static const char text[] = "HTTP/1.1 400 \r\nContent-Length: 2\r\n\r\nno";
	struct rig *rig = *state;
	char *body = malloc(4U << 20);
	struct http_ask ask = {.socket = rig->path,
		.method = "PUT",
		.path = "/",
		.answer_max = MOST,
		.body = body};
	int ret = 1;

	memset(body, 'x', (4U << 20) - 1);
	body[(4U << 20) - 1] = 0;
	assert_int_equal(http_question_open(&rig->question, &ask, &rig->err), 0);
	free(body);
	assert_int_equal(go_on(rig), 1);
	rig->server = accept(rig->listening, NULL, NULL);
	says(rig, text, sizeof(text) - 1);
	shutdown(rig->server, SHUT_RD);
	ret = go_on(rig);
	leaves(rig);
	if (ret > 0)
		ret = go_on(rig);
	assert_int_equal(ret, 0);
	assert_int_equal(rig->answer.status, 400);
	assert_string_equal(rig->answer.body, "no");
}

static void waits_for_a_while(void **state)
{
	struct rig *rig = *state;
	char got[512];

	ask(rig, "GET", NULL, got);
	assert_int_equal(http_question_wait(rig->question, 1, &rig->answer, &rig->err), -ETIMEDOUT);
	assert_non_null(strstr(rig->err.text, "nothing came for 1 ms"));
	says(rig, "HTTP/1.1 204 \r\n\r\n", 17);
	assert_int_equal(http_question_wait(rig->question, 1000, &rig->answer, &rig->err), 1);
	leaves(rig);
	assert_int_equal(http_question_wait(rig->question, 1000, &rig->answer, &rig->err), 0);
	assert_int_equal(rig->answer.status, 204);
}

static void says_who_is_not_there(void **state)
{
	struct rig *rig = *state;
	struct http_ask ask = {.socket = "/nonexistent/sock", .method = "GET", .path = "/"};
	char path[200];

	assert_int_equal(http_question_open(&rig->question, &ask, &rig->err), -ENOENT);
	assert_non_null(strstr(rig->err.text, "/nonexistent/sock: no machine answers there"));
	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = 0;
	ask.socket = path;
	assert_int_equal(http_question_open(&rig->question, &ask, &rig->err), -ENAMETOOLONG);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, make, drop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(asks_and_reads),
		TEST(takes_no_answer_in_crumbs),
		TEST(sends_a_body),
		TEST(refuses_what_is_no_answer),
		TEST(refuses_a_status_that_is_none),
		TEST(refuses_nothing),
		TEST(refuses_a_head_without_an_end),
		TEST(refuses_a_body_cut_off),
		TEST(refuses_too_much),
		TEST(reads_what_was_said_before_it_closed),
		TEST(waits_for_a_while),
		TEST(says_who_is_not_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
