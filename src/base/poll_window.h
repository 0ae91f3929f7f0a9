/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long a loop polls before it blocks, learnt from what came: it grows when work came soon after
 * we gave up, and closes when none came for long. Polling in vain is paid from a credit that fills
 * by the times after which work came that polling found or would have found, and by a small part of
 * all the time that passes; so a loop whose events are far apart costs that small part of a CPU at
 * most, whatever their pattern.
 *
 * Times are in nanoseconds, by the caller's monotonic clock.
 */
#ifndef DUET_BASE_POLL_WINDOW_H
#define DUET_BASE_POLL_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

#define POLL_WINDOW_FIRST 10000ULL
/* The longest window is as long as so many system calls: on a slow host work takes longer to come,
 * and so does waking up. */
#define POLL_WINDOW_CALLS 4096ULL
#define POLL_WINDOW_LEAST 500000ULL
#define POLL_WINDOW_MOST  20000000ULL
#define POLL_CREDIT_PART  256 /* of the time that passes: 0.4 % */
#define POLL_YIELD_PERIOD 50000ULL

struct poll_window {
	uint64_t length, length_max;
	uint64_t credit;  /* at most twice the longest window: what growing to it takes */
	uint64_t counted; /* the credit holds for this time */
	uint64_t idle_since, yielded;
	bool idle;
};

/* @call: what a system call that is not quite trivial takes here. */
void poll_window_init(struct poll_window *window, uint64_t call, uint64_t now);
/* Polling found work. */
void poll_window_found(struct poll_window *window, uint64_t now);
/* Polling found none. True: poll on; false: give up, poll_window_slept() follows (or _found(), if
 * there was work after all). */
bool poll_window_open(struct poll_window *window, uint64_t now);
/* Whether it is time to let others have the CPU; asked while the window is open. */
bool poll_window_yields(struct poll_window *window, uint64_t now);
/* The loop blocked from @from until there was work at @now. */
void poll_window_slept(struct poll_window *window, uint64_t from, uint64_t now);

#endif
