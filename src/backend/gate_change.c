/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A policy comes into force. The main thread appends it to its list and posts a task; the I/O loop
 * adopts the newest there is, between two frames, and says which that is. What is older is used by
 * nobody any more and freed with the next change: neither thread waits for the other.
 */
#include "backend/gate_private.h"
#include "base/checked.h"
#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static void free_first(struct net_gate *gate)
{
	struct gate_policy *old = gate->first;

	gate->first = old->next;
	if (!gate->first)
		gate->last = &gate->first;
	net_policy_free(old->policy);
	free(old);
}

/* Nothing at all when none is in force yet. */
static void free_older(struct net_gate *gate)
{
	const struct gate_policy *used = atomic_load(&gate->in_force);

	while (used && gate->first != used)
		free_first(gate);
}

static void set_lane(struct gate_lane *lane, const struct net_policy *policy, uint64_t now)
{
	const struct bucket_limits *limits = net_policy_limits(policy, lane->direction);

	bucket_pair_change(&lane->buckets, limits, now);
	lane->limits = bucket_limits_any(limits);
	lane->filters = net_policy_filters(policy, lane->direction);
	/* The wait was for another limit. */
	loop_timer_stop(&lane->timer);
}

static void adopt(struct net_gate *gate)
{
	struct gate_policy *newest = atomic_load(&gate->newest);
	struct net_policy *policy = newest->policy;
	struct net *net = gate->net;
	bool before = net_policed(net), after = !net_policy_is_empty(policy);
	uint64_t now = clock_ns();

	if (policy == gate->policy)
		return;
	if (gate->policy)
		net_policy_inherit(policy, gate->policy);
	for (unsigned i = 0; i < NET_DIRECTIONS; i++)
		set_lane(&gate->lanes[i], policy, now);
	gate->policy = policy;
	net->ops = after ? &gate_ops : gate->inner;
	atomic_store(&gate->in_force, newest);
	if (!net->loop || net->detaching)
		return;
	if (before != after && net->events->policed)
		net->events->policed(net->opaque);
	for (unsigned i = 0; i < NET_DIRECTIONS; i++)
		gate_wake(&gate->lanes[i]);
}

static void adopt_posted(struct loop_task *task)
{
	struct net_gate *gate = container_of(task, struct net_gate, adopt);

	/* First: what comes from here on is either seen below or posted again. */
	atomic_store(&gate->posted, false);
	adopt(gate);
}

static struct net_gate *new_gate(struct net *net)
{
	struct net_gate *gate = calloc(1, sizeof(*gate));

	if (!gate)
		return NULL;
	gate->net = net;
	gate->inner = net->ops;
	gate->last = &gate->first;
	gate->adopt.run = adopt_posted;
	for (unsigned i = 0; i < NET_DIRECTIONS; i++) {
		gate->lanes[i].gate = gate;
		gate->lanes[i].direction = (enum net_direction)i;
		gate->lanes[i].timer.expired = gate_expired;
	}
	return gate;
}

int net_set_policy(struct net *net, struct loop *io, struct net_policy *policy)
{
	struct gate_policy *entry = calloc(1, sizeof(*entry));

	if (!net->gate)
		net->gate = new_gate(net);
	if (!net->gate || !entry) {
		free(entry);
		net_policy_free(policy);
		return -ENOMEM;
	}
	free_older(net->gate);
	entry->policy = policy;
	*net->gate->last = entry;
	net->gate->last = &entry->next;
	atomic_store(&net->gate->newest, entry);
	if (!io) {
		adopt(net->gate);
		return 0;
	}
	net->gate->io = io;
	if (!atomic_exchange(&net->gate->posted, true))
		loop_post(io, &net->gate->adopt);
	return 0;
}

bool net_policed(const struct net *net)
{
	return net->ops == &gate_ops;
}

void net_gate_free(struct net *net)
{
	struct net_gate *gate = net->gate;

	if (!gate)
		return;
	if (gate->io)
		loop_unpost(gate->io, &gate->adopt);
	net->ops = gate->inner;
	net->gate = NULL;
	while (gate->first)
		free_first(gate);
	free(gate);
}

static void tell(const struct net_counts *counts, const char *group, const char *name,
	void (*count)(void *to, const char *group, const char *name, uint64_t value), void *to)
{
	char text[64];

	snprintf(text, sizeof(text), "%s%spackets", name, *name ? "_" : "");
	count(to, group, text, atomic_load_explicit(&counts->packets, memory_order_relaxed));
	snprintf(text, sizeof(text), "%s%sbytes", name, *name ? "_" : "");
	count(to, group, text, atomic_load_explicit(&counts->bytes, memory_order_relaxed));
}

void net_policy_stats(const struct net *net,
	void (*count)(void *to, const char *group, const char *name, uint64_t value), void *to)
{
	static const char *const directions[] = {[NET_OUT] = "out", [NET_IN] = "in"};
	const struct net_counts *counts;
	const struct gate_policy *used;
	const char *name;
	char text[64];

	if (!net->gate)
		return;
	for (unsigned i = 0; i < NET_DIRECTIONS; i++)
		for (unsigned verdict = 0; verdict < NET_VERDICTS; verdict++) {
			snprintf(text, sizeof(text), "%s_%s", directions[i],
				net_verdict_names[verdict]);
			tell(&net->gate->lanes[i].verdicts[verdict], "policy", text, count, to);
		}
	used = atomic_load(&net->gate->in_force);
	for (unsigned i = 0; used && (name = net_policy_rule(used->policy, i, &counts)); i++) {
		snprintf(text, sizeof(text), "rule:%s", name);
		tell(counts, text, "", count, to);
	}
}
