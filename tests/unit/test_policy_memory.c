/* SPDX-License-Identifier: Apache-2.0 */
/* What policies of memory promise, over views of many kinds. */
#include "duetd/policies/memory.h"
#include "view_samples.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define SEEDS    200
#define PATIENCE 200 /* decisions until all must be still */

static struct sample sample;

static const struct policy *policy(const char *name)
{
	struct error err = {0};
	const struct policy *found = policy_by_name(MECHANISM_MEMORY, name, &err);

	if (!found)
		fail_msg("%s", err.text);
	return found;
}

static void make(unsigned seed)
{
	sample_make(&sample, seed, 2 + seed % (SAMPLE_VMS - 1), 45 + seed % 50);
}

/* MiB that a difference may have and be left alone. */
static uint64_t slack(unsigned vm)
{
	return (uint64_t)((double)sample.vms[vm].memory * STEP_LEAST / MIB) + 2;
}

static uint64_t needs(unsigned vm)
{
	struct memory_guest guest;

	memory_look(&sample.view, vm, &guest);
	return (uint64_t)(guest.working_set / MIB);
}

static void names_are_found(void **state)
{
	struct error err = {0};

	assert_string_equal(policies_of(MECHANISM_MEMORY)[0]->name, "working-set");
	assert_string_equal(policies_of(MECHANISM_CPU)[0]->name, "runnable");
	assert_string_equal(policies_of(MECHANISM_NUMA)[0]->name, "locality");
	assert_null(policy_by_name(MECHANISM_MEMORY, "best", &err));
	assert_string_equal(err.text, "memory: no policy \"best\"; choose working-set, static, "
				      "idle-tax, ovirt, pressure, "
				      "off");
	for (unsigned m = 0; m < MECHANISMS; m++)
		assert_non_null(policy_by_name((enum mechanism)m, "off", &err));
}

static void off_does_nothing(void **state)
{
	make(7);
	sample_decide(&sample, policy("off"));
	for (unsigned i = 0; i < sample.view.count; i++)
		assert_false(sample.plans[i].set_memory);
}

static void enough_for_all(void **state)
{
	sample_make(&sample, 1, 10, 120);
	sample_decide(&sample, policy("working-set"));
	for (unsigned i = 0; i < 10; i++) {
		assert_int_equal(sample.plans[i].allowed, sample.vms[i].memory);
		assert_int_equal(sample.plans[i].memory_why, REASON_ENOUGH);
	}
	/* Overcommitted, but nobody has taken it yet. */
	sample_make(&sample, 1, 10, 60);
	for (unsigned i = 0; i < 10; i++)
		sample.wants[i] = sample.vms[i].memory / 10;
	sample_refresh(&sample);
	sample_decide(&sample, policy("working-set"));
	assert_int_equal(sample.plans[0].memory_why, REASON_ENOUGH);
	/* ... and the same when the host waits for memory all the same. */
	sample.view.host.memory_some = HOST_PRESSED;
	sample_decide(&sample, policy("working-set"));
	assert_int_not_equal(sample.plans[0].memory_why, REASON_ENOUGH);
}

/* Over a view that does not change nothing goes on moving. */
static void all_come_to_rest(void **state)
{
	static const char *const names[] = {"working-set", "static", "idle-tax"};

	for (unsigned n = 0; n < 3; n++)
		for (unsigned seed = 0; seed < SEEDS; seed++) {
			make(seed);
			assert_in_range(sample_settle(&sample, policy(names[n]), PATIENCE), 1,
				PATIENCE - 1);
			for (unsigned more = 0; more < 30; more++)
				assert_int_equal(sample_settle(&sample, policy(names[n]), 1), 0);
		}
}

