/* SPDX-License-Identifier: Apache-2.0 */
#include "duetd/policies/memory.h"
#include "base/checked.h"

#include <stdlib.h>

/* Swapped or refaulted pages a second of one VM, on the host, at which no more is taken of it. */
#define RECLAIM_HURTS 100
#define LEVEL_ROUNDS  64

static double most_of(double a, double b)
{
	return a > b ? a : b;
}

static double least_of(double a, double b)
{
	return a < b ? a : b;
}

/* ---- what a guest needs ---- */

static bool pages(const struct vm_view *vm)
{
	if (vm->says_hints &&
		(within(vm->refaults, 1e12) > SHORT_PAGES || vm->memory_some > SHORT_SOME))
		return true;
	return vm->says_memory && within(vm->swap_in, 1e12) > SHORT_PAGES;
}

/* What is in use and no cache, which the guest's kernel can give up by swapping alone, if at all;
 * and what that kernel does not manage, which is itself. */
static double in_use(const struct vm_view *vm, const struct memory_guest *guest)
{
	return most_of(0, guest->holds - (double)vm->guest_available);
}

/* As its guest says, or as can be seen from outside. */
static double working_set_seen(const struct vm_view *vm, const struct memory_guest *guest)
{
	if (vm->says_hints && vm->working_set)
		return most_of((double)vm->working_set, vm->says_memory ? in_use(vm, guest) : 0);
	if (vm->says_memory)
		return in_use(vm, guest) * (1 + UNSEEN);
	return (double)vm->resident;
}

/* What it pages is not in what it seems to use, so it needs more than that; not more than all it
 * holds, of which much may be free while it reads in what it swapped long ago. */
static double need_when_short(
	const struct vm_view *vm, const struct memory_guest *guest, double need)
{
	if (!vm->says_hints)
		need = most_of(need, least_of(guest->holds, need * UNSEEN_MOST));
	return need + most_of(need * SHORT_GROWTH, RESERVE_LEAST);
}

static void look_at_need(const struct vm_view *vm, struct memory_guest *guest)
{
	double need = least_of(working_set_seen(vm, guest), guest->memory);

	guest->is_short = pages(vm);
	if (guest->is_short)
		need = need_when_short(vm, guest, need);
	need *= 1 + SEEN_ERROR;
	guest->working_set = least_of(most_of(need, HOLDS_LEAST), guest->memory);
	guest->rests = !vm->says_hints && vm->balloon_since < REST_NS &&
		       guest->told < guest->working_set * UNSEEN_FAR;
	guest->reserve = least_of(most_of(guest->working_set * RESERVE_PART, RESERVE_LEAST),
		guest->memory - guest->working_set);
}

static enum reason why_not(const struct view *view, const struct vm_view *vm)
{
	if (vm->passthrough)
		return REASON_PINNED;
	if (!vm->has_balloon && !view->host.reclaim)
		return REASON_NO_BALLOON;
	if (!vm->memory || (!vm->resident && !vm->says_hints && !vm->says_memory))
		return REASON_UNKNOWN;
	return REASON_NONE;
}

void memory_look(const struct view *view, unsigned index, struct memory_guest *guest)
{
	const struct vm_view *vm = &view->vms[index];
	double resident = least_of((double)vm->resident, (double)vm->memory);

	*guest = (struct memory_guest){.memory = (double)vm->memory,
		.share = share_of(vm),
		.balloon = vm->has_balloon,
		.why = why_not(view, vm)};
	guest->moves = guest->why == REASON_NONE;
	if (vm->has_balloon) {
		guest->holds = guest->memory - least_of((double)vm->balloon, guest->memory);
		guest->told = guest->memory - least_of((double)vm->balloon_target, guest->memory);
	} else {
		guest->holds = guest->told = resident;
	}
	look_at_need(vm, guest);
	guest->goal = guest->told;
}

/* ---- what there is ---- */

static void look_at_host(struct memory_round *round)
{
	const struct host_view *host = &round->view->host;
	double all = 0, told = 0, given = 0;

	round->reserve = (double)host->memory * HOST_RESERVE;
	round->available = least_of((double)host->available, (double)host->memory);
	for (unsigned i = 0; i < round->count; i++) {
		if (!round->guests[i].moves)
			continue;
		all += least_of((double)round->view->vms[i].resident, round->guests[i].memory);
		told += round->guests[i].balloon ? round->guests[i].told : round->guests[i].memory;
		given += round->guests[i].memory;
	}
	round->room = most_of(0, all + round->available - round->reserve);
	/* Once a balloon is in use, what is available is so because of it, and says nothing. */
	round->enough = given <= round->room ||
			(told >= given && host->memory_some < HOST_PRESSED &&
				round->available >= (double)host->memory * HOST_COMFORT);
}

double memory_level(const struct memory_round *round, double room,
	double (*takes)(const struct memory_guest *guest, double level))
{
	double low = 0, high = 0;

	for (unsigned i = 0; i < round->count; i++)
		high = most_of(high, 4 * round->guests[i].memory / round->guests[i].share);
	for (unsigned n = 0; n < LEVEL_ROUNDS; n++) {
		/* The top first: often there is enough. */
		double level = n ? low + (high - low) / 2 : high, taken = 0;

		for (unsigned i = 0; i < round->count; i++)
			if (round->guests[i].moves)
				taken += takes(&round->guests[i], level);
		if (taken <= room)
			low = level;
		else
			high = level;
		if (low == high)
			break;
	}
	return low;
}

