/* SPDX-License-Identifier: Apache-2.0 */
/* Weights and slices: proportional to what can run, and never more than can be true. */
#include "view_samples.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define SEEDS 200

static struct sample sample;

static void decide(const char *name)
{
	struct error err = {0};
	const struct policy *policy = policy_by_name(MECHANISM_CPU, name, &err);

	memset(sample.plans, 0, sizeof(sample.plans));
	policy->decide(&sample.view, &sample.plan);
}

/* @vms of share 100 with 4 vCPUs, each with one thread that runs on its first. */
static void make(unsigned vms)
{
	sample_make(&sample, 1, vms, 100);
	for (unsigned i = 0; i < vms; i++) {
		sample.vms[i].share = 100;
		sample.vms[i].vcpus = 4;
		for (unsigned v = 0; v < 4; v++)
			sample.vms[i].vcpu[v].says = true;
		sample.vms[i].vcpu[0].runnable = 1;
		sample.vms[i].vcpu[0].busy = 0.9;
	}
}

/* So many threads of @vm run or wait, one on each vCPU. */
static void runs(unsigned vm, unsigned threads)
{
	for (unsigned v = 0; v < 4; v++) {
		sample.vms[vm].vcpu[v].runnable = v < threads;
		sample.vms[vm].vcpu[v].busy = v < threads ? 0.4 : 0;
		sample.vms[vm].vcpu[v].waits = v < threads ? 0.6 : 0;
	}
}

static void weight_follows_threads(void **state)
{
	make(3);
	runs(1, 3);
	runs(2, 4);
	decide("runnable");
	assert_int_equal(sample.plans[1].weight, 3 * sample.plans[0].weight);
	assert_int_equal(sample.plans[2].weight, 4 * sample.plans[0].weight);
	assert_int_equal(sample.plans[2].cpu_why, REASON_RUNNABLE);
	assert_true(sample.plans[0].set_cpu);
}

static void and_shares(void **state)
{
	make(2);
	sample.vms[1].share = 200;
	runs(1, 2);
	decide("runnable");
	assert_int_equal(sample.plans[1].weight, 4 * sample.plans[0].weight);
}

static void no_more_than_vcpus(void **state)
{
	make(2);
	runs(1, 4);
	sample.vms[1].vcpu[0].runnable = UINT32_MAX;
	sample.vms[1].vcpu[1].runnable = UINT32_MAX;
	decide("runnable");
	assert_int_equal(sample.plans[1].weight, 4 * sample.plans[0].weight);
	assert_int_equal(sample.plans[1].cpu_why, REASON_CAPPED);
}

/* One thread runs, and it says a hundred: the host saw one vCPU with work, and gives it one more.
 */
static void no_more_than_was_seen(void **state)
{
	make(2);
	for (unsigned v = 0; v < 4; v++)
		sample.vms[1].vcpu[v].runnable = 25;
	decide("runnable");
	assert_int_equal(sample.plans[1].weight, 2 * sample.plans[0].weight);
	assert_int_equal(sample.plans[1].cpu_why, REASON_CAPPED);
}

static void idle_has_its_share(void **state)
{
	make(2);
	runs(1, 0);
	decide("runnable");
	assert_int_equal(sample.plans[1].weight, sample.plans[0].weight);
	assert_int_equal(sample.plans[1].cpu_why, REASON_IDLE);
}

static void blind_goes_by_what_was_seen(void **state)
{
	make(2);
	for (unsigned v = 0; v < 4; v++)
		sample.vms[1].vcpu[v] =
			(struct vcpu_view){.busy = 0.5, .waits = 0.25, .burst = 1000000};
	decide("runnable");
	assert_int_equal(sample.plans[1].weight, 3 * sample.plans[0].weight);
	assert_int_equal(sample.plans[1].cpu_why, REASON_NO_HINTS);
	assert_int_equal(sample.plans[1].vcpu[0].slice, 0);
}

/* A liar takes of its neighbour no more than an honest VM with as many busy vCPUs would. */
static void lying_buys_nothing(void **state)
{
	for (unsigned seed = 0; seed < SEEDS; seed++) {
		uint32_t honest, lying;

		make(2 + seed % 20);
		for (unsigned i = 0; i < sample.view.count; i++)
			runs(i, (unsigned)sample_number(&sample, 0, 4));
		runs(1, 4);
		decide("runnable");
		honest = sample.plans[1].weight;
		for (unsigned v = 0; v < 4; v++) {
			sample.vms[1].vcpu[v].runnable = (uint32_t)sample_number(&sample, 1, 1e9);
			sample.vms[1].vcpu[v].burst = sample_number(&sample, 0, UINT64_MAX - 1);
		}
		decide("runnable");
		lying = sample.plans[1].weight;
		assert_int_equal(lying, honest);
	}
}

static void mean_stays_near_the_usual(void **state)
{
	for (unsigned seed = 0; seed < SEEDS; seed++) {
		double sum = 0;

		make(1 + seed % SAMPLE_VMS);
		for (unsigned i = 0; i < sample.view.count; i++) {
			runs(i, (unsigned)sample_number(&sample, 0, 4));
			sample.vms[i].share = (uint32_t)sample_number(&sample, 50, 800);
		}
		decide("runnable");
		for (unsigned i = 0; i < sample.view.count; i++)
			sum += sample.plans[i].weight;
		sum /= sample.view.count;
		assert_true(sum > 70 && sum < 142);
	}
}

static void slices_are_above_bursts(void **state)
{
	make(2);
	sample.vms[0].vcpu[0].burst = 8000000;
	sample.vms[0].vcpu[1].burst = 10;
	sample.vms[0].vcpu[2].burst = UINT64_MAX;
	decide("runnable");
	assert_int_equal(sample.plans[0].vcpu[0].slice, 9000000);
	assert_int_equal(sample.plans[0].vcpu[1].slice, 100000);
	assert_int_equal(sample.plans[0].vcpu[2].slice, 100000000);
	assert_int_equal(sample.plans[0].vcpu[3].slice, 0);
	sample.view.host.slices = false;
	decide("runnable");
	assert_int_equal(sample.plans[0].vcpu[0].slice, 0);
}

static void share_alone(void **state)
{
	make(2);
	sample.vms[0].share = 0;
	sample.vms[1].share = 777777;
	runs(1, 4);
	decide("share");
	assert_int_equal(sample.plans[0].weight, 1);
	assert_int_equal(sample.plans[1].weight, 10000);
	decide("off");
	assert_false(sample.plans[1].set_cpu);
}

static void said_in_words(void **state)
{
	char words[256];

	make(2);
	sample.vms[0].vcpu[0].runnable = 40;
	decide("runnable");
	reason_words(sample.plans[0].cpu_why, &sample.view, &sample.plan, 0, words, sizeof(words));
	assert_string_equal(words,
		"weighs 100: it says that 40 threads can run, and counts for no more than its 4 "
		"vCPUs were seen to have work, by its share of 100");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(weight_follows_threads),
		cmocka_unit_test(and_shares),
		cmocka_unit_test(no_more_than_vcpus),
		cmocka_unit_test(no_more_than_was_seen),
		cmocka_unit_test(idle_has_its_share),
		cmocka_unit_test(blind_goes_by_what_was_seen),
		cmocka_unit_test(lying_buys_nothing),
		cmocka_unit_test(mean_stays_near_the_usual),
		cmocka_unit_test(slices_are_above_bursts),
		cmocka_unit_test(share_alone),
		cmocka_unit_test(said_in_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
