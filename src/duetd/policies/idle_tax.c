/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Idle memory taxed at 75 %: an idle page costs as much as k = 1 / (1 - 0.75) used ones. A guest of
 * P bytes of which the part f is used pays P (f + k (1 - f)); memory goes from who pays least for
 * its share to who pays most, until all pay alike. With a working set W = f P and a level c of what
 * each pays for a unit of share S, that end is
 *     P = c S                        where c S <= W (all of it is used)
 *     P = (c S + (k - 1) W) / k      elsewhere
 * so nothing has to be moved step by step to find it.
 */
#include "duetd/policies/memory.h"

#define TAX     0.75
#define IDLE_IS (1 / (1 - TAX))

static double takes(const struct memory_guest *guest, double level)
{
	double pays = level * guest->share;
	double holds = pays <= guest->working_set
			       ? pays
			       : (pays + (IDLE_IS - 1) * guest->working_set) / IDLE_IS;

	return within(holds, guest->memory);
}

static void share_out(struct memory_round *round)
{
	double level = memory_level(round, round->room, takes);

	for (unsigned i = 0; i < round->count; i++) {
		struct memory_guest *guest = &round->guests[i];

		if (!guest->moves)
			continue;
		guest->goal = takes(guest, level);
		guest->why = REASON_TAXED;
	}
}

static void decide(const struct view *view, struct plan *plan)
{
	memory_decide(view, plan, share_out);
}

const struct policy memory_idle_tax = {.name = "idle-tax",
	.mechanism = MECHANISM_MEMORY,
	.help = "by share, idle memory taxed at 75 %",
	.decide = decide};
