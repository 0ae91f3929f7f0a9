/* SPDX-License-Identifier: Apache-2.0 */
#include "x86/acpi.h"

#include "base/bytes.h"
#include "base/checked.h"
#include "dsdt.h"
#include "generation.h"
#include "keyboard.h"
#include "x86/layout.h"

#include <errno.h>
#include <string.h>

#define HEADER_SIZE 36
#define TABLES_MAX  6

/* Tables under construction: a copy of [LAYOUT_ACPI, LAYOUT_ACPI_END), as much of it as is used. */
struct builder {
	uint8_t bytes[8192];
	size_t used;
	size_t table;                /* where the open table starts */
	uint64_t tables[TABLES_MAX]; /* GPAs for the XSDT */
	unsigned count;
	bool full;
};

/* Room of @size zero bytes; the last bytes again, and @full, when there is none. */
static uint8_t *reserve(struct builder *builder, size_t size)
{
	uint8_t *place = builder->bytes + builder->used;

	if (size > sizeof(builder->bytes) - builder->used) {
		builder->full = true;
		builder->used = 0;
		return builder->bytes;
	}
	builder->used += size;
	return place;
}

static void put8(struct builder *builder, uint8_t value)
{
	*reserve(builder, 1) = value;
}

static void put16(struct builder *builder, uint16_t value)
{
	store_le16(reserve(builder, 2), value);
}

static void put32(struct builder *builder, uint32_t value)
{
	store_le32(reserve(builder, 4), value);
}

static void put64(struct builder *builder, uint64_t value)
{
	store_le64(reserve(builder, 8), value);
}

static void align(struct builder *builder, size_t alignment)
{
	reserve(builder, align_up(builder->used, alignment) - builder->used);
}

static uint8_t checksum(const uint8_t *bytes, size_t length)
{
	uint8_t sum = 0;

	while (length--)
		sum += *bytes++;
	return (uint8_t)-sum;
}

static void open_table(struct builder *builder, const char *signature, uint8_t revision)
{
	uint8_t *header;

	align(builder, 64); /* the FACS needs it, the others do not mind */
	builder->table = builder->used;
	header = reserve(builder, HEADER_SIZE);
	memcpy(header, signature, 4);
	header[8] = revision;
	memcpy(header + 10, "DUET  DUETPC  ", 14);
	store_le32(header + 24, 1);
	memcpy(header + 28, "DUET", 4);
	store_le32(header + 32, 1);
}

/* Returns the table's GPA. */
static uint64_t close_table(struct builder *builder)
{
	uint8_t *table = builder->bytes + builder->table;
	size_t length = builder->used - builder->table;

	if (builder->full)
		return 0;
	store_le32(table + 4, (uint32_t)length);
	table[9] = 0;
	table[9] = checksum(table, length);
	return LAYOUT_ACPI + builder->table;
}

static void list_table(struct builder *builder)
{
	builder->tables[builder->count++] = close_table(builder);
}

/* No header and no checksum of the usual kind. */
static uint64_t build_facs(struct builder *builder)
{
	uint8_t *facs;

	align(builder, 64);
	facs = reserve(builder, 64);
	memcpy(facs, "FACS", 4);
	store_le32(facs + 4, 64);
	facs[32] = 2; /* version */
	return LAYOUT_ACPI + (uint64_t)(facs - builder->bytes);
}

/* A table of iasl's, with its header and checksum. */
static uint64_t put_compiled(struct builder *builder, const uint8_t *table, size_t length)
{
	uint64_t address;

	align(builder, 64);
	address = LAYOUT_ACPI + builder->used;
	memcpy(reserve(builder, length), table, length);
	return address;
}

static void list_compiled(struct builder *builder, const uint8_t *table, size_t length)
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

static void build_fadt(struct builder *builder, const struct acpi_config *config)
{
	uint64_t facs = build_facs(builder);
	uint64_t dsdt = put_compiled(builder, dsdt_aml, sizeof(dsdt_aml));
	uint8_t *fadt;

	open_table(builder, "FACP", 6);
	/* No SMI command: the machine is in ACPI mode from the start. No GPE block: nothing has an
	 * event to tell. */
	fadt = reserve(builder, FADT_SIZE - HEADER_SIZE) - HEADER_SIZE;
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
	list_table(builder);
}

