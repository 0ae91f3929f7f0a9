/* SPDX-License-Identifier: Apache-2.0 */
/* Operations, watches and tasks. */
#include "base/checked.h"
#include "base/loop_private.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What loop_signal() writes; static because the kernel reads it after the call returned. */
static const uint64_t one = 1;

static void ignore_done(struct loop_op *op, int32_t res, uint32_t flags)
{
	(void)op;
	(void)res;
	(void)flags;
}

static struct loop_op ignored = {.done = ignore_done};

void loop_run_tasks(struct loop *loop)
{
	pthread_mutex_lock(&loop->lock);
	loop->batch = loop->first;
	loop->first = NULL;
	loop->last = &loop->first;
	pthread_mutex_unlock(&loop->lock);
	while (loop->batch) {
		struct loop_task *task = loop->batch;

		/* run() may free or post the task again. */
		loop->batch = task->next;
		loop_begin_turn(loop);
		task->run(task);
	}
}

void loop_unpost(struct loop *loop, struct loop_task *task)
{
	struct loop_task **at;

	for (at = &loop->batch; *at && *at != task; at = &(*at)->next)
		continue;
	if (*at)
		*at = task->next;
	pthread_mutex_lock(&loop->lock);
	for (at = &loop->first; *at && *at != task; at = &(*at)->next)
		continue;
	if (*at)
		*at = task->next;
	if (!*at)
		loop->last = at;
	pthread_mutex_unlock(&loop->lock);
}

static void woken(struct loop_watch *watch, uint32_t events)
{
	(void)events;
	loop_run_tasks(watch->loop);
}

/* Completions run on the loop's thread in any case: no interrupt to it, no shared task list; a flag
 * tells a polling loop that there are some. Where the kernel can (6.1), they run when the loop asks
 * for them and not at each system call, without atomic operations, since one thread alone submits:
 * the first to run the loop, which enables the ring. Older kernels get what they know. */
static int open_ring(struct loop *loop, unsigned entries, unsigned way)
{
	static const unsigned ways[LOOP_WAYS] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
		IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
		0,
	};
	int ret = -EINVAL;

	for (unsigned i = way; ret == -EINVAL && i < LOOP_WAYS; i++) {
		struct io_uring_params params = {
			.flags = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP |
				 IORING_SETUP_R_DISABLED | ways[i],
			.cq_entries = entries * 4,
		};

		ret = io_uring_queue_init_params(entries, &loop->ring, &params);
		loop->disabled = true;
	}
	return ret;
}

/* No filter of system calls sees what goes through a ring, which could open files and sockets too:
 * it does what loops are for and nothing else, from the moment that it is enabled. */
static int restrict_ring(struct loop *loop)
{
	static const uint8_t operations[] = {IORING_OP_NOP, IORING_OP_READ, IORING_OP_READV,
		IORING_OP_WRITE, IORING_OP_WRITEV, IORING_OP_FSYNC, IORING_OP_FALLOCATE,
		IORING_OP_POLL_ADD, IORING_OP_POLL_REMOVE, IORING_OP_ASYNC_CANCEL,
		IORING_OP_TIMEOUT};
	struct io_uring_restriction rules[ARRAY_SIZE(operations) + 1] = {
		{.opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED,
			.sqe_flags = IOSQE_ASYNC | IOSQE_CQE_SKIP_SUCCESS},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(operations); i++)
		rules[1 + i] = (struct io_uring_restriction){
			.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = operations[i]};
	/* Not liburing's function, which shared libraries do not export. */
	return syscall(SYS_io_uring_register, loop->ring.ring_fd, IORING_REGISTER_RESTRICTIONS,
		       rules, ARRAY_SIZE(rules)) < 0
		       ? -errno
		       : 0;
}

static int open_restricted(struct loop *loop, unsigned entries, unsigned way)
{
	int ret = open_ring(loop, entries, way);

	if (ret < 0)
		return ret;
	ret = restrict_ring(loop);
	if (ret < 0)
		io_uring_queue_exit(&loop->ring);
	return ret;
}

int loop_new_as(struct loop **out, unsigned entries, unsigned way, struct error *err)
{
	struct loop *loop = calloc(1, sizeof(*loop));
	int ret;

	if (!loop)
		return error_errno(err, ENOMEM, "event loop");
	ret = open_restricted(loop, entries, way);
	if (ret < 0) {
		free(loop);
		return error_errno(err, -ret,
			"io_uring is not available (needs Linux 5.13 and sysctl "
			"kernel.io_uring_disabled=0)");
	}
	loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop->wake_fd < 0) {
		ret = errno;
		io_uring_queue_exit(&loop->ring);
		free(loop);
		return error_errno(err, ret, "eventfd");
	}
	pthread_mutex_init(&loop->lock, NULL);
	loop->last = &loop->first;
	loop_watch(loop, &loop->wake, loop->wake_fd, POLLIN, woken);
	*out = loop;
	return 0;
}