static void together_within_the_host(void **state)
{
	static const char *const names[] = {"working-set", "static", "idle-tax"};

	for (unsigned n = 0; n < 3; n++)
		for (unsigned seed = 0; seed < SEEDS; seed++) {
			uint64_t sum = 0;

			make(seed);
			sample_settle(&sample, policy(names[n]), PATIENCE);
			for (unsigned i = 0; i < sample.view.count; i++)
				sum += sample_allowed(&sample, i);
			assert_in_range(sum, 1, sample_physical(&sample) / MIB_BYTES);
		}
}

/* @vm got less than it needs. */
static void nobody_has_more_than(unsigned vm)
{
	for (unsigned j = 0; j < sample.view.count; j++) {
		uint64_t has = sample_allowed(&sample, j), of = sample.vms[j].share;

		assert_in_range(has, 0, needs(j) + slack(j));
		/* Nor more for its share. */
		assert_in_range((has - (has < slack(j) ? has : slack(j))) * sample.vms[vm].share, 0,
			(sample_allowed(&sample, vm) + slack(vm)) * of);
	}
}

static void nobody_starves_beside_an_idler(void **state)
{
	unsigned cut = 0;

	for (unsigned seed = 0; seed < SEEDS; seed++) {
		make(seed);
		sample_settle(&sample, policy("working-set"), PATIENCE);
		for (unsigned i = 0; i < sample.view.count; i++) {
			if (sample_allowed(&sample, i) + slack(i) >= needs(i))
				continue;
			cut++;
			nobody_has_more_than(i);
		}
	}
	assert_in_range(cut, 100, SEEDS * SAMPLE_VMS); /* or nothing was tried */
}

/* Whatever it says, the others get what they need up to their share of the host. */
static void a_liar_gains_nothing(void **state)
{
	for (unsigned seed = 0; seed < SEEDS; seed++) {
		double shares = 0, room;

		make(seed);
		sample.vms[0].working_set = UINT64_MAX;
		sample.vms[0].refaults = 1e9;
		sample.vms[0].memory_some = 10000;
		sample_settle(&sample, policy("working-set"), PATIENCE);
		for (unsigned i = 0; i < sample.view.count; i++)
			shares += sample.vms[i].share;
		room = (double)sample_physical(&sample) * (1 - HOST_RESERVE) / MIB / shares;
		for (unsigned i = 1; i < sample.view.count; i++) {
			uint64_t fair = (uint64_t)(room * sample.vms[i].share);
			uint64_t least = fair < needs(i) ? fair : needs(i);

			assert_in_range(sample_allowed(&sample, i) + slack(i), least, UINT64_MAX);
		}
	}
}

static uint64_t allowed_together(void)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < sample.view.count; i++)
		sum += sample_allowed(&sample, i);
	return sum;
}

/* Ten guests of 1 GiB, each of which needs @need MiB, on a host of 5 GiB. */
static void make_alike(uint64_t need)
{
	sample_make(&sample, 1, 10, 50);
	for (unsigned i = 0; i < 10; i++) {
		sample.vms[i].memory = 1024 * MIB_BYTES;
		sample.vms[i].share = 100;
		sample.vms[i].working_set = need * MIB_BYTES;
	}
	sample.view.host.memory = 5120 * MIB_BYTES;
	sample_refresh(&sample);
}

static void swap_is(uint64_t total_mib, uint64_t free_mib)
{
	sample.view.host.swap_total = total_mib * MIB_BYTES;
	sample.view.host.swap_free = free_mib * MIB_BYTES;
}

/* Of what is too much for the host it swaps what is cold; guests cannot, or kill programs. */
static void swap_lends_what_working_sets_lack(void **state)
{
	uint64_t without;

	make_alike(550);
	sample_settle(&sample, policy("working-set"), PATIENCE);
	without = allowed_together();
	assert_in_range(without, 4600, 5120);
	swap_is(4096, 4096);
	sample_settle(&sample, policy("working-set"), PATIENCE);
	assert_in_range(allowed_together(), without + 400, 10 * (needs(0) + slack(0)));
	/* Half of a small swap, and half of what there is for guests at most. */
	swap_is(512, 512);
	sample_settle(&sample, policy("working-set"), PATIENCE);
	assert_in_range(allowed_together(), without + 100, without + 256 + 10 * slack(0));
	make_alike(1000);
	swap_is(1U << 30, 1U << 30);
	sample_settle(&sample, policy("working-set"), PATIENCE);
	assert_in_range(allowed_together(), without + 2000, 5120 * 3 / 2 + 10 * slack(0));
}

