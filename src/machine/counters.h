/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PV counters: perf events of the host (perf_event_open(2)), each bound to one vCPU's thread, which
 * the guest opens, reads and closes by the cooperation device (include/duet/coop.h,
 * DUET_COOP_COUNTER_*). The kernel starts and stops them with the thread, so that they count what
 * the vCPU does and nothing of its neighbours; hardware events count in the guest alone.
 *
 * Threads: counters_begin(), _open(), _read() and _close() are the vCPU's own thread's, each vCPU's
 * apart from the others'. The rest is for one thread while no vCPU runs. There is no lock.
 */
#ifndef DUET_MACHINE_COUNTERS_H
#define DUET_MACHINE_COUNTERS_H

#include "base/error.h"
#include "duet/coop.h"

#include <stdint.h>

#define COUNTERS_OPEN_MAX 16 /* of a vCPU */

struct counters;
struct state_reader;
struct state_writer;

/* What this host lets a thread of duet's count: 0; -ENOTSUP: it has no such event (no PMU); -EPERM:
 * kernel.perf_event_paranoid is in the way. Opens one event and closes it; any thread. */
int counters_probe(enum duet_coop_counter counter);
/* What to do about -EPERM: words for the end of a message. */
extern const char counters_remedy[];

int counters_new(struct counters **counters, unsigned vcpus, struct error *err);
void counters_free(struct counters *counters);

/* The vCPU's thread has begun: what was restored counts on from here. Without that nothing. */
void counters_begin(struct counters *counters, unsigned vcpu);
/* @name, never 0 and never the same again, in another process either, names the counter on this
 * vCPU. -EINVAL: no such vCPU or counter; -ENOSPC: COUNTERS_OPEN_MAX are open; -ENOTSUP and -EPERM
 * as counters_probe(), the latter once with a line in the log; -EAGAIN: the host is short of
 * descriptors or memory, or half of duet's descriptors are counters. */
int counters_open(
	struct counters *counters, unsigned vcpu, enum duet_coop_counter counter, uint64_t *name);
/* @values: the count, and nanoseconds of the thread's time for which it was wanted and for which it
 * counted: less where events take turns on the host's PMU. One system call. -EINVAL: no such name;
 * -EIO: the host does not tell. */
int counters_read(
	struct counters *counters, unsigned vcpu, uint64_t name, uint64_t values[static 3]);
/* -EINVAL: no such name. */
int counters_close(struct counters *counters, unsigned vcpu, uint64_t name);
/* All are closed: the guest, or its driver, begins anew. */
void counters_reset(struct counters *counters);

/* In the caller's section: names, and counts so far, from which they go on in the process that
 * restores them, once counters_begin() was called there. @counters is new when it is restored.
 * -EINVAL: what was read makes no sense. */
#define COUNTERS_STATE_VERSION 1
void counters_save(struct counters *counters, struct state_writer *writer);
int counters_restore(struct counters *counters, struct state_reader *reader, struct error *err);

#endif
