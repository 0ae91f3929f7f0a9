/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An event loop on one io_uring: waiting, submitting I/O and re-arming are the same system call.
 *
 * Threads: a loop belongs to the thread that runs it. All functions are for that thread (or for
 * the creator before the loop runs), but for loop_post() and loop_stop(), which any thread may
 * call. Callbacks run on the loop's thread and may add, remove and free anything of their own
 * except as said below.
 */
#ifndef DUET_BASE_LOOP_H
#define DUET_BASE_LOOP_H

#include "base/error.h"

#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>

struct loop;

/* One operation in flight, embedded in the caller's request; must live until @done was called. */
struct loop_op {
	/* @res as in the completion entry: a count or a negative errno; @flags likewise. */
	void (*done)(struct loop_op *op, int32_t res, uint32_t flags);
};

/*
 * Readiness of a descriptor, delivered as often as it becomes ready (edge-triggered: the callback
 * reads until EAGAIN). On an eventfd nothing has to be read: each signal calls back at least once
 * after it. The caller owns the struct and the descriptor.
 */
struct loop_watch {
	struct loop_op op; /* private */
	struct loop *loop; /* private */
	int fd;            /* private; -1 when not watched */
	uint32_t events;   /* private */
	bool armed;        /* private */
	bool dead;         /* private: removed, its last completion is still to come */
	void (*ready)(struct loop_watch *watch, uint32_t events);
	void (*removed)(struct loop_watch *watch); /* private */
};

/* A piece of work posted from another thread; embedded, must live until @run was called. */
struct loop_task {
	struct loop_task *next; /* private */
	void (*run)(struct loop_task *task);
};

/* @entries: operations that may be queued between two waits, a power of two up to 4096. */
int loop_new(struct loop **loop, unsigned entries, struct error *err);
/* The loop must not be running. Operations in flight are cancelled; their @done is not called. */
void loop_free(struct loop *loop);

/* Runs until loop_stop(). Returns 0, or a negative errno when io_uring itself fails. The thread of
 * the first run is that of all that follow. */
int loop_run(struct loop *loop);
/* Any thread. loop_run() returns after the callbacks of the present round. */
void loop_stop(struct loop *loop);
/* Any thread. Runs @task on the loop's thread, in posting order. */
void loop_post(struct loop *loop, struct loop_task *task);
/* On the loop's thread, or while the loop does not run: @task, should it be posted, is not run. */
void loop_unpost(struct loop *loop, struct loop_task *task);
/* As loop_post, and waits until the task was run. Must not be called on the loop's own thread
 * while it runs; when the loop is not running, the caller runs the task itself. */
void loop_call(struct loop *loop, struct loop_task *task);

/*
 * A submission entry for @op, to be filled in by an io_uring_prep_*(); never null: when the queue
 * is full it is submitted first, and when the kernel takes none either the entry waits here. It
 * goes to the kernel with the loop's next wait; when io_uring has failed for good it goes nowhere,
 * and loop_run() says so. user_data is set by the loop after @prep returned: do not touch it.
 */
struct io_uring_sqe *loop_sqe(struct loop *loop);
/* Must follow the io_uring_prep_*() on @sqe, before any other call on the loop. */
void loop_submit(struct loop *loop, struct io_uring_sqe *sqe, struct loop_op *op);
/* Cancels @op, whose @done is called in any case: with -ECANCELED, or as it ended just before. */
void loop_cancel(struct loop *loop, struct loop_op *op);
/* A write whose result nobody awaits (an irqfd's eight bytes): goes with the next wait. */
void loop_signal(struct loop *loop, int eventfd);

/* Runs @hook once per round, after the completions that were there when the round began and before
 * the next wait: the place to batch interrupts and refill rings. One chain per loop; embedded. */
struct loop_hook {
	struct loop_hook *next; /* private */
	void (*run)(struct loop_hook *hook);
};
void loop_add_hook(struct loop *loop, struct loop_hook *hook);
void loop_remove_hook(struct loop *loop, struct loop_hook *hook);

