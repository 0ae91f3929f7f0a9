/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/plan.h"

#include "base/clock.h"

/* A round of less says nothing of the link: buffers take it. */
#define ROUND_LEAST (4ULL << 20)
/* Rounds in a row that did not leave a quarter less behind than the one before. */
#define STUCK_MAX 2
#define STEP      15
/* Of what it may stand still: with less than that no further round is worth its messages. */
#define LITTLE 32
/* However steadily it gets less: the last rounds would go on for ever. */
#define ROUNDS_MAX 60

uint64_t plan_rate(const struct plan *plan)
{
	return plan->took ? (uint64_t)((double)plan->sent * SECOND_NS / (double)plan->took) : 0;
}

/* The past counts for half of the last round. */
static void measure(struct plan *plan, uint64_t sent, uint64_t took)
{
	if (plan->took && sent < ROUND_LEAST)
		return;
	plan->sent = plan->sent / 2 + sent;
	plan->took = plan->took / 2 + (took ? took : 1);
}

static uint64_t expect(const struct plan *plan, uint64_t left)
{
	double rate = (double)plan_rate(plan);
	double expected = left ? (double)left * SECOND_NS / (rate > 1 ? rate : 1) : 0;

	return expected < 1e18 ? (uint64_t)expected : (uint64_t)1e18;
}

/* By the last round: the share of its time with which the guest would write to half of what is
 * sent. It is an upper bound: of a page that is written to twice the log knows once. */
static unsigned enough(const struct plan *plan, uint64_t sent, uint64_t left)
{
	double share = (100 - plan->throttle) * (double)sent / (2 * (double)left);

	return share < 100 ? 100 - (unsigned)share : 0;
}

static enum plan_step push(struct plan *plan, uint64_t sent, uint64_t left)
{
	unsigned wanted = enough(plan, sent, left);

	plan->stuck = 0;
	if (plan->throttle == PLAN_THROTTLE_MAX)
		return plan->force ? PLAN_STOP : PLAN_FAIL;
	if (wanted < plan->throttle + STEP)
		wanted = plan->throttle + STEP;
	plan->throttle = wanted < PLAN_THROTTLE_MAX ? wanted : PLAN_THROTTLE_MAX;
	return PLAN_AGAIN;
}

/* When the rest would be sent soon enough: a round of it takes no longer than the machine may stand
 * still, and as long as each leaves half of what it sent at most, it stands still for less. */
static bool pays(const struct plan *plan, uint64_t sent, uint64_t left)
{
	return plan->round + 1 < ROUNDS_MAX && plan->expected > plan->limit / LITTLE &&
	       left <= sent / 2;
}

enum plan_step plan_next(struct plan *plan, uint64_t sent, uint64_t took, uint64_t left)
{
	bool less = left < plan->before - plan->before / 4;

	measure(plan, sent, took);
	plan->expected = expect(plan, left);
	if (plan->expected <= plan->limit && !pays(plan, sent, left))
		return PLAN_STOP;
	/* The first round sends what nobody has written to lately, too. */
	plan->stuck = plan->round && !less ? plan->stuck + 1 : 0;
	plan->before = left;
	if (++plan->round >= ROUNDS_MAX)
		return plan->force ? PLAN_STOP : PLAN_FAIL;
	return plan->stuck >= STUCK_MAX ? push(plan, sent, left) : PLAN_AGAIN;
}
