/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The manager of one host: every second (half as often while nothing changes) it makes a view of
 * host and VMs, lets each mechanism's policy decide, and does what was decided. Main thread.
 */
#ifndef DUET_DUETD_MANAGER_H
#define DUET_DUETD_MANAGER_H

#include "base/loop.h"
#include "duetd/decisions.h"
#include "duetd/fleet.h"
#include "duetd/levers.h"
#include "duetd/policy.h"
#include "duetd/units.h"

#define MANAGER_PERIOD_MS 1000

struct manager_options {
	const char *directory; /* of sockets */
	struct levers_options levers;
	const struct policy *policies[MECHANISMS];
	unsigned period_ms;
	uint64_t budget; /* bytes of memory for all VMs together; 0: what the host has */
};

struct manager {
	struct loop *loop;
	struct fleet *fleet;
	struct levers *levers;
	const struct policy *policies[MECHANISMS];
	struct view view; /* of the last decision; its VMs are the fleet's until the next */
	struct plan plan;
	unsigned room; /* of the plan */
	struct loop_timer round;
	uint64_t budget;
	unsigned period_ms, quiet; /* quiet: decisions in a row that changed nothing */
	uint64_t sum;              /* tells one plan from another */
	uint64_t decisions, decision_ns;
	struct decisions *noted;
	struct units *units;
	uint64_t faults; /* of levers, in all */
	char fault[256]; /* the last; "": none */
};

/* Puts back what an earlier one has left. To be closed in any case. */
int manager_open(struct manager *manager, struct loop *loop, const struct manager_options *options,
	struct error *err);
/* Puts everything back. */
void manager_close(struct manager *manager);
/* At once, besides each period. */
void manager_decide(struct manager *manager);
/* From now on, and decided by at once. */
void manager_set_policy(
	struct manager *manager, enum mechanism mechanism, const struct policy *policy);
/* -1: the last decision was not about it. */
int manager_find(const struct manager *manager, const char *name);

#endif
