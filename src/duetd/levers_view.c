/* SPDX-License-Identifier: Apache-2.0 */
/* The host's side of a view. */
#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "duetd/levers_private.h"

#include <errno.h>
#include <string.h>

#define PRESSURE_MAX 10000
/* Of the time between two views: a vCPU that ran less was idle. */
#define BUSY_LEAST 0.05

/* Hundredths of a percent, of the line that begins with @kind: "some avg10=1.25 ...". */
static uint32_t pressure_line(const char *text, const char *kind)
{
	const char *line = strstr(text, kind);
	unsigned whole, hundredths;

	if (!line || sscanf(line + strlen(kind), " avg10=%3u.%2u", &whole, &hundredths) != 2)
		return 0;
	return (uint32_t)min_u64(whole * 100 + hundredths, PRESSURE_MAX);
}

static void view_pressure(const struct levers *levers, struct host_view *host)
{
	char text[512];

	if (lever_read(levers, text, sizeof(text), "/proc/pressure/memory") > 0) {
		host->memory_some = pressure_line(text, "some");
		host->memory_full = pressure_line(text, "full");
	}
	if (lever_read(levers, text, sizeof(text), "/proc/pressure/cpu") > 0)
		host->cpu_some = pressure_line(text, "some");
}

static uint64_t refaults_of(const char *text)
{
	return lever_field(text, "workingset_refault_anon") +
	       lever_field(text, "workingset_refault_file");
}

/* A cgroup's statistics cost the kernel much; where nobody reads pages in, they need not be looked
 * at. */
static void view_paging(struct levers *levers)
{
	_cleanup_free_ char *text = levers->vms ? lever_read_all(levers, "/proc/vmstat") : NULL;
	const uint64_t paged = text ? refaults_of(text) + lever_field(text, "pswpin") : 0;

	levers->calm = text && paged == levers->paged;
	levers->paged = paged;
}

static unsigned online_cpus(const struct levers *levers)
{
	char text[4096];
	cpu_set_t cpus;

	lever_read(levers, text, sizeof(text), "/sys/devices/system/cpu/online");
	lever_cpus_parse(text, &cpus);
	return (unsigned)CPU_COUNT(&cpus);
}

static void view_nodes(const struct levers *levers, struct host_view *host)
{
	host->nodes = levers->nodes;
	for (unsigned i = 0; i < levers->nodes; i++) {
		char text[4096];

		host->node_cpus[i] = (unsigned)CPU_COUNT(&levers->node_cpus[i]);
		if (lever_read(levers, text, sizeof(text),
			    "/sys/devices/system/node/node%u/meminfo", i) > 0)
			host->node_memory[i] = lever_kib(text, "MemTotal");
	}
}

int levers_view(struct levers *levers, struct host_view *host, struct error *err)
{
	char text[4096];

	lever_sweep(levers);
	memset(host, 0, sizeof(*host));
	if (lever_read(levers, text, sizeof(text), "/proc/meminfo") <= 0)
		return error_set(err, EIO, "/proc/meminfo cannot be read; is /proc mounted?");
	host->memory = lever_kib(text, "MemTotal");
	host->available = lever_kib(text, "MemAvailable");
	host->free = lever_kib(text, "MemFree");
	host->swap_total = lever_kib(text, "SwapTotal");
	host->swap_free = lever_kib(text, "SwapFree");
	view_pressure(levers, host);
	view_paging(levers);
	host->cpus = online_cpus(levers);
	view_nodes(levers, host);
	host->slices = levers->states[LEVER_SLICE].works;
	host->reclaim = levers->states[LEVER_RECLAIM].works;
	lever_ksm_view(levers, host);
	return 0;
}

/* ---- of a VM ---- */

static double share_of(uint64_t now, uint64_t before, uint64_t span)
{
	const double share = now > before && span ? (double)(now - before) / (double)span : 0;

	return share > 1 ? 1 : share;
}

