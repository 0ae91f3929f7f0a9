/* SPDX-License-Identifier: Apache-2.0 */
/* duet ctl against the API's own HTTP server, which runs in a child and repeats what it was asked.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/checked.h"
#include "base/clock.h"
#include "cli/commands.h"
#include "cli/ctl_alive.h"
#include "http/server.h"

#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static char directory[] = "/tmp/duet-ctl-XXXXXX", path[64], output[64], rules[64];
static pid_t child;

static const char hints[] =
	"{\"driver\": true, \"away_ns\": 1500000000, \"vcpus\": [{\"index\": 0, \"runnable\": 3, "
	"\"burst_ns\": 12500, \"switches\": 70, \"updated_ns\": 9000000000}, {\"index\": 1}], "
	"\"machine\": {\"working_set_bytes\": 1048576, \"refaults\": 5, \"pressure\": "
	"{\"memory_some\": 150, \"io_full\": 7}}, \"share\": {\"wished\": 2, \"answered\": 1, "
	"\"complete\": true, \"runs\": 4, \"pages\": 512}, \"locality\": {\"wished\": 1, "
	"\"answered\": 1, \"complete\": false, \"runs\": 1, \"pages\": 256, \"vcpus\": "
	"[{\"index\": 1, \"runs\": 1, \"pages\": 256}]}}";

static const char hints_table[] = "vCPU  runnable  mean burst/us      switches  at second\n"
				  "   0         3           12.5            70          9.0\n"
				  "   1  says nothing\n"
				  "working set 1.0 MiB, 5 pages read in again\n"
				  "stalled (10 s mean): memory some 1.50 % full 0.00 %, CPU some "
				  "0.00 %, I/O some 0.00 % full 0.07 %\n"
				  "stood still for 1.500 s\n"
				  "pages worth sharing: 2.0 MiB in 4 runs, asked anew\n"
				  "memory used by vCPUs: 1.0 MiB in 1 runs, not all yet\n"
				  "   1  1.0 MiB in 1 runs\n";

/* One that runs when it was begun, and is over when it is looked at: well, unless it was forced. */
static char *migration(const struct request *request)
{
	static bool forced, late;
	static unsigned looks;

	/* It runs there already, at the first look. */
	if (strcmp(request->method, "GET") == 0 && late && looks++ == 0)
		return strdup("{\"state\": \"running\", \"phase\": \"arriving\", "
			      "\"pages_left\": 12, \"pages_urgent\": 3, \"cuts\": 1}");
	if (strcmp(request->method, "GET") == 0)
		return strdup(forced ? "{\"state\": \"failed\", \"error\": \"too fast\"}"
				     : "{\"state\": \"done\", \"downtime_ns\": 2500000}");
	forced = strstr(request->body, "\"force\":true") != NULL;
	late = strstr(request->body, "\"post_copy\":true,\"wait_s\":9") != NULL;
	looks = 0;
	return strdup("{\"state\": \"running\", \"phase\": \"copying\", \"pages_sent\": 17}");
}

static void repeat(void *opaque, const struct request *request, struct exchange *exchange)
{
	json_t *json = json_pack("{s:s, s:s, s:s}", "method", request->method, "path",
		request->path, "body", request->body);

	if (strcmp(request->path, "/no") == 0)
		exchange->answer(
			exchange, 400, EXCHANGE_JSON, strdup("{\"fault_message\": \"Not so.\"}"));
	else if (strcmp(request->path, "/duet/metrics") == 0)
		exchange->answer(exchange, 200, EXCHANGE_TEXT, strdup("duet_vcpus 1\n"));
	else if (strcmp(request->path, "/duet/hints") == 0 && strcmp(request->method, "GET") == 0)
		exchange->answer(exchange, 200, EXCHANGE_JSON, strdup(hints));
	else if (strcmp(request->path, "/duet/migration") == 0)
		exchange->answer(exchange, 200, EXCHANGE_JSON, migration(request));
	else if (strcmp(request->path, "/duet/alive") == 0)
		exchange->answer(exchange, 200, EXCHANGE_JSON,
			strdup("{\"state\": \"Running\", \"cpus\": 1, \"heartbeat\": 5, "
			       "\"events\": 6, \"exits\": 7, \"pages_arriving\": 0}"));
	else if (strcmp(request->path, "/vm") == 0)
		exchange->answer(exchange, 204, EXCHANGE_JSON, NULL);
	else
		exchange->answer(exchange, 200, EXCHANGE_JSON, json_dumps(json, JSON_COMPACT));
	json_decref(json);
}

