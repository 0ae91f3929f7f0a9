/* SPDX-License-Identifier: Apache-2.0 */
/* The host's side of a view. */
#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "duetd/levers_private.h"

#include <errno.h>
#include <string.h>

#define PRESSURE_MAX 10000
/* What the kernel walks page tables for is asked this seldom. */
#define LOOK_NS (10 * SECOND_NS)

static uint64_t field_kib(const char *text, const char *name)
{
	uint64_t bytes;

	return mul_overflows(lever_field(text, name), 1024, &bytes) ? 0 : bytes;
}

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
			host->node_memory[i] = field_kib(text, "MemTotal");
	}
}

int levers_view(struct levers *levers, struct host_view *host, struct error *err)
{
	char text[4096];

	lever_sweep(levers);
	memset(host, 0, sizeof(*host));
	if (lever_read(levers, text, sizeof(text), "/proc/meminfo") <= 0)
		return error_set(err, EIO, "/proc/meminfo cannot be read; is /proc mounted?");
	host->memory = field_kib(text, "MemTotal");
	host->available = field_kib(text, "MemAvailable");
	host->free = field_kib(text, "MemFree");
	host->swap_total = field_kib(text, "SwapTotal");
	host->swap_free = field_kib(text, "SwapFree");
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

static bool look_is_due(const struct lever_vm *vm, uint64_t now)
{
	return !vm->looked || now - vm->looked >= LOOK_NS;
}

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

/* Whether it is the thread that is known, and where it runs. With one node only the former is
 * asked, and now and then. */
static bool place_thread(const struct levers *levers, const struct lever_vm *vm,
	const struct lever_thread *thread, struct vcpu_view *vcpu, bool due)
{
	uint64_t cpu;

	if (levers->nodes <= 1 && !due)
		return true;
	if (!lever_last_cpu(levers, vm->pid, thread->tid, thread->start, &cpu))
		return false;
	if (levers->nodes > 1)
		vcpu->node = node_of_cpu(levers, cpu);
	return true;
}

static void view_thread(const struct levers *levers, const struct lever_vm *vm,
	struct lever_thread *thread, struct vcpu_view *vcpu, uint64_t now)
{
	const uint64_t span = now - vm->viewed;
	char text[128];
	uint64_t ran, waited;
	char *end;

	if (!thread->tid || !place_thread(levers, vm, thread, vcpu, look_is_due(vm, now)) ||
		lever_read(levers, text, sizeof(text), "/proc/%d/task/%d/schedstat", (int)vm->pid,
			(int)thread->tid) <= 0)
		return;
	ran = strtoull(text, &end, 10);
	waited = strtoull(end, NULL, 10);
	/* The first look counts from when the thread began. */
	if (vm->viewed) {
		vcpu->busy = share_of(ran, thread->ran, span);
		vcpu->waits = share_of(waited, thread->waited, span);
	}
	thread->ran = ran;
	thread->waited = waited;
}

/* "... N0=12 N1=3 kernelpagesize_kB=4": a line for each mapping. */
static void add_mapping(struct lever_vm *vm, const char *line)
{
	const uint64_t size = lever_field(line, "kernelpagesize_kB");
	const char *at = line;

	while ((at = strstr(at, " N"))) {
		char *end;
		unsigned long node = strtoul(at + 2, &end, 10);

		at += 2;
		if (end != at && *end == '=' && node < VIEW_NODES_MAX)
			vm->nodes_hold[node] += strtoull(end + 1, NULL, 10) * size * 1024;
	}
}

static void look_at_nodes(const struct levers *levers, struct lever_vm *vm)
{
	_cleanup_free_ char *text = lever_read_all(levers, "/proc/%d/numa_maps", (int)vm->pid);
	char *rest = text, *line;

	memset(vm->nodes_hold, 0, sizeof(vm->nodes_hold));
	while (rest && (line = strsep(&rest, "\n")))
		add_mapping(vm, line);
}

/* The share of each page that is its own; a cgroup would not count what was there before it. */
static void look_at_pages(const struct levers *levers, struct lever_vm *vm)
{
	char text[4096];

	if (lever_read(levers, text, sizeof(text), "/proc/%d/smaps_rollup", (int)vm->pid) > 0)
		vm->resident = field_kib(text, "Pss");
}

static void look(const struct levers *levers, struct lever_vm *vm, uint64_t now)
{
	if (!look_is_due(vm, now))
		return;
	vm->looked = now;
	vm->merged = lever_ksm_merged(levers, vm->pid);
	if (!vm->cgroup || vm->moved)
		look_at_pages(levers, vm);
	if (levers->nodes > 1)
		look_at_nodes(levers, vm);
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
	look(levers, vm, now);
	view->resident = vm->resident;
	view->merged = vm->merged;
	memcpy(view->nodes_hold, vm->nodes_hold, sizeof(view->nodes_hold));
	vm->viewed = now;
	return 0;
}
