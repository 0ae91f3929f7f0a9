/* SPDX-License-Identifier: Apache-2.0 */
/* What loop.c (operations, watches, tasks), loop_run.c (rounds) and loop_timer.c share. */
#ifndef DUET_BASE_LOOP_PRIVATE_H
#define DUET_BASE_LOOP_PRIVATE_H

#include "base/loop.h"
#include "base/poll_window.h"

#include <pthread.h>
#include <stdatomic.h>

struct loop {
	struct io_uring ring;
	struct loop_watch wake; /* on the eventfd that loop_post() signals */
	int wake_fd;
	int error;                /* io_uring failed for good: a negative errno */
	_Atomic pthread_t thread; /* that runs it; valid while running */
	bool disabled;            /* the ring is nobody's yet: loop_run() makes it its thread's */
	_Atomic bool stop;
	_Atomic bool running;
	pthread_mutex_t lock; /* for the task list, which other threads append to */
	struct loop_task *first, **last;
	struct loop_task *batch; /* being run; the loop's thread only */
	bool own_work;           /* posted by the loop's thread, which therefore does not block */
	struct loop_hook *hooks;
	struct loop_poller *pollers;
	struct poll_window window;
	uint64_t call_ns;          /* 0: not measured yet */
	struct loop_timer *timers; /* the earliest first */
	uint64_t turn_from;        /* when the present callback first asked; 0: not yet */
	uint64_t turn_added;
	/* Entries that the full queue had no room for while the kernel took none. */
	struct io_uring_sqe *waiting;
	unsigned waiting_count, waiting_capacity;
	struct io_uring_sqe nowhere; /* for entries of a loop that has failed */
};

/* EINTR: a signal; EBUSY and EAGAIN: the completion queue has to be emptied first. */
static inline bool loop_fatal(int ret)
{
	return ret < 0 && ret != -EINTR && ret != -EBUSY && ret != -EAGAIN;
}

/* Before each callback. */
static inline void loop_begin_turn(struct loop *loop)
{
	loop->turn_from = loop->turn_added = 0;
}

/* loop.c */
/* loop_new() as on older kernels: the best of the ways to set up a ring from @way on. */
#define LOOP_WAYS 3
int loop_new_as(struct loop **loop, unsigned entries, unsigned way, struct error *err);
void loop_run_tasks(struct loop *loop);
/* It no longer runs; nobody is left waiting in loop_call(). */
void loop_end_run(struct loop *loop);
/* Entries that wait go into the queue as far as it has room. */
void loop_queue_waiting(struct loop *loop);

/* loop_timer.c */
/* Nanoseconds until the first timer ends, 0 when one has; false: there is none. */
bool loop_timers_wait(const struct loop *loop, uint64_t now, uint64_t *wait);
/* Calls those that have ended. */
void loop_timers_expire(struct loop *loop, uint64_t now);

#endif
