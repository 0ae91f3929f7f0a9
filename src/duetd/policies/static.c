/* SPDX-License-Identifier: Apache-2.0 */
/* The host's memory split by share, whoever uses it; what one cannot hold goes to the others. */
#include "duetd/policies/memory.h"

static double takes(const struct memory_guest *guest, double level)
{
	return within(level * guest->share, guest->memory);
}

static void share_out(struct memory_round *round)
{
	double level = memory_level(round, round->room, takes);

	for (unsigned i = 0; i < round->count; i++) {
		struct memory_guest *guest = &round->guests[i];

		if (!guest->moves)
			continue;
		guest->goal = takes(guest, level);
		guest->why = REASON_STATIC;
		guest->is_short = false; /* it gets nothing for it */
	}
}

static void decide(const struct view *view, struct plan *plan)
{
	memory_decide(view, plan, share_out);
}

const struct policy memory_static = {.name = "static",
	.mechanism = MECHANISM_MEMORY,
	.help = "an equal split by share, whoever uses it",
	.decide = decide};
