/* SPDX-License-Identifier: Apache-2.0 */
/* What of the host works, and which VMs' processes are known. */
#include "base/checked.h"
#include "base/log.h"
#include "duetd/levers_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *lever_name(enum lever lever)
{
	static const char *const names[LEVERS] = {
		[LEVER_CPU_WEIGHT] = "cpu-weight",
		[LEVER_SLICE] = "slice",
		[LEVER_RECLAIM] = "reclaim",
		[LEVER_NODES] = "nodes",
		[LEVER_PSI] = "psi",
		[LEVER_KSM] = "ksm",
	};

	return lever < LEVERS ? names[lever] : "";
}

void levers_state(const struct levers *levers, enum lever lever, struct lever_state *state)
{
	*state = levers->states[lever];
}

/* ---- what works ---- */

static void works_if(struct levers *levers, enum lever lever, bool works, const char *why_not)
{
	struct lever_state *state = &levers->states[lever];

	state->works = works;
	if (!works)
		snprintf(state->why, sizeof(state->why), "%s", why_not);
}

static void try_cgroups(struct levers *levers)
{
	char text[512];
	const bool there =
		lever_read(levers, text, sizeof(text), CGROUPS "/cgroup.controllers") > 0;
	const bool ours = lever_may_write(levers, CGROUPS "/cgroup.subtree_control");
	const char *why = !there ? "no cgroups of version 2 at " CGROUPS
				   "; boot with systemd.unified_cgroup_hierarchy=1"
			  : !ours ? CGROUPS
				  " cannot be written; start duetd as root, or delegate it"
				  : NULL;

	works_if(levers, LEVER_CPU_WEIGHT, !why && lever_has_word(text, "cpu"),
		why ? why : "the cpu controller is not in " CGROUPS "/cgroup.controllers");
	if (!why && !lever_has_word(text, "memory"))
		why = "the memory controller is not in " CGROUPS
		      "/cgroup.controllers; boot without cgroup_disable=memory";
	works_if(levers, LEVER_RECLAIM, !why && lever_may_write(levers, CGROUPS "/memory.reclaim"),
		why ? why : "no memory.reclaim in " CGROUPS "; Linux 5.19 or later has it");
}

static void try_nodes(struct levers *levers)
{
	char text[4096];

	while (levers->nodes < VIEW_NODES_MAX &&
		lever_read(levers, text, sizeof(text), "/sys/devices/system/node/node%u/cpulist",
			levers->nodes) > 0)
		lever_cpus_parse(text, &levers->node_cpus[levers->nodes++]);
	works_if(levers, LEVER_NODES, levers->nodes > 1, "the host has one node");
}

static void try_all(struct levers *levers)
{
	char text[512];

	try_cgroups(levers);
	try_nodes(levers);
	levers->own_slice = lever_slice_get(0);
	works_if(levers, LEVER_SLICE, levers->own_slice != 0,
		"this kernel's scheduler takes no slice of a thread; Linux 6.12 or later does");
	works_if(levers, LEVER_PSI,
		lever_read(levers, text, sizeof(text), "/proc/pressure/memory") > 0,
		"/proc/pressure cannot be read; boot with psi=1, on a kernel with CONFIG_PSI");
	works_if(levers, LEVER_KSM, lever_may_write(levers, "/sys/kernel/mm/ksm/run"),
		"/sys/kernel/mm/ksm/run cannot be written; it takes root, and a kernel with "
		"CONFIG_KSM");
}

/* ---- opening and closing ---- */

static void free_vm(struct lever_vm *vm)
{
	for (unsigned i = 0; i < vm->count; i++)
		free(vm->threads[i].before);
	free(vm->threads);
	free(vm->cgroup);
	free(vm);
}

static void free_levers(struct levers *levers)
{
	journal_close(levers->journal);
	free(levers->root);
	free(levers->ours);
	free(levers);
}

static int open_levers(struct levers **out, const struct levers_options *options, struct error *err)
{
	struct levers *levers = calloc(1, sizeof(*levers));
	int ret = -ENOMEM;

	if (!levers) {
		error_errno(err, ENOMEM, "%s", options->journal);
		return -ENOMEM;
	}
	levers->root = strdup(options->root);
	if (levers->root && asprintf(&levers->ours, "%s/%s", CGROUPS, options->cgroup) > 0)
		ret = journal_open(&levers->journal, options->journal, err);
	else
		error_errno(err, ENOMEM, "%s", options->journal);
	if (ret < 0) {
		free_levers(levers);
		return ret;
	}
	*out = levers;
	return 0;
}

int levers_open(struct levers **out, const struct levers_options *options, struct error *err)
{
	int ret = open_levers(out, options, err);

	if (ret < 0)
		return ret;
	journal_undo((*out)->journal, lever_put_back, *out);
	try_all(*out);
	return 0;
}

int levers_undo(const struct levers_options *options, struct error *err)
{
	struct levers *levers;
	int ret = open_levers(&levers, options, err);

	if (ret < 0)
		return ret;
	journal_undo(levers->journal, lever_put_back, levers);
	free_levers(levers);
	return 0;
}

