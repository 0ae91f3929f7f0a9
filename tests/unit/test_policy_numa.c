/* SPDX-License-Identifier: Apache-2.0 */
/* Where vCPUs and memory go: to each other, by whichever moves less, where there is room. */
#include "view_samples.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define SEEDS 200
#define GIB   (1024 * MIB_BYTES)

static struct sample sample;

static void decide(void)
{
	memset(sample.plans, 0, sizeof(sample.plans));
	policies_of(MECHANISM_NUMA)[0]->decide(&sample.view, &sample.plan);
}

/* Two nodes of 4 CPUs and 16 GiB; @vms of two vCPUs, both on node 0, as is all they use. */
static void make(unsigned vms)
{
	sample_make(&sample, 1, vms, 100);
	sample.view.host.nodes = 2;
	for (unsigned n = 0; n < 2; n++) {
		sample.view.host.node_cpus[n] = 4;
		sample.view.host.node_memory[n] = 16 * GIB;
	}
	for (unsigned i = 0; i < vms; i++) {
		sample.vms[i].vcpus = 2;
		sample.vms[i].nodes_hold[0] = GIB;
		for (unsigned v = 0; v < 2; v++)
			sample.vms[i].vcpu[v] =
				(struct vcpu_view){.busy = 0.5, .uses = {[0] = 256 * MIB_BYTES}};
	}
}

static void uses(unsigned vm, unsigned vcpu, uint64_t here, uint64_t there)
{
	sample.vms[vm].vcpu[vcpu].uses[0] = here;
	sample.vms[vm].vcpu[vcpu].uses[1] = there;
}

static void what_is_at_home_stays(void **state)
{
	make(1);
	decide();
	assert_true(sample.plans[0].set_numa);
	assert_int_equal(sample.plans[0].vcpu[0].node, 0);
	assert_int_equal(sample.plans[0].vcpu[1].node, 0);
	assert_false(sample.plans[0].memory_follows);
}

static void vcpus_go_to_what_they_use(void **state)
{
	make(1);
	uses(0, 1, 10 * MIB_BYTES, 500 * MIB_BYTES);
	decide();
	assert_int_equal(sample.plans[0].vcpu[0].node, 0);
	assert_int_equal(sample.plans[0].vcpu[1].node, 1);
	assert_int_equal(sample.plans[0].numa_why, REASON_FOLLOWS_MEMORY);
	assert_false(sample.plans[0].memory_follows);
}

/* Not for a little more there than here. */
static void not_for_little(void **state)
{
	make(1);
	uses(0, 1, 100 * MIB_BYTES, 120 * MIB_BYTES);
	decide();
	assert_int_equal(sample.plans[0].vcpu[1].node, 0);
}

static void memory_comes_when_that_is_less(void **state)
{
	make(1);
	uses(0, 0, 0, 4 * MIB_BYTES);
	uses(0, 1, 0, 4 * MIB_BYTES);
	decide();
	assert_int_equal(sample.plans[0].numa_why, REASON_MEMORY_FOLLOWS);
	assert_true(sample.plans[0].memory_follows);
	assert_int_equal(sample.plans[0].vcpu[0].node, 0);
	assert_int_equal(sample.plans[0].vcpu[1].node, 0);
	/* Pinned memory cannot. */
	sample.vms[0].passthrough = true;
	decide();
	assert_false(sample.plans[0].memory_follows);
	assert_int_equal(sample.plans[0].vcpu[1].node, 1);
}

/* Its node is full of busy vCPUs: what they use comes to them instead. */
static void memory_comes_when_there_are_no_cpus(void **state)
{
	make(3);
	for (unsigned i = 0; i < 2; i++)
		for (unsigned v = 0; v < 2; v++) {
			sample.vms[i].vcpu[v].node = 1;
			sample.vms[i].vcpu[v].busy = 1;
			uses(i, v, 0, GIB);
		}
	for (unsigned v = 0; v < 2; v++) {
		sample.vms[2].vcpu[v].busy = 1;
		uses(2, v, 0, GIB);
	}
	sample.vms[2].nodes_hold[0] = 0;
	sample.vms[2].nodes_hold[1] = 2 * GIB;
	decide();
	assert_int_equal(sample.plans[2].numa_why, REASON_MEMORY_FOLLOWS);
	assert_true(sample.plans[2].memory_follows);
	assert_int_equal(sample.plans[2].vcpu[0].node, 0);
	assert_int_equal(sample.plans[2].vcpu[1].node, 0);
	/* No room for it either: all stays. */
	sample.view.host.node_memory[0] = 2 * GIB;
	decide();
	assert_false(sample.plans[2].memory_follows);
	assert_int_equal(sample.plans[2].vcpu[0].node, 0);
}

