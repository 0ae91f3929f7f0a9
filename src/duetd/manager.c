/* SPDX-License-Identifier: Apache-2.0 */
#include "duetd/manager.h"
#include "base/checked.h"
#include "base/clock.h"
#include "base/log.h"
#include "duetd/plain.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* So many decisions that changed nothing, and it is decided half as often. */
#define QUIET_MOST 5

/* ---- VMs that come and go ---- */

/* The next decision is now, not in a while. */
static void hasten(struct manager *manager)
{
	manager->quiet = 0;
	if (loop_timer_set(&manager->round))
		loop_timer_after(manager->loop, &manager->round, 0);
}

static void came(void *opaque, const char *name, pid_t pid, const pid_t *threads, unsigned count)
{
	struct manager *manager = opaque;
	struct error err = {0};
	int ret;

	/* Who listens for it (a systemd that passes sockets on) is not it. */
	if (levers_has_thread(manager->levers, pid, threads, count))
		ret = levers_add(manager->levers, name, pid, &err);
	else
		ret = error_set(&err, ESRCH,
			"%s: process %d listens, but none of its vCPUs is a thread of that one: "
			"weights, slices and reclaim are left alone; let duet itself make the "
			"socket (--api-sock)",
			name, (int)pid);
	if (ret == 0 || ret == -EEXIST)
		ret = levers_threads(manager->levers, name, threads, count, &err);
	if (ret < 0)
		log_warning("%s", err.text);
	else
		log_info("%s: process %d, %u vCPUs", name, (int)pid, count);
	hasten(manager);
}

static void gone(void *opaque, const char *name)
{
	struct manager *manager = opaque;

	levers_remove(manager->levers, name);
	log_info("%s: gone", name);
	hasten(manager);
}

/* ---- a decision ---- */

static bool make_room(struct manager *manager, unsigned count)
{
	struct vm_plan *more;

	if (count <= manager->room)
		return true;
	more = reallocarray(manager->plan.vms, count * 2UL, sizeof(*more));
	if (!more)
		return false;
	manager->plan.vms = more;
	manager->room = count * 2;
	return true;
}

static void take_fault(struct manager *manager, const struct error *err)
{
	manager->faults++;
	snprintf(manager->fault, sizeof(manager->fault), "%.255s", err->text);
	make_plain(manager->fault);
}

/* As if the host had no more than its VMs may take. */
static void keep_to_budget(struct view *view, uint64_t budget)
{
	uint64_t taken = 0, left;

	if (!budget || budget >= view->host.memory)
		return;
	for (unsigned i = 0; i < view->count; i++)
		taken += min_u64(view->vms[i].resident, budget - min_u64(taken, budget));
	left = budget - taken;
	view->host.memory = budget;
	view->host.available = min_u64(view->host.available, left);
	view->host.free = min_u64(view->host.free, left);
}

static bool see(struct manager *manager)
{
	struct view *view = &manager->view;
	struct error err = {0};

	view->now = clock_ns();
	if (levers_view(manager->levers, &view->host, &err) < 0) {
		take_fault(manager, &err);
		return false;
	}
	view->count = fleet_views(manager->fleet, &view->vms);
	if (!make_room(manager, view->count))
		view->count = 0;
	/* Of one whose process is not known there is what it says itself. */
	for (unsigned i = 0; i < view->count; i++)
		levers_view_vm(manager->levers, &view->vms[i], NULL);
	keep_to_budget(view, manager->budget);
	return true;
}

static void decide(struct manager *manager)
{
	const uint64_t from = clock_ns();

	if (manager->view.count)
		memset(manager->plan.vms, 0, manager->view.count * sizeof(*manager->plan.vms));
	manager->plan.ksm = (struct ksm_plan){0};
	for (unsigned i = 0; i < MECHANISMS; i++)
		manager->policies[i]->decide(&manager->view, &manager->plan);
	manager->decision_ns += clock_ns() - from;
	manager->decisions++;
}

