/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which of a machine's memory is offered to the host's KSM: none of it, what its guest names as
 * worth sharing, or all.
 *
 *   hinted: each minute the guest is asked; what it names in this answer or the one before is
 *   offered, neighbours joined, the longest runs first up to a number. Taken back is
 *     - what two answers in a row do not name, and
 *     - a run of which more than half of what was merged has been written to since the last answer,
 *       as far as the kernel tells; it is not offered again for sixteen answers.
 *
 * Control thread. Everything that is offered costs the guest no more than copies of pages that it
 * writes to, so a guest that names what it should not harms itself.
 */
#ifndef DUET_MACHINE_SHARING_H
#define DUET_MACHINE_SHARING_H

#include "base/loop.h"
#include "machine/machine.h"
#include "memory/offer.h"

/* Each edge splits a mapping, and a huge page of the host's when it lies in one. */
#define SHARING_RUNS_MAX 4096U

struct sharing_list {
	struct memory_part *parts; /* in order, apart from each other */
	unsigned count, room;
};

/* A run that was written to, which is not offered before so many more answers. */
struct sharing_bar {
	uint64_t gpa, length;
	unsigned answers;
};

struct sharing {
	struct memory *memory;
	struct loop *loop;
	struct device *coop; /* null: nobody names anything */
	struct loop_timer timer;
	enum machine_sharing_state state;
	struct sharing_list offered; /* its parts know what was in them at the last look */
	struct sharing_list named;   /* in the last answer */
	struct sharing_bar *bars;
	unsigned bar_count;
	bool asked;        /* an answer is awaited, and when this is over asked for again: */
	uint64_t ask_at;   /* clock_ns() */
	uint32_t answered; /* the wish that was answered last */
	struct machine_sharing told;
	struct memory_proc proc;
};

/* All outlive it; @memory is filled in later. Before the sandbox. */
void sharing_init(struct sharing *sharing, struct memory *memory, struct loop *loop);
/* As machine_share(). */
int sharing_set(struct sharing *sharing, enum machine_sharing_state state, struct error *err);
/* As machine_sharing(). */
void sharing_tell(const struct sharing *sharing, struct machine_sharing *told);
/* The machine was reset: what was named is nothing any more. */
void sharing_reset(struct sharing *sharing);
/* No callback comes after this. */
void sharing_end(struct sharing *sharing);

#endif
