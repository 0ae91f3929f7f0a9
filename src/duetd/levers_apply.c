/* SPDX-License-Identifier: Apache-2.0 */
/* Does what a plan says, noting first what it was before. */
#include "base/checked.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/schedule.h"
#include "duetd/levers_private.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define WEIGHT_MIN 1
#define WEIGHT_MAX 10000
/* sched_setattr(2): what the kernel takes. */
#define SLICE_MIN 100000U
#define SLICE_MAX 100000000U
/* The kernel reclaims while it is asked: so much of it at once, and the rest with a later plan. */
#define RECLAIM_MAX (64ULL << 20)

/* The first failure is told; all else is done in spite of it. */
static void keep_first(int *first, int ret)
{
	if (*first == 0)
		*first = ret;
}

/* ---- weight ---- */

static int note_weight(struct levers *levers, struct lever_vm *vm, struct error *err)
{
	_cleanup_free_ char *path = NULL;
	struct undo noted = {.kind = UNDO_FILE};
	char before[32];

	if (asprintf(&path, "%s/cpu.weight", vm->cgroup) < 0)
		path = NULL;
	if (!path || lever_read(levers, before, sizeof(before), "%s", path) <= 0)
		return error_set(err, ENOTSUP,
			"%s/cpu.weight is not there; the cgroup above must list cpu in its "
			"cgroup.subtree_control (CPUWeight= in its unit)",
			vm->cgroup);
	before[strcspn(before, "\n")] = 0;
	vm->weight_before = (uint32_t)strtoul(before, NULL, 10);
	noted.where = path;
	noted.value = before;
	return journal_note(levers->journal, &noted, err);
}

static int set_weight(
	struct levers *levers, struct lever_vm *vm, uint32_t weight, struct error *err)
{
	char text[16];
	int ret;

	if (weight == vm->weight || !vm->cgroup)
		return 0;
	ret = vm->weight_before ? 0 : note_weight(levers, vm, err);
	if (ret < 0)
		return ret;
	snprintf(text, sizeof(text), "%u", weight);
	ret = lever_write(levers, text, "%s/cpu.weight", vm->cgroup);
	if (ret < 0)
		return error_errno(err, -ret, "%s/cpu.weight: %u", vm->cgroup, weight);
	vm->weight = weight;
	return 0;
}

static int apply_weight(
	struct levers *levers, struct lever_vm *vm, const struct vm_plan *plan, struct error *err)
{
	if (!levers->states[LEVER_CPU_WEIGHT].works)
		return 0;
	if (!plan->set_cpu)
		return vm->weight_before ? set_weight(levers, vm, vm->weight_before, err) : 0;
	if (plan->weight < WEIGHT_MIN || plan->weight > WEIGHT_MAX)
		return error_set(err, ERANGE, "a weight of %u is none", plan->weight);
	return set_weight(levers, vm, plan->weight, err);
}

/* ---- slices ---- */

/* It may have ended since it was named, and its number be another's. */
static bool is_still(
	const struct levers *levers, const struct lever_vm *vm, const struct lever_thread *thread)
{
	return lever_start_time(levers, vm->pid, thread->tid) == thread->start;
}

/* What it was is put back as the host's own when it was that: the host's may change meanwhile. What
 * is lent was nobody's choice. */
static int note_slice(struct levers *levers, const struct lever_thread *thread, struct error *err)
{
	const uint64_t now = lever_slice_get(thread->tid);
	char id[LEVER_ID_SIZE], value[24];
	const struct undo noted = {.kind = UNDO_SLICE,
		.where = lever_id(thread->tid, thread->start, id),
		.value = value};

	snprintf(value, sizeof(value), "%" PRIu64,
		now == levers->own_slice || now == LENT_SLICE_NS ? 0 : now);
	return journal_note(levers->journal, &noted, err);
}

static int set_slice(
	struct levers *levers, struct lever_thread *thread, uint64_t slice, struct error *err)
{
	int ret;

	if (slice && (slice < SLICE_MIN || slice > SLICE_MAX))
		return error_set(err, ERANGE, "a slice of %" PRIu64 " ns is none", slice);
	if (slice == thread->slice)
		return 0;
	ret = note_slice(levers, thread, err);
	if (ret < 0)
		return ret;
	ret = lever_slice_set(thread->tid, slice);
	/* The next plan comes in a second. A guest that always lends has no slices, which are for
	 * its own good. */
	if (ret == -EAGAIN)
		return 0;
	if (ret < 0 && ret != -ESRCH)
		return error_errno(err, -ret, "slice of thread %d", (int)thread->tid);
	thread->slice = slice;
	return 0;
}

