/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/shares.h"

#include "base/clock.h"
#include "migrate/plan.h"

#include <string.h>

void shares_begin(struct shares *shares, unsigned cpus, const uint64_t *written, uint64_t now)
{
	*shares =
		(struct shares){.cpus = cpus < SHARES_CPUS_MAX ? cpus : SHARES_CPUS_MAX, .at = now};
	if (written)
		memcpy(shares->written, written, shares->cpus * sizeof(*written));
}

unsigned shares_most(const struct shares *shares)
{
	unsigned most = 0;

	for (unsigned i = 0; i < shares->cpus; i++)
		most = shares->percent[i] > most ? shares->percent[i] : most;
	return most;
}

static void hold_all(struct shares *shares, unsigned percent)
{
	memset(shares->percent, (int)percent, shares->cpus);
}

/* What each would write if it were not held, by what it wrote in the time that it had. One that
 * rested in this round is not let go at once: of the past, half. Returns what all have written, in
 * pages, and at which rate. */
static uint64_t measure(
	struct shares *shares, const uint64_t *written, uint64_t now, double *all_rate)
{
	const double took = now > shares->at ? (double)(now - shares->at) / SECOND_NS : 1e-9;
	uint64_t sum = 0;

	for (unsigned i = 0; i < shares->cpus; i++) {
		const uint64_t pages = written[i] - shares->written[i];
		const double rate = (double)pages * 100 / (took * (100 - shares->percent[i]));

		shares->free[i] = rate > shares->free[i] / 2 ? rate : shares->free[i] / 2;
		sum += pages;
	}
	*all_rate = (double)sum / took;
	return sum;
}

/* When the plan wants less, that is less than was written, and than it wanted before; what was
 * allowed stays so however much more they write. */
static void allow(struct shares *shares, unsigned throttle, double rate)
{
	if (throttle > shares->throttle) {
		if (shares->throttle && rate > shares->allowed)
			rate = shares->allowed;
		shares->allowed = rate * (100 - throttle) / (100 - shares->throttle);
	}
	shares->throttle = throttle;
}

/* Up to which rate each may write, so that together they write what is allowed: those that write
 * less leave the rest of an even part to the others. Negative: they write no more than that. */
static double level(const struct shares *shares)
{
	unsigned above = shares->cpus, before;
	double rest = shares->allowed, even;

	do {
		before = above;
		even = rest / above;
		above = 0;
		rest = shares->allowed;
		for (unsigned i = 0; i < shares->cpus; i++) {
			if (shares->free[i] > even)
				above++;
			else
				rest -= shares->free[i];
		}
	} while (above && above < before);
	return above ? even : -1;
}

static unsigned held(double free, double most)
{
	unsigned percent;

	if (most < 0 || free <= most)
		return 0;
	percent = 100 - (unsigned)(100 * most / free);
	return percent < PLAN_THROTTLE_MAX ? percent : PLAN_THROTTLE_MAX;
}

void shares_next(struct shares *shares, unsigned throttle, const uint64_t *written, uint64_t left,
	uint64_t now)
{
	double rate, most;
	uint64_t pages;

	if (!written) {
		hold_all(shares, throttle);
		return;
	}
	pages = measure(shares, written, now, &rate);
	allow(shares, throttle, rate);
	most = level(shares);
	for (unsigned i = 0; i < shares->cpus; i++)
		shares->percent[i] = (uint8_t)(throttle ? held(shares->free[i], most) : 0);
	/* A disk's reads are asked for by vCPUs that write to little themselves. */
	if (pages < left / 2)
		hold_all(shares, throttle);
	memcpy(shares->written, written, shares->cpus * sizeof(*written));
	shares->at = now;
}
