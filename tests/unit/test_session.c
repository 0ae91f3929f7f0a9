/* SPDX-License-Identifier: Apache-2.0 */
/* A session around a machine that is not there: what is started when, and how often. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/checked.h"
#include "cli/session.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

struct rig {
	struct session session;
	struct loop_task stop;
	char machine; /* stands for one, by its address */
};

static unsigned machine_starts, terminal_starts, terminal_stops;
static const struct vigil *kept;
static bool busy_at_start;

/* By the linker's --wrap. */
int __wrap_machine_start(struct machine *machine, struct error *err);
void __wrap_machine_resize_console(struct machine *machine, uint16_t columns, uint16_t rows);
void __wrap_terminal_start(struct terminal *terminal, struct loop *loop, int fd,
	const struct terminal_events *events, void *opaque);
void __wrap_terminal_stop(struct terminal *terminal);
enum machine_end __wrap_machine_outcome(const struct machine *machine, const char **why);
bool __wrap_machine_press_power(struct machine *machine);
void __wrap_machine_kill(struct machine *machine, const char *why);
void __wrap_machine_starve(struct machine *machine, const char *why);

bool __wrap_machine_press_power(struct machine *machine)
{
	return true;
}

/* Both wait for who waits for ever. */
void __wrap_machine_kill(struct machine *machine, const char *why)
{
	for (;;)
		pause();
}

void __wrap_machine_starve(struct machine *machine, const char *why)
{
	__wrap_machine_kill(machine, why);
}

int __wrap_machine_start(struct machine *machine, struct error *err)
{
	machine_starts++;
	busy_at_start = kept->kept;
	return 0;
}

void __wrap_machine_resize_console(struct machine *machine, uint16_t columns, uint16_t rows)
{
}

void __wrap_terminal_start(struct terminal *terminal, struct loop *loop, int fd,
	const struct terminal_events *events, void *opaque)
{
	terminal_starts++;
}

void __wrap_terminal_stop(struct terminal *terminal)
{
	terminal_stops++;
}

enum machine_end __wrap_machine_outcome(const struct machine *machine, const char **why)
{
	*why = "off";
	return MACHINE_POWERED_OFF;
}

static void stop(struct loop_task *task)
{
	loop_stop(container_of(task, struct rig, stop)->session.loop);
}

static void open_session(struct rig *rig)
{
	struct error err = {0};

	machine_starts = terminal_starts = terminal_stops = 0;
	*rig = (struct rig){.stop.run = stop};
	signals_block();
	assert_int_equal(session_open(&rig->session, &err), 0);
	/* While it is built, and not yet when it is confined. */
	kept = &rig->session.vigil;
	assert_true(kept->kept);
	rig->session.machine = (struct machine *)&rig->machine;
	loop_post(rig->session.loop, &rig->stop);
}

static void run_and_close(struct rig *rig)
{
	struct error err = {0};

	assert_int_equal(session_run(&rig->session, &err), 0);
	assert_int_equal(machine_starts, 1);
	assert_false(busy_at_start);
	assert_true(kept->kept);
	assert_int_equal(terminal_starts, 1);
	assert_int_equal(terminal_stops, 1);
	rig->session.machine = NULL;
	session_close(&rig->session);
	assert_false(kept->kept);
}

static void starts_what_is_built(void **state)
{
	struct rig rig;

	open_session(&rig);
	run_and_close(&rig);
}

/* As --config-file does, before the loop runs. */
static void leaves_what_runs(void **state)
{
	struct error err = {0};
	struct rig rig;

	open_session(&rig);
	assert_int_equal(session_start(&rig.session, &err), 0);
	run_and_close(&rig);
}

static void signal_twice(struct loop_task *task)
{
	kill(getpid(), SIGTERM);
	kill(getpid(), SIGINT);
}

static void starve(struct loop_task *task)
{
	session_starve(&container_of(task, struct rig, stop)->session, "no page");
}

/* The wait status of a process whose main thread hangs while it ends its machine, as @task tells it
 * to. */
static int hang_in(void (*task)(struct loop_task *task), bool at_once)
{
	const pid_t pid = fork();
	struct error err = {0};
	struct rig rig;
	int status = 0;

	if (pid == 0) {
		alarm(20);
		/* A session keeps what was ignored before, as in a background job. */
		signal(SIGTERM, SIG_DFL);
		signal(SIGINT, SIG_DFL);
		open_session(&rig);
		rig.session.at_once = at_once;
		rig.stop.run = task;
		session_run(&rig.session, &err);
		_exit(97);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void ends_though_its_end_hangs(void **state)
{
	int status = hang_in(signal_twice, false);

	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 4);
	status = hang_in(signal_twice, true);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGTERM);
	status = hang_in(starve, false);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(starts_what_is_built),
		cmocka_unit_test(leaves_what_runs),
		cmocka_unit_test(ends_though_its_end_hangs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