int loop_new(struct loop **out, unsigned entries, struct error *err)
{
	return loop_new_as(out, entries, 0, err);
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	io_uring_queue_exit(&loop->ring);
	close(loop->wake_fd);
	pthread_mutex_destroy(&loop->lock);
	free(loop->waiting);
	free(loop);
}

/* The kernel takes nothing until completions are read, which is for later. */
static struct io_uring_sqe *wait_for_room(struct loop *loop)
{
	unsigned capacity = loop->waiting_capacity ? 2 * loop->waiting_capacity : 64;
	struct io_uring_sqe *waiting = loop->waiting;

	if (loop->waiting_count == loop->waiting_capacity) {
		waiting = reallocarray(waiting, capacity, sizeof(*waiting));
		if (!waiting) {
			loop->error = -ENOMEM;
			return &loop->nowhere;
		}
		loop->waiting = waiting;
		loop->waiting_capacity = capacity;
	}
	memset(&waiting[loop->waiting_count], 0, sizeof(*waiting));
	return &waiting[loop->waiting_count++];
}

struct io_uring_sqe *loop_sqe(struct loop *loop)
{
	struct io_uring_sqe *sqe = NULL;
	int ret;

	/* Behind those that wait, so that order is kept. */
	if (loop->waiting_count == 0)
		sqe = io_uring_get_sqe(&loop->ring);
	if (sqe || loop->error)
		return sqe ? sqe : &loop->nowhere;
	if (loop->disabled)
		return wait_for_room(loop);
	ret = io_uring_submit(&loop->ring);
	if (loop_fatal(ret)) {
		loop->error = ret;
		return &loop->nowhere;
	}
	loop_queue_waiting(loop);
	if (loop->waiting_count == 0)
		sqe = io_uring_get_sqe(&loop->ring);
	return sqe ? sqe : wait_for_room(loop);
}

void loop_queue_waiting(struct loop *loop)
{
	unsigned taken = 0;

	while (taken < loop->waiting_count) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&loop->ring);

		if (!sqe)
			break;
		*sqe = loop->waiting[taken++];
	}
	if (taken == 0)
		return;
	loop->waiting_count -= taken;
	memmove(loop->waiting, loop->waiting + taken, loop->waiting_count * sizeof(*loop->waiting));
}

void loop_submit(struct loop *loop, struct io_uring_sqe *sqe, struct loop_op *op)
{
	(void)loop;
	io_uring_sqe_set_data(sqe, op);
}

void loop_signal(struct loop *loop, int eventfd)
{
	struct io_uring_sqe *sqe = loop_sqe(loop);

	io_uring_prep_write(sqe, eventfd, &one, sizeof(one), 0);
	loop_submit(loop, sqe, &ignored);
	/* Its completion would end the very wait it goes with, for nothing. Older kernels than 5.17
	 * refuse the flag, and pay with one more system call. */
	if (loop->ring.features & IORING_FEAT_CQE_SKIP)
		sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
}

void loop_cancel(struct loop *loop, struct loop_op *op)
{
	struct io_uring_sqe *sqe = loop_sqe(loop);

	io_uring_prep_cancel64(sqe, (uint64_t)(uintptr_t)op, 0);
	loop_submit(loop, sqe, &ignored);
}

static void arm(struct loop_watch *watch)
{
	struct io_uring_sqe *sqe = loop_sqe(watch->loop);

	io_uring_prep_poll_multishot(sqe, watch->fd, watch->events);
	loop_submit(watch->loop, sqe, &watch->op);
	watch->armed = true;
}

static void watch_done(struct loop_op *op, int32_t res, uint32_t flags)
{
	struct loop_watch *watch = (struct loop_watch *)op;

	if (!(flags & IORING_CQE_F_MORE))
		watch->armed = false;
	if (watch->dead) {
		if (!watch->armed && watch->removed)
			watch->removed(watch);
		return;
	}
	/* Armed first: the callback may remove the watch. An error is told as such and not retried:
	 * a descriptor that cannot be polled would spin. */
	if (!watch->armed && res >= 0)
		arm(watch);
	watch->ready(watch, res < 0 ? POLLERR : (uint32_t)res);
}

