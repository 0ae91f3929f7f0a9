/* SPDX-License-Identifier: Apache-2.0 */
/* The process that has the machine. */
#include "life.h"

#include "base/log.h"
#include "cli/options.h"
#include "cli/report.h"
#include "cli/session.h"
#include "virtio/devices.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MS           1000000ULL
#define RUN_BETWEEN  (20 * MS)
#define PAUSE_WITHIN (60000 * MS)
#define HINTS_WITHIN (120000 * MS)

struct worker {
	struct session session;
	struct loop_watch control;
	struct machine_pause pause;
	struct machine_hints hints;
	struct loop_timer timer;
	char command[64];
	unsigned left;  /* pauses */
	uint64_t hold;  /* nanoseconds to stay paused */
	bool logging;   /* at the next pause, the log is to be begun or ended */
	bool measuring; /* at the next pause */
	bool moving, moved;
};

static struct worker worker;

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void say(const char *format, ...)
{
	char line[256] = "\nlife: ";
	va_list args;

	va_start(args, format);
	vsnprintf(line + strlen(line), sizeof(line) - 8, format, args);
	va_end(args);
	strcat(line, "\n");
	if (write(STDOUT_FILENO, line, strlen(line)) < 0)
		exit(1);
}

static void paused(struct machine_pause *pause, int result, const char *why);

static void pause_now(void)
{
	int ret;

	worker.pause.done = paused;
	ret = machine_pause(worker.session.machine, &worker.pause, PAUSE_WITHIN);
	if (ret < 0)
		say("%s failed: %s", worker.command, strerror(-ret));
}

static void go_on(struct loop_timer *timer)
{
	if (machine_state(worker.session.machine) == MACHINE_PAUSED) {
		machine_resume(worker.session.machine);
		if (--worker.left > 0)
			loop_timer_after(worker.session.loop, timer, RUN_BETWEEN);
		else
			say("%s done", worker.command);
	} else {
		pause_now();
	}
}

static void toggle_log(void)
{
	struct log_result result;
	struct error err = {0};

	if (log_toggle(worker.session.machine, &result, &err) < 0)
		say("log failed: %s", err.text);
	else if (result.ended)
		say("log changed %lu unlogged %lu", result.changed, result.unlogged);
	worker.logging = false;
}

/* At rest: nothing is in flight that comes and goes. */
static void measure(void)
{
	say("measure descriptors %u memory %lu bytes", measure_descriptors(),
		measure_memory(machine_memory(worker.session.machine)));
	worker.measuring = false;
}

static void paused(struct machine_pause *pause, int result, const char *why)
{
	(void)pause;
	if (result < 0) {
		say("%s failed: %s %s", worker.command, strerror(-result), why ? why : "");
		return;
	}
	if (worker.moving) {
		worker.moved = true;
		loop_stop(worker.session.loop);
		return;
	}
	if (worker.logging)
		toggle_log();
	if (worker.measuring)
		measure();
	loop_timer_after(worker.session.loop, &worker.timer, worker.hold);
}

static void set_balloon(unsigned mib)
{
	struct device *balloon = machine_balloon(worker.session.machine);
	struct error err = {.text = "no balloon"};

	if (!balloon || virtio_balloon_set_target(balloon, (uint64_t)mib << 20, &err) < 0)
		say("%s failed: %s", worker.command, err.text);
	else
		say("%s done", worker.command);
}

static void hinted(struct machine_hints *hints, int result, uint64_t bytes, const char *why)
{
	(void)hints;
	if (result < 0)
		say("hint failed: %s %s", strerror(-result), why ? why : "");
	else
		say("hint %llu bytes", (unsigned long long)bytes);
}

static void take_hints(void)
{
	struct error err = {0};

	worker.hints.done = hinted;
	if (machine_take_hints(worker.session.machine, &worker.hints, HINTS_WITHIN, &err) < 0)
		say("hint failed: %s", err.text);
}

