/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What policies of memory have in common: what each guest needs, what there is to be shared out,
 * and how a guest gets from what it holds to what it is to hold. Amounts are bytes in floating
 * point: whatever a view says, no sum overflows, and 2^53 are exact.
 */
#ifndef DUET_DUETD_POLICIES_MEMORY_H
#define DUET_DUETD_POLICIES_MEMORY_H

#include "base/clock.h"
#include "duetd/policies/private.h"

/* Kept on top of a working set: it is seen a second late, and grows before that is seen. */
#define RESERVE_PART  (1.0 / 8)
#define RESERVE_LEAST (64 * MIB)
/* What is said of a working set is off by so much, either way; too little would make it page. */
#define SEEN_ERROR (1.0 / 16)
/* No guest is told to hold less: its kernel would kill programs, not page. */
#define HOLDS_LEAST (64 * MIB)
/* The host's own: bursts are answered from it at once, before others have given anything. Half of
 * it is never given, for what guests touch until the next decision; the other half where working
 * sets want it. */
#define HOST_RESERVE (1.0 / 16)
/* Of what there is for guests. So much more of working sets than fits is left to the host to swap:
 * it knows which pages are cold (a guest calls in use what it never touched), and a guest with less
 * than it has in use kills programs. */
#define SWAP_LENDS (1.0 / 2)
/* Of the host's swap, for all else that may need it: nothing is given beyond what is available
 * while less than this is free. */
#define SWAP_LEFT_FREE (1.0 / 2)
/* Of the host's memory; with so much available and no balloon anywhere there is enough for all. */
#define HOST_COMFORT (1.0 / 8)
/* Of the host's time (memory_some, 10,000 being always); above it the host is under pressure. */
#define HOST_PRESSED 500
/* Taken of a guest's memory in one decision at most; its reclaim of 5 % takes about a second. */
#define STEP_MOST (1.0 / 20)
/* Of its memory; smaller differences are left alone, or noise would move balloons all day. */
#define STEP_LEAST (1.0 / 50)
/* A guest is short when it reads in again so many pages a second, or waits for memory so much of
 * its time (hundredths of a percent). A desktop at rest stays below both. */
#define SHORT_PAGES 50
#define SHORT_SOME  1000
/* A guest without the kit tells what is available, of which some is cache in use: so much of what
 * it uses is added. That is a guess, so near it a step waits until the last one was borne. */
#define UNSEEN      (1.0 / 4)
#define UNSEEN_MOST 1.5 /* times that, while it is short */
#define UNSEEN_FAR  2.0 /* times what is guessed: as far away as that, no step waits */
#define REST_NS     (10 * SECOND_NS)
/* What a short guest needs cannot be seen, only that it is more: so much more is tried. */
#define SHORT_GROWTH (1.0 / 4)

struct memory_guest {
	double memory;      /* given at its start */
	double told;        /* what it was last told it may hold */
	double holds;       /* what it has outside its balloon, or resident without one */
	double working_set; /* what it needs, at least HOLDS_LEAST */
	double reserve;     /* on top */
	double share;
	bool moves;    /* takes part: it has a balloon, or the host can reclaim */
	bool balloon;  /* ... the former */
	bool is_short; /* it pages now */
	bool rests;    /* too little is known of what the last step did for another one */
	enum reason why;
	double goal; /* set by the policy */
};

struct memory_round {
	const struct view *view;
	struct memory_guest *guests;
	unsigned count;
	double room;    /* for all that move together */
	double reserve; /* the host's */
	double available;
	double lent; /* of the host's swap; set by the policy */
	bool enough; /* nobody has to give anything */
};

/* Looks at each guest, has @share_out set goals and reasons of those that move (unless there is
 * enough for all), and plans a step towards them. */
void memory_decide(
	const struct view *view, struct plan *plan, void (*share_out)(struct memory_round *round));

/* The highest level (bytes for each unit of share) at which what all that move take together is
 * within @room; @takes grows with the level. */
double memory_level(const struct memory_round *round, double room,
	double (*takes)(const struct memory_guest *guest, double level));

/* One VM's part of memory_round; and what is common to plans of reclaim: a step of at most @most
 * bytes, smaller the more the VM and the host wait for memory that was taken before; 0: none. */
void memory_look(const struct view *view, unsigned vm, struct memory_guest *guest);
uint64_t memory_reclaim_step(const struct view *view, const struct vm_view *vm, double most);
/* Balloons count in MiB. */
uint64_t memory_allowed(const struct vm_view *vm, double bytes);

#endif