static uint8_t node_of_cpu(const struct levers *levers, uint64_t cpu)
{
	for (unsigned i = 0; i < levers->nodes && cpu < CPU_SETSIZE; i++)
		if (CPU_ISSET(cpu, &levers->node_cpus[i]))
			return (uint8_t)i;
	return 0;
}

/* Whether it is the thread that is known, and where it runs. Both are asked now and then; the
 * latter also of one that ran, where there is more than one node. */
static bool place_thread(const struct levers *levers, const struct lever_vm *vm,
	struct lever_thread *thread, bool ran, bool due)
{
	uint64_t cpu;

	if (!due && thread->placed && (levers->nodes <= 1 || !ran))
		return true;
	thread->placed = lever_last_cpu(levers, vm->pid, thread->tid, thread->start, &cpu);
	if (thread->placed)
		thread->on = node_of_cpu(levers, cpu);
	return thread->placed;
}

static bool read_times(const struct levers *levers, const struct lever_vm *vm,
	const struct lever_thread *thread, uint64_t *ran, uint64_t *waited)
{
	char text[128];
	char *end;

	if (!thread->tid || lever_read(levers, text, sizeof(text), "/proc/%d/task/%d/schedstat",
				    (int)vm->pid, (int)thread->tid) <= 0)
		return false;
	*ran = strtoull(text, &end, 10);
	*waited = strtoull(end, NULL, 10);
	return true;
}

static void view_thread(const struct levers *levers, struct lever_vm *vm,
	struct lever_thread *thread, struct vcpu_view *vcpu, uint64_t now)
{
	/* The first look counts from when the thread began. */
	const uint64_t span = vm->viewed ? now - vm->viewed : 0;
	uint64_t ran, waited;
	bool busy;

	if (!read_times(levers, vm, thread, &ran, &waited))
		return;
	busy = share_of(ran, thread->ran, span) >= BUSY_LEAST;
	if (!place_thread(levers, vm, thread, busy, lever_look_due(vm, now)))
		return;
	vcpu->node = thread->on;
	vcpu->busy = share_of(ran, thread->ran, span);
	vcpu->waits = share_of(waited, thread->waited, span);
	vm->ran |= busy;
	thread->ran = ran;
	thread->waited = waited;
}

static double rate(uint64_t now, uint64_t before, uint64_t span)
{
	return now > before && span ? (double)(now - before) * (double)SECOND_NS / (double)span : 0;
}

static void view_cgroup(
	const struct levers *levers, struct lever_vm *vm, struct vm_view *view, uint64_t span)
{
	char text[8192], number[64];
	uint64_t refaults, swapped;

	if (!vm->cgroup)
		return;
	if (!vm->moved &&
		lever_read(levers, number, sizeof(number), "%s/memory.current", vm->cgroup) > 0)
		vm->resident = strtoull(number, NULL, 10);
	if ((vm->viewed && levers->calm) ||
		lever_read(levers, text, sizeof(text), "%s/memory.stat", vm->cgroup) <= 0)
		return;
	refaults = refaults_of(text);
	swapped = lever_field(text, "pswpin");
	if (vm->viewed) {
		view->host_refaults = rate(refaults, vm->refaults, span);
		view->host_swap_in = rate(swapped, vm->swapped, span);
	}
	vm->refaults = refaults;
	vm->swapped = swapped;
}

int levers_view_vm(struct levers *levers, struct vm_view *view, struct error *err)
{
	struct lever_vm *vm = lever_find(levers, view->name);
	const uint64_t now = clock_ns();

	if (!vm)
		return error_set(err, ENOENT, "%s: no process of it is known", view->name);
	view_cgroup(levers, vm, view, now - vm->viewed);
	for (unsigned i = 0; i < vm->count && i < view->vcpus; i++)
		view_thread(levers, vm, &vm->threads[i], &view->vcpu[i], now);
	lever_look(levers, vm, now);
	view->resident = vm->resident;
	view->merged = vm->merged;
	memcpy(view->nodes_hold, vm->nodes_hold, sizeof(view->nodes_hold));
	vm->viewed = now;
	return 0;
}
