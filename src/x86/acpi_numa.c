/* SPDX-License-Identifier: Apache-2.0 */
/* What is near to what. */
#include "x86/acpi_table.h"

#define DISTANCE_LOCAL 10
#define ENABLED        1

static unsigned node_of(const struct acpi_config *config, unsigned cpu)
{
	return cpu / (config->cpus / config->nodes);
}

/* Table 5.58; ids are below 255, so the longer form for x2APICs is not needed. */
static void put_cpu(struct acpi_builder *builder, unsigned cpu, unsigned node)
{
	acpi_put8(builder, 0);
	acpi_put8(builder, 16);
	acpi_put8(builder, (uint8_t)node);
	acpi_put8(builder, (uint8_t)cpu); /* APIC id */
	acpi_put32(builder, ENABLED);
	acpi_put32(builder, 0); /* local SAPIC EID, the domain's upper bits */
	acpi_put32(builder, 0); /* clock domain */
}

/* Table 5.59. */
static void put_memory(struct acpi_builder *builder, const struct acpi_range *range)
{
	acpi_put8(builder, 1);
	acpi_put8(builder, 40);
	acpi_put32(builder, range->node);
	acpi_put16(builder, 0);
	acpi_put64(builder, range->base);
	acpi_put64(builder, range->size);
	acpi_put32(builder, 0);
	acpi_put32(builder, ENABLED);
	acpi_put64(builder, 0);
}

static void build_srat(struct acpi_builder *builder, const struct acpi_config *config)
{
	acpi_open_table(builder, "SRAT", 3);
	acpi_put32(builder, 1); /* reserved, for old systems */
	acpi_put64(builder, 0);
	for (unsigned cpu = 0; cpu < config->cpus; cpu++)
		put_cpu(builder, cpu, node_of(config, cpu));
	for (unsigned i = 0; i < config->range_count; i++)
		put_memory(builder, &config->ranges[i]);
	acpi_list_table(builder);
}

static void build_slit(struct acpi_builder *builder, const struct acpi_config *config)
{
	acpi_open_table(builder, "SLIT", 1);
	acpi_put64(builder, config->nodes);
	for (unsigned from = 0; from < config->nodes; from++)
		for (unsigned to = 0; to < config->nodes; to++)
			acpi_put8(builder, from == to ? DISTANCE_LOCAL : (uint8_t)config->distance);
	acpi_list_table(builder);
}

void acpi_build_numa(struct acpi_builder *builder, const struct acpi_config *config)
{
	build_srat(builder, config);
	build_slit(builder, config);
}
