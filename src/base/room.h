/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A queue that takes less than it is given, and tells its giver when it has room again: on the
 * giver's loop, once for each time it was short, so that nobody has to ask.
 *
 * Threads: but for the first and the last function all are called with the queue's own lock held,
 * which room_init() is given.
 */
#ifndef DUET_BASE_ROOM_H
#define DUET_BASE_ROOM_H

#include "base/loop.h"

#include <pthread.h>
#include <stdbool.h>

struct room {
	pthread_mutex_t *lock;
	struct loop *loop;
	struct loop_task task;
	void (*call)(void *opaque);
	void *opaque;
	bool wanted;
	bool posted; /* the task is under way: it may be posted once only */
};

/* Both are the caller's; @lock is taken on the loop's thread before the call, and let go. */
void room_init(struct room *room, pthread_mutex_t *lock);
/* On the loop's thread, before anything else: @call(@opaque) is called on @loop. Without it nobody
 * is told. */
void room_tell(struct room *room, struct loop *loop, void (*call)(void *opaque), void *opaque);
/* Whether the queue took less than it was given, just now. */
void room_wanted(struct room *room, bool wanted);
/* The queue has room. */
void room_offer(struct room *room);
/* On the loop's thread, or while it does not run: nobody is told any more. */
void room_stop(struct room *room);

#endif
