/* SPDX-License-Identifier: Apache-2.0 */
/* ACPI 6.5 tables for the machine, written at LAYOUT_ACPI: RSDP, XSDT, FADT (not hardware-reduced:
 * PM1 event and control for power-off and the power button, reset register), FACS, MADT, MCFG,
 * DSDT (dsdt.asl), SSDTs with the windows of this machine, with the VM generation ID
 * (generation.asl), with the keyboard and with slots that can be emptied (eject.asl). With more
 * than one node also SRAT (5.2.16) and SLIT (5.2.17). */
#ifndef DUET_X86_ACPI_H
#define DUET_X86_ACPI_H

#include "base/error.h"
#include "memory/memory.h"

#define ACPI_NODES_MAX 8
#define ACPI_RANGES_MAX                                                                            \
	(ACPI_NODES_MAX + 1) /* one node's memory may lie on both sides of the hole */

/* Memory of one node. */
struct acpi_range {
	uint64_t base, size; /* bytes; a GPA */
	unsigned node;
};

struct acpi_config {
	unsigned
		cpus; /* 1 to 64, APIC ids 0 to cpus - 1; nodes have as many each, in their order */
	uint64_t ecam;                                     /* base, one bus */
	uint64_t mmio32, mmio32_size, mmio64, mmio64_size; /* windows of the host bridge (_CRS) */
	bool pic;          /* there are 8259s (in-kernel irqchip); else Linux need not look */
	bool keyboard;     /* there is one behind an 8042 */
	bool eject;        /* functions may be pulled: emulated/eject.c is there */
	unsigned nodes;    /* below 2: one, of which nothing is told */
	unsigned distance; /* 11 to 254: between two nodes, where 10 is within one */
	const struct acpi_range *ranges;
	unsigned range_count;
};

/* @rsdp: GPA of the RSDP. -ENOSPC when the tables do not fit. */
int acpi_build(
	struct memory *memory, const struct acpi_config *config, uint64_t *rsdp, struct error *err);

#endif
