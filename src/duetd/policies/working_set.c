/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Working sets first, then a reserve for each, then what is left over; each of the three by
 * weighted max-min: nobody gets more than it needs while another that got less for its share needs
 * more. So who claims all its memory gets what its share is, and beyond that only what no other
 * needs.
 */
#include "duetd/policies/memory.h"

static double takes_working_set(const struct memory_guest *guest, double level)
{
	return within(level * guest->share, guest->working_set);
}

static double takes_reserve(const struct memory_guest *guest, double level)
{
	return within(level * guest->share, guest->reserve);
}

static double takes_rest(const struct memory_guest *guest, double level)
{
	return within(level * guest->share, guest->memory - guest->working_set - guest->reserve);
}

/* Returns what is left of @room. */
static double hand_out(struct memory_round *round, double room,
	double (*takes)(const struct memory_guest *guest, double level))
{
	double level = memory_level(round, room, takes);

	for (unsigned i = 0; i < round->count; i++) {
		double taken = takes(&round->guests[i], level);

		if (!round->guests[i].moves)
			continue;
		round->guests[i].goal += taken;
		room -= taken;
	}
	return room > 0 ? room : 0;
}

static void share_out(struct memory_round *round)
{
	double half = round->reserve / 2, room = round->room + half;

	for (unsigned i = 0; i < round->count; i++)
		if (round->guests[i].moves)
			round->guests[i].goal = 0;
	room = hand_out(round, room, takes_working_set);
	room = hand_out(round, room > half ? room - half : 0, takes_reserve);
	hand_out(round, room, takes_rest);
	for (unsigned i = 0; i < round->count; i++) {
		struct memory_guest *guest = &round->guests[i];

		if (guest->moves)
			guest->why = guest->goal < guest->working_set - MIB ? REASON_CUT_TO_SHARE
									    : REASON_WORKING_SET;
	}
}

static void decide(const struct view *view, struct plan *plan)
{
	memory_decide(view, plan, share_out);
}

const struct policy memory_working_set = {.name = "working-set",
	.mechanism = MECHANISM_MEMORY,
	.help = "each guest its working set and a reserve; what is left over by share",
	.decide = decide};