/* Half of the swap is for whatever else needs it. */
static void swap_that_is_used_lends_nothing_more(void **state)
{
	uint64_t without;

	make_alike(550);
	sample_settle(&sample, policy("working-set"), PATIENCE);
	without = allowed_together();
	swap_is(4096, 2048);
	sample_settle(&sample, policy("working-set"), PATIENCE);
	assert_int_equal(allowed_together(), without);
}

/* One of them gives nothing: the others are not given its part of the swap as well. */
static void swap_is_lent_once(void **state)
{
	uint64_t before;

	make_alike(550);
	sample.vms[0].memory = 4096 * MIB_BYTES;
	sample_settle(&sample, policy("working-set"), PATIENCE);
	before = allowed_together() - sample_allowed(&sample, 0);
	swap_is(2048, 2048);
	for (unsigned n = 0; n < PATIENCE; n++) {
		sample.vms[0].balloon = 0;
		sample.vms[0].resident = sample.vms[0].memory;
		for (unsigned i = 1; i < 10; i++)
			sample.vms[i].resident = (5120 - 4096) / 9 * MIB_BYTES;
		sample.view.host.available = 0;
		sample_decide(&sample, policy("working-set"));
	}
	assert_in_range(allowed_together() - sample_allowed(&sample, 0), 0, before);
}

static void swap_lends_nothing_to_one_that_claims_too_much(void **state)
{
	uint64_t without;

	make_alike(450);
	sample.vms[0].working_set = UINT64_MAX;
	sample_settle(&sample, policy("working-set"), PATIENCE);
	without = sample_allowed(&sample, 0);
	make_alike(450);
	sample.vms[0].working_set = UINT64_MAX;
	swap_is(4096, 4096);
	sample_settle(&sample, policy("working-set"), PATIENCE);
	assert_int_equal(sample_allowed(&sample, 0), without);
}

static void taken_in_steps(void **state)
{
	for (unsigned seed = 0; seed < SEEDS; seed++) {
		make(seed);
		for (unsigned n = 0; n < 40; n++) {
			uint64_t before[SAMPLE_VMS];

			for (unsigned i = 0; i < sample.view.count; i++)
				before[i] = sample_allowed(&sample, i);
			sample_decide(&sample, policy("working-set"));
			for (unsigned i = 0; i < sample.view.count; i++)
				assert_in_range(sample_allowed(&sample, i) +
							sample.vms[i].memory / MIB_BYTES / 20 + 2,
					before[i], UINT64_MAX);
		}
	}
}

/* Two guests of 4 GiB on a host of 4: one idles, the other grows. */
static void make_two(void)
{
	sample_make(&sample, 1, 2, 100);
	for (unsigned i = 0; i < 2; i++) {
		sample.vms[i].memory = sample.wants[i] = 4096 * MIB_BYTES;
		sample.vms[i].share = 100;
		sample.vms[i].working_set = 512 * MIB_BYTES;
	}
	sample.view.host.memory = 4096 * MIB_BYTES;
	sample_refresh(&sample);
	sample_settle(&sample, policy("working-set"), PATIENCE);
}

