/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oVirt's rules: below 20 % of available host memory each guest gives 5 % a decision, but keeps a
 * fifth of what it has free; below 5 % it gives that too. Above 20 % each gets 5 % back. Who is
 * idle is not asked. "Free" is read as available, which is kinder to these rules than free alone:
 * a guest full of cache would give nothing.
 */
#include "duetd/policies/memory.h"

#define PRESSURE 0.20
#define CRITICAL 0.05
#define KEEPS    0.20
#define STEP     0.05

static double wanted(const struct vm_view *vm, const struct memory_guest *guest, double part)
{
	double free = within((double)vm->guest_available, guest->holds);
	double keeps = (guest->holds - free) / (part < CRITICAL ? 1 : 1 - KEEPS);
	double less = guest->told * (1 - STEP);

	if (part >= PRESSURE)
		return guest->told + guest->memory * STEP;
	if (less >= keeps)
		return less;
	return keeps < guest->told ? keeps : guest->told;
}

static void decide(const struct view *view, struct plan *plan)
{
	const struct host_view *host = &view->host;
	double part = host->memory ? within((double)host->available / (double)host->memory, 1) : 0;

	for (unsigned i = 0; i < view->count; i++) {
		struct vm_plan *vm = &plan->vms[i];
		struct memory_guest guest;

		memory_look(view, i, &guest);
		vm->memory_why = guest.why;
		if (!guest.moves)
			continue;
		/* Without statistics there is nothing to go by, without a balloon nothing to do. */
		if (!guest.balloon || !view->vms[i].says_memory) {
			vm->memory_why = guest.balloon ? REASON_UNKNOWN : REASON_NO_BALLOON;
			continue;
		}
		vm->set_memory = true;
		vm->memory_why = REASON_PRESSURE;
		if (part >= PRESSURE)
			vm->memory_why = guest.told < guest.memory ? REASON_STEP : REASON_ENOUGH;
		vm->allowed = memory_allowed(&view->vms[i], wanted(&view->vms[i], &guest, part));
	}
}

const struct policy memory_ovirt = {.name = "ovirt",
	.mechanism = MECHANISM_MEMORY,
	.help = "oVirt's rules: all give 5 % below 20 % of free host memory",
	.decide = decide};
