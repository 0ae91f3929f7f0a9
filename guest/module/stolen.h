/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Time that the guest lost: while a CPU of it waited for one of the host's (KVM's steal time), and
 * while the whole machine stood still (the device's away_ns). Any context but NMI, unless said
 * otherwise. Without steal time, and for a CPU that tells none, a CPU lost nothing.
 */
#ifndef DUET_MODULE_STOLEN_H
#define DUET_MODULE_STOLEN_H

#include "duet.h"

/*
 * What a thread lost: its own count, of the CPU on which it was from each update to the next. Zeroes
 * are no count; duet_stolen_begin() makes one. The owner serialises.
 *
 * Why that CPU's, for a thread that moves: one that waits stays with the CPU on which it ran last,
 * where it is woken, and where mostly the interrupt comes in that it waits for. The other CPUs lose
 * the same seconds at the same time: their sum would take one second off several times, and the
 * greatest of them would let one starved CPU stop the clock of all. So what a thread on another
 * CPU is late with, because that one had no CPU, is not explained by it; that errs towards the
 * clock on the wall, which is what there is without any of this.
 *
 * From one update to the next no more is lost than passes, whatever the host says. A host that is
 * late, mistaken or hostile stops this clock for as long as it says so, and no longer.
 */
struct duet_stolen {
	u64 total; /* ns, since the beginning */
	u64 steal; /* of @cpu, as last seen */
	u64 away;  /* likewise */
	u64 at;	   /* of the monotonic clock, when they were */
	unsigned int cpu;
};

/* Finds where KVM tells each CPU's steal time, now and when a CPU comes. May sleep. -EOPNOTSUPP: it
 * does not; away_ns is there all the same. */
int duet_stolen_start(struct duet *duet);
/* Counts that are in use go on, without away_ns. */
void duet_stolen_stop(void);

void duet_stolen_begin(struct duet_stolen *stolen);
/* Up to now, and from now on of the CPU that calls it; the total. */
u64 duet_stolen_update(struct duet_stolen *stolen);
/* The total up to now; from anywhere. */
u64 duet_stolen_peek(const struct duet_stolen *stolen);

int duet_stolen_selftest(void);

/* KVM tells the steal time of the CPU that runs this. */
bool duet_steal_is_told(void);

/* KVM says that @cpu has no CPU of the host's just now; true also where nothing is known. */
bool duet_cpu_preempted(unsigned int cpu);

#endif