/* A source override of an ISA interrupt. */
static void put_override(struct builder *builder, uint8_t irq, uint32_t gsi, uint16_t flags)
{
	put8(builder, 2);
	put8(builder, 10);
	put8(builder, 0); /* ISA */
	put8(builder, irq);
	put32(builder, gsi);
	put16(builder, flags);
}

#define ISO_ACTIVE_HIGH_LEVEL 0xd

static void build_madt(struct builder *builder, const struct acpi_config *config)
{
	open_table(builder, "APIC", 5);
	put32(builder, LAYOUT_LAPIC);
	put32(builder, config->pic ? 1 : 0); /* PCAT_COMPAT */
	for (unsigned cpu = 0; cpu < config->cpus; cpu++) {
		put8(builder, 0); /* local APIC */
		put8(builder, 8);
		put8(builder, (uint8_t)cpu); /* ACPI processor id */
		put8(builder, (uint8_t)cpu); /* APIC id */
		put32(builder, 1);           /* enabled */
	}
	put8(builder, 1); /* IOAPIC */
	put8(builder, 12);
	put8(builder, (uint8_t)config->cpus); /* its id, behind the LAPICs' */
	put8(builder, 0);
	put32(builder, LAYOUT_IOAPIC);
	put32(builder, 0); /* first GSI */
	if (config->pic)
		put_override(builder, 0, 2, 0);
	put_override(builder, LAYOUT_ACPI_SCI, LAYOUT_ACPI_SCI, ISO_ACTIVE_HIGH_LEVEL);
	put8(builder, 4); /* NMI of all processors on LINT1 */
	put8(builder, 6);
	put8(builder, 0xff);
	put16(builder, 0);
	put8(builder, 1);
	list_table(builder);
}

static void build_mcfg(struct builder *builder, const struct acpi_config *config)
{
	open_table(builder, "MCFG", 1);
	put64(builder, 0);
	put64(builder, config->ecam);
	put16(builder, 0); /* segment */
	put8(builder, 0);  /* first and last bus: Linux looks no further */
	put8(builder, 0);
	put32(builder, 0);
	list_table(builder);
}

/* Name (NAME, value): AML's NameOp, NameSeg, QWordPrefix, value. */
static void put_name(struct builder *builder, const char *name, uint64_t value)
{
	put8(builder, 0x08);
	memcpy(reserve(builder, 4), name, 4);
	put8(builder, 0x0e);
	put64(builder, value);
}

static void build_ssdt(struct builder *builder, const struct acpi_config *config)
{
	open_table(builder, "SSDT", 2);
	put_name(builder, "W32B", config->mmio32);
	put_name(builder, "W32S", config->mmio32_size);
	put_name(builder, "W64B", config->mmio64);
	put_name(builder, "W64S", config->mmio64_size);
	put_name(builder, "ECAM", config->ecam);
	list_table(builder);
}

/* At the very start, where the RSDP's room was kept. */
static void build_rsdp(struct builder *builder)
{
	uint8_t *rsdp = builder->bytes;
	uint64_t xsdt;

	open_table(builder, "XSDT", 1);
	for (unsigned i = 0; i < builder->count; i++)
		put64(builder, builder->tables[i]);
	xsdt = close_table(builder);
	memcpy(rsdp, "RSD PTR ", 8);
	memcpy(rsdp + 9, "DUET  ", 6);
	rsdp[15] = 2; /* revision */
	store_le32(rsdp + 20, 36);
	store_le64(rsdp + 24, xsdt);
	rsdp[8] = checksum(rsdp, 20); /* of ACPI 1.0's part */
	rsdp[32] = checksum(rsdp, 36);
}

int acpi_build(
	struct memory *memory, const struct acpi_config *config, uint64_t *rsdp, struct error *err)
{
	struct builder builder = {.used = 64};

	build_fadt(&builder, config);
	build_madt(&builder, config);
	build_mcfg(&builder, config);
	build_ssdt(&builder, config);
	list_compiled(&builder, generation_aml, sizeof(generation_aml));
	if (config->keyboard)
		list_compiled(&builder, keyboard_aml, sizeof(keyboard_aml));
	build_rsdp(&builder);
	if (builder.full)
		return error_set(err, ENOSPC, "the ACPI tables do not fit (%u CPUs)", config->cpus);
	*rsdp = LAYOUT_ACPI;
	if (memory_write(memory, GPA(LAYOUT_ACPI), builder.bytes, builder.used) < 0)
		return error_set(
			err, ENOMEM, "--memory: no RAM where the ACPI tables go; give more");
	return 0;
}
