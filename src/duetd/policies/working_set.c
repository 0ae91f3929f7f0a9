/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Working sets first, then a reserve for each, then what is left over; each of the three by
 * weighted max-min: nobody gets more than it needs while another that got less for its share needs
 * more. So who claims all its memory gets what its share is, and beyond that only what no other
 * needs. Where most do not get their working sets, the host's swap lends some: a guest that
 * claims too much among others that have enough gets none of it.
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

/* By share. */
static bool most_are_cut(const struct memory_round *round, double level)
{
	double all = 0, cut = 0;

	for (unsigned i = 0; i < round->count; i++) {
		const struct memory_guest *guest = &round->guests[i];

		if (!guest->moves)
			continue;
		all += guest->share;
		if (takes_working_set(guest, level) < guest->working_set)
			cut += guest->share;
	}
	return cut * 2 > all;
}

/* What of the working sets is not in @room and may be swapped. */
static double lend(const struct memory_round *round, double room)
{
	double most = within((double)round->view->host.swap_total * (1 - SWAP_LEFT_FREE),
		round->room * SWAP_LENDS);
	double lacks = -room;

	for (unsigned i = 0; i < round->count; i++)
		if (round->guests[i].moves)
			lacks += round->guests[i].working_set;
	if (lacks <= 0 || !most_are_cut(round, memory_level(round, room, takes_working_set)))
		return 0;
	return within(lacks, most);
}

static void share_out(struct memory_round *round)
{
	double half = round->reserve / 2, room = round->room + half;

	for (unsigned i = 0; i < round->count; i++)
		if (round->guests[i].moves)
			round->guests[i].goal = 0;
	round->lent = lend(round, room);
	room += round->lent;
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
