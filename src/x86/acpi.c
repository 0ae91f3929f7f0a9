/* SPDX-License-Identifier: Apache-2.0 */
#include "x86/acpi.h"

#include "base/bytes.h"
#include "dsdt.h"
#include "eject.h"
#include "generation.h"
#include "keyboard.h"
#include "x86/acpi_table.h"
#include "x86/layout.h"

#include <errno.h>
#include <string.h>

/* No header and no checksum of the usual kind. */
static uint64_t build_facs(struct acpi_builder *builder)
{
	uint8_t *facs;

	acpi_align(builder, 64);
	facs = acpi_reserve(builder, 64);
	memcpy(facs, "FACS", 4);
	store_le32(facs + 4, 64);
	facs[32] = 2; /* version */
	return LAYOUT_ACPI + (uint64_t)(facs - builder->bytes);
}

/* A table of iasl's, with its header and checksum. */
static uint64_t put_compiled(struct acpi_builder *builder, const uint8_t *table, size_t length)
{
	uint64_t address;

	acpi_align(builder, 64);
	address = LAYOUT_ACPI + builder->used;
	memcpy(acpi_reserve(builder, length), table, length);
	return address;
}

static void list_compiled(struct acpi_builder *builder, const uint8_t *table, size_t length)
{
	builder->tables[builder->count++] = put_compiled(builder, table, length);
}

/* Offsets in the FADT, ACPI 6.5 table 5.9. */
enum {
	FADT_FACS = 36,
	FADT_DSDT = 40,
	FADT_SCI_INT = 46,
	FADT_PM1A_EVT = 56,
	FADT_PM1A_CNT = 64,
	FADT_PM_TMR = 76,
	FADT_PM1_EVT_LEN = 88,
	FADT_PM1_CNT_LEN = 89,
	FADT_PM_TMR_LEN = 91,
	FADT_C2_LATENCY = 96,
	FADT_C3_LATENCY = 98,
	FADT_BOOT_ARCH = 109,
	FADT_FLAGS = 112,
	FADT_RESET_REG = 116,
	FADT_RESET_VALUE = 128,
	FADT_MINOR = 131,
	FADT_X_DSDT = 140,
	FADT_SIZE = 276,
};

#define FADT_WBINVD      (1U << 0)
#define FADT_C1          (1U << 2)
#define FADT_NO_SLEEP    (1U << 5) /* no fixed sleep button; the power button is a fixed one */
#define FADT_NO_RTC_WAKE (1U << 6)
#define FADT_RESET       (1U << 10)
#define FADT_HEADLESS    (1U << 12)
/* No legacy devices, and an 8042 only where there is a keyboard: Linux leaves its slow probing of
 * them out. */
#define BOOT_8042    (1U << 1)
#define BOOT_NO_VGA  (1U << 2)
#define BOOT_NO_ASPM (1U << 4)

static void build_fadt(struct acpi_builder *builder, const struct acpi_config *config)
{
	uint64_t facs = build_facs(builder);
	uint64_t dsdt = put_compiled(builder, dsdt_aml, sizeof(dsdt_aml));
	uint8_t *fadt;

	acpi_open_table(builder, "FACP", 6);
	/* No SMI command: the machine is in ACPI mode from the start. No GPE block: nothing has an
	 * event to tell. */
	fadt = acpi_reserve(builder, FADT_SIZE - ACPI_HEADER_SIZE) - ACPI_HEADER_SIZE;
	if (builder->full)
		return;
	store_le32(fadt + FADT_FACS, (uint32_t)facs);
	store_le32(fadt + FADT_DSDT, (uint32_t)dsdt);
	store_le64(fadt + FADT_X_DSDT, dsdt);
	store_le16(fadt + FADT_SCI_INT, LAYOUT_ACPI_SCI);
	store_le32(fadt + FADT_PM1A_EVT, LAYOUT_PM_EVENT);
	fadt[FADT_PM1_EVT_LEN] = 4;
	store_le32(fadt + FADT_PM1A_CNT, LAYOUT_PM_CONTROL);
	fadt[FADT_PM1_CNT_LEN] = 2;
	store_le32(fadt + FADT_PM_TMR, LAYOUT_PM_TIMER);
	fadt[FADT_PM_TMR_LEN] = 4;
	store_le16(fadt + FADT_C2_LATENCY, 0xfff); /* no C2, no C3 */
	store_le16(fadt + FADT_C3_LATENCY, 0xfff);
	store_le16(fadt + FADT_BOOT_ARCH,
		BOOT_NO_VGA | BOOT_NO_ASPM | (config->keyboard ? BOOT_8042 : 0));
	store_le32(fadt + FADT_FLAGS, FADT_WBINVD | FADT_C1 | FADT_NO_SLEEP | FADT_NO_RTC_WAKE |
					      FADT_RESET | FADT_HEADLESS);
	fadt[FADT_RESET_REG] = 1;     /* I/O port */
	fadt[FADT_RESET_REG + 1] = 8; /* bits */
	fadt[FADT_RESET_REG + 3] = 1; /* byte access */
	store_le64(fadt + FADT_RESET_REG + 4, LAYOUT_RESET_PORT);
	fadt[FADT_RESET_VALUE] = 6;
	fadt[FADT_MINOR] = 5;
	acpi_list_table(builder);
}

