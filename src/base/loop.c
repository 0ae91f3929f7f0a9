/* SPDX-License-Identifier: Apache-2.0 */
#include "base/loop.h"
#include "base/clock.h"
#include "base/poll_window.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct loop {
	struct io_uring ring;
	struct loop_watch wake; /* on the eventfd that loop_post() signals */
	int wake_fd;
	_Atomic bool stop;
	_Atomic bool running;
	pthread_mutex_t lock; /* for the task list, which other threads append to */
	struct loop_task *first, **last;
	struct loop_hook *hooks;
	struct loop_poller *pollers;
	struct poll_window window;
};

/* What loop_signal() writes; static because the kernel reads it after the call returned. */
static const uint64_t one = 1;

static void ignore_done(struct loop_op *op, int32_t res, uint32_t flags)
{
	(void)op;
	(void)res;
	(void)flags;
}

static struct loop_op ignored = {.done = ignore_done};

static void run_tasks(struct loop *loop)
{
	struct loop_task *task;

	pthread_mutex_lock(&loop->lock);
	task = loop->first;
	loop->first = NULL;
	loop->last = &loop->first;
	pthread_mutex_unlock(&loop->lock);
	while (task) {
		/* run() may free or post the task again. */
		struct loop_task *next = task->next;

		task->run(task);
		task = next;
	}
}

static void woken(struct loop_watch *watch, uint32_t events)
{
	(void)events;
	run_tasks(watch->loop);
}

int loop_new(struct loop **out, unsigned entries, struct error *err)
{
	/* Completions run on this thread in any case: no interrupt to it, no shared task list; a
	 * flag tells a polling loop that there are some. This is newer than io_uring itself, so
	 * fall back without. */
	struct io_uring_params params = {
		.flags = IORING_SETUP_CQSIZE | IORING_SETUP_COOP_TASKRUN |
			 IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_CLAMP,
		.cq_entries = entries * 4,
	};
	struct loop *loop = calloc(1, sizeof(*loop));
	int ret;

	if (!loop)
		return error_errno(err, ENOMEM, "event loop");
	ret = io_uring_queue_init_params(entries, &loop->ring, &params);
	if (ret == -EINVAL) {
		params.flags = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
		ret = io_uring_queue_init_params(entries, &loop->ring, &params);
	}
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

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	io_uring_queue_exit(&loop->ring);
	close(loop->wake_fd);
	pthread_mutex_destroy(&loop->lock);
	free(loop);
}

struct io_uring_sqe *loop_sqe(struct loop *loop)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&loop->ring);

	while (!sqe) {
		io_uring_submit(&loop->ring);
		sqe = io_uring_get_sqe(&loop->ring);
	}
	return sqe;
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

static void complete(struct loop *loop, struct io_uring_cqe *cqe)
{
	struct loop_op *op = io_uring_cqe_get_data(cqe);
	int32_t res = cqe->res;
	uint32_t flags = cqe->flags;

	io_uring_cqe_seen(&loop->ring, cqe);
	op->done(op, res, flags);
}

/* What it takes to enter the kernel and do something there: the least of some, as others may have
 * interrupted us. */
static uint64_t measure_call(void)
{
	uint64_t value = 1, least = UINT64_MAX;
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	for (unsigned i = 0; fd >= 0 && i < 16; i++) {
		uint64_t from = clock_ns(), took;
		bool worked = write(fd, &one, sizeof(one)) == sizeof(one) &&
			      read(fd, &value, sizeof(value)) == sizeof(value);

		took = clock_ns() - from;
		if (worked && took < least)
			least = took;
	}
	if (fd >= 0)
		close(fd);
	return least == UINT64_MAX ? 0 : least;
}

void loop_add_poller(struct loop *loop, struct loop_poller *poller)
{
	if (!loop->pollers)
		poll_window_init(&loop->window, measure_call(), clock_ns());
	poller->next = loop->pollers;
	loop->pollers = poller;
}

void loop_remove_poller(struct loop *loop, struct loop_poller *poller)
{
	for (struct loop_poller **at = &loop->pollers; *at; at = &(*at)->next) {
		if (*at == poller) {
			*at = poller->next;
			return;
		}
	}
}

