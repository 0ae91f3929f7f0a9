/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/numa.h"

#include "base/checked.h"
#include "machine/config_rules.h"
#include "x86/layout.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define HOST_NODES_MAX 64 /* as many as memory_prefer() takes */

unsigned numa_cpus_of_node(const struct machine_config *config)
{
	return config->cpus / config->numa;
}

/* Packages of any other number cannot be told by bits of an APIC id, and ids have no gaps. */
static int check_cpus(const struct machine_config *config, struct error *err)
{
	unsigned each = config->cpus / config->numa;

	if (config->numa == 1)
		return 0;
	if (each && config->cpus % config->numa == 0 && !(each & (each - 1)))
		return 0;
	while (each & (each - 1))
		each &= each - 1;
	each = each ? each : 1;
	return config_refuse_own(config, "numa", err,
		"each of the %u nodes has 1, 2, 4, 8, ... vCPUs, as many as any other; %u cannot "
		"be divided so, {cpus=%u} can",
		config->numa, config->cpus, each * config->numa);
}

static int check_memory(const struct machine_config *config, struct error *err)
{
	const uint64_t unit = config->numa * NUMA_PART;
	uint64_t fits = config->memory / unit * unit;

	if (config->numa == 1 || fits == config->memory)
		return 0;
	if (fits < MACHINE_MEMORY_MIN)
		fits = align_up(MACHINE_MEMORY_MIN, unit);
	return config_refuse_own(config, "numa", err,
		"each of the %u nodes has a multiple of 2M of memory, as much as any other; "
		"%" PRIu64 "M cannot be divided so, {memory=%" PRIu64 "M} can",
		config->numa, config->memory >> 20, fits >> 20);
}

/* Returns what is behind it; null: there is no node at @text. */
static const char *read_node(const char *text, unsigned *node)
{
	char *end;
	unsigned long number = strtoul(text, &end, 10);

	if (*text < '0' || *text > '9' || number >= HOST_NODES_MAX || (*end && *end != '+') ||
		(*end == '+' && !end[1]))
		return NULL;
	*node = (unsigned)number;
	return *end ? end + 1 : end;
}

/* Those that @nodes has room for; returns how many are named, 0 when the text is none. */
static unsigned read_nodes(const char *text, unsigned nodes[ACPI_NODES_MAX])
{
	unsigned count = 0, node;

	while (*text) {
		text = read_node(text, &node);
		if (!text)
			return 0;
		if (count < ACPI_NODES_MAX)
			nodes[count] = node;
		count++;
	}
	return count;
}

static int check_host(const struct machine_config *config, struct error *err)
{
	unsigned nodes[ACPI_NODES_MAX];

	if (!config->numa_host || read_nodes(config->numa_host, nodes) == config->numa)
		return 0;
	return config_refuse_own(config, "numa-host", err,
		"\"%.40s\" does not name a node of the host, 0 to %d, for each of the guest's %u "
		"({numa}), with + between them",
		config->numa_host, HOST_NODES_MAX - 1, config->numa);
}

int numa_check(const struct machine_config *config, struct error *err)
{
	int ret = check_cpus(config, err);

	if (ret == 0)
		ret = check_memory(config, err);
	return ret == 0 ? check_host(config, err) : ret;
}

unsigned numa_ranges(const struct machine_config *config, struct acpi_range ranges[ACPI_RANGES_MAX])
{
	const uint64_t part = config->memory / config->numa;
	unsigned count = 0;

	for (unsigned node = 0; node < config->numa; node++) {
		const uint64_t begin = node * part, end = begin + part;
		const uint64_t low_end = min_u64(end, LAYOUT_LOW_RAM_MAX);
		const uint64_t high = begin > LAYOUT_LOW_RAM_MAX ? begin : LAYOUT_LOW_RAM_MAX;

		if (begin < low_end)
			ranges[count++] = (struct acpi_range){begin, low_end - begin, node};
		if (end > high)
			ranges[count++] = (struct acpi_range){
				LAYOUT_HIGH_RAM + high - LAYOUT_LOW_RAM_MAX, end - high, node};
	}
	return count;
}

static int cannot_bind(int code, unsigned node, struct error *err)
{
	if (code == -EINVAL)
		return error_set(err, EINVAL,
			"--numa-host: the host has no node %u with memory; "
			"/sys/devices/system/node/has_memory names those that there are",
			node);
	return error_errno(err, -code,
		"--numa-host: the host does not let memory be placed (mbind); leave it out");
}

int numa_bind(struct memory *memory, const struct machine_config *config, struct error *err)
{
	struct acpi_range ranges[ACPI_RANGES_MAX];
	unsigned nodes[ACPI_NODES_MAX], count;
	int ret = 0;

	if (!config->numa_host || read_nodes(config->numa_host, nodes) != config->numa)
		return 0;
	count = numa_ranges(config, ranges);
	for (unsigned i = 0; ret == 0 && i < count; i++) {
		const unsigned node = nodes[ranges[i].node];

		ret = memory_prefer(memory, GPA(ranges[i].base), ranges[i].size, node);
		if (ret < 0)
			return cannot_bind(ret, node, err);
	}
	return ret;
}
