/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long to wait before looking again at a queue that others fill, learnt from what came: less
 * than two of the times that lie between two items, so that as a rule one is there by then and
 * somebody who always has several under way is not kept waiting for them all. Nothing for items
 * that come alone: who makes one after the other waits for each.
 *
 * Times are in nanoseconds, by the caller's monotonic clock. One thread.
 */
#ifndef DUET_BASE_PACE_H
#define DUET_BASE_PACE_H

#include <stdbool.h>
#include <stdint.h>

#define PACE_WINDOW 8 /* items, by which it is measured */
/* In eighths of the gap. Below two gaps: of two items that were made to wait together the gap is
 * measured as half the wait, and with twice as much a wait would justify itself. */
#define PACE_WAIT 14
/* A gap is taken for no more than so many of those before: a pause, or a thread that did not run,
 * says nothing of the items behind it. */
#define PACE_GROWTH 4

/* Zero-initialise. */
struct pace {
	uint64_t since; /* when the window began; 0: none has */
	uint64_t gap;   /* in the last one, 0: not known */
	uint64_t wait;  /* before the next look; 0: none is worth while */
	unsigned items, together;
};

/* @items were found. @together: with others, or while others were under way. True: the window is
 * full, and pace_measure() follows. */
static inline bool pace_count(struct pace *pace, unsigned items, bool together)
{
	pace->items += items;
	pace->together += together ? items : 0;
	return pace->items >= PACE_WINDOW;
}
/* Ends the window, and sets @wait. */
void pace_measure(struct pace *pace, uint64_t now);

#endif
