/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory that is offered to the host's KSM, which merges pages of equal content into one that
 * is copied when somebody writes to it (madvise(2), MADV_MERGEABLE). Each edge of what is offered
 * splits a mapping, of which a process has a limited number (vm.max_map_count, 65,530): the caller
 * joins neighbours and bounds their number. Control thread; the guest may run.
 */
#ifndef DUET_MEMORY_OFFER_H
#define DUET_MEMORY_OFFER_H

#include "memory/memory.h"

/* Whether any of it may be offered: -EBUSY while it is pinned, -ENOTSUP when a part of it is shared
 * or a file's, which KSM does not merge. */
int memory_may_offer(const struct memory *memory, struct error *err);
/* @gpa and @length: page multiples within one region. Taken back, merged pages become the guest's
 * own copies again before it returns, and that goes whatever memory_may_offer() says. -EFAULT
 * outside RAM, -ENOSPC beyond the limit of mappings, -EINVAL from a kernel without KSM. */
int memory_offer(
	struct memory *memory, gpa_t gpa, uint64_t length, bool offered, struct error *err);

/* What the kernel tells of this process, opened while files can be (sandbox/). */
struct memory_proc {
	bool opened;
	int maps, merging; /* smaps and ksm_merging_pages; -1: not there */
};
void memory_proc_open(struct memory_proc *proc);
/* Also of one that is closed, or zero. */
void memory_proc_close(struct memory_proc *proc);

/* What is in a part of guest memory. */
struct memory_part {
	uint64_t gpa, length;      /* bytes */
	uint64_t resident, merged; /* bytes; merged are among the resident */
};
/* Fills in the last two, as they are now, of @count parts, which are in order and apart from each
 * other. The kernel walks this process's page tables: about a millisecond for 256 MiB. -ENOTSUP: it
 * does not tell what is merged (Linux 6.6 does). */
int memory_look_into(const struct memory_proc *proc, const struct memory *memory,
	struct memory_part *parts, unsigned count);
/* The pages of this process that are merged, as KSM counted when it last looked at them, which is
 * too much by those written to or taken back since; -ENOTSUP: the kernel does not tell (Linux 5.19
 * does). */
int memory_merged(const struct memory_proc *proc, uint64_t *pages);

#endif