static void given_back_at_once(void **state)
{
	uint64_t before;

	make_two();
	before = sample_allowed(&sample, 0);
	assert_in_range(before, 1700, 2048);
	sample.vms[0].working_set = before * MIB_BYTES;
	sample.vms[0].refaults = SHORT_PAGES + 1;
	sample_decide(&sample, policy("working-set"));
	assert_int_equal(sample.plans[0].memory_why, REASON_GROWS);
	/* What was in reserve, in one decision; the rest as the other gives it. */
	assert_in_range(sample_allowed(&sample, 0), before + 100, before + 160);
	for (unsigned n = 0; n < 5; n++)
		sample_decide(&sample, policy("working-set"));
	assert_in_range(sample_allowed(&sample, 0), before + 450, 4096);
	assert_in_range(sample_allowed(&sample, 1), 512, before - 300);
}

static void small_differences_are_left_alone(void **state)
{
	uint64_t before;

	make_two();
	before = sample_allowed(&sample, 0);
	sample.vms[0].working_set += 50 * MIB_BYTES;
	sample_decide(&sample, policy("working-set"));
	assert_int_equal(sample_allowed(&sample, 0), before);
	assert_int_equal(sample.plans[0].memory_why, REASON_STILL);
}

static void without_a_kit_it_rests_between_steps(void **state)
{
	char words[256];
	uint64_t before;

	make_two();
	before = sample_allowed(&sample, 0);
	sample.fixed_available = true;
	sample.vms[0].says_hints = false;
	sample.vms[0].guest_available = 900 * MIB_BYTES;
	sample.vms[1].working_set = 3000 * MIB_BYTES; /* now the other wants it */
	sample.vms[0].balloon_since = REST_NS - 2 * SECOND_NS;
	sample_decide(&sample, policy("working-set"));
	assert_int_equal(sample_allowed(&sample, 0), before);
	reason_words(REASON_STEP, &sample.view, &sample.plan, 0, words, sizeof(words));
	assert_non_null(strstr(words, "waits for 10 s after the last step"));
	sample.vms[0].balloon_since = REST_NS;
	sample_decide(&sample, policy("working-set"));
	assert_in_range(sample_allowed(&sample, 0), before - 210, before - 150);
	sample.vms[0].guest_available =
		sample.vms[0].memory - sample.vms[0].balloon - (before - 900) * MIB_BYTES;
	sample_decide(&sample, policy("working-set"));
	assert_in_range(sample_allowed(&sample, 0), before - 210, before - 150);
	/* What the kit says needs no such care. */
	sample.vms[0].says_hints = true;
	sample_decide(&sample, policy("working-set"));
	assert_in_range(sample_allowed(&sample, 0), before - 420, before - 350);
}

/* A working set is what is touched; what is not is no cache for that, and a guest without swap
 * would have to kill for it. A balloon that its driver counts as used is not. */
static void what_is_in_use_stays(void **state)
{
	make_two();
	sample.fixed_available = true;
	sample.vms[0].working_set = 20 * MIB_BYTES;
	sample.vms[1].working_set = sample.vms[1].memory;
	for (unsigned i = 0; i < 200; i++) {
		sample.vms[0].guest_available =
			sample.vms[0].memory - sample.vms[0].balloon - 900 * MIB_BYTES;
		sample_decide(&sample, policy("working-set"));
		assert_true(sample_allowed(&sample, 0) >= 900);
	}
	/* Nothing in use but the working set. */
	for (unsigned i = 0; i < 200; i++) {
		sample.vms[0].guest_available =
			sample.vms[0].memory - sample.vms[0].balloon - 20 * MIB_BYTES;
		sample_decide(&sample, policy("working-set"));
	}
	assert_true(sample_allowed(&sample, 0) < 700);
}

static void who_cannot_give(void **state)
{
	make_two();
	sample.vms[0].passthrough = true;
	sample.vms[1].memory = 0;
	sample.vms[1].balloon = sample.vms[1].balloon_target = 0;
	sample_decide(&sample, policy("working-set"));
	assert_int_equal(sample.plans[0].memory_why, REASON_PINNED);
	assert_false(sample.plans[0].set_memory);
	assert_int_equal(sample.plans[1].memory_why, REASON_UNKNOWN);
	assert_false(sample.plans[1].set_memory);
}

