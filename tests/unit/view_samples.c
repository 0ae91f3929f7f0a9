/* SPDX-License-Identifier: Apache-2.0 */
#include "view_samples.h"

#include "base/checked.h"
#include "base/clock.h"

#include <stdio.h>
#include <string.h>

uint64_t sample_number(struct sample *sample, uint64_t low, uint64_t high)
{
	uint64_t z = sample->seed += 0x9e3779b97f4a7c15;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return low + (z ^ (z >> 31)) % (high - low + 1);
}

static void make_vm(struct sample *sample, unsigned index)
{
	static const uint32_t shares[] = {50, 100, 100, 100, 200, 400};
	uint64_t memory = sample_number(sample, 1024, 4096) * MIB_BYTES;

	sample->vms[index] = (struct vm_view){.memory = memory,
		.share = shares[sample_number(sample, 0, ARRAY_SIZE(shares) - 1)],
		.has_balloon = true,
		.says_memory = true,
		.says_hints = true,
		.balloon_since = 60 * SECOND_NS,
		.working_set = memory / 100 * sample_number(sample, 10, 90),
		.vcpus = (unsigned)sample_number(sample, 1, 8)};
	snprintf(sample->vms[index].name, VIEW_NAME_MAX, "vm%u", index);
	sample->wants[index] = memory;
}

void sample_refresh(struct sample *sample)
{
	uint64_t taken = 0, room = sample->view.host.memory;

	for (unsigned i = 0; i < sample->view.count; i++) {
		struct vm_view *vm = &sample->vms[i];
		uint64_t holds = vm->memory - vm->balloon;

		vm->resident = min_u64(sample->wants[i], holds);
		vm->guest_total = holds;
		if (!sample->fixed_available)
			vm->guest_available = holds - min_u64(vm->working_set, holds);
		taken += vm->resident;
	}
	/* More than there is: swapped, of each alike. */
	for (unsigned i = 0; taken > room && i < sample->view.count; i++) {
		struct vm_view *vm = &sample->vms[i];

		vm->resident = (uint64_t)((double)vm->resident * ((double)room / (double)taken));
	}
	sample->view.host.available = taken < room ? room - taken : 0;
}

void sample_make(struct sample *sample, uint64_t seed, unsigned vms, unsigned percent)
{
	uint64_t memory = 0;

	memset(sample, 0, sizeof(*sample));
	sample->seed = seed;
	sample->view.vms = sample->vms;
	sample->plan.vms = sample->plans;
	sample->view.count = vms;
	for (unsigned i = 0; i < vms; i++) {
		make_vm(sample, i);
		memory += sample->vms[i].memory;
	}
	sample->view.host = (struct host_view){.memory = memory / 100 * percent,
		.nodes = 1,
		.cpus = 4,
		.slices = true,
		.reclaim = true};
	sample_refresh(sample);
}

static bool carry_out(struct sample *sample, unsigned index)
{
	struct vm_view *vm = &sample->vms[index];
	const struct vm_plan *plan = &sample->plans[index];
	uint64_t target = vm->memory - min_u64(plan->allowed, vm->memory);

	if (!plan->set_memory || !vm->has_balloon || target == vm->balloon_target)
		return false;
	vm->balloon = vm->balloon_target = target;
	vm->balloon_since = 0;
	return true;
}

static bool decide(struct sample *sample, const struct policy *policy)
{
	bool changed = false;

	memset(sample->plans, 0, sizeof(sample->plans));
	policy->decide(&sample->view, &sample->plan);
	for (unsigned i = 0; i < sample->view.count; i++) {
		sample->vms[i].balloon_since += SECOND_NS;
		changed |= carry_out(sample, i);
	}
	sample_refresh(sample);
	return changed;
}

void sample_decide(struct sample *sample, const struct policy *policy)
{
	decide(sample, policy);
}

unsigned sample_settle(struct sample *sample, const struct policy *policy, unsigned most)
{
	for (unsigned n = 0; n < most; n++)
		if (!decide(sample, policy))
			return n;
	return most;
}

uint64_t sample_physical(const struct sample *sample)
{
	return sample->view.host.memory;
}

uint64_t sample_allowed(const struct sample *sample, unsigned vm)
{
	return (sample->vms[vm].memory - sample->vms[vm].balloon_target) / MIB_BYTES;
}
