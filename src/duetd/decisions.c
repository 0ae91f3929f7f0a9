/* SPDX-License-Identifier: Apache-2.0 */
#include "duetd/decisions.h"
#include "base/checked.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* What a VM was last found to have. */
struct known {
	char name[VIEW_NAME_MAX];
	uint64_t value[MECHANISMS]; /* tells one decision from another; 0: left alone */
	uint64_t noted[MECHANISMS]; /* the number of the decision that says so; 0: none */
};

struct decisions {
	struct decision ring[DECISIONS_MAX];
	uint64_t count; /* of all that were ever noted: numbers begin with 1 */
	struct known *known, *before;
	unsigned known_count, before_count, known_room, before_room;
	unsigned cursor; /* where the next of a view is likely to be */
};

struct decisions *decisions_new(void)
{
	return calloc(1, sizeof(struct decisions));
}

void decisions_free(struct decisions *decisions)
{
	if (!decisions)
		return;
	free(decisions->known);
	free(decisions->before);
	free(decisions);
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static struct decision *slot(struct decisions *decisions, uint64_t number)
{
	return &decisions->ring[number % DECISIONS_MAX];
}

static struct decision *next_slot(struct decisions *decisions)
{
	struct decision *decision = slot(decisions, ++decisions->count);
	const int64_t now = now_ms();

	*decision = (struct decision){.first = now, .last = now, .times = 1};
	return decision;
}

void decisions_note(struct decisions *decisions, enum mechanism mechanism, const char *words)
{
	struct decision *decision = next_slot(decisions);

	decision->mechanism = mechanism;
	snprintf(decision->words, sizeof(decision->words), "%s", words);
}

/* ---- what of a plan is new ---- */

static uint64_t memory_value(const struct vm_plan *plan)
{
	return plan->set_memory ? 1 + (plan->allowed >> 20) : 0;
}

static uint64_t numa_value(const struct vm_view *view, const struct vm_plan *plan)
{
	uint64_t value = 1 + plan->memory_follows;

	if (!plan->set_numa)
		return 0;
	for (unsigned i = 0; i < view->vcpus && i < VIEW_VCPUS_MAX; i++)
		value = value * 31 + (uint8_t)plan->vcpu[i].node;
	return value ? value : 1;
}

static void values_of(
	const struct vm_view *view, const struct vm_plan *plan, uint64_t values[MECHANISMS])
{
	memset(values, 0, MECHANISMS * sizeof(*values));
	values[MECHANISM_MEMORY] = memory_value(plan);
	values[MECHANISM_CPU] = plan->set_cpu ? plan->weight : 0;
	values[MECHANISM_NUMA] = numa_value(view, plan);
	values[MECHANISM_SHARING] = plan->set_sharing ? 1 + plan->sharing : 0;
}

/* The one that is there for the same reason, else a new one. */
static struct decision *decision_for(struct decisions *decisions, struct known *known,
	enum mechanism mechanism, enum reason reason)
{
	const uint64_t number = known->noted[mechanism];
	struct decision *decision;

	if (number && decisions->count - number < DECISIONS_MAX &&
		slot(decisions, number)->reason == reason) {
		decision = slot(decisions, number);
		decision->times++;
		decision->last = now_ms();
		return decision;
	}
	decision = next_slot(decisions);
	known->noted[mechanism] = decisions->count;
	decision->mechanism = mechanism;
	decision->reason = reason;
	memcpy(decision->vm, known->name, sizeof(decision->vm));
	return decision;
}

static void take_one(struct decisions *decisions, struct known *known, const struct view *view,
	const struct plan *plan, unsigned index)
{
	const struct vm_plan *of = &plan->vms[index];
	uint64_t values[MECHANISMS];

	values_of(&view->vms[index], of, values);
	for (unsigned i = 0; i < MECHANISMS; i++) {
		const bool acts = i == MECHANISM_MEMORY && of->set_memory && of->reclaim;
		struct decision *decision;

		if (values[i] == known->value[i] && !acts)
			continue;
		known->value[i] = values[i];
		decision = decision_for(decisions, known, i, plan_reason(of, i));
		reason_words(decision->reason, view, plan, index, decision->words,
			sizeof(decision->words));
	}
}

/* ---- VMs from one view to the next ---- */

/* Mostly the same in the same order, with one come or gone. */
static const struct known *find(struct decisions *decisions, const char *name)
{
	for (unsigned i = 0; i < decisions->before_count; i++) {
		const unsigned at = (decisions->cursor + i) % decisions->before_count;

		if (strcmp(decisions->before[at].name, name) != 0)
			continue;
		decisions->cursor = at + 1;
		return &decisions->before[at];
	}
	return NULL;
}

static bool turn_over(struct decisions *decisions, unsigned count)
{
	struct known *known = decisions->before;
	unsigned room = decisions->before_room;

	if (count > room) {
		room = count * 2;
		known = reallocarray(known, room, sizeof(*known));
		if (!known)
			return false;
	}
	decisions->before = decisions->known;
	decisions->before_count = decisions->known_count;
	decisions->before_room = decisions->known_room;
	decisions->known = known;
	decisions->known_room = room;
	decisions->known_count = count;
	decisions->cursor = 0;
	return true;
}

void decisions_take(struct decisions *decisions, const struct view *view, const struct plan *plan)
{
	if (!turn_over(decisions, view->count))
		return;
	for (unsigned i = 0; i < view->count; i++) {
		const struct known *before = find(decisions, view->vms[i].name);
		struct known *known = &decisions->known[i];

		if (before)
			*known = *before;
		else
			*known = (struct known){0};
		memcpy(known->name, view->vms[i].name, sizeof(known->name));
		take_one(decisions, known, view, plan, i);
	}
}

const struct decision *decisions_nth(const struct decisions *decisions, unsigned nth)
{
	if (nth >= DECISIONS_MAX || nth >= decisions->count)
		return NULL;
	return &decisions->ring[(decisions->count - nth) % DECISIONS_MAX];
}
