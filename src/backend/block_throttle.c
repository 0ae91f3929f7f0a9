/* SPDX-License-Identifier: Apache-2.0 */
/*
 * At most so many requests a second, evenly spaced: each takes the next of the slots, which lie one
 * interval apart; one that comes before its slot waits in a queue, and a timer on the loop wakes
 * the queue. What the guest asks for in parts (a short transfer, a substitute) is one request.
 */
#include "backend/block_private.h"
#include "base/checked.h"
#include "base/clock.h"

#include <errno.h>
#include <stdlib.h>

/* A timer that comes late makes up for so much: the rate is kept though the host's timers are
 * coarse, and what had to wait does not come out in one burst. */
#define CATCH_UP (SECOND_NS / 500)

/* What was begun ahead of its time is paid for by those that follow, but nobody waits for longer.
 */
#define DEBT_MAX SECOND_NS

struct block_throttle {
	struct loop_timer timer;
	struct block *block;
	struct block_pace pace;
	struct block_request *first, **last;
};

void block_pace_init(struct block_pace *pace, uint64_t rate)
{
	*pace = (struct block_pace){.interval = (SECOND_NS + rate - 1) / rate};
}

uint64_t block_pace_wait(const struct block_pace *pace, uint64_t now)
{
	return pace->next > now ? pace->next - now : 0;
}

void block_pace_take(struct block_pace *pace, uint64_t now, bool waited)
{
	uint64_t earliest = waited && now > CATCH_UP ? now - CATCH_UP : now;

	/* A time without requests saves nothing up. One begun before its slot (a debt) moves all
	 * that follow. */
	if (pace->next < earliest)
		pace->next = earliest;
	pace->next += pace->interval;
}

void block_pace_forgive(struct block_pace *pace, uint64_t now)
{
	if (pace->next > now + DEBT_MAX)
		pace->next = now + DEBT_MAX;
}

static struct block_request *take_first(struct block_throttle *throttle)
{
	struct block_request *request = throttle->first;

	throttle->first = request->next;
	if (!throttle->first)
		throttle->last = &throttle->first;
	return request;
}

static void expired(struct loop_timer *timer)
{
	struct block_throttle *throttle = container_of(timer, struct block_throttle, timer);
	uint64_t now = clock_ns();

	while (throttle->first && block_pace_wait(&throttle->pace, now) == 0) {
		block_pace_take(&throttle->pace, now, true);
		block_begin(take_first(throttle));
	}
	if (throttle->first)
		loop_timer_at(
			throttle->block->loop, timer, now + block_pace_wait(&throttle->pace, now));
}

int block_throttle_new(struct block *block, uint64_t rate)
{
	struct block_throttle *throttle = calloc(1, sizeof(*throttle));

	if (!throttle)
		return -ENOMEM;
	throttle->block = block;
	throttle->timer.expired = expired;
	throttle->last = &throttle->first;
	block_pace_init(&throttle->pace, rate);
	block->throttle = throttle;
	return 0;
}

void block_throttle_submit(struct block_throttle *throttle, struct block_request *request)
{
	uint64_t now = clock_ns();
	uint64_t wait = block_pace_wait(&throttle->pace, now);

	/* Behind those that wait, even when the timer is late. */
	if (!throttle->first && wait == 0) {
		block_pace_take(&throttle->pace, now, false);
		block_begin(request);
		return;
	}
	request->next = NULL;
	*throttle->last = request;
	throttle->last = &request->next;
	if (!loop_timer_set(&throttle->timer))
		loop_timer_at(throttle->block->loop, &throttle->timer, now + wait);
}

void block_throttle_release(struct block_throttle *throttle)
{
	uint64_t now = clock_ns();

	loop_timer_stop(&throttle->timer);
	while (throttle->first) {
		block_pace_take(&throttle->pace, now, true);
		block_begin(take_first(throttle));
	}
	block_pace_forgive(&throttle->pace, now);
}

void block_throttle_drop(struct block_throttle *throttle)
{
	loop_timer_stop(&throttle->timer);
	while (throttle->first)
		block_give_up(take_first(throttle), -ECANCELED);
}