static void obey(void)
{
	unsigned number = 0;

	worker.hold = 0;
	if (sscanf(worker.command, "pause %u", &number) == 1) {
		worker.left = number;
		pause_now();
	} else if (sscanf(worker.command, "hold %u", &number) == 1) {
		worker.left = 1;
		worker.hold = number * MS;
		pause_now();
	} else if (strcmp(worker.command, "log") == 0) {
		worker.left = 1;
		worker.logging = true;
		pause_now();
	} else if (strcmp(worker.command, "reset") == 0) {
		machine_ask_reset(worker.session.machine);
	} else if (strcmp(worker.command, "move") == 0) {
		worker.moving = true;
		pause_now();
	} else if (sscanf(worker.command, "balloon %u", &number) == 1) {
		set_balloon(number);
	} else if (strcmp(worker.command, "hint") == 0) {
		take_hints();
	} else if (strcmp(worker.command, "measure") == 0) {
		worker.left = 1;
		worker.measuring = true;
		pause_now();
	} else {
		say("%s failed: no such command", worker.command);
	}
}

static void control_ready(struct loop_watch *watch, uint32_t events)
{
	ssize_t got;

	(void)watch;
	(void)events;
	/* One command at a time: the test waits for the answer. */
	got = read(CONTROL_FD, worker.command, sizeof(worker.command) - 1);
	if (got <= 0)
		return;
	worker.command[got] = 0;
	worker.command[strcspn(worker.command, "\n")] = 0;
	obey();
}

/* Starts the next worker, which reads until this one has let go of everything and ended. */
static int send_away(struct error *err)
{
	int ends[2];
	pid_t child;
	int ret;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return error_errno(err, errno, "pipe");
	child = fork();
	if (child < 0)
		return error_errno(err, errno, "fork");
	if (child == 0) {
		int control = fcntl(CONTROL_FD, F_DUPFD_CLOEXEC, 10);
		int incoming = fcntl(ends[0], F_DUPFD_CLOEXEC, 10);

		dup2(control, CONTROL_FD);
		dup2(incoming, INCOMING_FD);
		execl("/proc/self/exe", "life", "incoming", NULL);
		_exit(1);
	}
	close(ends[0]);
	ret = fcntl(ends[1], F_DUPFD_CLOEXEC, 0);
	if (ret >= 0)
		ret = transfer_send(worker.session.machine, ret, err);
	session_close(&worker.session);
	close(ends[1]);
	return ret;
}

static int build(struct transfer *transfer, bool incoming, struct error *err)
{
	struct machine *machine = worker.session.machine;
	int ret = incoming ? machine_build_bare(machine, err) : machine_build(machine, err);

	return ret < 0 || !incoming ? ret : transfer_apply(transfer, machine, err);
}

static int live(const struct machine_config *config, struct transfer *transfer, bool incoming,
	struct error *err)
{
	struct session *session = &worker.session;
	int ret = session_open(session, err);

	if (ret == 0)
		ret = session_machine(session, config, err);
	if (ret == 0)
		ret = build(transfer, incoming, err);
	if (ret < 0)
		return ret;
	worker.timer.expired = go_on;
	loop_watch(session->loop, &worker.control, CONTROL_FD, POLLIN, control_ready);
	dprintf(CONTROL_FD, "%d\n", (int)getpid());
	if (incoming)
		say("move done");
	ret = session_run(session, err);
	if (ret < 0)
		return ret;
	if (worker.moved)
		return send_away(err) < 0 ? -err->code : EXIT_MOVED;
	ret = session_status(session, err);
	if (config->stats)
		report_write(session->machine, session->maps, config->stats, err);
	session_close(session);
	return ret;
}

int worker_run(unsigned count, const char *const *args, bool incoming)
{
	struct run_options options = {0};
	struct transfer transfer = {0};
	struct error err = {0};
	int ret;

	fcntl(CONTROL_FD, F_SETFD, FD_CLOEXEC);
	fcntl(CONTROL_FD, F_SETFL, O_NONBLOCK);
	if (incoming) {
		ret = transfer_receive(&transfer, INCOMING_FD, &options.config, &err);
		close(INCOMING_FD);
	} else {
		ret = run_options_parse(&options, count, args, &err);
	}
	signals_block();
	if (ret == 0)
		ret = live(&options.config, &transfer, incoming, &err);
	if (err.code)
		log_error("%s", err.text);
	run_options_free(&options);
	return ret < 0 ? 1 : ret;
}
