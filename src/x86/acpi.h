/* SPDX-License-Identifier: Apache-2.0 */
/* ACPI 6.5 tables for the machine, written at LAYOUT_ACPI: RSDP, XSDT, FADT (not hardware-reduced:
 * PM1 event and control for power-off and the power button, reset register), FACS, MADT, MCFG,
 * DSDT (dsdt.asl), SSDTs with the windows of this machine, with the VM generation ID
 * (generation.asl) and with the keyboard. */
#ifndef DUET_X86_ACPI_H
#define DUET_X86_ACPI_H

#include "base/error.h"
#include "memory/memory.h"

struct acpi_config {
	unsigned cpus;                                     /* 1 to 64, APIC ids 0 to cpus - 1 */
	uint64_t ecam;                                     /* base, one bus */
	uint64_t mmio32, mmio32_size, mmio64, mmio64_size; /* windows of the host bridge (_CRS) */
	bool pic;      /* there are 8259s (in-kernel irqchip); else Linux need not look */
	bool keyboard; /* there is one behind an 8042 */
};

/* @rsdp: GPA of the RSDP. -ENOSPC when the tables do not fit. */
int acpi_build(
	struct memory *memory, const struct acpi_config *config, uint64_t *rsdp, struct error *err);

#endif
