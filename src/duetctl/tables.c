/* SPDX-License-Identifier: Apache-2.0 */
#include "duetctl/tables.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CELL 16

static double number(const json_t *object, const char *name)
{
	return json_number_value(json_object_get(object, name));
}

static const char *text(const json_t *object, const char *name)
{
	const char *value = json_string_value(json_object_get(object, name));

	return value ? value : "";
}

static bool is_true(const json_t *object, const char *name)
{
	return json_is_true(json_object_get(object, name));
}

/* "1.5G", "512M"; "-" where there is none. */
static const char *size(const json_t *object, const char *name, char cell[CELL])
{
	const double mib = number(object, name) / 1048576;

	if (!json_object_get(object, name))
		snprintf(cell, CELL, "-");
	else if (mib >= 10240)
		snprintf(cell, CELL, "%.1fG", mib / 1024);
	else
		snprintf(cell, CELL, "%.0fM", mib);
	return cell;
}

static const char *count(const json_t *object, const char *name, char cell[CELL])
{
	if (json_object_get(object, name))
		snprintf(cell, CELL, "%.0f", number(object, name));
	else
		snprintf(cell, CELL, "-");
	return cell;
}

/* ---- VMs ---- */

static int by_name(const void *a, const void *b)
{
	return strcmp(text(*(json_t *const *)a, "name"), text(*(json_t *const *)b, "name"));
}

static int by_busy(const void *a, const void *b)
{
	const double one = number(*(json_t *const *)a, "busy");
	const double other = number(*(json_t *const *)b, "busy");

	return one == other ? by_name(a, b) : one < other ? 1 : -1;
}

static void print_vm(const json_t *vm)
{
	char cells[6][CELL];

	if (!is_true(vm, "well")) {
		printf("%-20s %8.0f  %s\n", text(vm, "name"), number(vm, "pid"), text(vm, "fault"));
		return;
	}
	printf("%-20s %8.0f %8s %8s %8s %8s %8s %5.0f %6.1f %6s %8.0f\n", text(vm, "name"),
		number(vm, "pid"), size(vm, "memory", cells[0]), size(vm, "allowed", cells[1]),
		size(vm, "resident", cells[2]), size(vm, "working_set", cells[3]),
		size(vm, "merged", cells[5]), number(vm, "vcpus"), number(vm, "busy") * 100,
		count(vm, "weight", cells[4]), number(vm, "paging") + number(vm, "host_paging"));
}

static void print_head(void)
{
	printf("%-20s %8s %8s %8s %8s %8s %8s %5s %6s %6s %8s\n", "VM", "process", "memory",
		"allowed", "resident", "working", "merged", "vCPUs", "CPU/%", "weight", "paging/s");
}

static void print_sorted(const json_t *vms, int (*order)(const void *a, const void *b), size_t most)
{
	const size_t length = json_array_size(vms);
	const json_t **sorted = calloc(length + 1, sizeof(*sorted));

	if (!sorted)
		return;
	for (size_t i = 0; i < length; i++)
		sorted[i] = json_array_get(vms, i);
	qsort(sorted, length, sizeof(*sorted), order);
	print_head();
	for (size_t i = 0; i < length && i < most; i++)
		print_vm(sorted[i]);
	if (length > most)
		printf("... and %zu more\n", length - most);
	free(sorted);
}

void table_vms(const json_t *vms)
{
	if (json_array_size(vms))
		print_sorted(vms, by_name, SIZE_MAX);
	else
		puts("no VMs; duetd finds those that have their API sockets in its directory");
}

void table_top(const json_t *host, const json_t *vms, unsigned most)
{
	char cells[4][CELL];

	printf("host: %s of %s available, swap %s of %s free, %.0f CPUs\n",
		size(host, "available", cells[0]), size(host, "memory", cells[1]),
		size(host, "swap_free", cells[2]), size(host, "swap_total", cells[3]),
		number(host, "cpus"));
	printf("stalled (10 s mean): memory some %.2f %% full %.2f %%, CPU some %.2f %%\n\n",
		number(host, "memory_some") / 100, number(host, "memory_full") / 100,
		number(host, "cpu_some") / 100);
	print_sorted(vms, by_busy, most);
}

/* ---- one VM ---- */

static void print_vcpus(const json_t *vcpus)
{
	const json_t *vcpu;
	size_t index;

	puts("\nvCPU   CPU/%  waits/%  runnable  burst/us  slice/us  node");
	json_array_foreach((json_t *)(uintptr_t)vcpus, index, vcpu)
	{
		char runnable[CELL], node[CELL];

		printf("%4zu  %6.1f  %7.1f  %8s  %8.1f  %8.1f  %4s\n", index,
			number(vcpu, "busy") * 100, number(vcpu, "waits") * 100,
			count(vcpu, "runnable", runnable), number(vcpu, "burst_ns") / 1e3,
			number(vcpu, "slice_ns") / 1e3, count(vcpu, "node", node));
	}
}

void table_vm(const json_t *vm)
{
	const char *mechanism;
	json_t *words;

	print_head();
	print_vm(vm);
	if (!is_true(vm, "well")) {
		printf("\n%s is left out of what is decided.\n", text(vm, "name"));
		return;
	}
	putchar('\n');
	json_object_foreach(json_object_get(vm, "why"), mechanism, words)
	{
		printf("%-8s %s\n", mechanism, json_string_value(words));
	}
	print_vcpus(json_object_get(vm, "vcpu"));
}

/* ---- policies ---- */

static void print_choices(const json_t *mechanism)
{
	const json_t *choice;
	size_t index;

	json_array_foreach(json_object_get(mechanism, "choices"), index, choice)
	{
		const char *name = text(choice, "name");

		printf("  %c %-14s %s\n", strcmp(name, text(mechanism, "policy")) == 0 ? '*' : ' ',
			name, text(choice, "help"));
	}
}

static void print_levers(const json_t *mechanism)
{
	const json_t *lever;
	size_t index;

	json_array_foreach(json_object_get(mechanism, "levers"), index, lever)
	{
		if (!is_true(lever, "works"))
			printf("    without %s: %s\n", text(lever, "name"), text(lever, "why"));
	}
}

void table_policies(const json_t *policies)
{
	const json_t *mechanism;
	size_t index;

	json_array_foreach((json_t *)(uintptr_t)policies, index, mechanism)
	{
		printf("%s\n", text(mechanism, "mechanism"));
		print_choices(mechanism);
		print_levers(mechanism);
	}
}
