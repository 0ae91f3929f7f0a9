/* SPDX-License-Identifier: Apache-2.0 */
#include "duetd/policies/memory.h"

#include <stdio.h>

/* What a sentence is made of. */
struct facts {
	const struct vm_view *vm;
	const struct vm_plan *plan;
	struct memory_guest guest;
	double allowed, given; /* bytes */
	double over;           /* what is left over: of what it may hold */
	char holds[80];        /* "may hold 512 MiB" */
};

static unsigned long long mib(double bytes)
{
	return (unsigned long long)within(bytes / MIB + 0.5, 1e15);
}

static void gather(
	struct facts *facts, const struct view *view, const struct plan *plan, unsigned index)
{
	struct memory_guest *guest = &facts->guest;

	facts->vm = &view->vms[index];
	facts->plan = &plan->vms[index];
	memory_look(view, index, guest);
	facts->given = guest->memory;
	facts->allowed = facts->plan->set_memory ? (double)facts->plan->allowed : guest->told;
	facts->over = facts->allowed - guest->working_set - guest->reserve;
	snprintf(facts->holds, sizeof(facts->holds), "may hold %llu of its %llu MiB",
		mib(facts->allowed), mib(facts->given));
}

/* ---- memory ---- */

static void working_set_words(const struct facts *facts, char *words, size_t room)
{
	const struct memory_guest *guest = &facts->guest;

	if (facts->over < 0)
		snprintf(words, room,
			"%s: its working set of %llu MiB and %llu MiB of the reserve of %llu that "
			"it should have on top",
			facts->holds, mib(guest->working_set), mib(guest->reserve + facts->over),
			mib(guest->reserve));
	else
		snprintf(words, room,
			"%s: its working set of %llu MiB and a reserve of %llu MiB, with %llu MiB "
			"of what is left over",
			facts->holds, mib(guest->working_set), mib(guest->reserve),
			mib(facts->over));
}

static void cut_words(const struct facts *facts, char *words, size_t room)
{
	snprintf(words, room,
		"%s, its share of %u among others that need theirs, though it needs %llu MiB",
		facts->holds, share_of(facts->vm), mib(facts->guest.working_set));
}

static void grows_words(const struct facts *facts, char *words, size_t room)
{
	double swapped = within(facts->vm->swap_in, 1e9), read = within(facts->vm->refaults, 1e9);

	snprintf(words, room,
		"%s, up from %llu MiB at once: its guest reads %.0f pages a second in again and "
		"waits for memory %.1f %% of its time",
		facts->holds, mib(facts->guest.told), swapped > read ? swapped : read,
		facts->vm->memory_some / 100.0);
}

static void step_words(const struct facts *facts, char *words, size_t room)
{
	const struct memory_guest *guest = &facts->guest;

	if (facts->allowed != guest->told)
		snprintf(words, room,
			"%s, a step from %llu MiB on its way: its working set is %llu MiB, its "
			"reserve %llu",
			facts->holds, mib(guest->told), mib(guest->working_set),
			mib(guest->reserve));
	else if (guest->rests)
		snprintf(words, room,
			"%s, and is to hold less, but waits for %llu s after the last step to see "
			"whether it was borne",
			facts->holds, (unsigned long long)(REST_NS / SECOND_NS));
	else
		snprintf(words, room, "%s, and is to hold less once its guest has given %llu MiB",
			facts->holds, mib(guest->holds - guest->told));
}

static void still_words(const struct facts *facts, char *words, size_t room)
{
	snprintf(words, room,
		"%s as before: what it should is less than %.0f %% away, or it waits "
		"for what was taken",
		facts->holds, STEP_LEAST * 100);
}

static void taxed_words(const struct facts *facts, char *words, size_t room)
{
	snprintf(words, room,
		"%s: its share of %u, of which %llu MiB are in use and the rest taxed at 75 %%",
		facts->holds, share_of(facts->vm), mib(facts->guest.working_set));
}

