/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vCPU and what it uses on one node, by whichever moves less. A vCPU's move costs what it has to
 * fetch into its caches anew, taken as MOVE_COSTS; what it uses comes to it page by page, by its
 * guest's map. Nodes are not filled with more vCPUs than they have CPUs for, nor with more memory
 * than they have: who finds no room there stays. What is where it belongs stays too.
 */
#include "duetd/policies/private.h"

#define MOVE_COSTS (16 * MIB)
/* A node must hold so much more of what is used than the present one, or nothing moves: what one
 * map says differs from the next by more than the difference would bring. */
#define BETTER_BY 1.25
/* Of what its vCPUs use, what may stay on other nodes: less is not worth a walk through the map. */
#define STRAY_MOST 0.2
/* Load of a vCPU that has not run yet. */
#define LOAD_LEAST 0.1
/* Of the host's mean load of a CPU, where that is above 1. */
#define CROWD_MOST 1.25
/* Of the node's memory, at most: its kernel wants some too. */
#define MEMORY_MOST 0.9

struct nodes {
	unsigned count;
	double room[VIEW_NODES_MAX], load[VIEW_NODES_MAX]; /* of vCPUs, in CPUs */
	double memory[VIEW_NODES_MAX], holds[VIEW_NODES_MAX];
};

/* Where each vCPU of a VM is best off, and what that costs. */
struct wish {
	uint8_t now[VIEW_VCPUS_MAX], best[VIEW_VCPUS_MAX];
	double vcpu_cost, memory_cost;
	bool too; /* memory is to come to the vCPUs' new nodes: too much of it would be elsewhere */
};

static double load_of(const struct vcpu_view *vcpu)
{
	double load = within(within(vcpu->busy, 1) + within(vcpu->waits, 1), 1);

	return load > LOAD_LEAST ? load : LOAD_LEAST;
}

static unsigned node_of(const struct nodes *nodes, const struct vcpu_view *vcpu)
{
	return vcpu->node < nodes->count ? vcpu->node : 0;
}

static void look_at_nodes(const struct view *view, struct nodes *nodes)
{
	*nodes = (struct nodes){
		.count = view->host.nodes < VIEW_NODES_MAX ? view->host.nodes : VIEW_NODES_MAX};
	for (unsigned n = 0; n < nodes->count; n++) {
		nodes->memory[n] = (double)view->host.node_memory[n] * MEMORY_MOST;
	}
	for (unsigned i = 0; i < view->count; i++) {
		const struct vm_view *vm = &view->vms[i];

		for (unsigned n = 0; n < nodes->count; n++)
			nodes->holds[n] += (double)vm->nodes_hold[n];
		for (unsigned v = 0; v < vcpus_seen(vm) && nodes->count; v++)
			nodes->load[node_of(nodes, &vm->vcpu[v])] += load_of(&vm->vcpu[v]);
	}
}

/* A host with more load than CPUs has it on all nodes alike, and a little more on some: without
 * that nothing could move on a full one. */
static void find_room(const struct view *view, struct nodes *nodes)
{
	double load = 0, cpus = 0, crowd = 1;

	for (unsigned n = 0; n < nodes->count; n++) {
		load += nodes->load[n];
		cpus += view->host.node_cpus[n];
	}
	if (load * CROWD_MOST > cpus && cpus > 0)
		crowd = load * CROWD_MOST / cpus;
	for (unsigned n = 0; n < nodes->count; n++)
		nodes->room[n] = crowd * view->host.node_cpus[n];
}

static uint8_t best_node(const struct nodes *nodes, const struct vcpu_view *vcpu)
{
	unsigned now = node_of(nodes, vcpu), best = now;

	for (unsigned n = 0; n < nodes->count; n++)
		if (vcpu->uses[n] > vcpu->uses[best])
			best = n;
	if ((double)vcpu->uses[best] < (double)vcpu->uses[now] * BETTER_BY)
		best = now;
	return (uint8_t)best;
}

static double elsewhere(const struct nodes *nodes, const struct vcpu_view *vcpu, unsigned node)
{
	double sum = 0;

	for (unsigned n = 0; n < nodes->count; n++)
		sum += n == node ? 0 : (double)vcpu->uses[n];
	return sum;
}

