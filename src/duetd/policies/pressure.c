/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reclaim on the host alone, of whatever has not been used of late, in steps that end where
 * somebody begins to wait for what was taken. Guests need not help, and are not asked.
 */
#include "duetd/policies/memory.h"

/* Of what a VM takes, in a decision: a quarter is gone in half a minute when nobody minds. */
#define STEP 0.01

static void decide(const struct view *view, struct plan *plan)
{
	for (unsigned i = 0; i < view->count; i++) {
		const struct vm_view *vm = &view->vms[i];
		struct vm_plan *to = &plan->vms[i];

		if (vm->passthrough) {
			to->memory_why = REASON_PINNED;
		} else if (!view->host.reclaim || !vm->resident) {
			to->memory_why = REASON_UNKNOWN;
		} else {
			to->set_memory = true;
			to->allowed = vm->memory;
			to->reclaim = memory_reclaim_step(view, vm, (double)vm->resident * STEP);
			to->memory_why = to->reclaim ? REASON_PRESSURE : REASON_STILL;
		}
	}
}

const struct policy memory_pressure = {.name = "pressure",
	.mechanism = MECHANISM_MEMORY,
	.help = "the host reclaims in steps, until somebody waits for what was taken",
	.decide = decide};
