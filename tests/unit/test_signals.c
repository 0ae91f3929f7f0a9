/* SPDX-License-Identifier: Apache-2.0 */
/* Which signals of the process reach the machine. */
#include "base/checked.h"
#include "cli/signals.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "inherited.h"

struct rig {
	struct loop *loop;
	struct signals signals;
	unsigned taken[NSIG];
};

static void taken(void *opaque, int number)
{
	struct rig *rig = opaque;

	rig->taken[number]++;
	if (number == SIGWINCH)
		loop_stop(rig->loop);
}

/* One of each is sent; SIGWINCH, of the highest number, comes last. */
static void check(unsigned ignored)
{
	struct rig rig = {.signals.fd = -1};
	sigset_t pending;

	inherit_signals(ignored);
	assert_int_equal(loop_new(&rig.loop, 8, NULL), 0);
	signals_block();
	assert_int_equal(signals_watch(&rig.signals, rig.loop, taken, &rig, NULL), 0);
	for (unsigned i = 0; i < INHERITED_SIGNALS; i++)
		kill(getpid(), inherited_signals[i]);
	kill(getpid(), SIGWINCH);
	assert_int_equal(loop_run(rig.loop), 0);
	sigpending(&pending);
	for (unsigned i = 0; i < INHERITED_SIGNALS; i++) {
		assert_int_equal(rig.taken[inherited_signals[i]], !(ignored >> i & 1));
		assert_false(sigismember(&pending, inherited_signals[i]));
	}
	signals_unwatch(&rig.signals);
	loop_free(rig.loop);
}

static void all_reach_it(void **state)
{
	(void)state;
	check(0);
}

static void inherited_ignoring_is_kept(void **state)
{
	(void)state;
	for (unsigned ignored = 1; ignored < 8; ignored++)
		check(ignored);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_reach_it),
		cmocka_unit_test(inherited_ignoring_is_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
