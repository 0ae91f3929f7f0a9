/* SPDX-License-Identifier: Apache-2.0 */
/* Which signals end the manager, so that it puts the host's settings back. */
#include "base/checked.h"
#include "base/log.h"
#include "duetd/signals.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "inherited.h"

struct late {
	struct loop_timer timer;
	struct loop *loop;
	bool came;
};

static void is_late(struct loop_timer *timer)
{
	struct late *late = container_of(timer, struct late, timer);

	late->came = true;
	loop_stop(late->loop);
}

/* Whether @number, sent now, ends a loop. */
static bool ends(unsigned ignored, int number)
{
	struct signals signals = {.fd = -1};
	struct late late = {.timer.expired = is_late};
	sigset_t pending;

	inherit_signals(ignored);
	assert_int_equal(loop_new(&late.loop, 8, NULL), 0);
	assert_int_equal(signals_open(&signals, late.loop, "it ends", NULL), 0);
	kill(getpid(), number);
	sigpending(&pending);
	/* One that is there is seen by the first round. */
	loop_timer_after(late.loop, &late.timer,
		sigismember(&pending, number) ? 10000000000ULL : 10000000ULL);
	assert_int_equal(loop_run(late.loop), 0);
	loop_timer_stop(&late.timer);
	signals_close(&signals);
	signals_settle(late.loop);
	loop_free(late.loop);
	return !late.came;
}

static void each_of_three_ends_it(void **state)
{
	(void)state;
	for (unsigned i = 0; i < INHERITED_SIGNALS; i++)
		assert_true(ends(0, inherited_signals[i]));
}

static void inherited_ignoring_is_kept(void **state)
{
	(void)state;
	for (unsigned ignored = 1; ignored < 8; ignored++)
		for (unsigned i = 0; i < INHERITED_SIGNALS; i++)
			assert_int_equal(ends(ignored, inherited_signals[i]), !(ignored >> i & 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_of_three_ends_it),
		cmocka_unit_test(inherited_ignoring_is_kept),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
