/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Timers are a list that the loop looks at when it waits: the first one's end limits the wait.
 * There is nothing in the kernel to take back, so stopping one is done when the call returns.
 */
#include "base/clock.h"
#include "base/loop_private.h"

void loop_timer_stop(struct loop_timer *timer)
{
	struct loop_timer **at;

	if (!timer->loop)
		return;
	for (at = &timer->loop->timers; *at != timer; at = &(*at)->next)
		continue;
	*at = timer->next;
	timer->loop = NULL;
}

void loop_timer_at(struct loop *loop, struct loop_timer *timer, uint64_t at)
{
	struct loop_timer **place = &loop->timers;

	loop_timer_stop(timer);
	timer->at = at;
	timer->loop = loop;
	while (*place && (*place)->at <= at)
		place = &(*place)->next;
	timer->next = *place;
	*place = timer;
}

void loop_timer_after(struct loop *loop, struct loop_timer *timer, uint64_t nanoseconds)
{
	uint64_t at;

	if (__builtin_add_overflow(clock_ns(), nanoseconds, &at))
		at = UINT64_MAX;
	loop_timer_at(loop, timer, at);
}

bool loop_timers_wait(const struct loop *loop, uint64_t now, uint64_t *wait)
{
	const struct loop_timer *first = loop->timers;

	if (!first)
		return false;
	*wait = first->at > now ? first->at - now : 0;
	return true;
}

void loop_timers_expire(struct loop *loop, uint64_t now)
{
	struct loop_timer *timer;

	/* A callback that sets its timer anew sets it behind @now. */
	while ((timer = loop->timers) && timer->at <= now) {
		loop_timer_stop(timer);
		loop_begin_turn(loop);
		timer->expired(timer);
	}
}
