/* SPDX-License-Identifier: Apache-2.0 */
/* What machines offer to KSM, and how fast that looks. */
#include "view_samples.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static struct sample sample;

static void decide(const char *name)
{
	memset(sample.plans, 0, sizeof(sample.plans));
	sample.plan.ksm = (struct ksm_plan){0};
	policy_by_name(MECHANISM_SHARING, name, NULL)->decide(&sample.view, &sample.plan);
}

static int make(void **state)
{
	sample_make(&sample, 1, 3, 100);
	sample.view.host.ksm = true;
	for (unsigned i = 0; i < 3; i++)
		sample.vms[i].can_share = sample.vms[i].says_hints = true;
	return 0;
}

static void asks_those_that_name(void **state)
{
	assert_string_equal(policies_of(MECHANISM_SHARING)[0]->name, "hinted");
	sample.vms[1].says_hints = false;
	decide("hinted");
	assert_true(sample.plans[0].set_sharing && sample.plans[2].set_sharing);
	assert_int_equal(sample.plans[0].sharing, SHARING_HINTED);
	assert_int_equal(sample.plans[0].sharing_why, REASON_NAMED);
	assert_false(sample.plans[1].set_sharing);
	assert_int_equal(sample.plans[1].sharing_why, REASON_NAMES_NONE);
	assert_true(sample.plan.ksm.runs);
}

static void looks_as_fast_as_there_is_to_look_at(void **state)
{
	uint64_t before = 0;

	decide("hinted");
	assert_int_equal(sample.plan.ksm.pages, 32);
	assert_int_equal(sample.plan.ksm.sleep_ms, 100);
	for (uint64_t mib = 1; mib < 1 << 16; mib *= 2) {
		uint64_t all = 3 * mib << 20, seconds;

		for (unsigned i = 0; i < 3; i++)
			sample.vms[i].offered = mib << 20;
		decide("hinted");
		assert_true(sample.plan.ksm.pages >= before);
		before = sample.plan.ksm.pages;
		/* A pass is over within half a minute, until the most is reached. */
		seconds = all / 4096 / before / 10;
		assert_true(seconds <= 30 || before == 2048);
		assert_true(before >= 32 && before <= 2048);
	}
	assert_int_equal(before, 2048);
	sample.vms[0].offered = sample.vms[1].offered = UINT64_MAX;
	decide("hinted");
	assert_int_equal(sample.plan.ksm.pages, 2048);
}

static void offers_all_blindly(void **state)
{
	sample.vms[1].says_hints = false;
	sample.vms[2].passthrough = true;
	decide("blind");
	for (unsigned i = 0; i < 2; i++) {
		assert_true(sample.plans[i].set_sharing);
		assert_int_equal(sample.plans[i].sharing, SHARING_BLIND);
		assert_int_equal(sample.plans[i].sharing_why, REASON_ALL_OFFERED);
	}
	assert_false(sample.plans[2].set_sharing);
	assert_int_equal(sample.plans[2].sharing_why, REASON_NOT_MERGED);
	assert_true(sample.plan.ksm.runs);
	assert_int_equal(sample.plan.ksm.pages, 0);
}

static void does_nothing_where_nothing_can_be_done(void **state)
{
	static const char *const names[] = {"hinted", "blind", "off"};

	for (unsigned i = 0; i < 3; i++)
		sample.vms[i].can_share = false;
	for (unsigned n = 0; n < 3; n++) {
		decide(names[n]);
		assert_false(sample.plan.ksm.runs);
		for (unsigned i = 0; i < 3; i++) {
			assert_false(sample.plans[i].set_sharing);
			assert_int_equal(sample.plans[i].sharing_why,
				n < 2 ? REASON_CANNOT_SHARE : REASON_NONE);
		}
	}
	make(state);
	sample.view.host.ksm = false;
	decide("hinted");
	assert_false(sample.plan.ksm.runs || sample.plans[0].set_sharing);
	assert_int_equal(sample.plans[0].sharing_why, REASON_NO_KSM);
}

#define TEST(function) cmocka_unit_test_setup(function, make)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(asks_those_that_name),
		TEST(looks_as_fast_as_there_is_to_look_at),
		TEST(offers_all_blindly),
		TEST(does_nothing_where_nothing_can_be_done),
	};

	return cmocka_run_group_tests_name("policy_sharing", tests, NULL, NULL);
}