/*
 * A callback's turn. Whoever goes on for as long as a guest gives work asks now and then, and when
 * the turn is over posts a task that does the rest: the others of the loop come first then. The
 * turn's time begins with the first asking, so that short work costs no look at the clock.
 */
#define LOOP_TURN_NS 500000U
bool loop_turn_over(struct loop *loop);
/* What was queued will take this thread so long when it is submitted: that is part of the turn. */
void loop_turn_add(struct loop *loop, uint64_t nanoseconds);

/*
 * Work that another processor announces in memory (a ring). While there is a poller the loop looks
 * for work without system calls before it blocks, as long as that has paid of late
 * (base/poll_window.h). Embedded; callbacks may not remove pollers.
 */
struct loop_poller {
	struct loop_poller *next; /* private */
	/* Does what there is to do; false: there was nothing. */
	bool (*poll)(struct loop_poller *poller);
	/* The loop is about to block: asks to be woken. True: there is work after all. */
	bool (*sleep)(struct loop_poller *poller);
};
void loop_add_poller(struct loop *loop, struct loop_poller *poller);
void loop_remove_poller(struct loop *loop, struct loop_poller *poller);
/* What a system call that is not quite trivial takes on this host, in nanoseconds, not 0: the
 * measure of what is long here. Measured when first asked, by some 30 calls. */
uint64_t loop_call_ns(struct loop *loop);

/*
 * Calls @expired once, at a time or soon after, unless it is stopped or set anew before. Embedded;
 * zero-initialise but for @expired. The times are clock_ns()'s.
 */
struct loop_timer {
	struct loop_timer *next; /* private */
	struct loop *loop;       /* private; null: not set */
	uint64_t at;             /* private */
	void (*expired)(struct loop_timer *timer);
};
void loop_timer_at(struct loop *loop, struct loop_timer *timer, uint64_t at);
void loop_timer_after(struct loop *loop, struct loop_timer *timer, uint64_t nanoseconds);
/* No callback comes after this returns. */
void loop_timer_stop(struct loop_timer *timer);
static inline bool loop_timer_set(const struct loop_timer *timer)
{
	return timer->loop != NULL;
}

/* @events: POLLIN, POLLOUT. */
int loop_watch(struct loop *loop, struct loop_watch *watch, int fd, uint32_t events,
	void (*ready)(struct loop_watch *, uint32_t));
/*
 * No callback comes after this returns. The struct must stay until @removed was called (null: the
 * caller guarantees that it outlives the loop). The descriptor may be closed at once.
 */
void loop_unwatch(struct loop_watch *watch, void (*removed)(struct loop_watch *));

/* A loop in a thread of its own, named @name (15 characters). @died (may be null) is called on that
 * thread when its loop has failed, with a negative errno: nothing of it will ever complete. */
struct loop_thread;
struct loop_thread_options {
	const char *name;
	unsigned entries; /* as for loop_new() */
	void (*died)(void *opaque, int error);
	void *opaque;
};
/* Makes the loop; until loop_thread_go() it is the caller's, as after loop_thread_quit(), so that
 * what is prepared on it needs no second thread. */
int loop_thread_new(
	struct loop_thread **thread, const struct loop_thread_options *options, struct error *err);
/* Optional: the thread is there and confined, so that loop_thread_go() need not make it. */
int loop_thread_ready(struct loop_thread *thread, struct error *err);
/* Returns when the loop runs. */
int loop_thread_go(struct loop_thread *thread, struct error *err);
/* Both. */
int loop_thread_start(
	struct loop_thread **thread, const struct loop_thread_options *options, struct error *err);
struct loop *loop_thread_loop(struct loop_thread *thread);
/* Stops and joins: from now on its loop belongs to the caller, as before the start. */
void loop_thread_quit(struct loop_thread *thread);
/* Stops, joins and frees; null is allowed. */
void loop_thread_stop(struct loop_thread *thread);

#endif
