/* SPDX-License-Identifier: Apache-2.0 */
#include "x86/mptable.h"

#include "base/bytes.h"
#include "x86/layout.h"

#include <errno.h>
#include <string.h>

#define POINTER_SIZE 16
#define HEADER_SIZE  44

/* Entries, chapter 4.3: type and size. */
enum {
	ENTRY_CPU = 0,
	ENTRY_BUS = 1,
	ENTRY_IOAPIC = 2,
	ENTRY_INTERRUPT = 3,
	ENTRY_LOCAL = 4,
	SIZE_CPU = 20,
	SIZE_OTHER = 8,
};

#define CPU_ENABLED    1
#define CPU_BOOT       2
#define APIC_VERSION   0x14
#define IOAPIC_VERSION 0x20
#define INTERRUPT_INT  0
#define INTERRUPT_NMI  1
#define INTERRUPT_EXT  3
#define ALL_LAPICS     0xff
#define BUS_PCI        0 /* the number that the bus itself has */
#define BUS_ISA        1
#define ISA_IRQS       16
#define ISA_CASCADE    2
#define PCI_FIRST_GSI  16
#define PCI_PINS       8 /* of the I/O APIC, that slots share */
#define TABLE_MAX      (LAYOUT_MPTABLE_END - LAYOUT_MPTABLE)

/* The floating pointer and the table behind it. */
struct table {
	uint8_t bytes[TABLE_MAX];
	size_t used;
	uint16_t entries;
};

_Static_assert(POINTER_SIZE + HEADER_SIZE + 64 * SIZE_CPU + (3 + ISA_IRQS + 32 + 2) * SIZE_OTHER <=
		       TABLE_MAX,
	"64 CPUs and 32 slots have their entries");

static uint8_t *add(struct table *table, uint8_t type)
{
	uint8_t *entry = table->bytes + table->used;

	table->used += type == ENTRY_CPU ? SIZE_CPU : SIZE_OTHER;
	table->entries++;
	entry[0] = type;
	return entry;
}

static void add_cpus(struct table *table, unsigned cpus)
{
	for (unsigned i = 0; i < cpus; i++) {
		uint8_t *entry = add(table, ENTRY_CPU);

		entry[1] = (uint8_t)i;
		entry[2] = APIC_VERSION;
		entry[3] = CPU_ENABLED | (i == 0 ? CPU_BOOT : 0);
		/* Family 6, with FPU and APIC: CPUID tells the rest. */
		store_le32(entry + 4, 0x600);
		store_le32(entry + 8, 1 << 9 | 1);
	}
}

static void add_bus(struct table *table, uint8_t id, const char *name)
{
	uint8_t *entry = add(table, ENTRY_BUS);

	entry[1] = id;
	memcpy(entry + 2, name, 6);
}

/* Polarity and trigger (bytes 2 and 3) as is usual on the bus. */
static void add_pin(struct table *table, uint8_t bus, unsigned irq, uint8_t ioapic, unsigned pin)
{
	uint8_t *entry = add(table, ENTRY_INTERRUPT);

	entry[1] = INTERRUPT_INT;
	entry[4] = bus;
	entry[5] = (uint8_t)irq;
	entry[6] = ioapic;
	entry[7] = (uint8_t)pin;
}

static void add_pins(struct table *table, const struct mptable_config *config)
{
	const uint8_t ioapic = (uint8_t)config->cpus;

	/* IRQ 0 is the PIT's. */
	for (unsigned irq = config->pic ? 0 : 1; irq < ISA_IRQS; irq++)
		if (irq != ISA_CASCADE)
			add_pin(table, BUS_ISA, irq, ioapic, irq);
	for (unsigned slot = 1; slot < config->slots; slot++)
		add_pin(table, BUS_PCI, slot << 2, ioapic, PCI_FIRST_GSI + slot % PCI_PINS);
}

static void add_local(struct table *table, uint8_t kind, uint8_t lint)
{
	uint8_t *entry = add(table, ENTRY_LOCAL);

	entry[1] = kind;
	entry[4] = BUS_ISA;
	entry[6] = ALL_LAPICS;
	entry[7] = lint;
}

static void add_ioapic(struct table *table, const struct mptable_config *config)
{
	uint8_t *entry = add(table, ENTRY_IOAPIC);

	entry[1] = (uint8_t)config->cpus; /* its id, behind the LAPICs' */
	entry[2] = IOAPIC_VERSION;
	entry[3] = 1; /* usable */
	store_le32(entry + 4, LAYOUT_IOAPIC);
}

static uint8_t checksum(const uint8_t *bytes, size_t length)
{
	uint8_t sum = 0;

	while (length--)
		sum += *bytes++;
	return (uint8_t)-sum;
}

static void finish(struct table *table)
{
	uint8_t *pointer = table->bytes, *header = pointer + POINTER_SIZE;
	size_t length = table->used - POINTER_SIZE;

	memcpy(pointer, "_MP_", 4);
	store_le32(pointer + 4, LAYOUT_MPTABLE + POINTER_SIZE);
	pointer[8] = 1; /* length, in 16 bytes */
	pointer[9] = 4; /* version 1.4 */
	pointer[10] = checksum(pointer, POINTER_SIZE);
	memcpy(header, "PCMP", 4);
	store_le16(header + 4, (uint16_t)length);
	header[6] = 4;
	memcpy(header + 8, "DUET    DUETPC      ", 20);
	store_le16(header + 34, table->entries);
	store_le32(header + 36, LAYOUT_LAPIC);
	header[7] = checksum(header, length);
}

int mptable_write(struct memory *memory, const struct mptable_config *config, struct error *err)
{
	struct table table = {.used = POINTER_SIZE + HEADER_SIZE};

	add_cpus(&table, config->cpus);
	add_bus(&table, BUS_PCI, "PCI   ");
	add_bus(&table, BUS_ISA, "ISA   ");
	add_ioapic(&table, config);
	add_pins(&table, config);
	if (config->pic)
		add_local(&table, INTERRUPT_EXT, 0);
	add_local(&table, INTERRUPT_NMI, 1);
	finish(&table);
	if (memory_write(memory, GPA(LAYOUT_MPTABLE), table.bytes, table.used) < 0)
		return error_set(
			err, ENOMEM, "--memory: no RAM where the MP table goes; give more");
	return 0;
}