/* Those that are there now. Callbacks make new ones (work that posts itself again), and without an
 * end to the round nothing would be submitted, no hook run and no loop_stop() be seen. */
static bool complete_all(struct loop *loop)
{
	unsigned ready = io_uring_cq_ready(&loop->ring);
	struct io_uring_cqe *cqe;

	for (unsigned left = ready; left; left--) {
		if (io_uring_peek_cqe(&loop->ring, &cqe) < 0)
			break;
		complete(loop, cqe);
	}
	return ready > 0;
}

static void run_hooks(struct loop *loop)
{
	for (struct loop_hook *hook = loop->hooks, *next; hook; hook = next) {
		next = hook->next;
		hook->run(hook);
	}
}

/* EINTR: a signal; EBUSY and EAGAIN: the completion queue has to be emptied first. */
static bool fatal(int ret)
{
	return ret < 0 && ret != -EINTR && ret != -EBUSY && ret != -EAGAIN;
}

static int blocking_round(struct loop *loop)
{
	int ret = io_uring_submit_and_wait(&loop->ring, 1);

	if (fatal(ret))
		return ret;
	complete_all(loop);
	run_hooks(loop);
	return 0;
}

/* Something to submit, completions that wait for us to enter the kernel, or no room for them. */
static bool kernel_needed(struct loop *loop)
{
	unsigned flags = IO_URING_READ_ONCE(*loop->ring.sq.kflags);

	return io_uring_sq_ready(&loop->ring) ||
	       (flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW));
}

static bool poll_all(struct loop *loop)
{
	bool found = false;

	for (struct loop_poller *poller = loop->pollers; poller; poller = poller->next)
		found |= poller->poll(poller);
	return found;
}

static bool all_asleep(struct loop *loop)
{
	bool found = false;

	for (struct loop_poller *poller = loop->pollers; poller; poller = poller->next)
		found |= poller->sleep(poller);
	return !found;
}

/* Nothing was found: polls on, or blocks. */
static int idle_round(struct loop *loop)
{
	uint64_t now = clock_ns();
	int ret;

	if (poll_window_open(&loop->window, now)) {
		/* Where there are more threads than CPUs, a vCPU may be waiting for this one, and
		 * the work we look for be its. */
		if (poll_window_yields(&loop->window, now))
			sched_yield();
		return 0;
	}
	if (!all_asleep(loop)) {
		poll_window_found(&loop->window, now);
		return 0;
	}
	ret = blocking_round(loop);
	poll_window_slept(&loop->window, now, clock_ns());
	return ret;
}

static int polling_round(struct loop *loop)
{
	bool found;
	int ret = 0;

	if (kernel_needed(loop))
		ret = io_uring_submit_and_get_events(&loop->ring);
	if (fatal(ret))
		return ret;
	found = complete_all(loop);
	found |= poll_all(loop);
	if (!found)
		return idle_round(loop);
	run_hooks(loop);
	if (loop->window.idle)
		poll_window_found(&loop->window, clock_ns());
	return 0;
}

int loop_run(struct loop *loop)
{
	int ret = 0;

	atomic_store(&loop->running, true);
	run_tasks(loop);
	while (ret == 0 && !atomic_load_explicit(&loop->stop, memory_order_acquire))
		ret = loop->pollers ? polling_round(loop) : blocking_round(loop);
	atomic_store(&loop->running, false);
	atomic_store(&loop->stop, false);
	return ret;
}

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

void loop_post(struct loop *loop, struct loop_task *task)
{
	bool first;

	task->next = NULL;
	pthread_mutex_lock(&loop->lock);
	first = !loop->first;
	*loop->last = task;
	loop->last = &task->next;
	pthread_mutex_unlock(&loop->lock);
	if (first)
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

void loop_call(struct loop *loop, struct loop_task *task)
{
	struct call call = {.task.run = run_call,
		.inner = task,
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.done_changed = PTHREAD_COND_INITIALIZER};

	if (!atomic_load(&loop->running)) {
		task->run(task);
		return;
	}
	loop_post(loop, &call.task);
	pthread_mutex_lock(&call.lock);
	while (!call.done)
		pthread_cond_wait(&call.done_changed, &call.lock);
	pthread_mutex_unlock(&call.lock);
}
