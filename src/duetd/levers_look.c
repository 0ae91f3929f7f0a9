/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What costs more to see of a VM than a few numbers. Where the kernel has to walk its page tables,
 * that is as long as the VM is large: a walk is made anew when what costs little says that the last
 * one may not hold.
 */
#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "duetd/levers_private.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* So seldom it is looked at all. */
#define LOOK_NS (10 * SECOND_NS)
/* And so seldom a walk is made where nothing seems to have changed. */
#define WALK_NS (60 * SECOND_NS)
/* This part of a VM's memory is no change. */
#define LITTLE 64

bool lever_look_due(const struct lever_vm *vm, uint64_t now)
{
	return !vm->looked || now - vm->looked >= LOOK_NS;
}

/* "... N0=12 N1=3": @unit bytes each. */
static void add_nodes(struct lever_vm *vm, const char *line, uint64_t unit)
{
	const char *at = line;

	while ((at = strstr(at, " N"))) {
		char *end;
		unsigned long node = strtoul(at + 2, &end, 10);

		at += 2;
		if (end != at && *end == '=' && node < VIEW_NODES_MAX)
			vm->nodes_hold[node] += strtoull(end + 1, NULL, 10) * unit;
	}
}

/* "7f00 default anon=15 N0=12 N1=3 kernelpagesize_kB=4": a line for each mapping. */
static void add_mapping(struct lever_vm *vm, char *line)
{
	add_nodes(vm, line, lever_field(line, "kernelpagesize_kB") * 1024);
}

/* "anon N0=4096 N1=8192", "file ...": of all else these are parts, or the kernel's own. */
static void add_kind(struct lever_vm *vm, char *line)
{
	if (strncmp(line, "anon ", 5) == 0 || strncmp(line, "file ", 5) == 0)
		add_nodes(vm, line, 1);
}

static void each_line(struct lever_vm *vm, char *text, void (*add)(struct lever_vm *vm, char *line))
{
	char *line;

	memset(vm->nodes_hold, 0, sizeof(vm->nodes_hold));
	while (text && (line = strsep(&text, "\n")))
		add(vm, line);
}

/* A cgroup that counts all that its VM ever took has it by node as well. */
static void look_at_nodes(const struct levers *levers, struct lever_vm *vm)
{
	_cleanup_free_ char *kinds =
		vm->cgroup && !vm->moved ? lever_read_all(levers, "%s/memory.numa_stat", vm->cgroup)
					 : NULL;
	_cleanup_free_ char *mappings =
		kinds ? NULL : lever_read_all(levers, "/proc/%d/numa_maps", (int)vm->pid);

	if (kinds)
		each_line(vm, kinds, add_kind);
	else
		each_line(vm, mappings, add_mapping);
}

/* The share of each page that is its own; a cgroup would not count what was there before it. */
static void look_at_pages(const struct levers *levers, struct lever_vm *vm)
{
	char text[4096];

	if (lever_read(levers, text, sizeof(text), "/proc/%d/smaps_rollup", (int)vm->pid) > 0)
		vm->resident = lever_kib(text, "Pss");
}

/* Bytes that are mapped: "12345 678 ...", pages by proc(5). */
static uint64_t held_by(const struct levers *levers, pid_t pid)
{
	uint64_t bytes;
	char text[256];
	char *end;

	if (lever_read(levers, text, sizeof(text), "/proc/%d/statm", (int)pid) <= 0)
		return 0;
	strtoull(text, &end, 10);
	return mul_overflows(strtoull(end, NULL, 10), (uint64_t)sysconf(_SC_PAGESIZE), &bytes)
		       ? 0
		       : bytes;
}

static bool is_near(uint64_t one, uint64_t other, uint64_t most)
{
	return one > other ? one - other <= most : other - one <= most;
}

/* What a walk told is so yet, by all that is known without one: the memory is as much, as much of
 * it is merged, and nobody was busy in there, whose pages might have moved. */
static bool is_as_walked(const struct levers *levers, struct lever_vm *vm, uint64_t now)
{
	const uint64_t held = held_by(levers, vm->pid), little = held / LITTLE;

	if (vm->walked && now - vm->walked < WALK_NS && !vm->ran &&
		is_near(held, vm->held, little) && is_near(vm->merged, vm->merged_then, little))
		return true;
	vm->walked = now;
	vm->ran = false;
	vm->held = held;
	vm->merged_then = vm->merged;
	return false;
}

void lever_look(const struct levers *levers, struct lever_vm *vm, uint64_t now)
{
	if (!lever_look_due(vm, now))
		return;
	vm->looked = now;
	vm->merged = lever_ksm_merged(levers, vm->pid);
	if (is_as_walked(levers, vm, now))
		return;
	if (!vm->cgroup || vm->moved)
		look_at_pages(levers, vm);
	if (levers->nodes > 1)
		look_at_nodes(levers, vm);
}
