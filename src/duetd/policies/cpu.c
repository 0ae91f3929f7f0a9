/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VM's weight follows the threads in it that can run, so that a thread gets about the same time
 * wherever it is. What a guest says counts as far as it can be true: one thread for each vCPU at
 * most, and no more than one beyond the vCPUs that the host itself saw run or wait. A guest that
 * says more is weighed as one that has so many busy vCPUs, which is what its share is for.
 */
#include "duetd/policies/private.h"

#define WEIGHT_MEAN 100.0
#define WEIGHT_MOST 10000
/* Of the time between two views; a vCPU that ran or waited less has had nothing to do. */
#define ACTIVE_LEAST 0.05
/* A slice is an eighth above the mean burst: a thread then mostly blocks before it is preempted. */
#define SLICE_ABOVE (9.0 / 8)
#define SLICE_LEAST 100000U    /* 0.1 ms and 100 ms: */
#define SLICE_MOST  100000000U /* what the kernel takes */

struct demand {
	double threads; /* 1 to the number of vCPUs */
	enum reason why;
};

static double load_of(const struct vcpu_view *vcpu)
{
	return within(within(vcpu->busy, 1) + within(vcpu->waits, 1), 1);
}

/* By how much CPU its vCPUs took or waited for. */
static struct demand demand_blind(const struct vm_view *vm)
{
	double load = 0;

	for (unsigned i = 0; i < vcpus_seen(vm); i++)
		load += load_of(&vm->vcpu[i]);
	return (struct demand){load > 1 ? load : 1, REASON_NO_HINTS};
}

static struct demand demand_said(const struct vm_view *vm)
{
	unsigned seen = vcpus_seen(vm), active = 0;
	uint64_t says = 0, counts;

	for (unsigned i = 0; i < seen; i++) {
		says += vm->vcpu[i].says ? vm->vcpu[i].runnable : 0;
		active += load_of(&vm->vcpu[i]) >= ACTIVE_LEAST;
	}
	/* One more than was seen: what has just become runnable has not run yet. */
	counts = active + 1 < seen ? active + 1 : seen;
	if (says == 0)
		return (struct demand){1, REASON_IDLE};
	if (says > counts)
		return (struct demand){(double)counts, REASON_CAPPED};
	return (struct demand){(double)says, REASON_RUNNABLE};
}

static struct demand demand_of(const struct vm_view *vm)
{
	for (unsigned i = 0; i < vcpus_seen(vm); i++)
		if (vm->vcpu[i].says)
			return demand_said(vm);
	return demand_blind(vm);
}

static uint64_t slice_of(const struct vcpu_view *vcpu)
{
	double slice = (double)vcpu->burst * SLICE_ABOVE;

	if (!vcpu->says || !vcpu->burst)
		return 0;
	if (slice < SLICE_LEAST)
		return SLICE_LEAST;
	return slice < SLICE_MOST ? (uint64_t)slice : SLICE_MOST;
}

static uint32_t weight_of(double weight)
{
	if (weight < 1)
		return 1;
	return weight < WEIGHT_MOST ? (uint32_t)(weight + 0.5) : WEIGHT_MOST;
}

/*
 * Brings the mean weight near that of a cgroup which nobody weighed, so that VMs together get
 * what they would get without duetd beside whatever else the host does. By powers of two, mean
 * weights from 71 to 141: a finer scale would change all weights whenever one VM changes.
 */
static double scale_of(double sum, unsigned count)
{
	double mean = sum / count, scale = 1;

	while (mean * scale > WEIGHT_MEAN * 1.4142136)
		scale /= 2;
	while (mean * scale < WEIGHT_MEAN * 0.7071068)
		scale *= 2;
	return scale;
}

static void decide_runnable(const struct view *view, struct plan *plan)
{
	double sum = 0, scale;

	if (!view->count)
		return;
	for (unsigned i = 0; i < view->count; i++)
		sum += demand_of(&view->vms[i]).threads * share_of(&view->vms[i]);
	scale = scale_of(sum, view->count);
	for (unsigned i = 0; i < view->count; i++) {
		const struct vm_view *vm = &view->vms[i];
		struct demand demand = demand_of(vm);
		struct vm_plan *to = &plan->vms[i];

		to->set_cpu = true;
		to->cpu_why = demand.why;
		to->weight = weight_of(demand.threads * share_of(vm) * scale);
		for (unsigned n = 0; view->host.slices && n < vcpus_seen(vm); n++)
			to->vcpu[n].slice = slice_of(&vm->vcpu[n]);
	}
}

static void decide_share(const struct view *view, struct plan *plan)
{
	for (unsigned i = 0; i < view->count; i++) {
		plan->vms[i].set_cpu = true;
		plan->vms[i].cpu_why = REASON_SHARE;
		plan->vms[i].weight = share_of(&view->vms[i]);
	}
}

const struct policy cpu_runnable = {.name = "runnable",
	.mechanism = MECHANISM_CPU,
	.help = "weights follow threads that can run, slices their bursts",
	.decide = decide_runnable};
const struct policy cpu_share = {.name = "share",
	.mechanism = MECHANISM_CPU,
	.help = "each VM its share alone, whatever runs in it",
	.decide = decide_share};