static void without_a_balloon(void **state)
{
	make_two();
	sample.vms[0].has_balloon = sample.vms[0].says_hints = sample.vms[0].says_memory = false;
	sample.vms[0].balloon = sample.vms[0].balloon_target = 0;
	sample.vms[1].working_set = 3500 * MIB_BYTES;
	sample_refresh(&sample);
	sample_decide(&sample, policy("working-set"));
	assert_int_equal(sample.plans[0].memory_why, REASON_NO_BALLOON);
	assert_int_equal(sample.plans[0].allowed, sample.vms[0].memory);
	/* A step at most, and none while it or the host waits for what was taken. */
	assert_in_range(sample.plans[0].reclaim, 1, 4096 * MIB_BYTES / 20);
	sample.vms[0].host_swap_in = 1000;
	sample_decide(&sample, policy("working-set"));
	assert_int_equal(sample.plans[0].reclaim, 0);
	sample.vms[0].host_swap_in = 0;
	sample.view.host.memory_some = HOST_PRESSED;
	sample_decide(&sample, policy("working-set"));
	assert_int_equal(sample.plans[0].reclaim, 0);
	sample.view.host.memory_some = 0;
	sample.view.host.reclaim = false;
	sample_decide(&sample, policy("working-set"));
	assert_false(sample.plans[0].set_memory);
	assert_int_equal(sample.plans[0].memory_why, REASON_NO_BALLOON);
}

static void static_splits_by_share(void **state)
{
	make_two();
	sample.vms[1].share = 300;
	sample.view.host.memory = 4096 * MIB_BYTES;
	sample.vms[0].working_set = 4000 * MIB_BYTES;
	sample_settle(&sample, policy("static"), PATIENCE);
	assert_in_range(sample_allowed(&sample, 0), 960 - 82, 960 + 82);
	assert_in_range(sample_allowed(&sample, 1), 2880 - 82, 2880 + 82);
}

/* Both pay alike: P (f + 4 (1 - f)) = 4 P - 3 W. */
static void idle_tax_makes_all_pay_alike(void **state)
{
	double pays[2];

	make_two();
	sample.vms[0].working_set = 1600 * MIB_BYTES;
	sample.vms[1].working_set = 200 * MIB_BYTES;
	sample_settle(&sample, policy("idle-tax"), PATIENCE);
	for (unsigned i = 0; i < 2; i++)
		pays[i] = 4.0 * (double)sample_allowed(&sample, i) - 3.0 * (double)needs(i);
	assert_true(pays[0] - pays[1] < 4 * 82 * 2 && pays[1] - pays[0] < 4 * 82 * 2);
	assert_in_range(sample_allowed(&sample, 0) + sample_allowed(&sample, 1), 3600, 4096);
}

static void ovirt_does_not_ask_who_is_idle(void **state)
{
	sample_make(&sample, 1, 2, 100);
	sample.fixed_available = true;
	for (unsigned i = 0; i < 2; i++) {
		sample.vms[i].memory = sample.wants[i] = 1000 * MIB_BYTES;
		sample.vms[i].guest_total = 1000 * MIB_BYTES;
		sample.vms[i].guest_available = i ? 900 * MIB_BYTES : 210 * MIB_BYTES;
	}
	sample.view.host.memory = 2000 * MIB_BYTES;
	sample_refresh(&sample);
	sample.view.host.available = 200 * MIB_BYTES;
	sample_decide(&sample, policy("ovirt"));
	/* 5 % of both; but one has to keep a fifth free: 790 used, 987 kept. */
	assert_int_equal(sample_allowed(&sample, 0), 987);
	assert_int_equal(sample_allowed(&sample, 1), 950);
	/* Below 5 % that no longer counts. */
	sample.view.host.available = 90 * MIB_BYTES;
	sample_decide(&sample, policy("ovirt"));
	assert_int_equal(sample_allowed(&sample, 0), 937);
	/* Above 20 % it comes back, in steps too. */
	sample.view.host.available = 500 * MIB_BYTES;
	sample_decide(&sample, policy("ovirt"));
	assert_int_equal(sample_allowed(&sample, 0), 987);
}

