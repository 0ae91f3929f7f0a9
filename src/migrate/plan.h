/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a migration converges: what to do after each round of copying, from how much was sent in
 * what time and how much was written to meanwhile. Arithmetic, no clock and no machine.
 */
#ifndef DUET_MIGRATE_PLAN_H
#define DUET_MIGRATE_PLAN_H

#include <stdbool.h>
#include <stdint.h>

enum plan_step {
	PLAN_AGAIN, /* another round; with plan.throttle as it is now */
	PLAN_STOP,  /* stop the machine and send the rest */
	PLAN_FAIL,  /* it is written to faster than it is sent, however slow it was made */
};

struct plan {
	uint64_t limit; /* nanoseconds that it may stand still */
	bool force;     /* stops it however long that takes, instead of failing */
	/* What came of it so far. */
	unsigned round, stuck;
	unsigned throttle; /* per cent less that the guest is to write than it would (shares.h) */
	uint64_t before;   /* bytes that were left after the last round */
	uint64_t sent, took;
	uint64_t expected; /* nanoseconds that the rest takes */
};

#define PLAN_THROTTLE_MAX 99

/* @sent bytes took @took nanoseconds; @left bytes were written to meanwhile. */
enum plan_step plan_next(struct plan *plan, uint64_t sent, uint64_t took, uint64_t left);
/* Bytes a second. */
uint64_t plan_rate(const struct plan *plan);

#endif
