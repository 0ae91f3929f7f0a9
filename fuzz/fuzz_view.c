/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any view, whatever its numbers: guests and hosts may say what they like, and clocks may jump. The
 * plan of each policy stays within what levers take, and the reason for it can be said in words.
 */
#include "input.h"

#include "base/clock.h"
#include "duetd/policy.h"

#include <stdio.h>
#include <stdlib.h>

#define VMS 6

static void must(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "fuzz_view: %s\n", what);
	abort();
}

/* Of any size, small ones and the ends too. */
static uint64_t some(struct input *input)
{
	uint8_t kind = (uint8_t)input_number(input, 1);

	if ((kind & 3) == 0)
		return (uint64_t)(kind >> 2) << 26;
	if ((kind & 3) == 1)
		return kind & 4 ? UINT64_MAX - (kind >> 3) : kind >> 3;
	return input_number(input, kind & 4 ? 8 : 4) << (kind >> 6);
}

/* Any bits: what is no number, and infinity, too. */
static double some_double(struct input *input)
{
	uint64_t bits = some(input);
	double number;

	if (bits < 256)
		return (double)bits / 128 - 0.5;
	memcpy(&number, &bits, sizeof(number));
	return number;
}

static void some_vcpu(struct input *input, struct vcpu_view *vcpu)
{
	*vcpu = (struct vcpu_view){.says = input_number(input, 1) & 1,
		.runnable = (uint32_t)some(input),
		.burst = some(input),
		.busy = some_double(input),
		.waits = some_double(input),
		.node = (uint8_t)input_number(input, 1)};
	for (unsigned n = 0; n < VIEW_NODES_MAX; n++)
		vcpu->uses[n] = input->left ? some(input) : 0;
}

static void some_vm(struct input *input, struct vm_view *vm)
{
	uint8_t flags = (uint8_t)input_number(input, 1);

	*vm = (struct vm_view){.memory = some(input),
		.share = (uint32_t)some(input),
		.resident = some(input),
		.age = some(input),
		.has_balloon = flags & 1,
		.balloon = some(input),
		.balloon_target = some(input),
		.balloon_since = some(input),
		.says_memory = flags & 2,
		.guest_total = some(input),
		.guest_free = some(input),
		.guest_available = some(input),
		.swap_in = some_double(input),
		.says_hints = flags & 4,
		.working_set = some(input),
		.refaults = some_double(input),
		.memory_some = (uint32_t)some(input),
		.host_refaults = some_double(input),
		.host_swap_in = some_double(input),
		.vcpus = (unsigned)some(input),
		.passthrough = (flags & 56) == 56,
		.can_share = flags & 64,
		.offered = some(input),
		.merged = some(input)};
	for (unsigned n = 0; n < VIEW_NODES_MAX; n++)
		vm->nodes_hold[n] = input->left ? some(input) : 0;
	for (unsigned v = 0; v < VIEW_VCPUS_MAX && v < vm->vcpus && input->left; v++)
		some_vcpu(input, &vm->vcpu[v]);
}

static void some_host(struct input *input, struct host_view *host)
{
	uint8_t flags = (uint8_t)input_number(input, 1);

	*host = (struct host_view){.memory = some(input),
		.available = some(input),
		.memory_some = (uint32_t)some(input),
		.cpus = (unsigned)some(input),
		.nodes = (unsigned)some(input),
		.slices = flags & 1,
		.reclaim = flags & 2,
		.ksm = flags & 4};
	for (unsigned n = 0; n < VIEW_NODES_MAX; n++) {
		host->node_memory[n] = some(input);
		host->node_cpus[n] = (unsigned)some(input);
	}
}

static void check_memory(
	const struct host_view *host, const struct vm_view *vm, const struct vm_plan *plan)
{
	if (!plan->set_memory)
		return;
	must(plan->allowed <= vm->memory, "more than it was given");
	must(plan->allowed >= min_u64(vm->memory, 64 << 20), "too little for a kernel");
	must(plan->reclaim <= vm->resident, "more to be reclaimed than it takes");
	must(plan->reclaim <= vm->memory / 20 + 1, "reclaim in too large a step");
	must(!plan->reclaim || host->reclaim, "reclaim that the host cannot");
	must(!vm->passthrough, "pinned memory moved");
}

static void check_cpu(const struct host_view *host, const struct vm_plan *plan)
{
	if (!plan->set_cpu)
		return;
	must(plan->weight >= 1 && plan->weight <= 10000, "weight");
	for (unsigned v = 0; v < VIEW_VCPUS_MAX; v++) {
		uint64_t slice = plan->vcpu[v].slice;

		must(!slice || (slice >= 100000 && slice <= 100000000), "slice");
		must(!slice || host->slices, "slice that the host cannot");
	}
}

static void check_numa(const struct host_view *host, const struct vm_plan *plan)
{
	if (!plan->set_numa)
		return;
	for (unsigned v = 0; v < VIEW_VCPUS_MAX; v++) {
		must(plan->vcpu[v].node >= -1 && plan->vcpu[v].node < VIEW_NODES_MAX, "node");
		must(plan->vcpu[v].node < (int64_t)host->nodes, "node that is not there");
	}
}

static void check_sharing(const struct view *view, const struct plan *plan)
{
	const struct ksm_plan *ksm = &plan->ksm;

	must(!ksm->runs || view->host.ksm, "KSM that the host cannot");
	must(ksm->pages <= 2048 && ksm->sleep_ms <= 1000, "KSM's rate");
	for (unsigned i = 0; i < view->count; i++) {
		must(!plan->vms[i].set_sharing || ksm->runs, "offered to nobody");
		must(!plan->vms[i].set_sharing || !view->vms[i].passthrough, "pinned pages");
	}
}

static void check_words(const struct view *view, const struct plan *plan, unsigned vm)
{
	const enum reason reasons[] = {plan->vms[vm].memory_why, plan->vms[vm].cpu_why,
		plan->vms[vm].numa_why, plan->vms[vm].sharing_why};
	char words[200];

	for (unsigned i = 0; i < ARRAY_SIZE(reasons); i++) {
		must(reasons[i] < REASON_COUNT, "no such reason");
		memset(words, 0, sizeof(words));
		reason_words(reasons[i], view, plan, vm, words, sizeof(words));
		must(words[0] && strlen(words) < sizeof(words), "no words");
	}
}

static void check(const struct policy *policy, const struct view *view)
{
	struct vm_plan plans[VMS];
	struct plan plan = {.vms = plans};

	memset(plans, 0, sizeof(plans));
	policy->decide(view, &plan);
	check_sharing(view, &plan);
	for (unsigned i = 0; i < view->count; i++) {
		check_memory(&view->host, &view->vms[i], &plans[i]);
		check_cpu(&view->host, &plans[i]);
		check_numa(&view->host, &plans[i]);
		check_words(view, &plan, i);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct vm_view vms[VMS];
	struct input input = {data, size};
	struct view view = {.vms = vms, .count = (unsigned)input_number(&input, 1) % (VMS + 1)};

	some_host(&input, &view.host);
	for (unsigned i = 0; i < view.count; i++)
		some_vm(&input, &vms[i]);
	for (unsigned m = 0; m < MECHANISMS; m++)
		for (unsigned i = 0; policies_of((enum mechanism)m)[i]; i++)
			check(policies_of((enum mechanism)m)[i], &view);
	return 0;
}
