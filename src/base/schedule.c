/* SPDX-License-Identifier: Apache-2.0 */
#include "base/schedule.h"

#include <errno.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

/* #syscalls vcpu: sched_getattr sched_setattr */

/* As sched_setattr(2) has it, first version. */
struct attributes {
	uint32_t size;
	uint32_t policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime;
	uint64_t deadline;
	uint64_t period;
};

bool schedule_get(int tid, struct schedule *schedule)
{
	struct attributes found = {.size = sizeof(found)};

	if (syscall(SYS_sched_getattr, tid, &found, sizeof(found), 0) < 0)
		return false;
	*schedule = (struct schedule){.policy = found.policy,
		.nice = found.nice,
		.flags = found.flags,
		.slice_ns = found.runtime};
	return true;
}

int schedule_set(int tid, const struct schedule *schedule)
{
	struct attributes wanted = {.size = sizeof(wanted),
		.policy = schedule->policy,
		.flags = schedule->flags,
		.nice = schedule->nice,
		.runtime = schedule->slice_ns};

	return syscall(SYS_sched_setattr, tid, &wanted, 0) < 0 ? -errno : 0;
}

bool schedule_is_fair(const struct schedule *schedule)
{
	return schedule->policy == SCHED_OTHER || schedule->policy == SCHED_BATCH;
}