/* Memory as it lies by chance: no node is better for a vCPU than another, so it comes to each. */
static void memory_comes_from_everywhere(void **state)
{
	make(1);
	sample.vms[0].vcpu[1].node = 1;
	for (unsigned v = 0; v < 2; v++)
		uses(0, v, 130 * MIB_BYTES, 126 * MIB_BYTES);
	sample.vms[0].nodes_hold[1] = GIB;
	decide();
	assert_true(sample.plans[0].memory_follows);
	assert_int_equal(sample.plans[0].numa_why, REASON_FOLLOWS_MEMORY);
	assert_int_equal(sample.plans[0].vcpu[0].node, 0);
	assert_int_equal(sample.plans[0].vcpu[1].node, 1);
	/* A fifth may stay where it is. */
	uses(0, 0, 256 * MIB_BYTES, 40 * MIB_BYTES);
	uses(0, 1, 40 * MIB_BYTES, 256 * MIB_BYTES);
	decide();
	assert_false(sample.plans[0].memory_follows);
}

/* vCPUs go to the most of it, and the rest comes after them. */
static void both_move(void **state)
{
	make(1);
	uses(0, 1, 100 * MIB_BYTES, 300 * MIB_BYTES);
	uses(0, 0, 200 * MIB_BYTES, 50 * MIB_BYTES);
	decide();
	assert_int_equal(sample.plans[0].vcpu[0].node, 0);
	assert_int_equal(sample.plans[0].vcpu[1].node, 1);
	assert_true(sample.plans[0].memory_follows);
	sample.vms[0].passthrough = true;
	decide();
	assert_int_equal(sample.plans[0].vcpu[1].node, 1);
	assert_false(sample.plans[0].memory_follows);
}

static void without_a_map(void **state)
{
	make(1);
	uses(0, 0, 0, 0);
	uses(0, 1, 0, 0);
	decide();
	assert_false(sample.plans[0].set_numa);
	assert_int_equal(sample.plans[0].numa_why, REASON_NO_MAP);
	assert_int_equal(sample.plans[0].vcpu[0].node, -1);
	make(1);
	sample.view.host.nodes = 1;
	decide();
	assert_false(sample.plans[0].set_numa);
}

static void make_any(unsigned seed)
{
	make(1 + seed % 12);
	sample.seed = seed;
	for (unsigned i = 0; i < sample.view.count; i++)
		for (unsigned v = 0; v < 2; v++) {
			struct vcpu_view *vcpu = &sample.vms[i].vcpu[v];

			vcpu->node = (uint8_t)sample_number(&sample, 0, 1);
			vcpu->busy = (double)sample_number(&sample, 0, 100) / 100;
			uses(i, v, sample_number(&sample, 0, GIB), sample_number(&sample, 0, GIB));
		}
}

/* Does what was decided of it; how much that changed. */
static unsigned carry_out(unsigned vm)
{
	unsigned changed = 0;

	for (unsigned v = 0; v < 2; v++) {
		struct vcpu_view *vcpu = &sample.vms[vm].vcpu[v];
		int to;

		changed += vcpu->node != sample.plans[vm].vcpu[v].node;
		vcpu->node = (uint8_t)sample.plans[vm].vcpu[v].node;
		if (!sample.plans[vm].memory_follows)
			continue;
		to = sample.plans[vm].vcpu[v].node;
		changed += vcpu->uses[!to] != 0;
		vcpu->uses[to] += vcpu->uses[!to];
		vcpu->uses[!to] = 0;
	}
	return changed;
}

/* Where vCPUs went and memory came, both stay: over a view that does not change but for that. */
static void all_come_to_rest(void **state)
{
	unsigned moved = 0;

	for (unsigned seed = 0; seed < SEEDS; seed++) {
		make_any(seed);
		for (unsigned round = 0; round < 12; round++) {
			unsigned now = 0;

			decide();
			for (unsigned i = 0; i < sample.view.count; i++)
				now += carry_out(i);
			moved += now;
			assert_true(round < 11 || now == 0);
		}
	}
	assert_in_range(moved, SEEDS, SEEDS * 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_at_home_stays),
		cmocka_unit_test(vcpus_go_to_what_they_use),
		cmocka_unit_test(not_for_little),
		cmocka_unit_test(memory_comes_when_that_is_less),
		cmocka_unit_test(memory_comes_when_there_are_no_cpus),
		cmocka_unit_test(memory_comes_from_everywhere),
		cmocka_unit_test(both_move),
		cmocka_unit_test(without_a_map),
		cmocka_unit_test(all_come_to_rest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
