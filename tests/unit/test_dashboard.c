/* SPDX-License-Identifier: Apache-2.0 */
/* The dashboard: who may see what, and what it says when duetd does not answer. duetd is played on
 * the same loop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "loop_rig.h"

#include "base/checked.h"
#include "duetd/dashboard.h"
#include "http/address.h"
#include "http/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static struct rig {
	struct loop *loop;
	struct http_server *duetd;
	struct dashboard *dashboard;
	struct exchange *kept; /* by a duetd that hangs */
	bool hangs;
	unsigned asked;
	char root[64], socket[96];
	char host[64], secret[64];
	char answer[65536]; /* the last */
} rig;

/* ---- duetd ---- */

static void duetd_request(void *opaque, const struct request *request, struct exchange *exchange)
{
	char *body = NULL;

	rig.asked++;
	assert_string_equal(request->method, "GET");
	if (rig.hangs) {
		rig.kept = exchange;
		return;
	}
	assert_true(asprintf(&body, "{\"path\": \"%s\"}", request->path) > 0);
	exchange->answer(exchange, 200, EXCHANGE_JSON, body);
}

static void open_duetd(void)
{
	const struct http_options options = {.option = "--socket",
		.name = "duetd",
		.path = rig.socket,
		.body_max = 1000,
		.request = duetd_request};

	assert_int_equal(http_server_open(&rig.duetd, rig.loop, &options, NULL), 0);
}

static int set_up(void **state)
{
	struct dashboard_options options = {.address = "127.0.0.1:0", .socket = rig.socket};

	memset(&rig, 0, sizeof(rig));
	strcpy(rig.root, "/tmp/duet-dashboard-XXXXXX");
	if (!mkdtemp(rig.root) || loop_new(&rig.loop, 64, NULL) < 0)
		return -1;
	snprintf(rig.socket, sizeof(rig.socket), "%s/duetd", rig.root);
	if (dashboard_open(&rig.dashboard, rig.loop, &options, NULL) < 0)
		return -1;
	return sscanf(dashboard_url(rig.dashboard), "http://%63[^/]/%63[^/]/", rig.host,
		       rig.secret) == 2
		       ? 0
		       : -1;
}

static int tear_down(void **state)
{
	char command[96];

	dashboard_close(rig.dashboard);
	http_server_close(rig.duetd);
	if (rig.kept)
		rig.kept->answer(rig.kept, 200, EXCHANGE_JSON, NULL);
	loop_run_for(rig.loop, 2);
	loop_free(rig.loop);
	snprintf(command, sizeof(command), "rm -r %s", rig.root);
	return system(command);
}

/* ---- a client ---- */

static int client(const char *text)
{
	struct sockaddr_storage address;
	int length = http_address_parse(rig.host, "", &address, NULL);
	int fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(length > 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, (socklen_t)length), 0);
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
	return fd;
}

/* The status; 0: none yet. */
static unsigned take(int fd, unsigned tries)
{
	size_t length = 0;
	ssize_t count = -1;
	unsigned status = 0;

	while (tries-- && count) {
		loop_run_for(rig.loop, 5);
		count = recv(
			fd, rig.answer + length, sizeof(rig.answer) - 1 - length, MSG_DONTWAIT);
		if (count > 0)
			length += (size_t)count;
	}
	rig.answer[length] = 0;
	return sscanf(rig.answer, "HTTP/1.1 %u", &status) == 1 ? status : 0;
}

static unsigned ask_as(const char *method, const char *host, const char *path)
{
	char text[512];
	unsigned status;
	int fd;

	snprintf(text, sizeof(text), "%s %s HTTP/1.1\r\n%s%s%sConnection: close\r\n\r\n", method,
		path, host ? "Host: " : "", host ? host : "", host ? "\r\n" : "");
	fd = client(text);
	status = take(fd, 1000);
	close(fd);
	return status;
}

static unsigned get(const char *what)
{
	char path[128];

	snprintf(path, sizeof(path), "/%s/%s", rig.secret, what);
	return ask_as("GET", rig.host, path);
}

/* ---- tests ---- */

static void shows_its_page(void **state)
{
	assert_int_equal(strlen(rig.secret), 32);
	assert_int_equal(get(""), 200);
	assert_non_null(strstr(rig.answer, "Content-Type: text/html; charset=utf-8\r\n"));
	assert_non_null(strstr(
		rig.answer, "Content-Security-Policy: default-src 'none'; script-src 'sha256-"));
	assert_non_null(strstr(rig.answer, "Referrer-Policy: no-referrer\r\n"));
	assert_non_null(strstr(rig.answer, "<title>duetd</title>"));
	/* Nothing is fetched from elsewhere. */
	assert_null(strstr(rig.answer, "src="));
	assert_null(strstr(rig.answer, "href="));
}

