/* SPDX-License-Identifier: Apache-2.0 */
/* Programs that duetd runs: what they say, how they end, and that none is left. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "loop_rig.h"

#include "base/checked.h"
#include "duetd/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static struct rig {
	struct loop *loop;
	struct child *child;
	unsigned done;
	int status;
	char output[20000];
} rig;

static int set_up(void **state)
{
	memset(&rig, 0, sizeof(rig));
	return loop_new(&rig.loop, 64, NULL);
}

static int tear_down(void **state)
{
	loop_run_for(rig.loop, 2);
	loop_free(rig.loop);
	/* No child is left behind, not even as a zombie. */
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
	return 0;
}

static void done(void *opaque, int status, const char *output)
{
	rig.done++;
	rig.status = status;
	snprintf(rig.output, sizeof(rig.output), "%s", output);
	loop_stop(rig.loop);
}

static int start(const char *script, size_t output_max, unsigned patience_ms, struct error *err)
{
	const char *const argv[] = {"sh", "-c", script, NULL};
	const struct child_options options = {
		.argv = argv, .output_max = output_max, .patience_ms = patience_ms, .done = done};

	return child_start(&rig.child, rig.loop, &options, err);
}

static void run(const char *script, size_t output_max, unsigned patience_ms)
{
	assert_int_equal(start(script, output_max, patience_ms, NULL), 0);
	assert_int_equal(loop_run(rig.loop), 0);
	assert_int_equal(rig.done, 1);
	rig.done = 0;
}

static void tells_what_it_says_and_how_it_ends(void **state)
{
	run("echo out; echo err >&2; exit 3", 100, 20000);
	assert_string_equal(rig.output, "out\nerr\n");
	assert_int_equal(WEXITSTATUS(rig.status), 3);
	run("exit 0", 100, 20000);
	assert_string_equal(rig.output, "");
	assert_int_equal(rig.status, 0);
	run("kill -9 $$", 100, 20000);
	assert_int_equal(WTERMSIG(rig.status), SIGKILL);
}

/* More than a pipe holds: it would hang if nobody read it. */
static void keeps_no_more_than_was_asked_for(void **state)
{
	run("yes 1234567 | head -c 200000", 10000, 20000);
	assert_int_equal(strlen(rig.output), 10000);
	assert_int_equal(rig.status, 0);
}

static void ends_one_that_hangs(void **state)
{
	run("echo begun; exec sleep 1000", 100, 50);
	assert_int_equal(WTERMSIG(rig.status), SIGKILL);
}

static void does_not_wait_for_others_of_its_pipe(void **state)
{
	run("sleep 1000 & echo $!", 100, 20000);
	assert_int_equal(rig.status, 0);
	assert_int_equal(kill(atoi(rig.output), SIGKILL), 0);
}

/* Of this process's descriptors, those that any program gets: those of who runs the tests. */
static unsigned inherited(void)
{
	unsigned count = 0;

	for (int fd = 3; fd < 1024; fd++) {
		const int flags = fcntl(fd, F_GETFD);

		count += flags >= 0 && !(flags & FD_CLOEXEC);
	}
	return count;
}

static void begins_as_programs_do(void **state)
{
	sigset_t set, before;
	char wanted[32];

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, &before);
	setenv("SECRET", "of duetd", 1);
	run("echo ${SECRET-none}; read x; ls /proc/self/fd | wc -l; kill -TERM $$; echo still", 100,
		20000);
	sigprocmask(SIG_SETMASK, &before, NULL);
	/* Its three, and the one by which ls reads the folder. */
	snprintf(wanted, sizeof(wanted), "none\n%u\n", 4 + inherited());
	assert_string_equal(rig.output, wanted);
	assert_int_equal(WTERMSIG(rig.status), SIGTERM);
}

static void says_that_there_is_no_such_program(void **state)
{
	const char *const argv[] = {"duet-no-such-program", NULL};
	const struct child_options options = {.argv = argv, .patience_ms = 1000, .done = done};
	struct error err = {0};

	assert_int_equal(child_start(&rig.child, rig.loop, &options, &err), -ENOENT);
	assert_non_null(strstr(err.text, "duet-no-such-program"));
}

static void drops_one(void **state)
{
	assert_int_equal(start("exec sleep 1000", 100, 20000, NULL), 0);
	child_drop(rig.child);
	loop_run_for(rig.loop, 20);
	assert_int_equal(rig.done, 0);
	/* One that was killed a moment ago may not be dead yet. */
	waitpid(-1, NULL, 0);
}

#define child_test(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		child_test(tells_what_it_says_and_how_it_ends),
		child_test(keeps_no_more_than_was_asked_for),
		child_test(ends_one_that_hangs),
		child_test(does_not_wait_for_others_of_its_pipe),
		child_test(begins_as_programs_do),
		child_test(says_that_there_is_no_such_program),
		child_test(drops_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