/* False: its guest gave no map. */
static bool wish_of(const struct nodes *nodes, const struct vm_view *vm, struct wish *wish)
{
	double all = 0, left = 0;

	*wish = (struct wish){0};
	for (unsigned v = 0; v < vcpus_seen(vm); v++) {
		const struct vcpu_view *vcpu = &vm->vcpu[v];

		wish->now[v] = (uint8_t)node_of(nodes, vcpu);
		wish->best[v] = best_node(nodes, vcpu);
		if (wish->best[v] != wish->now[v])
			wish->vcpu_cost += MOVE_COSTS;
		wish->memory_cost += elsewhere(nodes, vcpu, wish->now[v]);
		left += elsewhere(nodes, vcpu, wish->best[v]);
		all += elsewhere(nodes, vcpu, VIEW_NODES_MAX);
	}
	wish->too = left > all * STRAY_MOST;
	if (wish->too)
		wish->vcpu_cost += left;
	return all > 0;
}

static bool room_for_all(
	const struct nodes *nodes, const struct vm_view *vm, const struct wish *wish)
{
	struct nodes after = *nodes;

	for (unsigned v = 0; v < vcpus_seen(vm); v++) {
		unsigned now = wish->now[v], best = wish->best[v];

		after.load[now] -= load_of(&vm->vcpu[v]);
		after.load[best] += load_of(&vm->vcpu[v]);
	}
	for (unsigned n = 0; n < nodes->count; n++)
		if (after.load[n] > nodes->load[n] && after.load[n] > nodes->room[n])
			return false;
	return true;
}

static void move_vcpus(
	struct nodes *nodes, const struct vm_view *vm, const struct wish *wish, struct vm_plan *to)
{
	bool all = room_for_all(nodes, vm, wish);

	for (unsigned v = 0; v < vcpus_seen(vm); v++) {
		unsigned now = wish->now[v], best = wish->best[v];
		double load = load_of(&vm->vcpu[v]);

		if (best != now && !all && nodes->load[best] + load > nodes->room[best])
			best = now;
		nodes->load[now] -= load;
		nodes->load[best] += load;
		to->vcpu[v].node = (int8_t)best;
	}
	to->numa_why = REASON_FOLLOWS_MEMORY;
}

static bool room_for_memory(const struct nodes *nodes)
{
	for (unsigned n = 0; n < nodes->count; n++)
		if (nodes->holds[n] > nodes->memory[n])
			return false;
	return true;
}

/* What its vCPUs use comes to where the plan has them. */
static bool move_memory(struct nodes *nodes, const struct vm_view *vm, struct vm_plan *to)
{
	struct nodes after = *nodes;

	if (vm->passthrough)
		return false;
	for (unsigned v = 0; v < vcpus_seen(vm); v++) {
		const struct vcpu_view *vcpu = &vm->vcpu[v];
		unsigned home = (unsigned)to->vcpu[v].node;

		for (unsigned n = 0; n < nodes->count; n++)
			after.holds[n] -= (double)vcpu->uses[n];
		after.holds[home] += elsewhere(nodes, vcpu, VIEW_NODES_MAX);
	}
	if (!room_for_memory(&after))
		return false;
	*nodes = after;
	to->memory_follows = true;
	return true;
}

static bool stay_and_fetch(
	struct nodes *nodes, const struct vm_view *vm, const struct wish *wish, struct vm_plan *to)
{
	for (unsigned v = 0; v < vcpus_seen(vm); v++)
		to->vcpu[v].node = (int8_t)wish->now[v];
	to->numa_why = REASON_MEMORY_FOLLOWS;
	return move_memory(nodes, vm, to);
}

static void place(struct nodes *nodes, const struct vm_view *vm, struct vm_plan *to)
{
	struct wish wish;
	bool cheap;

	to->numa_why = REASON_NO_MAP;
	for (unsigned v = 0; v < VIEW_VCPUS_MAX; v++)
		to->vcpu[v].node = -1;
	to->wants_map = nodes->count > 1;
	if (nodes->count < 2 || !wish_of(nodes, vm, &wish))
		return;
	to->set_numa = true;
	cheap = wish.memory_cost < wish.vcpu_cost || !room_for_all(nodes, vm, &wish);
	if (cheap && stay_and_fetch(nodes, vm, &wish, to))
		return;
	move_vcpus(nodes, vm, &wish, to);
	if (wish.too)
		move_memory(nodes, vm, to);
}

static void decide(const struct view *view, struct plan *plan)
{
	struct nodes nodes;

	look_at_nodes(view, &nodes);
	find_room(view, &nodes);
	for (unsigned i = 0; i < view->count; i++)
		place(&nodes, &view->vms[i], &plan->vms[i]);
}

const struct policy numa_locality = {.name = "locality",
	.mechanism = MECHANISM_NUMA,
	.help = "CPUs to the memory they use, or memory to its CPUs: whichever moves less",
	.decide = decide};
