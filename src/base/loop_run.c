/* SPDX-License-Identifier: Apache-2.0 */
/* Rounds: submitting, waiting or polling, completing. */
#include "base/clock.h"
#include "base/loop_private.h"

#include <errno.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Between two tries to submit what the kernel does not take. */
#define RETRY_NS 1000000

/*
 * #syscalls main io: io_uring_enter eventfd2 read write clock_nanosleep nanosleep
 * #syscalls main io: io_uring_register(1 = IORING_ENABLE_RINGS)
 */
static void complete(struct loop *loop, struct io_uring_cqe *cqe)
{
	struct loop_op *op = io_uring_cqe_get_data(cqe);
	int32_t res = cqe->res;
	uint32_t flags = cqe->flags;

	io_uring_cqe_seen(&loop->ring, cqe);
	loop_begin_turn(loop);
	op->done(op, res, flags);
}

bool loop_turn_over(struct loop *loop)
{
	uint64_t now = clock_ns();

	if (!loop->turn_from)
		loop->turn_from = now;
	return now - loop->turn_from + loop->turn_added >= LOOP_TURN_NS;
}

void loop_turn_add(struct loop *loop, uint64_t nanoseconds)
{
	loop->turn_added += nanoseconds;
}

/* What it takes to enter the kernel and do something there: the least of some, as others may have
 * interrupted us. */
static uint64_t measure_call(void)
{
	const uint64_t one = 1;
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
	return least == UINT64_MAX || least == 0 ? 1 : least;
}

uint64_t loop_call_ns(struct loop *loop)
{
	if (!loop->call_ns)
		loop->call_ns = measure_call();
	return loop->call_ns;
}

void loop_add_poller(struct loop *loop, struct loop_poller *poller)
{
	if (!loop->pollers)
		poll_window_init(&loop->window, loop_call_ns(loop), clock_ns());
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
		loop_begin_turn(loop);
		hook->run(hook);
	}
}

static bool run_own_tasks(struct loop *loop)
{
	if (!loop->own_work)
		return false;
	loop->own_work = false;
	loop_run_tasks(loop);
	return true;
}

/* Submits and waits for a completion, or for the first timer. */
static int wait_for_events(struct loop *loop)
{
	struct __kernel_timespec limit;
	struct io_uring_cqe *cqe;
	uint64_t wait;
	int ret;

	/* What had no room in the queue must not wait for what has. */
	if (loop->waiting_count || loop->own_work)
		return io_uring_submit_and_get_events(&loop->ring);
	if (!loop->timers || !loop_timers_wait(loop, clock_ns(), &wait))
		return io_uring_submit_and_wait(&loop->ring, 1);
	limit = (struct __kernel_timespec){
		.tv_sec = (long long)(wait / SECOND_NS), .tv_nsec = (long long)(wait % SECOND_NS)};
	ret = io_uring_submit_and_wait_timeout(&loop->ring, &cqe, 1, &limit, NULL);
	return ret == -ETIME ? 0 : ret;
}

static void expire_timers(struct loop *loop)
{
	if (loop->timers)
		loop_timers_expire(loop, clock_ns());
}

static int blocking_round(struct loop *loop)
{
	int ret = wait_for_events(loop);

	if (loop_fatal(ret))
		return ret;
	/* Nothing taken and nothing given: the kernel is short of memory for requests. */
	if (!complete_all(loop) && ret < 0 && ret != -EINTR)
		nanosleep(&(struct timespec){.tv_nsec = RETRY_NS}, NULL);
	run_own_tasks(loop);
	expire_timers(loop);
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

	for (struct loop_poller *poller = loop->pollers; poller; poller = poller->next) {
		loop_begin_turn(loop);
		found |= poller->poll(poller);
	}
	return found;
}

static bool all_asleep(struct loop *loop)
{
	bool found = false;

	for (struct loop_poller *poller = loop->pollers; poller; poller = poller->next) {
		loop_begin_turn(loop);
		found |= poller->sleep(poller);
	}
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
	if (loop_fatal(ret))
		return ret;
	found = complete_all(loop);
	found |= run_own_tasks(loop);
	expire_timers(loop);
	found |= poll_all(loop);
	if (!found)
		return idle_round(loop);
	run_hooks(loop);
	if (loop->window.idle)
		poll_window_found(&loop->window, clock_ns());
	return 0;
}

/* From now on this thread alone submits. Not liburing's function, which older shared libraries do
 * not export. */
static int take_ring(struct loop *loop)
{
	if (loop->disabled && syscall(SYS_io_uring_register, loop->ring.ring_fd,
				      IORING_REGISTER_ENABLE_RINGS, NULL, 0) < 0)
		return -errno;
	loop->disabled = false;
	return 0;
}

int loop_run(struct loop *loop)
{
	int ret = take_ring(loop);

	if (ret < 0)
		return ret;
	atomic_store_explicit(&loop->thread, pthread_self(), memory_order_relaxed);
	atomic_store(&loop->running, true);
	loop_run_tasks(loop);
	while (ret == 0 && !atomic_load_explicit(&loop->stop, memory_order_acquire)) {
		if (loop->waiting_count)
			loop_queue_waiting(loop);
		ret = loop->pollers ? polling_round(loop) : blocking_round(loop);
		if (loop->error)
			break;
	}
	loop_end_run(loop);
	atomic_store(&loop->stop, false);
	return ret == 0 ? loop->error : ret;
}
