/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One timer on the I/O loop for all deadlines. It is armed for the earliest; one that was moved
 * later, or is no more, is found out when the timer ends, one that was moved earlier cancels it.
 */
#include "emulated/e1000_private.h"

#include <time.h>

#define SECOND_NS 1000000000ULL

uint64_t e1000_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

static uint64_t earliest(const struct e1000 *e)
{
	uint64_t first = E1000_NEVER;

	for (unsigned i = 0; i < E1000_DEADLINES; i++)
		first = min_u64(first, e->deadlines[i]);
	return first;
}

static void cancel_done(struct loop_op *op, int32_t res, uint32_t flags)
{
	struct e1000 *e = container_of(op, struct e1000, timer_cancel);

	(void)res;
	(void)flags;
	pthread_mutex_lock(&e->lock);
	e->timer_cancelled = false;
	if (e->running)
		e1000_timer_arm(e);
	pthread_cond_broadcast(&e->changed);
	pthread_mutex_unlock(&e->lock);
}

static void timer_done(struct loop_op *op, int32_t res, uint32_t flags)
{
	struct e1000 *e = container_of(op, struct e1000, timer);

	(void)res;
	(void)flags;
	pthread_mutex_lock(&e->lock);
	e->timer_busy = false;
	e->timer_at = E1000_NEVER;
	if (e->running) {
		e1000_timer_expire(e);
		e1000_timer_arm(e);
	}
	pthread_cond_broadcast(&e->changed);
	pthread_mutex_unlock(&e->lock);
}

void e1000_timer_init(struct e1000 *e)
{
	e->timer.done = timer_done;
	e->timer_cancel.done = cancel_done;
	e->timer_at = E1000_NEVER;
}

static void submit_cancel(struct e1000 *e)
{
	struct io_uring_sqe *sqe = loop_sqe(e->io);

	e->timer_cancelled = true;
	io_uring_prep_timeout_remove(sqe, (uint64_t)(uintptr_t)&e->timer, 0);
	loop_submit(e->io, sqe, &e->timer_cancel);
}

void e1000_timer_arm(struct e1000 *e)
{
	uint64_t at = earliest(e);
	struct io_uring_sqe *sqe;

	if (at >= e->timer_at || e->timer_cancelled)
		return;
	e->timer_at = at;
	if (e->timer_busy) {
		submit_cancel(e);
		return;
	}
	e->timer_busy = true;
	e->timer_time = (struct __kernel_timespec){
		.tv_sec = (long long)(at / SECOND_NS), .tv_nsec = (long long)(at % SECOND_NS)};
	sqe = loop_sqe(e->io);
	io_uring_prep_timeout(sqe, &e->timer_time, 0, IORING_TIMEOUT_ABS);
	loop_submit(e->io, sqe, &e->timer);
}

void e1000_timer_expire(struct e1000 *e)
{
	uint64_t now = e1000_now();

	if (e->deadlines[E1000_DEADLINE_RECEIVE] <= now)
		e1000_flush_delay(e, E1000_DEADLINE_RECEIVE);
	if (e->deadlines[E1000_DEADLINE_TRANSMIT] <= now)
		e1000_flush_delay(e, E1000_DEADLINE_TRANSMIT);
	if (e->deadlines[E1000_DEADLINE_ITR] <= now)
		e1000_interrupt_update(e);
}

void e1000_timer_request(struct e1000 *e)
{
	if (earliest(e) < e->timer_at)
		e1000_post(e, E1000_WORK_TIMER);
}

void e1000_timer_cancel(struct e1000 *e)
{
	pthread_mutex_lock(&e->lock);
	if (e->timer_busy && !e->timer_cancelled)
		submit_cancel(e);
	pthread_mutex_unlock(&e->lock);
}
