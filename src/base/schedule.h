/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a thread is scheduled: sched_setattr(2), which the C library of Debian 12 has not.
 *
 * A vCPU's thread may have a schedule that is not its owner's at the moment: its guest's other
 * vCPUs lend to it (machine/boost.h). Nice and slice are set by one call and the slice is
 * LENT_SLICE_NS then, so whoever sets a thread's slice and has to give a nice with it (duetd) sees
 * that what he reads is lent, and would stay for good if he wrote it.
 */
#ifndef DUET_BASE_SCHEDULE_H
#define DUET_BASE_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

/* Nanoseconds; the least that Linux takes is 100000, and nobody chooses this one. */
#define LENT_SLICE_NS 100003U

struct schedule {
	uint32_t policy;
	int32_t nice;
	uint64_t flags;
	uint64_t slice_ns; /* 0: the usual one, also where the kernel knows of none */
};

/* Of thread @tid, 0 the calling one; any thread. False: there is no such thread (any more). */
bool schedule_get(int tid, struct schedule *schedule);
/* 0 or -EXXX. */
int schedule_set(int tid, const struct schedule *schedule);
/* It has nice and slice; neither real-time nor idle. */
bool schedule_is_fair(const struct schedule *schedule);

#endif
