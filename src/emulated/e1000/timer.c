/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One timer on the I/O loop for all deadlines, set for the earliest. One that was moved later, or
 * is no more, is found out when the timer ends; for one that was moved earlier the loop sets it
 * anew.
 */
#include "emulated/e1000/private.h"

#include "base/clock.h"

static uint64_t earliest(const struct e1000 *e)
{
	uint64_t first = E1000_NEVER;

	for (unsigned i = 0; i < E1000_DEADLINES; i++)
		first = min_u64(first, e->deadlines[i]);
	return first;
}

static void expire(struct e1000 *e)
{
	uint64_t now = clock_ns();

	if (e->deadlines[E1000_DEADLINE_RECEIVE] <= now)
		e1000_flush_delay(e, E1000_DEADLINE_RECEIVE);
	if (e->deadlines[E1000_DEADLINE_TRANSMIT] <= now)
		e1000_flush_delay(e, E1000_DEADLINE_TRANSMIT);
	if (e->deadlines[E1000_DEADLINE_ITR] <= now)
		e1000_interrupt_update(e);
}

static void expired(struct loop_timer *timer)
{
	struct e1000 *e = container_of(timer, struct e1000, timer);

	pthread_mutex_lock(&e->lock);
	e->timer_at = E1000_NEVER;
	expire(e);
	e1000_timer_arm(e);
	pthread_mutex_unlock(&e->lock);
}

void e1000_timer_init(struct e1000 *e)
{
	e->timer.expired = expired;
	e->timer_at = E1000_NEVER;
}

void e1000_timer_arm(struct e1000 *e)
{
	uint64_t at = earliest(e);

	if (at >= e->timer_at)
		return;
	e->timer_at = at;
	loop_timer_at(e->io, &e->timer, at);
}

void e1000_timer_request(struct e1000 *e)
{
	if (earliest(e) < e->timer_at)
		e1000_post(e, E1000_WORK_TIMER);
}

void e1000_timer_stop(struct e1000 *e)
{
	loop_timer_stop(&e->timer);
	e->timer_at = E1000_NEVER;
}