static void no_balloon_words(const struct facts *facts, char *words, size_t room)
{
	if (facts->plan->reclaim)
		snprintf(words, room, "has no balloon: the host takes %llu of its %llu MiB now",
			mib((double)facts->plan->reclaim), mib((double)facts->vm->resident));
	else
		snprintf(words, room, "has no balloon, and keeps the %llu MiB that it takes",
			mib((double)facts->vm->resident));
}

static void pressure_words(const struct facts *facts, char *words, size_t room)
{
	if (facts->plan->reclaim)
		snprintf(words, room,
			"the host takes %llu of its %llu MiB now: nobody waits for what was taken "
			"before",
			mib((double)facts->plan->reclaim), mib((double)facts->vm->resident));
	else
		snprintf(words, room, "%s: little of the host's memory is available", facts->holds);
}

static void enough_words(const struct facts *facts, char *words, size_t room)
{
	snprintf(words, room, "%s: there is enough for all", facts->holds);
}

static void unknown_words(const struct facts *facts, char *words, size_t room)
{
	snprintf(words, room, "keeps its %llu MiB: too little is known of what it needs",
		mib(facts->given));
}

static void pinned_words(const struct facts *facts, char *words, size_t room)
{
	snprintf(words, room, "keeps its %llu MiB: passed-through devices hold its memory",
		mib(facts->given));
}

static void static_words(const struct facts *facts, char *words, size_t room)
{
	snprintf(words, room, "%s: its share of %u, whatever it uses", facts->holds,
		share_of(facts->vm));
}

/* ---- cpu ---- */

static unsigned long long threads_said(const struct vm_view *vm)
{
	unsigned long long says = 0;

	for (unsigned i = 0; i < vcpus_seen(vm); i++)
		says += vm->vcpu[i].says ? vm->vcpu[i].runnable : 0;
	return says;
}

static void runnable_words(const struct facts *facts, char *words, size_t room)
{
	snprintf(words, room, "weighs %u: %llu threads can run on its %u vCPUs, by its share of %u",
		facts->plan->weight, threads_said(facts->vm), facts->vm->vcpus,
		share_of(facts->vm));
}

static void capped_words(const struct facts *facts, char *words, size_t room)
{
	snprintf(words, room,
		"weighs %u: it says that %llu threads can run, and counts for no more than its %u "
		"vCPUs were seen to have work, by its share of %u",
		facts->plan->weight, threads_said(facts->vm), facts->vm->vcpus,
		share_of(facts->vm));
}

static void idle_words(const struct facts *facts, char *words, size_t room)
{
	snprintf(words, room, "weighs %u, its share of %u: no thread in it can run",
		facts->plan->weight, share_of(facts->vm));
}

static void no_hints_words(const struct facts *facts, char *words, size_t room)
{
	double busy = 0, waits = 0;

	for (unsigned i = 0; i < vcpus_seen(facts->vm); i++) {
		busy += within(facts->vm->vcpu[i].busy, 1);
		waits += within(facts->vm->vcpu[i].waits, 1);
	}
	snprintf(words, room,
		"weighs %u by its share of %u: its guest says nothing, and its vCPUs took %.1f "
		"CPUs and waited for %.1f",
		facts->plan->weight, share_of(facts->vm), busy, waits);
}

static void share_words(const struct facts *facts, char *words, size_t room)
{
	snprintf(words, room, "weighs %u, its share", facts->plan->weight);
}

/* ---- numa ---- */

/* What its vCPUs use on other nodes than the plan has them on. */
static double strays(const struct facts *facts)
{
	double sum = 0;

	for (unsigned i = 0; i < vcpus_seen(facts->vm); i++)
		for (int n = 0; n < VIEW_NODES_MAX; n++)
			if (n != facts->plan->vcpu[i].node)
				sum += (double)facts->vm->vcpu[i].uses[n];
	return sum;
}

