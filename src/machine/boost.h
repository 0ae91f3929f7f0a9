/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Directed yield: a vCPU waits for what another one holds, which has lost its CPU. The waiter's
 * thread lends its weight to the holder's and sleeps meanwhile:
 *
 *   waiter:  runs ---+ lends                              takes back +--- runs
 *                    |   (sleeps: the patience, 10 ms at most)       |
 *   holder:  waits --+------- runs sooner, with the weight of both --+-------
 *
 * Why a hostile guest cannot get more than its share so: a thread that lends is asleep, and the
 * holder's weight with n lenders is no more than n + 1 times its own (rounded down to a power of
 * two, so that most who wake change nothing, and to nice levels, which are 1.25 apart). So the
 * machine's threads never weigh more together than without it, however often and in whatever circle
 * it asks; nothing piles up, as a lender has one loan; and each call costs its caller's own time. A
 * loan of which the lender is late to wake is that of a thread that does not run.
 *
 * Means, by what the host lets an ordinary user do: a lower nice needs CAP_SYS_NICE or
 * RLIMIT_NICE; a shorter slice (Linux 6.12), which changes when a thread runs and not how much,
 * needs nothing; the waiter's sleep, which leaves its CPU to others, is always there. Found out
 * once for each machine, and what is lacking is said once in the log. The slice is one by which
 * others know a loan (base/schedule.h).
 */
#ifndef DUET_MACHINE_BOOST_H
#define DUET_MACHINE_BOOST_H

#include "base/schedule.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* The most that a waiter sleeps, in nanoseconds: meanwhile its vCPU takes no interrupt. */
#define BOOST_PATIENCE_MAX 10000000U
/* Less than this is not worth the system calls. */
#define BOOST_PATIENCE_MIN 10000U

struct machine;

/* What this process may do to its threads' schedules. */
struct boost_means {
	bool nice, slice;
	uint64_t usual_slice_ns; /* of a thread for which nobody chose one */
};

/* A thread to which others lend. Zeroes are one to whom nobody ever lent, but for the lock. */
struct boost {
	pthread_mutex_t lock;
	unsigned lenders;       /* asleep now */
	bool raised;            /* @given is in force */
	struct schedule before; /* as its owner had it */
	struct schedule given;
	_Atomic uint64_t loans; /* so far */
};

void boost_init(struct boost *boost);
void boost_destroy(struct boost *boost);
/* Tries both on the thread that calls it, which has its own schedule back afterwards. */
struct boost_means boost_find_means(void);
/* The nice value of a thread of nice @nice with the weight of @lenders like it on top. */
int boost_nice(int nice, unsigned lenders);
/* One lender more, one less, of thread @tid, by @means. Any thread. A thread that has gone, or is
 * under a real-time or idle policy (its owner's will), is left alone; and what its owner changes
 * meanwhile stays. */
void boost_lend(struct boost *boost, int tid, const struct boost_means *means);
void boost_return(struct boost *boost, int tid, const struct boost_means *means);

/*
 * On the thread of vCPU @waiter: vCPU @holder is to run soon; returns when @patience_ns are over at
 * the latest, or BOOST_PATIENCE_MAX, or when something else is wanted of the waiter's thread.
 * -EINVAL: no such vCPU, or the waiter itself; -EAGAIN: the holder has no thread now, or the
 * patience is too short for any of it (0 among them): nothing was done.
 */
int machine_boost(struct machine *machine, unsigned waiter, unsigned holder, uint64_t patience_ns);

#endif