void levers_close(struct levers *levers)
{
	if (!levers)
		return;
	lever_sweep(levers);
	journal_undo(levers->journal, lever_put_back, levers);
	while (levers->vms) {
		struct lever_vm *vm = levers->vms;

		levers->vms = vm->next;
		free_vm(vm);
	}
	free_levers(levers);
}

/* ---- VMs ---- */

struct lever_vm *lever_find(const struct levers *levers, const char *name)
{
	struct lever_vm *vm = levers->vms;

	while (vm && (vm->leaving || strcmp(vm->name, name) != 0))
		vm = vm->next;
	return vm;
}

static struct lever_vm *new_vm(const char *name, pid_t pid, uint64_t start)
{
	struct lever_vm *vm = calloc(1, sizeof(*vm));

	if (!vm)
		return NULL;
	snprintf(vm->name, sizeof(vm->name), "%s", name);
	vm->pid = pid;
	vm->start = start;
	return vm;
}

/* One that was removed while its process went on is back: what it had before us is known already.
 */
static bool takes_back(struct levers *levers, const char *name, pid_t pid, uint64_t start)
{
	for (struct lever_vm *vm = levers->vms; vm; vm = vm->next) {
		if (vm->leaving && vm->pid == pid && vm->start == start &&
			strcmp(vm->name, name) == 0) {
			vm->leaving = false;
			return true;
		}
	}
	return false;
}

int levers_add(struct levers *levers, const char *name, pid_t pid, struct error *err)
{
	const uint64_t start = lever_start_time(levers, 0, pid);
	struct lever_vm *vm = NULL;
	struct error why = {0};

	if (lever_find(levers, name))
		return error_set(err, EEXIST, "%s is known already", name);
	if (!start)
		return error_set(err, ESRCH, "%s: its process %d has ended", name, (int)pid);
	if (takes_back(levers, name, pid, start))
		return 0;
	vm = new_vm(name, pid, start);
	if (!vm)
		return error_errno(err, ENOMEM, "%s", name);
	vm->next = levers->vms;
	levers->vms = vm;
	if (lever_cgroup_own(levers, vm, &why) < 0) {
		log_warning("%s: it has no cgroup of its own, so neither weight nor reclaim: %s",
			name, why.text);
		free(vm->cgroup);
		vm->cgroup = NULL;
	}
	return 0;
}

bool levers_has_thread(const struct levers *levers, pid_t pid, const pid_t *threads, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (threads[i] > 0 && lever_start_time(levers, pid, threads[i]))
			return true;
	return false;
}

static void forget_thread(struct levers *levers, struct lever_thread *thread)
{
	char id[LEVER_ID_SIZE];

	if (thread->tid)
		journal_forget(levers->journal, lever_id(thread->tid, thread->start, id));
	free(thread->before);
	*thread = (struct lever_thread){.node = -1};
}

static bool has_ended(const struct levers *levers, const struct lever_vm *vm)
{
	return lever_start_time(levers, 0, vm->pid) != vm->start;
}

/* False: its cgroup is not free yet. */
static bool forget_vm(struct levers *levers, struct lever_vm *vm)
{
	char id[LEVER_ID_SIZE];

	if (!lever_cgroup_remove(levers, vm))
		return false;
	for (unsigned i = 0; i < vm->count; i++)
		forget_thread(levers, &vm->threads[i]);
	journal_forget(levers->journal, lever_id(vm->pid, vm->start, id));
	return true;
}

void lever_sweep(struct levers *levers)
{
	struct lever_vm **at = &levers->vms;

	while (*at) {
		struct lever_vm *vm = *at;

		if (vm->leaving && has_ended(levers, vm) && forget_vm(levers, vm)) {
			*at = vm->next;
			free_vm(vm);
		} else {
			at = &vm->next;
		}
	}
}

void levers_remove(struct levers *levers, const char *name)
{
	struct lever_vm *vm = lever_find(levers, name);

	if (vm)
		vm->leaving = true;
	lever_sweep(levers);
}

/* The same thread as before keeps what it has. */
static void take_thread(
	struct levers *levers, const struct lever_vm *vm, struct lever_thread *thread, pid_t tid)
{
	const uint64_t start = tid > 0 ? lever_start_time(levers, vm->pid, tid) : 0;

	if (start && thread->tid == tid && thread->start == start)
		return;
	if (!thread->tid || lever_start_time(levers, vm->pid, thread->tid) != thread->start)
		forget_thread(levers, thread);
	free(thread->before);
	*thread = (struct lever_thread){.tid = start ? tid : 0, .start = start, .node = -1};
}

int levers_threads(struct levers *levers, const char *name, const pid_t *threads, unsigned count,
	struct error *err)
{
	struct lever_vm *vm = lever_find(levers, name);
	struct lever_thread *more;

	if (!vm)
		return error_set(err, ENOENT, "%s: no process of it is known", name);
	count = (unsigned)min_u64(count, VIEW_VCPUS_MAX);
	if (count > vm->count) {
		more = reallocarray(vm->threads, count, sizeof(*more));
		if (!more)
			return error_errno(err, ENOMEM, "%s", name);
		memset(more + vm->count, 0, (count - vm->count) * sizeof(*more));
		vm->threads = more;
		vm->count = count;
	}
	for (unsigned i = 0; i < vm->count; i++)
		take_thread(levers, vm, &vm->threads[i], i < count ? threads[i] : 0);
	return 0;
}
