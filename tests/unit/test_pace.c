/* SPDX-License-Identifier: Apache-2.0 */
/* How long to wait before the next look, by a clock of the test's own. */
#include "base/pace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define US     1000ULL
#define SECOND 1000000000ULL

struct world {
	struct pace pace;
	uint64_t now;
};

/* @count times @items, each @gap after the one before. */
static void come(struct world *world, unsigned count, unsigned items, uint64_t gap, bool together)
{
	for (unsigned i = 0; i < count; i++) {
		world->now += gap;
		if (pace_count(&world->pace, items, together))
			pace_measure(&world->pace, world->now);
	}
}

static void waits_less_than_two_gaps(void **state)
{
	struct world world = {.now = SECOND};

	(void)state;
	come(&world, PACE_WINDOW, 1, 10 * US, true);
	/* When they began to come is not known. */
	assert_int_equal(world.pace.wait, 0);
	come(&world, PACE_WINDOW, 1, 10 * US, true);
	assert_int_equal(world.pace.wait, 17500);
	/* Faster, and several in one look. */
	come(&world, PACE_WINDOW, 4, 8 * US, true);
	assert_int_equal(world.pace.wait, 3500);
}

static void does_not_wait_for_what_comes_alone(void **state)
{
	struct world world = {.now = SECOND};

	(void)state;
	come(&world, 3 * PACE_WINDOW, 1, 10 * US, false);
	assert_int_equal(world.pace.wait, 0);
	come(&world, PACE_WINDOW, 1, 10 * US, true);
	assert_true(world.pace.wait > 0);
	come(&world, PACE_WINDOW, 1, 10 * US, false);
	assert_int_equal(world.pace.wait, 0);
	/* One pair among the others changes nothing, a quarter of them does. */
	come(&world, 1, 1, 10 * US, true);
	come(&world, PACE_WINDOW - 1, 1, 10 * US, false);
	assert_int_equal(world.pace.wait, 0);
	come(&world, PACE_WINDOW / 4, 1, 10 * US, true);
	come(&world, PACE_WINDOW * 3 / 4, 1, 10 * US, false);
	assert_true(world.pace.wait > 0);
}

static void forgets_a_pause(void **state)
{
	struct world world = {.now = SECOND};

	(void)state;
	come(&world, 2 * PACE_WINDOW, 1, 10 * US, true);
	world.now += 100 * SECOND;
	come(&world, PACE_WINDOW, 1, 10 * US, true);
	assert_int_equal(world.pace.wait, 4 * 17500);
	come(&world, PACE_WINDOW, 1, 10 * US, true);
	assert_int_equal(world.pace.wait, 17500);
	/* A clock that stands still is no division by it, and what came at once no eternity. */
	come(&world, 1, PACE_WINDOW, 0, true);
	come(&world, 64, PACE_WINDOW, 10 * US, true);
	assert_int_equal(world.pace.wait, 10 * US / PACE_WINDOW * PACE_WAIT / 8);
}

/* Who has two under way gives two more when both are answered: together, and after the wait if that
 * is longer than what they take. The wait must not live on itself. */
static void does_not_wait_for_its_own_sake(void **state)
{
	const uint64_t takes = 30 * US;
	struct world world = {.now = SECOND};
	uint64_t longest = 0;

	(void)state;
	come(&world, PACE_WINDOW, 2, 20 * takes, true);
	assert_true(world.pace.wait > 10 * takes);
	for (unsigned i = 0; i < 400; i++) {
		uint64_t wait = world.pace.wait > takes ? world.pace.wait : takes;

		come(&world, 1, 2, wait, true);
		longest = wait;
	}
	assert_int_equal(longest, takes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(waits_less_than_two_gaps),
		cmocka_unit_test(does_not_wait_for_what_comes_alone),
		cmocka_unit_test(forgets_a_pause),
		cmocka_unit_test(does_not_wait_for_its_own_sake),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