static int serve(int ready)
{
	const struct http_options options = {.option = "--api-sock",
		.name = "test",
		.path = path,
		.body_max = HTTP_BODY_MAX,
		.request = repeat};
	struct http_server *server;
	struct loop *loop;

	if (loop_new(&loop, 16, NULL) < 0 || http_server_open(&server, loop, &options, NULL) < 0 ||
		write(ready, "y", 1) != 1)
		return 1;
	return loop_run(loop) < 0;
}

static int set_up(void **state)
{
	int ready[2];
	char byte;

	if (!mkdtemp(directory) || pipe(ready) < 0)
		return -1;
	snprintf(path, sizeof(path), "%s/api.sock", directory);
	snprintf(output, sizeof(output), "%s/output", directory);
	child = fork();
	if (child == 0)
		_exit(serve(ready[1]));
	close(ready[1]);
	return read(ready[0], &byte, 1) == 1 ? close(ready[0]) : -1;
}

static int tear_down(void **state)
{
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	unlink(path);
	unlink(output);
	return rmdir(directory);
}

/* What it prints on @stream (STDOUT_FILENO, STDERR_FILENO), and its exit status. */
static int ctl(char got[1024], int stream, unsigned count, const char *const *args)
{
	int kept = dup(stream), fd = open(output, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ssize_t length;
	int status;

	fflush(NULL);
	assert_true(kept >= 0 && fd >= 0 && dup2(fd, stream) >= 0);
	status = command_ctl(count, args);
	fflush(NULL);
	dup2(kept, stream);
	close(kept);
	length = pread(fd, got, 1023, 0);
	close(fd);
	assert_true(length >= 0);
	got[length] = 0;
	return status;
}

#define CTL(got, stream, ...)                                                                      \
	ctl(got, stream, ARRAY_SIZE(((const char *const[]){path, __VA_ARGS__})),                   \
		(const char *const[]){path, __VA_ARGS__})

static void assert_asked(const char *got, const char *method, const char *target, const char *body)
{
	json_t *json = json_loads(got, 0, NULL);

	assert_non_null(json);
	assert_string_equal(json_string_value(json_object_get(json, "method")), method);
	assert_string_equal(json_string_value(json_object_get(json, "path")), target);
	assert_string_equal(json_string_value(json_object_get(json, "body")), body);
	json_decref(json);
}

static void asks_and_prints(void **state)
{
	char got[1024];

	assert_int_equal(CTL(got, STDOUT_FILENO, "status"), 0);
	assert_asked(got, "GET", "/", "");
	assert_non_null(strstr(got, "{\n  \"method\": \"GET\""));
	assert_int_equal(CTL(got, STDOUT_FILENO, "stats"), 0);
	assert_asked(got, "GET", "/duet/stats", "");
	assert_int_equal(CTL(got, STDOUT_FILENO, "metrics"), 0);
	assert_string_equal(got, "duet_vcpus 1\n");
	assert_int_equal(CTL(got, STDOUT_FILENO, "pause"), 0);
	assert_string_equal(got, "");
	assert_int_equal(CTL(got, STDOUT_FILENO, "get", "/x"), 0);
	assert_asked(got, "GET", "/x", "");
	assert_int_equal(CTL(got, STDOUT_FILENO, "put", "/x", "{}"), 0);
	assert_asked(got, "PUT", "/x", "{}");
	assert_int_equal(CTL(got, STDOUT_FILENO, "post", "/x"), 0);
	assert_asked(got, "POST", "/x", "");
	assert_int_equal(CTL(got, STDOUT_FILENO, "delete", "/x"), 0);
	assert_asked(got, "DELETE", "/x", "");
}

static void prints_hints(void **state)
{
	char got[1024];

	assert_int_equal(CTL(got, STDOUT_FILENO, "hints"), 0);
	assert_string_equal(got, hints_table);
	assert_int_equal(CTL(got, STDOUT_FILENO, "hints", "locality"), 0);
	assert_asked(got, "PUT", "/duet/hints", "{\"wish\": \"locality\"}");
	assert_int_equal(CTL(got, STDERR_FILENO, "hints", "all"), 2);
	assert_non_null(strstr(got, "hints all: the guest can be asked for share or locality"));
}

static void changes(void **state)
{
	char got[1024];

	assert_int_equal(CTL(got, STDOUT_FILENO, "balloon", "2G"), 0);
	assert_asked(got, "PATCH", "/balloon", "{\"amount_mib\": 2048}");
	assert_int_equal(CTL(got, STDOUT_FILENO, "balloon", "512"), 0);
	assert_asked(got, "PATCH", "/balloon", "{\"amount_mib\": 512}");
	assert_int_equal(CTL(got, STDOUT_FILENO, "balloon", "1024K"), 0);
	assert_asked(got, "PATCH", "/balloon", "{\"amount_mib\": 1}");
	assert_int_equal(CTL(got, STDOUT_FILENO, "limit", "disk0", "iops=500", "bw=50M+4M"), 0);
	assert_asked(got, "PATCH", "/duet/devices/disk0", "{\"iops\":500,\"bw\":\"50M+4M\"}");
	assert_int_equal(CTL(got, STDOUT_FILENO, "limit", "disk0", "iops=0"), 0);
	assert_asked(got, "PATCH", "/duet/devices/disk0", "{\"iops\":null}");
}

static void asks_by_name(void **state)
{
	char got[1024];

	assert_int_equal(CTL(got, STDOUT_FILENO, "devices"), 0);
	assert_asked(got, "GET", "/duet/devices", "");
	assert_int_equal(CTL(got, STDOUT_FILENO, "devices", "net0"), 0);
	assert_asked(got, "GET", "/duet/devices/net0", "");
	assert_int_equal(CTL(got, STDOUT_FILENO, "jobs"), 0);
	assert_asked(got, "GET", "/duet/jobs", "");
	assert_int_equal(CTL(got, STDOUT_FILENO, "jobs", "7"), 0);
	assert_asked(got, "GET", "/duet/jobs/7", "");
	assert_int_equal(CTL(got, STDOUT_FILENO, "cancel", "7"), 0);
	assert_asked(got, "DELETE", "/duet/jobs/7", "");
}

static void write_rules(const char *text)
{
	FILE *file = fopen(rules, "w");

	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static void sets_a_policy(void **state)
{
	char got[1024], word[80];

	snprintf(rules, sizeof(rules), "%s/rules", directory);
	snprintf(word, sizeof(word), "rules=%s", rules);
	write_rules("[{\"action\": \"allow\", \"protocol\": \"udp\"}]");
	assert_int_equal(CTL(got, STDOUT_FILENO, "policy", "net0", word, "mac-check=on",
				 "rules-default=deny", "ip=10.0.0.2+fd00::2"),
		0);
	assert_asked(got, "PATCH", "/duet/devices/net0",
		"{\"rules\":[{\"action\":\"allow\",\"protocol\":\"udp\"}],\"mac-check\":true,"
		"\"rules-default\":\"deny\",\"ip\":\"10.0.0.2+fd00::2\"}");
	assert_int_equal(
		CTL(got, STDOUT_FILENO, "policy", "net0", "rules=", "ip=", "mac-check=off"), 0);
	assert_asked(got, "PATCH", "/duet/devices/net0",
		"{\"rules\":null,\"ip\":null,\"mac-check\":false}");
	write_rules("[\n5");
	assert_int_equal(CTL(got, STDERR_FILENO, "policy", "net0", word), 2);
	assert_non_null(strstr(got, "/rules: line 2: "));
	write_rules("{}");
	assert_int_equal(CTL(got, STDERR_FILENO, "policy", "net0", word), 2);
	assert_non_null(strstr(got, "no array of rules"));
	unlink(rules);
	assert_int_equal(CTL(got, STDERR_FILENO, "policy", "net0", word), 2);
	assert_non_null(strstr(got, "No such file"));
}

static void follows_a_migration(void **state)
{
	char got[1024];

	assert_int_equal(CTL(got, STDOUT_FILENO, "migrate", "unix:/x", "--streams", "2"), 0);
	assert_non_null(strstr(got, "copying: round 0, 17 pages sent"));
	assert_non_null(strstr(got, "\nmoved: it stood still for 2.5 ms\n"));
	assert_int_equal(CTL(got, STDERR_FILENO, "migrate", "unix:/x", "--force", "--plain"), 1);
	assert_non_null(strstr(got, "failed: too fast"));
	assert_int_equal(
		CTL(got, STDOUT_FILENO, "migrate", "unix:/x", "--post-copy", "--wait", "9"), 0);
	assert_non_null(
		strstr(got, "arriving: it runs there, and lacks 12 pages; 3 were asked for, "
			    "the line was cut 1 times\n"));
}

static void write_seen(const char *file, const char *line)
{
	FILE *stream = fopen(file, "w");

	assert_non_null(stream);
	fputs(line, stream);
	fclose(stream);
}

static void tells_whether_a_guest_lives(void **state)
{
	char got[1024], file[80];

	snprintf(file, sizeof(file), "%s/seen", directory);
	assert_int_equal(CTL(got, STDOUT_FILENO, "alive"), 0);
	assert_string_equal(got, "Running, heartbeat 5, 6 events, 7 exits\n");
	/* Never seen before, seen just now, by whatever is no line of ours, and since the start. */
	assert_int_equal(CTL(got, STDOUT_FILENO, "alive", file, "1"), 0);
	assert_int_equal(CTL(got, STDOUT_FILENO, "alive", file, "60"), 0);
	write_seen(file, "h 5 7 ");
	assert_int_equal(CTL(got, STDOUT_FILENO, "alive", file, "1"), 0);
	write_seen(file, "h 5 7 0 .\n");
	assert_int_equal(CTL(got, STDERR_FILENO, "alive", file, "1"), 3);
	assert_non_null(strstr(got, "no life for "));
	assert_non_null(strstr(got, " s: no heartbeat of its kit\n"));
	assert_int_equal(CTL(got, STDERR_FILENO, "alive", file, "1"), 3);
	write_seen(file, "h 4 7 0 .\n");
	assert_int_equal(CTL(got, STDERR_FILENO, "alive", file, "1"), 0);
	unlink(file);
	assert_int_equal(CTL(got, STDERR_FILENO, "alive", "/no/where", "1"), 1);
	assert_non_null(strstr(got, "name a file that can be written"));
}

/* Of @text at @now_s, after it was seen at 100 s: 'e' with 10 events and 1000 exits, or 'h' with
 * 10. */
static uint64_t silent_for(char sign, const char *text, unsigned now_s)
{
	struct alive_seen seen = {sign, 10, 1000, 100 * SECOND_NS};
	json_t *answer = json_loads(text, 0, NULL);
	uint64_t silent = alive_judge(&seen, answer, now_s * SECOND_NS);

	assert_non_null(answer);
	assert_int_equal(seen.when_ns, (silent ? 100 : now_s) * SECOND_NS);
	json_decref(answer);
	return silent;
}

#define RUNS(more)   "{\"state\": \"Running\", \"cpus\": 2, " more "}"
#define BEATS(beats) RUNS("\"heartbeat\": " beats ", \"events\": 90, \"exits\": 9000")

static void judges_life(void **state)
{
	assert_int_equal(silent_for('h', BEATS("10"), 160), 60);
	assert_int_equal(silent_for('h', BEATS("11"), 160), 0);
	/* The kit has come, or is gone. */
	assert_int_equal(silent_for('e', BEATS("10"), 160), 0);
	assert_int_equal(silent_for('h', RUNS("\"events\": 10, \"exits\": 1000"), 160), 0);
	/* An interrupt; a busy one; one that hangs, and the host's NMIs. */
	assert_int_equal(silent_for('e', RUNS("\"events\": 11, \"exits\": 1000"), 160), 0);
	assert_int_equal(silent_for('e', RUNS("\"events\": 10, \"exits\": 1123"), 160), 0);
	assert_int_equal(silent_for('e', RUNS("\"events\": 10, \"exits\": 1012"), 160), 60);
	/* Another process; a clock that was set back, as no monotonic one is. */
	assert_int_equal(silent_for('e', RUNS("\"events\": 10, \"exits\": 4"), 160), 0);
	assert_int_equal(silent_for('h', BEATS("10"), 90), 0);
	/* It may rest, or nobody counts. */
	assert_int_equal(
		silent_for('h', "{\"state\": \"Paused\", \"cpus\": 2, \"heartbeat\": 10}", 160), 0);
	assert_int_equal(silent_for('h', RUNS("\"heartbeat\": 10, \"pages_arriving\": 1"), 160), 0);
	assert_int_equal(silent_for('e', RUNS("\"pages_arriving\": 0"), 160), 0);
}

static void tells_a_refusal_in_one_line(void **state)
{
	char got[1024];

	assert_int_equal(CTL(got, STDERR_FILENO, "get", "/no"), 1);
	assert_non_null(strstr(got, "refused (400): Not so.\n"));
	assert_ptr_equal(strchr(got, '\n'), got + strlen(got) - 1);
}

static void refuses_wrong_words(void **state)
{
	static const char *const wrong[][3] = {{"balloon", "1.5"}, {"balloon", "much"},
		{"balloon", "-1"}, {"balloon", "1500K"}, {"limit", "disk0", "iops"},
		{"limit", "a/b", "iops=1"}, {"get", "x"}, {"get", "/a b"}, {"put", "/x"},
		{"status", "x"}, {"alive", "f"}, {"alive", "f", "0"}, {"dance"}, {"migrate"},
		{"migrate", "unix:/x", "--streams"}, {"migrate", "unix:/x", "--wait"},
		{"migrate", "unix:/x", "--fast"}, {"devices", "a/b"}, {"devices", ""}, {"cancel"},
		{"jobs", "1 2"}, {"policy", "net0"}, {"policy", "net0", "mac-check"},
		{"policy", "net0", "mac-check=yes"}, {"policy", "net0", "rules-default=drop"},
		{"policy", "net0", "colour=red"}, {"policy", "a/b", "ip="}};
	char got[1024];

	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
		const char *args[4] = {path, wrong[i][0], wrong[i][1], wrong[i][2]};
		unsigned count = wrong[i][2] ? 4 : wrong[i][1] ? 3 : 2;

		assert_int_equal(ctl(got, STDERR_FILENO, count, args), 2);
		assert_non_null(strstr(got, "duet: error: "));
	}
}

static void says_that_nobody_listens(void **state)
{
	const char *const args[] = {"/tmp/duet-ctl-none", "status"};
	char got[1024];

	assert_int_equal(ctl(got, STDERR_FILENO, 2, args), 1);
	assert_non_null(strstr(got, "/tmp/duet-ctl-none: no machine answers there"));
	assert_non_null(strstr(got, "--api-sock"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(asks_and_prints),
		cmocka_unit_test(prints_hints),
		cmocka_unit_test(changes),
		cmocka_unit_test(asks_by_name),
		cmocka_unit_test(sets_a_policy),
		cmocka_unit_test(follows_a_migration),
		cmocka_unit_test(tells_whether_a_guest_lives),
		cmocka_unit_test(judges_life),
		cmocka_unit_test(tells_a_refusal_in_one_line),
		cmocka_unit_test(refuses_wrong_words),
		cmocka_unit_test(says_that_nobody_listens),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
