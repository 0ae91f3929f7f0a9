/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vCPU and what it uses on one node, by whichever moves less. A vCPU's move costs what it has to
 * fetch into its caches anew, taken as MOVE_COSTS; a VM's memory moves as a whole, to the node on
 * which all its vCPUs are. Nodes are not filled with more vCPUs than they have CPUs for, nor with
 * more memory than they have: who finds no room there stays. What is where it belongs stays too.
 */
#include "duetd/policies/private.h"

#define MOVE_COSTS (16 * MIB)
/* A node must hold so much more of what is used than the present one, or nothing moves: what one
 * map says differs from the next by more than the difference would bring. */
#define BETTER_BY 1.25
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
	uint8_t best[VIEW_VCPUS_MAX];
	double vcpu_cost, memory_cost;
	unsigned home; /* the node of its first vCPU ... */
	bool together; /* ... and of all others */
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

/* False: its guest gave no map. */
static bool wish_of(const struct nodes *nodes, const struct vm_view *vm, struct wish *wish)
{
	bool knows = false;

	*wish = (struct wish){.home = node_of(nodes, &vm->vcpu[0]), .together = true};
	for (unsigned v = 0; v < vcpus_seen(vm); v++) {
		const struct vcpu_view *vcpu = &vm->vcpu[v];

		wish->best[v] = best_node(nodes, vcpu);
		if (wish->best[v] != node_of(nodes, vcpu))
			wish->vcpu_cost += MOVE_COSTS;
		wish->together = wish->together && node_of(nodes, vcpu) == wish->home;
		for (unsigned n = 0; n < nodes->count; n++) {
			knows = knows || vcpu->uses[n];
			if (n != wish->home)
				wish->memory_cost += (double)vcpu->uses[n];
		}
	}
	return knows;
}

static bool room_for_all(
	const struct nodes *nodes, const struct vm_view *vm, const struct wish *wish)
{
	struct nodes after = *nodes;

	for (unsigned v = 0; v < vcpus_seen(vm); v++) {
		unsigned now = node_of(nodes, &vm->vcpu[v]), best = wish->best[v];

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
		unsigned now = node_of(nodes, &vm->vcpu[v]), best = wish->best[v];
		double load = load_of(&vm->vcpu[v]);

		if (best != now && !all && nodes->load[best] + load > nodes->room[best])
			best = now;
		nodes->load[now] -= load;
		nodes->load[best] += load;
		to->vcpu[v].node = (int8_t)best;
	}
	to->numa_why = REASON_FOLLOWS_MEMORY;
}

static bool move_memory(
	struct nodes *nodes, const struct vm_view *vm, const struct wish *wish, struct vm_plan *to)
{
	double comes = 0;

	if (!wish->together || vm->passthrough)
		return false;
	for (unsigned n = 0; n < nodes->count; n++)
		comes += n == wish->home ? 0 : (double)vm->nodes_hold[n];
	if (nodes->holds[wish->home] + comes > nodes->memory[wish->home])
		return false;
	for (unsigned n = 0; n < nodes->count; n++)
		nodes->holds[n] -= n == wish->home ? 0 : (double)vm->nodes_hold[n];
	nodes->holds[wish->home] += comes;
	to->memory_node = (int8_t)wish->home;
	for (unsigned v = 0; v < vcpus_seen(vm); v++)
		to->vcpu[v].node = (int8_t)node_of(nodes, &vm->vcpu[v]);
	to->numa_why = REASON_MEMORY_FOLLOWS;
	return true;
}

static void place(struct nodes *nodes, const struct vm_view *vm, struct vm_plan *to)
{
	struct wish wish;
	bool cheap;

	to->numa_why = REASON_NO_MAP;
	to->memory_node = -1;
	for (unsigned v = 0; v < VIEW_VCPUS_MAX; v++)
		to->vcpu[v].node = -1;
	if (nodes->count < 2 || !wish_of(nodes, vm, &wish))
		return;
	to->set_numa = true;
	cheap = wish.memory_cost < wish.vcpu_cost || !room_for_all(nodes, vm, &wish);
	if (!cheap || !move_memory(nodes, vm, &wish, to))
		move_vcpus(nodes, vm, &wish, to);
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
