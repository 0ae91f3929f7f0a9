/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which pages are to be sent, and sending them over all streams at once. A page always goes by the
 * same stream, so that what is sent later arrives later, without rounds that wait for each other.
 * One thread, which waits while others send for it.
 */
#ifndef DUET_MIGRATE_SWEEP_H
#define DUET_MIGRATE_SWEEP_H

#include "migrate/pages.h"
#include "migrate/source.h"

struct lane;

struct sweep {
	const struct memory *memory;
	struct source *source;
	uint64_t *wanted[MEMORY_MAX_REGIONS]; /* a bit for each page that is to be sent */
	/* A bit for each page that somebody has sent, or need not; null: nobody else sends any
	 * (sweep_rest.c) */
	_Atomic uint64_t *gone[MEMORY_MAX_REGIONS];
	/* What was to follow at the hand-over: who connects later is given no more. */
	uint64_t *named[MEMORY_MAX_REGIONS];
	uint64_t *taken;     /* room for what was just logged */
	struct lane *lanes;  /* one for each stream */
	_Atomic bool broken; /* one of them has failed */
	bool again;          /* not the first round any more */
};

/* All pages are wanted. To be freed in any case. */
int sweep_init(struct sweep *sweep, struct source *source, struct error *err);
void sweep_free(struct sweep *sweep);
/* Adds what was written to since the last time. */
int sweep_take_log(struct sweep *sweep, struct error *err);
uint64_t sweep_wanted(const struct sweep *sweep); /* pages */
/* Sends all that is wanted. @bytes: that went over the streams, or would have without compression.
 */
int sweep_send(struct sweep *sweep, uint64_t *bytes, struct error *err);
/* Ends each stream's pages. */
int sweep_finish(struct sweep *sweep, struct error *err);
/* The channels are others from now on, and what was on its way is not. */
void sweep_reconnect(struct sweep *sweep);

/*
 * sweep_rest.c: the pages that go after the machine, which stands still. share(): from here on
 * others than sweep_send() may send what is wanted, each page once. claim(): it was wanted, and is
 * the caller's to send; any thread.
 */
int sweep_share(struct sweep *sweep, struct error *err);
bool sweep_claim(struct sweep *sweep, unsigned region, uint64_t page);
bool sweep_claim_at(struct sweep *sweep, gpa_t gpa);
/* Whether it was to follow, at the hand-over. */
bool sweep_named(const struct sweep *sweep, gpa_t gpa);
/* What is wanted, said to the other side and as it says it (lacks.h), up to its READY. */
int sweep_say_wanted(struct sweep *sweep, struct channel *channel, struct error *err);
int sweep_hear_wanted(struct sweep *sweep, struct channel *channel, struct error *err);

#endif