static void act(struct manager *manager)
{
	struct error fault = {0};

	if (levers_apply_ksm(manager->levers, &manager->plan.ksm, &fault) < 0)
		take_fault(manager, &fault);
	for (unsigned i = 0; i < manager->view.count; i++) {
		const char *name = manager->view.vms[i].name;
		const struct vm_plan *plan = &manager->plan.vms[i];
		struct error err = {0};
		/* Of one whose process is not known the balloon is what there is. */
		int ret = levers_apply(manager->levers, name, plan, &err);

		if (ret < 0 && ret != -ENOENT)
			take_fault(manager, &err);
		fleet_apply(manager->fleet, name, plan);
	}
}

static void add_sum(uint64_t *sum, uint64_t number)
{
	*sum = (*sum ^ number) * 0x100000001b3ULL; /* FNV-1a's prime */
}

static uint64_t sum_of(const struct manager *manager)
{
	uint64_t sum = manager->view.count;

	for (unsigned i = 0; i < manager->view.count; i++) {
		const struct vm_plan *plan = &manager->plan.vms[i];

		add_sum(&sum, plan->set_memory ? plan->allowed >> 20 : 1);
		add_sum(&sum, plan->reclaim);
		add_sum(&sum, plan->set_cpu ? plan->weight : 0);
		add_sum(&sum, plan->set_sharing ? 1 + plan->sharing : 0);
		for (unsigned j = 0; j < manager->view.vms[i].vcpus; j++)
			add_sum(&sum, plan->vcpu[j].slice + (uint8_t)plan->vcpu[j].node);
	}
	return sum;
}

void manager_decide(struct manager *manager)
{
	uint64_t sum;

	if (!see(manager))
		return;
	decide(manager);
	act(manager);
	decisions_take(manager->noted, &manager->view, &manager->plan);
	sum = sum_of(manager);
	manager->quiet = sum == manager->sum ? manager->quiet + 1 : 0;
	manager->sum = sum;
}

void manager_set_policy(
	struct manager *manager, enum mechanism mechanism, const struct policy *policy)
{
	char words[80];

	log_info("%s: policy %s", mechanism_name(mechanism), policy->name);
	snprintf(words, sizeof(words), "policy %s from now on, it was %s", policy->name,
		manager->policies[mechanism]->name);
	decisions_note(manager->noted, mechanism, words);
	manager->policies[mechanism] = policy;
	manager_decide(manager);
}

static void next_round(struct loop_timer *timer)
{
	struct manager *manager = container_of(timer, struct manager, round);
	const uint64_t period = manager->period_ms * MS_NS;

	manager_decide(manager);
	loop_timer_after(manager->loop, timer, manager->quiet >= QUIET_MOST ? period * 2 : period);
}

/* ---- all of it ---- */

int manager_open(struct manager *manager, struct loop *loop, const struct manager_options *options,
	struct error *err)
{
	const struct fleet_options fleet = {.directory = options->directory,
		.came = came,
		.gone = gone,
		.opaque = manager,
		.period_ms = options->period_ms};
	int ret;

	*manager = (struct manager){.loop = loop,
		.budget = options->budget,
		.period_ms = options->period_ms,
		.round.expired = next_round};
	if (!manager->period_ms)
		manager->period_ms = MANAGER_PERIOD_MS;
	memcpy(manager->policies, options->policies, sizeof(manager->policies));
	manager->noted = decisions_new();
	manager->units = units_new(loop, options->levers.root, options->directory);
	if (!manager->noted || !manager->units)
		return error_errno(err, ENOMEM, "duetd");
	ret = levers_open(&manager->levers, &options->levers, err);
	if (ret == 0)
		ret = fleet_open(&manager->fleet, loop, &fleet, err);
	if (ret < 0)
		return ret;
	loop_timer_after(loop, &manager->round, manager->period_ms * MS_NS);
	return 0;
}

void manager_close(struct manager *manager)
{
	loop_timer_stop(&manager->round);
	fleet_close(manager->fleet);
	levers_close(manager->levers);
	decisions_free(manager->noted);
	units_free(manager->units);
	free(manager->plan.vms);
	*manager = (struct manager){0};
}

int manager_find(const struct manager *manager, const char *name)
{
	for (unsigned i = 0; i < manager->view.count; i++)
		if (strcmp(manager->view.vms[i].name, name) == 0)
			return (int)i;
	return -1;
}
