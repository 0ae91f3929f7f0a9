/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The source's answers to a target that runs, or is about to, and asks for pages: at once, by a
 * stream and a thread of their own ("duet-serve"), past what flows on the others. The machine
 * stands still.
 */
#ifndef DUET_MIGRATE_SERVE_H
#define DUET_MIGRATE_SERVE_H

#include "migrate/pages.h"
#include "migrate/sweep.h"

#include <pthread.h>

struct serve {
	struct source *source;
	struct sweep *sweep;
	pthread_t thread;
	bool started;
	struct pages_batch batch;
	struct message message;
	/* Of the thread that has ended. */
	bool whole; /* the target needs no more */
	struct error err;
	bool given_back; /* it never ran there; the source's thread's */
};

/* The room that it needs. To be freed in any case. */
int serve_init(struct serve *serve, struct sweep *sweep, struct error *err);
/* Begins on the stream behind the others. */
int serve_start(struct serve *serve, struct error *err);
/* Waits until it has come to an end. */
void serve_join(struct serve *serve);
/* All streams are cut, and whoever waits for one goes on. Any thread. */
void serve_hang_up(const struct source *source);
void serve_free(struct serve *serve);

#endif