int loop_watch(struct loop *loop, struct loop_watch *watch, int fd, uint32_t events,
	void (*ready)(struct loop_watch *, uint32_t))
{
	*watch = (struct loop_watch){
		.op.done = watch_done, .loop = loop, .fd = fd, .events = events, .ready = ready};
	arm(watch);
	return 0;
}

void loop_unwatch(struct loop_watch *watch, void (*removed)(struct loop_watch *))
{
	if (watch->dead || !watch->loop)
		return;
	watch->dead = true;
	watch->removed = removed;
	watch->fd = -1;
	if (!watch->armed) {
		if (removed)
			removed(watch);
		return;
	}
	/* Not a poll-remove: that gives up (EALREADY) when the descriptor becomes ready at this
	 * moment, and the last completion would never come. */
	loop_cancel(watch->loop, &watch->op);
	/* At once, so that the caller may close the descriptor. */
	io_uring_submit(&watch->loop->ring);
}

void loop_add_hook(struct loop *loop, struct loop_hook *hook)
{
	hook->next = loop->hooks;
	loop->hooks = hook;
}

void loop_remove_hook(struct loop *loop, struct loop_hook *hook)
{
	for (struct loop_hook **at = &loop->hooks; *at; at = &(*at)->next) {
		if (*at == hook) {
			*at = hook->next;
			return;
		}
	}
}

/* #syscalls all: write */
static void wake(struct loop *loop)
{
	/* Can only fail when the counter is full, and then the loop is awake anyway. */
	if (write(loop->wake_fd, &one, sizeof(one)) < 0)
		return;
}

void loop_stop(struct loop *loop)
{
	atomic_store_explicit(&loop->stop, true, memory_order_release);
	wake(loop);
}

/* With the lock held. True: it is the first one. */
static bool append(struct loop *loop, struct loop_task *task)
{
	bool first = !loop->first;

	task->next = NULL;
	*loop->last = task;
	loop->last = &task->next;
	return first;
}

void loop_post(struct loop *loop, struct loop_task *task)
{
	bool own = atomic_load_explicit(&loop->running, memory_order_acquire) &&
		   pthread_equal(atomic_load_explicit(&loop->thread, memory_order_relaxed),
			   pthread_self());
	bool first;

	pthread_mutex_lock(&loop->lock);
	first = append(loop, task);
	pthread_mutex_unlock(&loop->lock);
	/* Nobody is to be woken: a task for the next round costs no system call. */
	if (own)
		loop->own_work = true;
	else if (first)
		wake(loop);
}

struct call {
	struct loop_task task;
	struct loop_task *inner;
	pthread_mutex_t lock;
	pthread_cond_t done_changed;
	bool done;
};

static void run_call(struct loop_task *task)
{
	struct call *call = (struct call *)task;

	call->inner->run(call->inner);
	pthread_mutex_lock(&call->lock);
	call->done = true;
	pthread_cond_signal(&call->done_changed);
	pthread_mutex_unlock(&call->lock);
}

/* All others are for the next run. */
static struct loop_task *take_calls(struct loop *loop)
{
	struct loop_task *calls = NULL, **at = &loop->first;

	while (*at) {
		struct loop_task *task = *at;

		if (task->run == run_call) {
			*at = task->next;
			task->next = calls;
			calls = task;
		} else {
			at = &task->next;
		}
	}
	loop->last = at;
	return calls;
}

void loop_end_run(struct loop *loop)
{
	struct loop_task *calls, *next;

	pthread_mutex_lock(&loop->lock);
	atomic_store(&loop->running, false);
	calls = take_calls(loop);
	pthread_mutex_unlock(&loop->lock);
	for (; calls; calls = next) {
		/* Whoever waits for it has it back then. */
		next = calls->next;
		calls->run(calls);
	}
}

void loop_call(struct loop *loop, struct loop_task *task)
{
	struct call call = {.task.run = run_call,
		.inner = task,
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.done_changed = PTHREAD_COND_INITIALIZER};
	bool runs, first;

	/* A loop that ends just now still runs what was posted before: loop_end_run(). */
	pthread_mutex_lock(&loop->lock);
	runs = atomic_load(&loop->running);
	first = runs && append(loop, &call.task);
	pthread_mutex_unlock(&loop->lock);
	if (!runs) {
		loop_begin_turn(loop);
		task->run(task);
		return;
	}
	if (first)
		wake(loop);
	pthread_mutex_lock(&call.lock);
	while (!call.done)
		pthread_cond_wait(&call.done_changed, &call.lock);
	pthread_mutex_unlock(&call.lock);
}
