/* SPDX-License-Identifier: Apache-2.0 */
/* What is made of an answer, and when the next is asked for. */
#include "base/checked.h"
#include "base/clock.h"
#include "base/log.h"
#include "duetd/fleet_private.h"
#include "duetd/plain.h"

#include <stdio.h>
#include <string.h>

/* After so many answers of nothing new it is asked half as often, and so on, down to a quarter. */
#define QUIET_STEP    3
#define QUIET_DOUBLES 2
/* After faults in a row: 2, 4, 8 ... times the period, up to a minute of the usual one. */
#define FAULT_DOUBLES 6

void fleet_schedule(struct member *member)
{
	const struct fleet *fleet = member->fleet;
	unsigned doubles = (unsigned)min_u64(member->quiet / QUIET_STEP, QUIET_DOUBLES);

	if (member->faults)
		doubles = (unsigned)min_u64(member->faults, FAULT_DOUBLES);
	loop_timer_after(
		fleet->loop, &member->next_time, (fleet->options.period_ms * MS_NS) << doubles);
}

void fleet_gone(struct member *member)
{
	const struct fleet_options *options = &member->fleet->options;

	if (member->here && options->gone)
		options->gone(options->opaque, member->name);
	member->here = false;
	member->leased = member->shares = false;
	fleet_forget_due(member);
	member->sharing_at = 0;
	member->answered = 0;
	member->placed_at = member->wished_at = 0;
}

/* Told of once, until it is well again. */
void fleet_take_fault(struct member *member, const char *why, bool ended)
{
	snprintf(member->fault, sizeof(member->fault), "%s", why);
	make_plain(member->fault);
	if (member->faults == 0)
		log_warning(
			"%s: left out until it answers as a VM: %s", member->name, member->fault);
	member->faults++;
	member->quiet = 0;
	member->well = false;
	fleet_forget_due(member);
	/* One that hangs may be back. */
	if (ended)
		fleet_gone(member);
	fleet_schedule(member);
}

static bool is_near(uint64_t one, uint64_t other, uint64_t most)
{
	return one > other ? one - other <= most : other - one <= most;
}

/* Whether it says what it said before, as far as a decision could turn on it. */
static bool is_quiet(const struct answer *now, const struct answer *before)
{
	const struct vm_view *a = &now->view, *b = &before->view;
	const uint64_t little = a->memory / 64;

	if (now->running != before->running || a->balloon != b->balloon ||
		a->balloon_target != b->balloon_target || a->vcpus != b->vcpus ||
		a->says_hints != b->says_hints || a->says_memory != b->says_memory)
		return false;
	if (!is_near(a->working_set, b->working_set, little) ||
		!is_near(a->guest_available, b->guest_available, little) ||
		a->swap_in + a->refaults + a->major_faults >= 1)
		return false;
	for (unsigned i = 0; i < a->vcpus; i++)
		if (a->vcpu[i].says != b->vcpu[i].says ||
			a->vcpu[i].runnable != b->vcpu[i].runnable)
			return false;
	return true;
}

static bool same_threads(const struct answer *now, const struct answer *before)
{
	return now->view.vcpus == before->view.vcpus &&
	       memcmp(now->threads, before->threads, sizeof(now->threads)) == 0;
}

static unsigned threads_of(const struct answer *answer)
{
	unsigned count = 0;

	for (unsigned i = 0; i < answer->view.vcpus; i++)
		count += answer->threads[i] != 0;
	return count;
}

/* A VM that was not started yet has no threads, and has not come. */
static void tell(struct member *member, bool changed)
{
	const struct fleet_options *options = &member->fleet->options;
	const struct answer *answer = &member->answer;

	if ((member->here && !changed) || !threads_of(answer))
		return;
	member->here = true;
	if (options->came)
		options->came(options->opaque, member->name, member->pid, answer->threads,
			answer->view.vcpus);
}

static void take(struct member *member, struct answer *answer, pid_t pid)
{
	const uint64_t now = clock_ns();
	bool changed;

	if (pid != member->pid)
		fleet_gone(member);
	/* A process says once what it was configured as: one that its guest has taken over later
	 * cannot give itself more. */
	if (member->answered)
		answer->view.share = member->answer.view.share;
	if (!member->answered)
		member->since = member->target_since = now;
	else
		answer_rates(answer, &member->answer.counters, now - member->answered);
	member->quiet =
		member->answered && is_quiet(answer, &member->answer) ? member->quiet + 1 : 0;
	changed = !same_threads(answer, &member->answer);
	if (member->faults)
		log_info("%s: answers as a VM again", member->name);
	member->pid = pid;
	member->answer = *answer;
	member->answered = now;
	member->faults = 0;
	member->well = true;
	tell(member, changed);
}

/* Its API is there before its machine: nothing is wrong with it, and it will start one day. */
static void not_started(struct member *member)
{
	fleet_gone(member);
	snprintf(member->fault, sizeof(member->fault), "its machine has not started");
	member->well = false;
	member->faults = 0;
	member->quiet = QUIET_STEP * QUIET_DOUBLES;
	fleet_schedule(member);
}

void fleet_take_answer(struct member *member, const struct http_answer *http, pid_t pid)
{
	struct answer answer;
	struct error err = {0};
	char why[96];

	if (http->status == 400) {
		not_started(member);
		return;
	}
	if (http->status != 200) {
		snprintf(why, sizeof(why),
			"it refuses GET /duet/brief (%u); is it a duet, and not an older one?",
			http->status);
		fleet_take_fault(member, why, false);
		return;
	}
	if (answer_read(&answer, http->body, &err) < 0) {
		fleet_take_fault(member, err.text, false);
		return;
	}
	snprintf(answer.view.name, sizeof(answer.view.name), "%s", member->name);
	take(member, &answer, pid);
	fleet_schedule(member);
}