static void follows_words(const struct facts *facts, char *words, size_t room)
{
	unsigned moved = 0;

	for (unsigned i = 0; i < vcpus_seen(facts->vm); i++)
		moved += (int)facts->plan->vcpu[i].node != (int)facts->vm->vcpu[i].node;
	snprintf(words, room, "%u of its %u vCPUs move to the node of what they use, %llu MiB %s",
		moved, facts->vm->vcpus, mib(strays(facts)),
		facts->plan->memory_follows ? "come to them" : "stay elsewhere");
}

static void memory_follows_words(const struct facts *facts, char *words, size_t room)
{
	snprintf(words, room, "%llu MiB that its vCPUs use come to the nodes where they are",
		mib(strays(facts)));
}

static void no_map_words(const struct facts *facts, char *words, size_t room)
{
	snprintf(words, room,
		"is placed by the kernel: its guest gives no map of what its vCPUs "
		"use, or the host has one node");
}

/* ---- sharing ---- */

static void named_words(const struct facts *facts, char *words, size_t room)
{
	snprintf(words, room, "offers %llu MiB that its guest names, of which %llu MiB are merged",
		mib((double)facts->vm->offered), mib((double)facts->vm->merged));
}

static void all_offered_words(const struct facts *facts, char *words, size_t room)
{
	snprintf(words, room, "offers all its %llu MiB, of which %llu MiB are merged",
		mib(facts->given), mib((double)facts->vm->merged));
}

static void names_none_words(const struct facts *facts, char *words, size_t room)
{
	snprintf(words, room,
		"offers nothing: its guest names no pages; that takes --coop and the guest kit");
}

static void not_merged_words(const struct facts *facts, char *words, size_t room)
{
	snprintf(words, room, "offers nothing: passed-through devices hold its memory");
}

static void cannot_share_words(const struct facts *facts, char *words, size_t room)
{
	snprintf(words, room, "offers nothing: its duet is older than that");
}

static void no_ksm_words(const struct facts *facts, char *words, size_t room)
{
	snprintf(words, room,
		"offers nothing: the host's KSM cannot be set; duetctl policy says why");
}

static void none_words(const struct facts *facts, char *words, size_t room)
{
	snprintf(words, room, "is left alone");
}

static void (*const words_of[REASON_COUNT])(const struct facts *facts, char *words, size_t room) = {
	[REASON_NONE] = none_words,
	[REASON_ENOUGH] = enough_words,
	[REASON_WORKING_SET] = working_set_words,
	[REASON_CUT_TO_SHARE] = cut_words,
	[REASON_GROWS] = grows_words,
	[REASON_STEP] = step_words,
	[REASON_STILL] = still_words,
	[REASON_UNKNOWN] = unknown_words,
	[REASON_PINNED] = pinned_words,
	[REASON_NO_BALLOON] = no_balloon_words,
	[REASON_STATIC] = static_words,
	[REASON_TAXED] = taxed_words,
	[REASON_PRESSURE] = pressure_words,
	[REASON_RUNNABLE] = runnable_words,
	[REASON_CAPPED] = capped_words,
	[REASON_IDLE] = idle_words,
	[REASON_NO_HINTS] = no_hints_words,
	[REASON_SHARE] = share_words,
	[REASON_FOLLOWS_MEMORY] = follows_words,
	[REASON_MEMORY_FOLLOWS] = memory_follows_words,
	[REASON_NO_MAP] = no_map_words,
	[REASON_NAMED] = named_words,
	[REASON_NAMES_NONE] = names_none_words,
	[REASON_ALL_OFFERED] = all_offered_words,
	[REASON_NOT_MERGED] = not_merged_words,
	[REASON_CANNOT_SHARE] = cannot_share_words,
	[REASON_NO_KSM] = no_ksm_words,
};

void reason_words(enum reason reason, const struct view *view, const struct plan *plan, unsigned vm,
	char *words, size_t room)
{
	struct facts facts;

	gather(&facts, view, plan, vm);
	words_of[reason < REASON_COUNT ? reason : REASON_NONE](&facts, words, room);
}
