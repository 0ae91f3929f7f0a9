/* SPDX-License-Identifier: Apache-2.0 */
#include "duetd/utilization.h"
#include "base/checked.h"
#include "duetd/units.h"

#include <string.h>

#define MIB        1048576.0
#define PERCENT    100
#define SEEN_ERROR (1.0 / 16) /* what is told may be off by so much, as for the policies */
#define UNSEEN     0.25       /* likewise, where the kit does not tell the working set */
#define LEAST      64         /* MiB, that any guest needs */
#define NEAR       8          /* a number is told anew when it is off by more than this part */
#define SIZE_MAX_D 1e18       /* bytes; more is nonsense */

static const char *const names[] = {[UTILIZATION_MEMORY] = "memory", [UTILIZATION_CPU] = "cpu"};

const char *utilization_name(enum utilization_kind kind)
{
	return names[kind];
}

void utilization_untold(struct utilization_of *of)
{
	for (unsigned kind = 0; kind < UTILIZATION_KINDS; kind++)
		of->told[kind] = UINT64_MAX;
}

static void begin(struct utilization_of *of, const char *name)
{
	*of = (struct utilization_of){0};
	strcpy(of->name, name);
	utilization_untold(of);
	for (unsigned kind = 0; kind < UTILIZATION_KINDS; kind++)
		of->mean[kind] = -1;
}

void utilization_init(struct utilization *utilization)
{
	utilization->count = 1;
	begin(&utilization->of[0], "");
}

/* ---- numbers of the answers ---- */

static double number(const json_t *object, const char *name)
{
	double value = json_number_value(json_object_get(object, name));

	return value > 0 && value < SIZE_MAX_D ? value : 0;
}

static double most_of(double a, double b)
{
	return a > b ? a : b;
}

static double least_of(double a, double b)
{
	return a < b ? a : b;
}

/* As the policy of memory sees it (policies/memory.c), but for what is too short to matter here. */
static double needs(const json_t *vm)
{
	const bool says_memory = json_object_get(vm, "guest_memory");
	double in_use = most_of(0, number(vm, "guest_memory") - number(vm, "available"));
	double need = number(vm, "resident");

	if (number(vm, "working_set") > 0)
		need = most_of(number(vm, "working_set"), in_use);
	else if (says_memory)
		need = in_use * (1 + UNSEEN);
	if (json_is_true(json_object_get(vm, "passthrough")))
		need = number(vm, "memory");
	need = most_of(need * (1 + SEEN_ERROR), LEAST * MIB);
	return least_of(need, number(vm, "memory"));
}

/* What the machines take now, and what nobody has; less what the host keeps for bursts. */
static double room(const json_t *host, const json_t *vms)
{
	double bytes = number(host, "available") - number(host, "reserve");
	const json_t *vm;
	size_t index;

	json_array_foreach((json_t *)(uintptr_t)vms, index, vm)
	{
		bytes += number(vm, "resident");
	}
	return most_of(least_of(bytes, number(host, "memory")), 0);
}

/* ---- what is kept ---- */

static void add(struct utilization_of *of, enum utilization_kind kind, double value, unsigned looks)
{
	if (of->mean[kind] < 0)
		of->mean[kind] = value;
	else
		of->mean[kind] += (value - of->mean[kind]) / looks;
	of->seen = true;
}

/* Null: no room for it. */
static struct utilization_of *find(struct utilization *utilization, const char *name)
{
	for (unsigned i = 1; i < utilization->count; i++)
		if (strcmp(utilization->of[i].name, name) == 0)
			return &utilization->of[i];
	if (utilization->count == ARRAY_SIZE(utilization->of))
		return NULL;
	begin(&utilization->of[utilization->count], name);
	return &utilization->of[utilization->count++];
}

/* Those that are gone: what was told of them stays theirs, wherever they run now. */
static void forget(struct utilization *utilization)
{
	unsigned kept = 1;

	for (unsigned i = 1; i < utilization->count; i++)
		if (utilization->of[i].seen)
			utilization->of[kept++] = utilization->of[i];
	utilization->count = kept;
}

static void look_at(struct utilization *utilization, const json_t *vm, unsigned looks)
{
	const char *name = json_string_value(json_object_get(vm, "name"));
	struct utilization_of *of;

	/* One that does not answer has no numbers. */
	if (!name || !unit_name_is_valid(name) || number(vm, "memory") <= 0)
		return;
	of = find(utilization, name);
	if (!of)
		return;
	add(of, UTILIZATION_MEMORY, needs(vm) / MIB, looks);
	add(of, UTILIZATION_CPU, number(vm, "busy") * PERCENT, looks);
}

void utilization_look(
	struct utilization *utilization, const json_t *host, const json_t *vms, unsigned looks)
{
	const json_t *vm;
	size_t index;

	if (number(host, "memory") <= 0 || !json_is_array(vms))
		return;
	for (unsigned i = 0; i < utilization->count; i++)
		utilization->of[i].seen = false;
	add(&utilization->of[0], UTILIZATION_MEMORY, room(host, vms) / MIB, looks);
	add(&utilization->of[0], UTILIZATION_CPU, number(host, "cpus") * PERCENT, looks);
	json_array_foreach((json_t *)(uintptr_t)vms, index, vm)
	{
		look_at(utilization, vm, looks);
	}
	forget(utilization);
}

bool utilization_tell(struct utilization_of *of, enum utilization_kind kind, uint64_t *told)
{
	uint64_t now = (uint64_t)(of->mean[kind] + 0.5), before = of->told[kind];
	uint64_t off = now > before ? now - before : before - now;

	if (!of->seen || of->mean[kind] < 0)
		return false;
	/* A percent more or less is nothing, whatever part of it that is. */
	if (before != UINT64_MAX && off * NEAR <= before + NEAR)
		return false;
	of->told[kind] = *told = now;
	return true;
}
