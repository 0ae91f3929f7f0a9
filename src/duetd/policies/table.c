/* SPDX-License-Identifier: Apache-2.0 */
#include "duetd/policies/private.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Every plan came zeroed: nothing set is what off means. */
static void decide_nothing(const struct view *view, struct plan *plan)
{
}

static const struct policy memory_off = {.name = "off",
	.mechanism = MECHANISM_MEMORY,
	.help = "no balloon is moved, nothing is reclaimed",
	.decide = decide_nothing};
static const struct policy cpu_off = {.name = "off",
	.mechanism = MECHANISM_CPU,
	.help = "weights and slices stay the host's",
	.decide = decide_nothing};
static const struct policy numa_off = {.name = "off",
	.mechanism = MECHANISM_NUMA,
	.help = "the kernel's own balancing places CPUs and memory",
	.decide = decide_nothing};
static const struct policy sharing_off = {.name = "off",
	.mechanism = MECHANISM_SHARING,
	.help = "machines offer nothing, and KSM is as it was",
	.decide = decide_nothing};

static const struct policy *const memory_policies[] = {&memory_working_set, &memory_static,
	&memory_idle_tax, &memory_ovirt, &memory_pressure, &memory_off, NULL};
static const struct policy *const cpu_policies[] = {&cpu_runnable, &cpu_share, &cpu_off, NULL};
static const struct policy *const numa_policies[] = {&numa_locality, &numa_off, NULL};
static const struct policy *const sharing_policies[] = {
	&sharing_hinted, &sharing_blind, &sharing_off, NULL};

static const struct {
	const char *name;
	const struct policy *const *policies;
} mechanisms[MECHANISMS] = {
	[MECHANISM_MEMORY] = {"memory", memory_policies},
	[MECHANISM_CPU] = {"cpu", cpu_policies},
	[MECHANISM_NUMA] = {"numa", numa_policies},
	[MECHANISM_SHARING] = {"sharing", sharing_policies},
};

const struct policy *const *policies_of(enum mechanism mechanism)
{
	return mechanisms[mechanism].policies;
}

const char *mechanism_name(enum mechanism mechanism)
{
	return mechanisms[mechanism].name;
}

enum reason plan_reason(const struct vm_plan *plan, enum mechanism mechanism)
{
	switch (mechanism) {
	case MECHANISM_MEMORY:
		return plan->memory_why;
	case MECHANISM_CPU:
		return plan->cpu_why;
	case MECHANISM_NUMA:
		return plan->numa_why;
	case MECHANISM_SHARING:
		return plan->sharing_why;
	default:
		return REASON_NONE;
	}
}

const struct policy *policy_by_name(enum mechanism mechanism, const char *name, struct error *err)
{
	const struct policy *const *all = policies_of(mechanism);
	char names[128] = "";
	size_t used = 0;

	for (unsigned i = 0; all[i]; i++) {
		if (strcmp(all[i]->name, name) == 0)
			return all[i];
		used += (size_t)snprintf(
			names + used, sizeof(names) - used, "%s%s", i ? ", " : "", all[i]->name);
	}
	error_set(err, ENOENT, "%s: no policy \"%.40s\"; choose %s", mechanism_name(mechanism),
		name, names);
	return NULL;
}
