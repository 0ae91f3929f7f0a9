/* SPDX-License-Identifier: Apache-2.0 */
/* The MP table as Linux reads it with acpi=off. */
#include "base/bytes.h"
#include "table_fixture.h"
#include "x86/layout.h"
#include "x86/mptable.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* Found as the specification says: every 16 bytes of the BIOS's 64 KiB. */
static const uint8_t *find(struct memory *memory)
{
	for (uint64_t at = 0xf0000; at < 0x100000; at += 16) {
		const uint8_t *pointer = memory_begin(memory, GPA(at), 16);

		if (memcmp(pointer, "_MP_", 4) == 0) {
			const uint8_t *table =
				memory_begin(memory, GPA(load_le32(pointer + 4)), 44);

			assert_int_equal(table_sum(pointer, 16), 0);
			assert_int_equal(pointer[8], 1);
			assert_int_equal(pointer[9], 4);
			assert_int_equal(pointer[11], 0); /* there is a table */
			assert_memory_equal(table, "PCMP", 4);
			assert_int_equal(table_sum(table, load_le16(table + 4)), 0);
			assert_int_equal(load_le32(table + 36), LAYOUT_LAPIC);
			return table;
		}
	}
	fail_msg("no MP table");
	return NULL;
}

/* Walks the table to its end; the number of entries of @type, the @nth of which goes to @entry. */
static unsigned count(const uint8_t *table, uint8_t type, unsigned nth, const uint8_t **entry)
{
	unsigned at = 44, found = 0, all = 0;

	for (; at < load_le16(table + 4); at += table[at] == 0 ? 20 : 8, all++)
		if (table[at] == type && found++ == nth)
			*entry = table + at;
	assert_int_equal(at, load_le16(table + 4));
	assert_int_equal(all, load_le16(table + 34));
	return found;
}

/* The pin that @irq of bus @bus is wired to, -1 without. */
static int pin_of(const uint8_t *table, uint8_t bus, uint8_t irq, uint8_t ioapic)
{
	const uint8_t *entry = NULL;
	unsigned pins = count(table, 3, 0, &entry);

	for (unsigned i = 0; i < pins; i++) {
		count(table, 3, i, &entry);
		assert_int_equal(entry[6], ioapic);
		if (entry[4] == bus && entry[5] == irq)
			return entry[7];
	}
	return -1;
}

static void test_cpus(void **state)
{
	for (unsigned cpus = 1; cpus <= 64; cpus += 21) {
		struct mptable_config config = {.cpus = cpus, .slots = 32};
		const uint8_t *table, *entry = NULL;

		assert_int_equal(mptable_write(*state, &config, NULL), 0);
		table = find(*state);
		assert_int_equal(count(table, 0, 0, &entry), cpus);
		assert_int_equal(entry[1], 0);
		assert_int_equal(entry[3], 3); /* the boot processor */
		count(table, 0, cpus - 1, &entry);
		assert_int_equal(entry[1], cpus - 1);
		assert_int_equal(entry[3] & 1, 1);
		assert_int_equal(count(table, 2, 0, &entry), 1);
		assert_int_equal(entry[1], cpus);
		assert_int_equal(load_le32(entry + 4), LAYOUT_IOAPIC);
	}
}

static void test_wires(void **state)
{
	struct mptable_config config = {.cpus = 2, .slots = 32};
	const uint8_t *table, *entry = NULL;

	assert_int_equal(mptable_write(*state, &config, NULL), 0);
	table = find(*state);
	assert_int_equal(count(table, 1, 0, &entry), 2);
	assert_memory_equal(entry + 1, "\0PCI   ", 7);
	count(table, 1, 1, &entry);
	assert_memory_equal(entry + 1, "\1ISA   ", 7);
	assert_int_equal(pin_of(table, 1, LAYOUT_SERIAL_GSI, 2), LAYOUT_SERIAL_GSI);
	assert_int_equal(pin_of(table, 1, LAYOUT_RTC_GSI, 2), LAYOUT_RTC_GSI);
	assert_int_equal(pin_of(table, 1, 0, 2), -1); /* no PIT */
	for (unsigned slot = 1; slot < 32; slot++)
		assert_int_equal(pin_of(table, 0, (uint8_t)(slot << 2), 2), 16 + slot % 8);
	config.pic = true;
	assert_int_equal(mptable_write(*state, &config, NULL), 0);
	table = find(*state);
	assert_int_equal(pin_of(table, 1, 0, 2), 0); /* as KVM has it */
	assert_int_equal(count(table, 4, 0, &entry), 2);
	assert_int_equal(entry[1], 3); /* the PIC's */
}

static void test_no_memory(void **state)
{
	struct mptable_config config = {.cpus = 1};
	struct memory empty;
	struct error err = {0};

	(void)state;
	memory_init(&empty);
	assert_int_equal(mptable_write(&empty, &config, &err), -ENOMEM);
	assert_non_null(strstr(err.text, "--memory"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_cpus, table_set_up, table_tear_down),
		cmocka_unit_test_setup_teardown(test_wires, table_set_up, table_tear_down),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