static void passes_questions_on(void **state)
{
	static const char *const paths[] = {"vms", "host", "decisions"};
	char wanted[64];

	open_duetd();
	for (unsigned i = 0; i < ARRAY_SIZE(paths); i++) {
		snprintf(wanted, sizeof(wanted), "{\"path\": \"/%s\"}", paths[i]);
		assert_int_equal(get(paths[i]), 200);
		assert_non_null(strstr(rig.answer, wanted));
		assert_non_null(strstr(rig.answer, "Content-Security-Policy: "));
	}
	assert_int_equal(rig.asked, ARRAY_SIZE(paths));
}

/* Another's name for this address, a wrong secret, and whatever would change something. */
static void refuses_others(void **state)
{
	static const char *const bad[] = {"/", "", "/vms", "/00000000000000000000000000000000/vms",
		"/0000000000000000000000000000000"};
	char path[128], other[64];

	open_duetd();
	snprintf(path, sizeof(path), "/%s/vms", rig.secret);
	assert_int_equal(ask_as("GET", "duet.example:80", path), 421);
	assert_int_equal(ask_as("GET", "127.0.0.1", path), 421);
	assert_int_equal(ask_as("GET", "localhost", path), 421);
	snprintf(other, sizeof(other), "localhost%s", strrchr(rig.host, ':'));
	assert_int_equal(ask_as("GET", other, path), 200);
	assert_int_equal(rig.asked, 1);
	assert_int_equal(ask_as("PUT", rig.host, path), 405);
	assert_int_equal(ask_as("POST", rig.host, path), 405);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		assert_in_range(ask_as("GET", rig.host, bad[i]), 400, 404);
	assert_int_equal(get("policies/cpu"), 404);
	assert_int_equal(get("vms/"), 404);
	assert_int_equal(get("vms?x"), 200); /* a query is not part of it */
	assert_int_equal(rig.asked, 2);
	assert_null(strstr(rig.answer, rig.secret));
}

static void refuses_one_that_names_no_host(void **state)
{
	char path[128];

	snprintf(path, sizeof(path), "/%s/", rig.secret);
	assert_in_range(ask_as("GET", NULL, path), 400, 421);
}

static void says_that_nobody_answers(void **state)
{
	assert_int_equal(get("host"), 502);
	assert_non_null(strstr(rig.answer, "fault_message"));
	assert_int_equal(get(""), 200);
}

/* A client that asks a duetd that hangs. */
static int waits_for_duetd(void)
{
	char text[256];
	int fd;

	rig.hangs = true;
	open_duetd();
	snprintf(text, sizeof(text), "GET /%s/host HTTP/1.1\r\nHost: %s\r\n\r\n", rig.secret,
		rig.host);
	fd = client(text);
	loop_run_until(rig.loop, rig.asked);
	assert_int_equal(rig.asked, 1);
	return fd;
}

/* A client is answered, whatever becomes of duetd; and it may end in the middle. */
static void ends_in_the_middle(void **state)
{
	const int fd = waits_for_duetd();

	assert_int_equal(take(fd, 2), 0);
	dashboard_close(rig.dashboard);
	rig.dashboard = NULL;
	loop_run_for(rig.loop, 2);
	close(fd);
}

static void outlives_its_client(void **state)
{
	const int fd = waits_for_duetd();

	close(fd);
	loop_run_for(rig.loop, 5);
	assert_non_null(rig.kept);
	rig.kept->answer(rig.kept, 200, EXCHANGE_JSON, NULL);
	rig.kept = NULL;
	rig.hangs = false;
	assert_int_equal(get("host"), 200);
}

static void listens_on_loopback_alone(void **state)
{
	static const char *const good[] = {
		"127.0.0.1:80", "127.3.2.1:0", "localhost:65535", "[::1]:8478"};
	static const char *const bad[] = {"", ":80", "80", "0.0.0.0:80", "192.168.1.1:80",
		"[::]:80", "::1:80", "[::1]", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536",
		"127.0.0.1:-1", "127.0.0.1:80x", "example.org:80", "[::ffff:127.0.0.1]:80",
		"[127.0.0.1]:80", "[]:80",
		"1111111111111111111111111111111111111111111111111111111111111111111111:80"};
	struct sockaddr_storage address;

	for (unsigned i = 0; i < ARRAY_SIZE(good); i++)
		assert_true(http_address_parse(good[i], "--listen", &address, NULL) > 0);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		struct error err = {0};

		assert_int_equal(http_address_parse(bad[i], "--listen", &address, &err), -EINVAL);
		assert_non_null(strstr(err.text, "--listen"));
		assert_non_null(strstr(err.text, "127.0.0.1:8478"));
	}
}

#define dashboard_test(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		dashboard_test(shows_its_page),
		dashboard_test(passes_questions_on),
		dashboard_test(refuses_others),
		dashboard_test(refuses_one_that_names_no_host),
		dashboard_test(says_that_nobody_answers),
		dashboard_test(ends_in_the_middle),
		dashboard_test(outlives_its_client),
		cmocka_unit_test(listens_on_loopback_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
