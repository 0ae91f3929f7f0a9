/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who takes signals while the main thread hangs. Each test's process is a child whose main thread
 * waits in the kernel, where no handler would run, as one that waits for storage does.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/checked.h"
#include "base/leftover.h"
#include "base/log.h"
#include "cli/signals.h"
#include "cli/vigil.h"
#include "inherited.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define NEVER (3600 * 1000)

static const struct vigil_terms first_ends = {.limit = -1, .status = -1, .meanwhile = "in a test"};

struct file {
	struct leftover leftover;
	char path[64];
};

static struct file file;
static int ready[2];

static void remove_file(struct leftover *leftover)
{
	unlink(container_of(leftover, struct file, leftover)->path);
}

/* A job in a shell's background has some ignored, which stays so. */
static int set_up(void **state)
{
	inherit_signals(0);
	strcpy(file.path, "/tmp/duet-vigil-XXXXXX");
	close(mkstemp(file.path));
	return pipe2(ready, O_CLOEXEC);
}

static int tear_down(void **state)
{
	unlink(file.path);
	close(ready[0]);
	close(ready[1]);
	return 0;
}

static void say_ready(void)
{
	if (write(ready[1], "", 1) != 1)
		_exit(99);
}

/* Until this process is killed: what a stopped parent of a vfork() waits in. */
static void hang(void)
{
	if (syscall(SYS_clone, CLONE_VFORK | SIGCHLD, 0, 0, 0, 0) == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		say_ready();
		for (;;)
			pause();
	}
}

static void wait_until_taken(int number)
{
	sigset_t pending;

	do {
		sched_yield();
		sigpending(&pending);
	} while (sigismember(&pending, number));
}

/* A child that keeps a vigil on @terms; @sent: the signals that it gets before it hangs. */
static pid_t start(const struct vigil_terms *terms, const int *sent, unsigned count)
{
	const pid_t pid = fork();
	struct vigil vigil = {.kept = false};
	char byte;

	if (pid == 0) {
		alarm(60);
		log_set_level(LOG_LEVEL_ERROR);
		signals_block();
		leftover_add(&file.leftover, remove_file);
		if (vigil_begin(&vigil, terms, NULL) < 0)
			_exit(98);
		for (unsigned i = 0; i < count; i++) {
			kill(getpid(), sent[i]);
			wait_until_taken(sent[i]);
		}
		hang();
		_exit(97);
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	return pid;
}

static int status_of(pid_t pid)
{
	int status = 0;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void assert_ended_by(pid_t pid, int number)
{
	const int status = status_of(pid);

	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), number);
	assert_int_equal(access(file.path, F_OK), -1);
}

static void the_first_signal_ends_it(void **state)
{
	const pid_t pid = start(&first_ends, NULL, 0);

	kill(pid, SIGTERM);
	assert_ended_by(pid, SIGTERM);
}

static void one_that_was_ignored_stays_so(void **state)
{
	static const int ignored[] = {SIGHUP};
	pid_t pid;

	signal(SIGHUP, SIG_IGN);
	pid = start(&first_ends, ignored, 1);
	signal(SIGHUP, SIG_DFL);
	kill(pid, SIGINT);
	assert_ended_by(pid, SIGINT);
}

static void others_wait(void **state)
{
	const pid_t pid = start(&first_ends, NULL, 0);

	kill(pid, SIGUSR1);
	kill(pid, SIGWINCH);
	kill(pid, SIGTERM);
	assert_ended_by(pid, SIGTERM);
}

static void the_second_ends_it_when_one_is_spared(void **state)
{
	static const int spared[] = {SIGINT};
	struct vigil_terms terms = first_ends;
	pid_t pid;

	terms.spares = true;
	pid = start(&terms, spared, 1);
	kill(pid, SIGTERM);
	assert_ended_by(pid, SIGTERM);
}

static void it_ends_by_itself_when_there_is_a_limit(void **state)
{
	const struct vigil_terms terms = {.limit = 20, .status = 4, .meanwhile = "in a test"};
	const int status = status_of(start(&terms, NULL, 0));

	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 4);
	assert_int_equal(access(file.path, F_OK), -1);
}

static void it_ends_after_its_grace(void **state)
{
	struct vigil_terms terms = {
		.grace = 20, .limit = NEVER, .status = 3, .meanwhile = "in a test"};
	const pid_t pid = start(&terms, NULL, 0);
	int status;

	kill(pid, SIGTERM);
	status = status_of(pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 3);
}

/* The main thread is back in time. */
static void it_goes_on_within_its_grace(void **state)
{
	const struct vigil_terms terms = {.grace = NEVER, .limit = -1, .status = -1};
	struct vigil vigil = {.kept = false};

	signals_block();
	assert_int_equal(vigil_begin(&vigil, &terms, NULL), 0);
	kill(getpid(), SIGTERM);
	wait_until_taken(SIGTERM);
	assert_int_equal(vigil_end(&vigil), 0);
}

static void what_was_spared_is_told(void **state)
{
	struct vigil_terms terms = first_ends;
	struct vigil vigil = {.kept = false};

	terms.spares = true;
	signals_block();
	assert_int_equal(vigil_begin(&vigil, &terms, NULL), 0);
	assert_int_equal(vigil_begin(&vigil, &first_ends, NULL), 0);
	kill(getpid(), SIGHUP);
	wait_until_taken(SIGHUP);
	assert_int_equal(vigil_end(&vigil), SIGHUP);
	assert_int_equal(vigil_end(&vigil), 0);
}

/* From its end on it is again as if there had been none. */
static void what_comes_later_waits(void **state)
{
	const struct timespec none = {.tv_nsec = 0};
	struct vigil vigil = {.kept = false};
	sigset_t set;

	signals_block();
	assert_int_equal(vigil_begin(&vigil, &first_ends, NULL), 0);
	assert_int_equal(vigil_end(&vigil), 0);
	kill(getpid(), SIGTERM);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	assert_int_equal(sigtimedwait(&set, NULL, &none), SIGTERM);
}

static void what_is_gone_is_forgotten(void **state)
{
	struct file other = {.path = "/nowhere/at/all"};

	leftover_add(&file.leftover, remove_file);
	leftover_add(&other.leftover, remove_file);
	leftover_forget(&file.leftover);
	leftover_forget(&file.leftover);
	leftover_remove_all();
	assert_int_equal(access(file.path, F_OK), 0);
	leftover_add(&file.leftover, remove_file);
	leftover_forget(&other.leftover);
	leftover_remove_all();
	leftover_remove_all();
	assert_int_equal(access(file.path, F_OK), -1);
	leftover_forget(&file.leftover);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_first_signal_ends_it),
		TEST(one_that_was_ignored_stays_so),
		TEST(others_wait),
		TEST(the_second_ends_it_when_one_is_spared),
		TEST(it_ends_by_itself_when_there_is_a_limit),
		TEST(it_ends_after_its_grace),
		TEST(it_goes_on_within_its_grace),
		TEST(what_was_spared_is_told),
		TEST(what_comes_later_waits),
		TEST(what_is_gone_is_forgotten),
	};

	return cmocka_run_group_tests_name("vigil", tests, NULL, NULL);
}
