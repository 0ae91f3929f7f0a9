/* SPDX-License-Identifier: Apache-2.0 */
/* How long a loop polls, by a clock of the test's own. */
#include "base/poll_window.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define US     1000ULL
#define SECOND 1000000000ULL

#define CREDIT_MAX (2 * 250 * POLL_WINDOW_CALLS)

struct world {
	struct poll_window window;
	uint64_t now, polling;
	unsigned sleeps;
};

static void start(struct world *world)
{
	*world = (struct world){.now = SECOND};
	poll_window_init(&world->window, 250, world->now);
	assert_int_equal(world->window.length_max, 250 * POLL_WINDOW_CALLS);
}

/* Work comes @gap after the last: polled for, or slept for. Time passes in steps of 1 us. */
static void await_work(struct world *world, uint64_t gap)
{
	uint64_t due = world->now + gap, from = world->now;

	while (world->now < due && poll_window_open(&world->window, world->now))
		world->now += US;
	world->polling += world->now - from;
	if (world->now >= due) {
		poll_window_found(&world->window, world->now);
		return;
	}
	world->sleeps++;
	poll_window_slept(&world->window, world->now, due);
	world->now = due;
}

/* Steady work is soon found by polling alone. */
static void polls_under_load(void **state)
{
	struct world world;

	(void)state;
	start(&world);
	for (unsigned i = 0; i < 10000; i++)
		await_work(&world, 100 * US);
	assert_in_range(world.sleeps, 1, 20);
}

/* The first steps of a load are seen at once, after any time of rest. */
static void follows_a_load_after_a_rest(void **state)
{
	struct world world;

	(void)state;
	start(&world);
	for (unsigned round = 0; round < 10; round++) {
		unsigned before;

		await_work(&world, 30 * SECOND);
		before = world.sleeps;
		for (unsigned i = 0; i < 1000; i++)
			await_work(&world, 200 * US);
		assert_true(world.sleeps - before <= 20);
	}
}

static void costs_nothing_when_idle(void **state)
{
	static const uint64_t gaps[][3] = {
		{1000000 * US, 1000000 * US, 1000000 * US},
		{4000 * US, 4000 * US, 4000 * US}, /* a tick */
		{50 * US, 50 * US, 20000 * US},    /* pairs of events */
		{900 * US, 1100 * US, 5000 * US},  /* what misleads the window most */
		{700 * US, 1500 * US, 1500 * US},
	};

	(void)state;
	for (unsigned pattern = 0; pattern < sizeof(gaps) / sizeof(gaps[0]); pattern++) {
		struct world world;
		uint64_t from, useful = 0;

		start(&world);
		from = world.now;
		while (world.now - from < 30 * SECOND)
			for (unsigned i = 0; i < 3; i++) {
				await_work(&world, gaps[pattern][i]);
				if (gaps[pattern][i] <= world.window.length_max)
					useful += gaps[pattern][i];
			}
		/* A part of the time, and as much as there was time before work came soon. */
		assert_true(world.polling <= (world.now - from) / 200 + 2 * useful + CREDIT_MAX);
	}
}

/* Work that always comes just after the longest window. */
static void gives_up_on_what_is_always_late(void **state)
{
	struct world world;
	uint64_t from;

	(void)state;
	start(&world);
	from = world.now;
	while (world.now - from < 30 * SECOND)
		await_work(&world, world.window.length_max + 2 * US);
	assert_true(world.polling <= (world.now - from) / 200 + CREDIT_MAX);
}

static void lets_others_run(void **state)
{
	struct world world;
	unsigned yields = 0;

	(void)state;
	start(&world);
	for (unsigned i = 0; i < 30; i++)
		await_work(&world, 300 * US);
	assert_true(world.window.length >= 300 * US);
	for (unsigned i = 0; i < 300; i++) {
		assert_true(poll_window_open(&world.window, world.now));
		yields += poll_window_yields(&world.window, world.now);
		world.now += US;
	}
	assert_in_range(yields, 4, 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(polls_under_load),
		cmocka_unit_test(follows_a_load_after_a_rest),
		cmocka_unit_test(costs_nothing_when_idle),
		cmocka_unit_test(gives_up_on_what_is_always_late),
		cmocka_unit_test(lets_others_run),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
