/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which vCPU is kept out of the guest for how long: as much as the plan wants, of those that write.
 * Arithmetic, no clock and no machine.
 */
#ifndef DUET_MIGRATE_SHARES_H
#define DUET_MIGRATE_SHARES_H

#include <stdbool.h>
#include <stdint.h>

#define SHARES_CPUS_MAX 64

struct shares {
	unsigned cpus;
	uint8_t percent[SHARES_CPUS_MAX]; /* of its time that each is held */
	/* What came of it so far. */
	uint64_t at; /* nanoseconds */
	uint64_t written[SHARES_CPUS_MAX];
	double free[SHARES_CPUS_MAX]; /* pages a second that it would write if it were not held */
	unsigned throttle;            /* as the plan had it */
	double allowed;               /* pages a second, of all; with a throttle */
};

/* At @now, in nanoseconds: nobody is held, and each vCPU has written to @written pages. */
void shares_begin(struct shares *shares, unsigned cpus, const uint64_t *written, uint64_t now);
/* After a round in which @left pages were written to by whomever. @throttle: the plan's, per cent.
 * @written: null: nobody knows who it was; then, and where most was written by devices, all are
 * held alike. */
void shares_next(struct shares *shares, unsigned throttle, const uint64_t *written, uint64_t left,
	uint64_t now);
/* Of the one that is held most, per cent. */
unsigned shares_most(const struct shares *shares);

#endif
