/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that sees NUMA nodes (--numa): each has the same number of vCPUs, one package of them,
 * and the same amount of memory, both in their order. What is told of it is in the ACPI tables
 * (x86/acpi.h). Main thread.
 */
#ifndef DUET_MACHINE_NUMA_H
#define DUET_MACHINE_NUMA_H

#include "machine/config.h"
#include "memory/memory.h"
#include "x86/acpi.h"

/* A node's memory is a multiple of it, so that no huge page belongs to two. */
#define NUMA_PART (2ULL << 20)

/* -EINVAL: it does not divide, or names other host nodes than it has nodes. */
int numa_check(const struct machine_config *config, struct error *err);
/* Returns their number. Of a checked configuration. */
unsigned numa_ranges(
	const struct machine_config *config, struct acpi_range ranges[ACPI_RANGES_MAX]);
/* Of a vCPU's package. */
unsigned numa_cpus_of_node(const struct machine_config *config);
/* Where the host is to take the memory from, before it is used; nothing without --numa-host. */
int numa_bind(struct memory *memory, const struct machine_config *config, struct error *err);

#endif
