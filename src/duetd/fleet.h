/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's VMs, found by their API sockets in a directory (NAME.sock): those that come and go
 * while duetd runs, and those it did not start. Each is asked GET /duet/brief about once a second,
 * seldomer when nothing changes there. A socket that is no VM's, hangs, answers nonsense or too
 * much is told of once, left out of the view and asked again ever more rarely; no other VM waits
 * for it. Main thread.
 */
#ifndef DUET_DUETD_FLEET_H
#define DUET_DUETD_FLEET_H

#include "base/error.h"
#include "base/loop.h"
#include "duetd/policy.h"

#include <sys/types.h>

struct fleet;

struct fleet_options {
	const char *directory; /* "/run/duet" */
	/* A VM has come (its threads known; once more when they change), or gone. May be null. */
	void (*came)(
		void *opaque, const char *name, pid_t pid, const pid_t *threads, unsigned count);
	void (*gone)(void *opaque, const char *name);
	void *opaque;
	unsigned period_ms;   /* between two questions; 0: FLEET_PERIOD_MS */
	unsigned patience_ms; /* for an answer; 0: FLEET_PATIENCE_MS */
};

#define FLEET_PERIOD_MS   1000
#define FLEET_PATIENCE_MS 2000
#define FLEET_ANSWER_MAX  (256U << 10)
/* A balloon goes back to what it was configured as when it is not told anew for so long. */
#define FLEET_LEASE_MS 10000
/* The same of what is offered to KSM: to begin anew costs more there, and to go on costs nobody. */
#define FLEET_SHARING_LEASE_MS 60000

/* A VM or a socket that is none, for people. */
struct fleet_entry {
	const char *name, *socket;
	pid_t pid;                  /* of who listens */
	bool well;                  /* it answers as one */
	const char *fault;          /* why not */
	const struct vm_view *view; /* null unless well */
};

int fleet_open(struct fleet **fleet, struct loop *loop, const struct fleet_options *options,
	struct error *err);
/* Lets go of all balloons and what is shared, for which it waits a second at most. The loop gives
 * the rest of its memory back in its next round. Null is allowed. */
void fleet_close(struct fleet *fleet);
/* Those that are well, each with what its guest said last; the array is the fleet's until its next
 * round. The host's part of each is not filled in. */
unsigned fleet_views(struct fleet *fleet, struct vm_view **views);
void fleet_each(const struct fleet *fleet,
	void (*each)(void *opaque, const struct fleet_entry *entry), void *opaque);
/* What of @plan the VM itself does: its balloon, and what it offers to KSM, on leases that end when
 * duetd stays away (PATCH /duet/balloon, /duet/sharing). To be called more often than the leases
 * are long; a plan without memory lets the first run out, one without sharing ends the second. */
void fleet_apply(struct fleet *fleet, const char *name, const struct vm_plan *plan);

#endif