/* ---- on the way ---- */

uint64_t memory_allowed(const struct vm_view *vm, double bytes)
{
	double most = (double)vm->memory;

	if (bytes >= most)
		return vm->memory;
	bytes = most_of(bytes, least_of(HOLDS_LEAST, most));
	return bytes >= most ? vm->memory : (uint64_t)(bytes / MIB) << 20;
}

uint64_t memory_reclaim_step(const struct view *view, const struct vm_view *vm, double most)
{
	double hurts =
		(within(vm->host_refaults, 1e12) + within(vm->host_swap_in, 1e12)) / RECLAIM_HURTS;
	double pressed = (double)view->host.memory_some / HOST_PRESSED;
	double step = within((double)vm->memory * STEP_MOST, within(most, (double)vm->resident));
	double calm = 1 - most_of(hurts, pressed);

	if (calm <= 0 || step < MIB)
		return 0;
	/* A number with more digits than a double has was rounded, perhaps up. */
	return min_u64((uint64_t)(step * calm / MIB) << 20, vm->resident);
}

/* What others are to give and have not given is lent to them already: a guest that keeps it would
 * fill the swap, with each decision more. */
static double to_lend(const struct memory_round *round)
{
	const struct host_view *host = &round->view->host;
	double spare = (double)host->swap_free - (double)host->swap_total * SWAP_LEFT_FREE;
	double lent = round->lent;

	for (unsigned i = 0; i < round->count; i++)
		if (round->guests[i].moves)
			lent -= most_of(0, round->guests[i].holds - round->guests[i].goal);
	return most_of(0, least_of(lent, spare));
}

/* What can be given in this decision: what is there, whoever was promised it and has not used it;
 * and what the host makes room for by swapping.
 */
static double to_give(const struct memory_round *round)
{
	return most_of(0, round->available - round->reserve / 2) + to_lend(round);
}

/* How much of what those that are short (or not) are to get can be given; takes it of @give. */
static double part_of(const struct memory_round *round, bool is_short, double *give)
{
	double wish = 0, part;

	for (unsigned i = 0; i < round->count; i++) {
		const struct memory_guest *guest = &round->guests[i];

		if (guest->moves && guest->balloon && guest->is_short == is_short)
			wish += most_of(0, guest->goal - guest->told);
	}
	part = wish > *give ? *give / wish : 1;
	*give -= part * wish;
	return part;
}

static void move_down(struct memory_guest *guest)
{
	double step = guest->memory * STEP_MOST;

	/* A guest that is slow to give is not asked for more meanwhile. */
	if (guest->rests || guest->holds > guest->told + step)
		guest->goal = guest->told;
	else if (guest->told - guest->goal > step)
		guest->goal = guest->told - step;
	else
		return;
	guest->why = REASON_STEP;
}

static void move_up(struct memory_guest *guest, double part)
{
	if (part < 1)
		guest->goal = guest->told + part * (guest->goal - guest->told);
	if (guest->is_short)
		guest->why = REASON_GROWS;
	else if (part < 1)
		guest->why = REASON_STEP;
}

static void move(const struct memory_round *round, struct memory_guest *guest, double part)
{
	double more = guest->goal - guest->told, least = guest->memory * STEP_LEAST;
	bool whole = guest->goal >= guest->memory;

	/* The last step to all of its memory is made, however small: it ends the balloon. */
	if (more <= least && more >= -least && !(whole && more > 0)) {
		guest->goal = guest->told;
		guest->why = more == 0 ? guest->why : REASON_STILL;
	} else if (more < 0) {
		move_down(guest);
	} else {
		move_up(guest, round->enough ? 1 : part);
	}
}

static void put(const struct memory_round *round, unsigned index, struct vm_plan *plan)
{
	const struct memory_guest *guest = &round->guests[index];
	const struct vm_view *vm = &round->view->vms[index];

	plan->memory_why = guest->why;
	if (!guest->moves)
		return;
	plan->set_memory = true;
	plan->allowed = vm->memory;
	if (guest->balloon) {
		plan->allowed = memory_allowed(vm, guest->goal);
	} else if (!round->enough) {
		plan->memory_why = REASON_NO_BALLOON;
		plan->reclaim =
			memory_reclaim_step(round->view, vm, (double)vm->resident - guest->goal);
	}
}

static void plan_round(struct memory_round *round, struct plan *plan,
	void (*share_out)(struct memory_round *round))
{
	double give, parts[2];

	for (unsigned i = 0; i < round->count; i++)
		memory_look(round->view, i, &round->guests[i]);
	look_at_host(round);
	if (!round->enough)
		share_out(round);
	give = to_give(round);
	parts[true] = part_of(round, true, &give);
	parts[false] = part_of(round, false, &give);
	for (unsigned i = 0; i < round->count; i++) {
		struct memory_guest *guest = &round->guests[i];

		if (guest->moves && round->enough) {
			guest->goal = guest->memory;
			guest->why = REASON_ENOUGH;
		}
		if (guest->moves && guest->balloon)
			move(round, guest, parts[guest->is_short]);
		put(round, i, &plan->vms[i]);
	}
}

void memory_decide(
	const struct view *view, struct plan *plan, void (*share_out)(struct memory_round *round))
{
	struct memory_round round = {.view = view, .count = view->count};

	round.guests = calloc(view->count, sizeof(*round.guests));
	if (round.guests) /* else all stays as it is, until the next decision */
		plan_round(&round, plan, share_out);
	free(round.guests);
}