static void pressure_stops_where_somebody_waits(void **state)
{
	uint64_t calm;

	make_two();
	sample_decide(&sample, policy("pressure"));
	calm = sample.plans[0].reclaim;
	assert_in_range(calm, MIB_BYTES, 4096 * MIB_BYTES / 20);
	assert_int_equal(sample.plans[0].allowed, sample.vms[0].memory);
	sample.vms[0].host_refaults = 50;
	sample_decide(&sample, policy("pressure"));
	assert_in_range(sample.plans[0].reclaim, MIB_BYTES, calm * 6 / 10);
	sample.vms[0].host_refaults = 100;
	sample_decide(&sample, policy("pressure"));
	assert_int_equal(sample.plans[0].reclaim, 0);
	sample.view.host.reclaim = false;
	sample_decide(&sample, policy("pressure"));
	assert_false(sample.plans[0].set_memory);
}

static void said_in_words(void **state)
{
	char words[256];

	make_two();
	sample_decide(&sample, policy("working-set"));
	sample.plans[0].memory_why = REASON_WORKING_SET;
	sample.plans[0].allowed = 700 * MIB_BYTES;
	reason_words(REASON_WORKING_SET, &sample.view, &sample.plan, 0, words, sizeof(words));
	assert_string_equal(words,
		"may hold 700 of its 4096 MiB: its working set of 544 MiB and a reserve of 68 MiB, "
		"with 88 MiB of what is left over");
	sample.vms[0].refaults = 70;
	sample.vms[0].swap_in = 90;
	reason_words(REASON_GROWS, &sample.view, &sample.plan, 0, words, sizeof(words));
	assert_non_null(strstr(words, "its guest reads 90 pages a second in again"));
	for (unsigned r = 0; r <= REASON_COUNT; r++) {
		memset(words, 'x', sizeof(words));
		reason_words((enum reason)r, &sample.view, &sample.plan, 0, words, sizeof(words));
		assert_in_range(strlen(words), 10, sizeof(words) - 1);
		/* In less room it is cut, and ended. */
		reason_words((enum reason)r, &sample.view, &sample.plan, 0, words, 8);
		assert_int_equal(strlen(words), 7);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_found),
		cmocka_unit_test(off_does_nothing),
		cmocka_unit_test(enough_for_all),
		cmocka_unit_test(all_come_to_rest),
		cmocka_unit_test(together_within_the_host),
		cmocka_unit_test(nobody_starves_beside_an_idler),
		cmocka_unit_test(a_liar_gains_nothing),
		cmocka_unit_test(swap_lends_what_working_sets_lack),
		cmocka_unit_test(swap_that_is_used_lends_nothing_more),
		cmocka_unit_test(swap_is_lent_once),
		cmocka_unit_test(swap_lends_nothing_to_one_that_claims_too_much),
		cmocka_unit_test(taken_in_steps),
		cmocka_unit_test(given_back_at_once),
		cmocka_unit_test(small_differences_are_left_alone),
		cmocka_unit_test(without_a_kit_it_rests_between_steps),
		cmocka_unit_test(what_is_in_use_stays),
		cmocka_unit_test(who_cannot_give),
		cmocka_unit_test(without_a_balloon),
		cmocka_unit_test(static_splits_by_share),
		cmocka_unit_test(idle_tax_makes_all_pay_alike),
		cmocka_unit_test(ovirt_does_not_ask_who_is_idle),
		cmocka_unit_test(pressure_stops_where_somebody_waits),
		cmocka_unit_test(said_in_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
