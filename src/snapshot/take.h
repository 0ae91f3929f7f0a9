/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A snapshot of a machine that is paused, and stays so until it is written: a thread does that,
 * while the main loop goes on. Main thread, but for the progress, which any may look at.
 */
#ifndef DUET_SNAPSHOT_TAKE_H
#define DUET_SNAPSHOT_TAKE_H

#include "base/loop.h"
#include "snapshot/track.h"
#include "snapshot/write.h"

#include <pthread.h>

/* Embedded, until @done was called or snapshot_take_end() returned. */
struct snapshot_take {
	/* 0, or negative with the reason: -ECANCELED after snapshot_take_cancel(). Nothing has
	 * changed then, and the machine may go on. From the loop. */
	void (*done)(struct snapshot_take *take, int result, const char *why);
	struct snapshot_progress progress;
	struct machine *machine; /* private, as all that follows */
	struct snapshot_track *track;
	struct loop *loop;
	struct loop_task task;
	struct snapshot_content content;
	struct snapshot_place place;
	char *config, *names[2];
	uint8_t *state;
	pthread_t thread;
	int result;
	struct error err;
	bool running;
};

/* @diff: the changes to the last snapshot, where @track knows of one; else all of memory. @place
 * is copied. */
int snapshot_take_begin(struct snapshot_take *take, struct machine *machine,
	struct snapshot_track *track, const struct snapshot_place *place, bool diff,
	struct loop *loop, struct error *err);
void snapshot_take_cancel(struct snapshot_take *take);
/* Cancels and waits for it, as long as a piece of 2 MiB and its removal take, and
 * SNAPSHOT_PATIENCE_S seconds at most; @done is not called any more. -EBUSY: storage does not let
 * go of it. Then it, its machine and its loop must stay until the process ends. Nothing happens to
 * one that has ended. */
#define SNAPSHOT_PATIENCE_S 1
int snapshot_take_end(struct snapshot_take *take);

#endif
