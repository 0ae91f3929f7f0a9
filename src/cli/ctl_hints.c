/* SPDX-License-Identifier: Apache-2.0 */
/* What a guest says of itself, for people. */
#include "cli/ctl_hints.h"

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>

#define PAGES_IN_MIB 256.0

static int64_t number(const json_t *object, const char *name)
{
	return json_integer_value(json_object_get(object, name));
}

static void print_vcpu(const json_t *vcpu)
{
	printf("%4" PRId64, number(vcpu, "index"));
	if (json_object_get(vcpu, "runnable"))
		printf("  %8" PRId64 "  %13.1f  %12" PRId64 "  %11.1f\n", number(vcpu, "runnable"),
			(double)number(vcpu, "burst_ns") / 1e3, number(vcpu, "switches"),
			(double)number(vcpu, "updated_ns") / 1e9);
	else
		puts("  says nothing");
}

static void print_vcpus(const json_t *vcpus)
{
	const json_t *vcpu;
	size_t index;

	puts("vCPU  runnable  mean burst/us      switches  at second");
	json_array_foreach((json_t *)(uintptr_t)vcpus, index, vcpu)
	{
		print_vcpu(vcpu);
	}
}

static double percent(const json_t *pressure, const char *name)
{
	return (double)number(pressure, name) / 100;
}

static void print_machine(const json_t *machine)
{
	const json_t *pressure = json_object_get(machine, "pressure");

	printf("working set %.1f MiB, %" PRId64 " pages read in again\n",
		(double)number(machine, "working_set_bytes") / 1048576,
		number(machine, "refaults"));
	printf("stalled (10 s mean): memory some %.2f %% full %.2f %%, CPU some %.2f %%, "
	       "I/O some %.2f %% full %.2f %%\n",
		percent(pressure, "memory_some"), percent(pressure, "memory_full"),
		percent(pressure, "cpu_some"), percent(pressure, "io_some"),
		percent(pressure, "io_full"));
}

static void print_runs(const json_t *runs, const char *what)
{
	if (!number(runs, "answered"))
		printf("%s: %s\n", what,
			number(runs, "wished") ? "asked, not answered yet" : "never asked");
	else
		printf("%s: %.1f MiB in %" PRId64 " runs%s%s\n", what,
			(double)number(runs, "pages") / PAGES_IN_MIB, number(runs, "runs"),
			json_is_true(json_object_get(runs, "complete")) ? "" : ", not all yet",
			number(runs, "wished") != number(runs, "answered") ? ", asked anew" : "");
}

static void print_locality(const json_t *locality)
{
	const json_t *vcpu;
	size_t index;

	print_runs(locality, "memory used by vCPUs");
	json_array_foreach(json_object_get(locality, "vcpus"), index, vcpu)
	{
		printf("%4" PRId64 "  %.1f MiB in %" PRId64 " runs\n", number(vcpu, "index"),
			(double)number(vcpu, "pages") / PAGES_IN_MIB, number(vcpu, "runs"));
	}
}

void ctl_print_hints(const json_t *answer)
{
	const json_t *machine = json_object_get(answer, "machine");

	if (json_is_true(json_object_get(answer, "driver")))
		print_vcpus(json_object_get(answer, "vcpus"));
	else
		puts("no driver in the guest that gives hints (its module duet)");
	if (machine)
		print_machine(machine);
	printf("stood still for %.3f s\n", (double)number(answer, "away_ns") / 1e9);
	print_runs(json_object_get(answer, "share"), "pages worth sharing");
	print_locality(json_object_get(answer, "locality"));
}