/* A source override of an ISA interrupt. */
static void put_override(struct acpi_builder *builder, uint8_t irq, uint32_t gsi, uint16_t flags)
{
	acpi_put8(builder, 2);
	acpi_put8(builder, 10);
	acpi_put8(builder, 0); /* ISA */
	acpi_put8(builder, irq);
	acpi_put32(builder, gsi);
	acpi_put16(builder, flags);
}

#define ISO_ACTIVE_HIGH_LEVEL 0xd

static void build_madt(struct acpi_builder *builder, const struct acpi_config *config)
{
	acpi_open_table(builder, "APIC", 5);
	acpi_put32(builder, LAYOUT_LAPIC);
	acpi_put32(builder, config->pic ? 1 : 0); /* PCAT_COMPAT */
	for (unsigned cpu = 0; cpu < config->cpus; cpu++) {
		acpi_put8(builder, 0); /* local APIC */
		acpi_put8(builder, 8);
		acpi_put8(builder, (uint8_t)cpu); /* ACPI processor id */
		acpi_put8(builder, (uint8_t)cpu); /* APIC id */
		acpi_put32(builder, 1);           /* enabled */
	}
	acpi_put8(builder, 1); /* IOAPIC */
	acpi_put8(builder, 12);
	acpi_put8(builder, (uint8_t)config->cpus); /* its id, behind the LAPICs' */
	acpi_put8(builder, 0);
	acpi_put32(builder, LAYOUT_IOAPIC);
	acpi_put32(builder, 0); /* first GSI */
	if (config->pic)
		put_override(builder, 0, 2, 0);
	put_override(builder, LAYOUT_ACPI_SCI, LAYOUT_ACPI_SCI, ISO_ACTIVE_HIGH_LEVEL);
	acpi_put8(builder, 4); /* NMI of all processors on LINT1 */
	acpi_put8(builder, 6);
	acpi_put8(builder, 0xff);
	acpi_put16(builder, 0);
	acpi_put8(builder, 1);
	acpi_list_table(builder);
}

static void build_mcfg(struct acpi_builder *builder, const struct acpi_config *config)
{
	acpi_open_table(builder, "MCFG", 1);
	acpi_put64(builder, 0);
	acpi_put64(builder, config->ecam);
	acpi_put16(builder, 0); /* segment */
	acpi_put8(builder, 0);  /* first and last bus: Linux looks no further */
	acpi_put8(builder, 0);
	acpi_put32(builder, 0);
	acpi_list_table(builder);
}

/* Name (NAME, value): AML's NameOp, NameSeg, QWordPrefix, value. */
static void put_name(struct acpi_builder *builder, const char *name, uint64_t value)
{
	acpi_put8(builder, 0x08);
	memcpy(acpi_reserve(builder, 4), name, 4);
	acpi_put8(builder, 0x0e);
	acpi_put64(builder, value);
}

static void build_ssdt(struct acpi_builder *builder, const struct acpi_config *config)
{
	acpi_open_table(builder, "SSDT", 2);
	put_name(builder, "W32B", config->mmio32);
	put_name(builder, "W32S", config->mmio32_size);
	put_name(builder, "W64B", config->mmio64);
	put_name(builder, "W64S", config->mmio64_size);
	put_name(builder, "ECAM", config->ecam);
	acpi_list_table(builder);
}

/* At the very start, where the RSDP's room was kept. */
static void build_rsdp(struct acpi_builder *builder)
{
	uint8_t *rsdp = builder->bytes;
	uint64_t xsdt;

	acpi_open_table(builder, "XSDT", 1);
	for (unsigned i = 0; i < builder->count; i++)
		acpi_put64(builder, builder->tables[i]);
	xsdt = acpi_close_table(builder);
	memcpy(rsdp, "RSD PTR ", 8);
	memcpy(rsdp + 9, "DUET  ", 6);
	rsdp[15] = 2; /* revision */
	store_le32(rsdp + 20, 36);
	store_le64(rsdp + 24, xsdt);
	rsdp[8] = acpi_checksum(rsdp, 20); /* of ACPI 1.0's part */
	rsdp[32] = acpi_checksum(rsdp, 36);
}

int acpi_build(
	struct memory *memory, const struct acpi_config *config, uint64_t *rsdp, struct error *err)
{
	struct acpi_builder builder = {.used = 64};

	build_fadt(&builder, config);
	build_madt(&builder, config);
	build_mcfg(&builder, config);
	build_ssdt(&builder, config);
	list_compiled(&builder, generation_aml, sizeof(generation_aml));
	if (config->nodes > 1)
		acpi_build_numa(&builder, config);
	if (config->keyboard)
		list_compiled(&builder, keyboard_aml, sizeof(keyboard_aml));
	if (config->eject)
		list_compiled(&builder, eject_aml, sizeof(eject_aml));
	build_rsdp(&builder);
	if (builder.full)
		return error_set(err, ENOSPC, "the ACPI tables do not fit (%u CPUs)", config->cpus);
	*rsdp = LAYOUT_ACPI;
	if (memory_write(memory, GPA(LAYOUT_ACPI), builder.bytes, builder.used) < 0)
		return error_set(
			err, ENOMEM, "--memory: no RAM where the ACPI tables go; give more");
	return 0;
}