/* ---- nodes ---- */

static int note_affinity(struct levers *levers, struct lever_thread *thread, struct error *err)
{
	_cleanup_free_ char *value = NULL;
	char id[LEVER_ID_SIZE];
	struct undo noted = {.kind = UNDO_AFFINITY};

	if (thread->before)
		return 0;
	thread->before = malloc(sizeof(cpu_set_t));
	if (thread->before &&
		sched_getaffinity(thread->tid, sizeof(cpu_set_t), thread->before) == 0)
		value = lever_cpus_text(thread->before);
	noted.where = lever_id(thread->tid, thread->start, id);
	noted.value = value;
	if (value && journal_note(levers->journal, &noted, err) == 0)
		return 0;
	free(thread->before);
	thread->before = NULL;
	return error_set(err, EIO, "the CPUs of thread %d cannot be had", (int)thread->tid);
}

/* Within what it was allowed before; a node that has none of those is none for it. */
static int set_node(
	struct levers *levers, struct lever_thread *thread, int8_t node, struct error *err)
{
	cpu_set_t cpus;
	int ret;

	if (node == thread->node || node >= (int)levers->nodes)
		return 0;
	ret = note_affinity(levers, thread, err);
	if (ret < 0)
		return ret;
	cpus = *thread->before;
	if (node >= 0)
		CPU_AND(&cpus, &cpus, &levers->node_cpus[node]);
	if (CPU_COUNT(&cpus) == 0)
		return 0;
	if (sched_setaffinity(thread->tid, sizeof(cpus), &cpus) < 0 && errno != ESRCH)
		return error_errno(err, errno, "CPUs of thread %d", (int)thread->tid);
	thread->node = node;
	return 0;
}

/* ---- all of it ---- */

static int apply_threads(
	struct levers *levers, struct lever_vm *vm, const struct vm_plan *plan, struct error *err)
{
	const bool slices = levers->states[LEVER_SLICE].works;
	const bool nodes = levers->states[LEVER_NODES].works;
	int first = 0;

	for (unsigned i = 0; i < vm->count; i++) {
		struct lever_thread *thread = &vm->threads[i];
		const uint64_t slice = slices && plan->set_cpu ? plan->vcpu[i].slice : 0;
		const int8_t node = nodes && plan->set_numa ? plan->vcpu[i].node : -1;

		if (!thread->tid || (slice == thread->slice && node == thread->node) ||
			!is_still(levers, vm, thread))
			continue;
		keep_first(&first, set_slice(levers, thread, slice, err));
		keep_first(&first, set_node(levers, thread, node, err));
	}
	return first;
}

/* Less than was asked for is no error: there was no more. */
static int reclaim(struct levers *levers, struct lever_vm *vm, uint64_t bytes, struct error *err)
{
	char text[24];
	int ret;

	if (!bytes || !vm->cgroup || !levers->states[LEVER_RECLAIM].works)
		return 0;
	snprintf(text, sizeof(text), "%" PRIu64, min_u64(bytes, RECLAIM_MAX));
	ret = lever_write(levers, text, "%s/memory.reclaim", vm->cgroup);
	if (ret < 0 && ret != -EAGAIN && ret != -EINTR)
		return error_errno(err, -ret, "%s/memory.reclaim", vm->cgroup);
	return 0;
}

static int apply(
	struct levers *levers, struct lever_vm *vm, const struct vm_plan *plan, struct error *err)
{
	int first = apply_weight(levers, vm, plan, err);

	keep_first(&first, apply_threads(levers, vm, plan, err));
	if (plan->set_memory)
		keep_first(&first, reclaim(levers, vm, plan->reclaim, err));
	return first;
}

/* The same is tried each second, and told of once. */
static void tell(struct lever_vm *vm, const struct error *err)
{
	uint32_t sum = 0;

	for (const char *at = err->text; *at; at++)
		sum = sum * 31 + (unsigned char)*at;
	if (sum != vm->told)
		log_warning("%s: %s", vm->name, err->text);
	vm->told = sum;
}

int levers_apply(
	struct levers *levers, const char *name, const struct vm_plan *plan, struct error *err)
{
	struct lever_vm *vm = lever_find(levers, name);
	struct error why = {0};
	int ret;

	if (!vm)
		return error_set(err, ENOENT, "%s: no process of it is known", name);
	ret = apply(levers, vm, plan, &why);
	if (ret == 0)
		return 0;
	tell(vm, &why);
	if (err)
		*err = why;
	return ret;
}
