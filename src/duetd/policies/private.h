/* SPDX-License-Identifier: Apache-2.0 */
/* All policies, for the table alone; and numbers of a view made safe to count with. */
#ifndef DUET_DUETD_POLICIES_PRIVATE_H
#define DUET_DUETD_POLICIES_PRIVATE_H

#include "duetd/policy.h"

extern const struct policy memory_working_set, memory_static, memory_idle_tax, memory_ovirt,
	memory_pressure;
extern const struct policy cpu_runnable, cpu_share;
extern const struct policy numa_locality;
extern const struct policy sharing_hinted, sharing_blind;

#define MIB (1024.0 * 1024.0)

/* From 0 to @most, whatever @number was: 0 too for what is no number, or no room. */
static inline double within(double number, double most)
{
	if (!(number > 0) || !(most > 0))
		return 0;
	return number < most ? number : most;
}

/* Its configured weight, within what one may be. */
static inline uint32_t share_of(const struct vm_view *vm)
{
	if (vm->share < 1)
		return 1;
	return vm->share < 10000 ? vm->share : 10000;
}

/* Those of its vCPUs that the view tells of one by one. */
static inline unsigned vcpus_seen(const struct vm_view *vm)
{
	return vm->vcpus < VIEW_VCPUS_MAX ? vm->vcpus : VIEW_VCPUS_MAX;
}

#endif
