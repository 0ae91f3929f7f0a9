/* SPDX-License-Identifier: Apache-2.0 */
/* The ACPI tables as an operating system walks them. */
#include "base/bytes.h"
#include "table_fixture.h"
#include "x86/acpi.h"
#include "x86/layout.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static struct acpi_config config_for(unsigned cpus)
{
	return (struct acpi_config){.cpus = cpus,
		.ecam = LAYOUT_ECAM,
		.mmio32 = LAYOUT_MMIO32,
		.mmio32_size = LAYOUT_MMIO32_SIZE,
		.mmio64 = 0x240000000,
		.mmio64_size = LAYOUT_MMIO64_SIZE};
}

static const uint8_t *table_at(struct memory *memory, uint64_t gpa)
{
	const uint8_t *table = memory_begin(memory, GPA(gpa), 36);

	assert_non_null(table);
	assert_true(gpa >= LAYOUT_ACPI && gpa + load_le32(table + 4) <= LAYOUT_ACPI_END);
	assert_int_equal(table_sum(table, load_le32(table + 4)), 0);
	return table;
}

/* The table that the XSDT lists by @signature; null when it does not. */
static const uint8_t *seek(struct memory *memory, uint64_t rsdp, const char *signature)
{
	const uint8_t *root = memory_begin(memory, GPA(rsdp), 36), *xsdt;

	assert_memory_equal(root, "RSD PTR ", 8);
	assert_int_equal(table_sum(root, 20), 0);
	assert_int_equal(table_sum(root, 36), 0);
	xsdt = table_at(memory, load_le64(root + 24));
	assert_memory_equal(xsdt, "XSDT", 4);
	for (unsigned at = 36; at < load_le32(xsdt + 4); at += 8) {
		const uint8_t *table = table_at(memory, load_le64(xsdt + at));

		if (!memcmp(table, signature, 4))
			return table;
	}
	return NULL;
}

static bool lists(struct memory *memory, uint64_t rsdp, const char *signature)
{
	return seek(memory, rsdp, signature) != NULL;
}

static const uint8_t *find(struct memory *memory, uint64_t rsdp, const char *signature)
{
	const uint8_t *table = seek(memory, rsdp, signature);

	if (!table)
		fail_msg("no %s", signature);
	return table;
}

static void test_fadt(void **state)
{
	struct memory *memory = *state;
	struct acpi_config config = config_for(2);
	const uint8_t *fadt, *facs;
	uint64_t rsdp;

	assert_int_equal(acpi_build(memory, &config, &rsdp, NULL), 0);
	fadt = find(memory, rsdp, "FACP");
	assert_int_equal(load_le32(fadt + 4), 276);
	assert_int_equal(load_le16(fadt + 46), LAYOUT_ACPI_SCI);
	assert_int_equal(load_le32(fadt + 56), LAYOUT_PM_EVENT);
	assert_int_equal(load_le32(fadt + 64), LAYOUT_PM_CONTROL);
	/* For who has neither kvmclock nor a frequency of the TSC. */
	assert_int_equal(load_le32(fadt + 76), LAYOUT_PM_TIMER);
	assert_int_equal(fadt[91], 4);
	assert_true(load_le32(fadt + 112) & 1 << 10);   /* reset register */
	assert_false(load_le32(fadt + 112) & 1U << 20); /* not hardware-reduced */
	assert_false(load_le32(fadt + 112) & 1 << 4);   /* fixed power button */
	assert_false(load_le16(fadt + 109) & 3);        /* no legacy devices, no 8042 */
	assert_int_equal(load_le64(fadt + 120), LAYOUT_RESET_PORT);
	assert_int_equal(fadt[128], 6);
	facs = memory_begin(memory, GPA(load_le32(fadt + 36)), 64);
	assert_memory_equal(facs, "FACS", 4);
	assert_int_equal(load_le32(fadt + 36) % 64, 0);
	assert_int_equal(load_le32(fadt + 40), load_le64(fadt + 140));
	assert_memory_equal(table_at(memory, load_le32(fadt + 40)), "DSDT", 4);
}

static void test_keyboard(void **state)
{
	struct memory *memory = *state;
	struct acpi_config config = config_for(1);
	static const uint8_t pnp0303[] = {0x41, 0xd0, 0x03, 0x03};
	unsigned found = 0;
	uint64_t rsdp;

	config.keyboard = true;
	assert_int_equal(acpi_build(memory, &config, &rsdp, NULL), 0);
	assert_int_equal(load_le16(find(memory, rsdp, "FACP") + 109) & 3, 2);
	for (uint64_t at = LAYOUT_ACPI; at < LAYOUT_ACPI + 8192 - 4; at++)
		found += !memcmp(memory_begin(memory, GPA(at), 4), pnp0303, 4);
	assert_int_equal(found, 1);
}

/* Slots that can be emptied are told of where there is something to pull, and there alone. */
static void test_eject(void **state)
{
	static const uint8_t slot[] = "S1F_", method[] = "_EJ0";
	struct memory *memory = *state;
	struct acpi_config config = config_for(1);
	unsigned slots[2] = {0}, methods[2] = {0};
	uint64_t rsdp;

	for (unsigned eject = 0; eject < 2; eject++) {
		memset(memory_begin(memory, GPA(LAYOUT_ACPI), 16384), 0, 16384);
		config.eject = eject;
		assert_int_equal(acpi_build(memory, &config, &rsdp, NULL), 0);
		for (uint64_t at = LAYOUT_ACPI; at < LAYOUT_ACPI + 16384 - 4; at++) {
			slots[eject] += !memcmp(memory_begin(memory, GPA(at), 4), slot, 4);
			methods[eject] += !memcmp(memory_begin(memory, GPA(at), 4), method, 4);
		}
	}
	assert_int_equal(slots[0] + methods[0], 0);
	/* Its device, and who notifies it. */
	assert_int_equal(slots[1], 2);
	assert_int_equal(methods[1], 31);
}

/* The page that machine/generation.c writes to, behind AML's name, package and prefix of a double
 * word. */
static void test_generation(void **state)
{
	static const uint8_t id[] = "VMGENCTR", address[] = {0x00, 0xf0, 0x0e, 0x00};
	struct memory *memory = *state;
	struct acpi_config config = config_for(1);
	unsigned ids = 0, addresses = 0;
	uint64_t rsdp;

	assert_int_equal(acpi_build(memory, &config, &rsdp, NULL), 0);
	for (uint64_t at = LAYOUT_ACPI; at < LAYOUT_ACPI + 8192 - 8; at++) {
		const uint8_t *bytes = memory_begin(memory, GPA(at), 8);

		ids += !memcmp(bytes, id, 8);
		addresses += bytes[0] == 0x0c && !memcmp(bytes + 1, address, 4);
	}
	assert_int_equal(ids, 1);
	assert_int_equal(addresses, 1);
	assert_int_equal(LAYOUT_GENERATION, 0xef000);
}

/* Counts the entries of @type, whose lengths must add up; the last one goes to @last. */
static unsigned count(const uint8_t *madt, uint8_t type, const uint8_t **last)
{
	unsigned found = 0, at = 44;

	while (at < load_le32(madt + 4)) {
		assert_true(madt[at + 1] >= 2);
		if (madt[at] == type) {
			found++;
			*last = madt + at;
		}
		at += madt[at + 1];
	}
	assert_int_equal(at, load_le32(madt + 4));
	return found;
}

static void test_madt(void **state)
{
	struct memory *memory = *state;
	struct acpi_config config = config_for(64);
	const uint8_t *madt, *entry = NULL;
	uint64_t rsdp;

	assert_int_equal(acpi_build(memory, &config, &rsdp, NULL), 0);
	madt = find(memory, rsdp, "APIC");
	assert_int_equal(load_le32(madt + 36), LAYOUT_LAPIC);
	assert_int_equal(load_le32(madt + 40), 0);
	assert_int_equal(count(madt, 0, &entry), 64);
	assert_int_equal(entry[3], 63);
	assert_int_equal(load_le32(entry + 4), 1);
	assert_int_equal(count(madt, 1, &entry), 1);
	assert_int_equal(entry[2], 64);
	assert_int_equal(load_le32(entry + 4), LAYOUT_IOAPIC);
	assert_int_equal(count(madt, 2, &entry), 1);
	assert_int_equal(entry[3], LAYOUT_ACPI_SCI);
	assert_int_equal(load_le16(entry + 8), 0xd);
	config.pic = true;
	assert_int_equal(acpi_build(memory, &config, &rsdp, NULL), 0);
	madt = find(memory, rsdp, "APIC");
	assert_int_equal(load_le32(madt + 40), 1);
	assert_int_equal(count(madt, 2, &entry), 2);
}

static void test_mcfg(void **state)
{
	struct memory *memory = *state;
	struct acpi_config config = config_for(1);
	const uint8_t *mcfg;
	uint64_t rsdp;

	assert_int_equal(acpi_build(memory, &config, &rsdp, NULL), 0);
	mcfg = find(memory, rsdp, "MCFG");
	assert_int_equal(load_le32(mcfg + 4), 60);
	assert_int_equal(load_le64(mcfg + 44), LAYOUT_ECAM);
	assert_int_equal(mcfg[54], 0); /* first and last bus */
	assert_int_equal(mcfg[55], 0);
}

/* The windows: Name objects, each 14 bytes. */
static void test_ssdt(void **state)
{
	static const char *const names[] = {"W32B", "W32S", "W64B", "W64S", "ECAM"};
	struct memory *memory = *state;
	struct acpi_config config = config_for(1);
	const uint64_t values[] = {
		config.mmio32, config.mmio32_size, config.mmio64, config.mmio64_size, config.ecam};
	const uint8_t *ssdt;
	uint64_t rsdp;

	assert_int_equal(acpi_build(memory, &config, &rsdp, NULL), 0);
	ssdt = find(memory, rsdp, "SSDT");
	assert_int_equal(load_le32(ssdt + 4), 36 + 5 * 14);
	for (unsigned i = 0; i < 5; i++) {
		const uint8_t *name = ssdt + 36 + i * 14;

		assert_int_equal(name[0], 0x08);
		assert_memory_equal(name + 1, names[i], 4);
		assert_int_equal(name[5], 0x0e);
		assert_int_equal(load_le64(name + 6), values[i]);
	}
}

/* Is @table, behind the header, byte by byte what @expected holds? */
static void assert_body(const uint8_t *table, const uint8_t *expected, unsigned size)
{
	assert_int_equal(load_le32(table + 4), 36 + size);
	assert_memory_equal(table + 36, expected, size);
}

/* ACPI 6.5, 5.2.16 and 5.2.17: two nodes, the second one's memory on both sides of the hole. */
static void test_numa(void **state)
{
	static const uint8_t srat[] = {1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
		/* processors: type, length, node, APIC id, enabled, rest */
		0, 16, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /**/
		0, 16, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /**/
		0, 16, 1, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /**/
		0, 16, 1, 3, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /**/
		/* memory: type, length, node, base, size, enabled, rest */
		1, 40, 0, 0, 0, 0, 0, 0,                              /**/
		0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0,    /**/
		0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,       /**/
		1, 40, 1, 0, 0, 0, 0, 0,                              /**/
		0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, /**/
		0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,       /**/
		1, 40, 1, 0, 0, 0, 0, 0,                              /**/
		0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0,    /**/
		0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
	static const uint8_t slit[] = {2, 0, 0, 0, 0, 0, 0, 0, 10, 31, 31, 10};
	static const struct acpi_range ranges[] = {
		{0, 0x80000000, 0}, {0x80000000, 0x40000000, 1}, {0x100000000, 0x40000000, 1}};
	struct memory *memory = *state;
	struct acpi_config config = config_for(4);
	uint64_t rsdp;

	config.nodes = 2;
	config.distance = 31;
	config.ranges = ranges;
	config.range_count = 3;
	assert_int_equal(acpi_build(memory, &config, &rsdp, NULL), 0);
	assert_body(find(memory, rsdp, "SRAT"), srat, sizeof(srat));
	assert_int_equal(find(memory, rsdp, "SRAT")[8], 3);
	assert_body(find(memory, rsdp, "SLIT"), slit, sizeof(slit));
	assert_int_equal(find(memory, rsdp, "SLIT")[8], 1);
}

/* The largest there are fit. */
static void test_numa_most(void **state)
{
	static const struct acpi_range ranges[ACPI_RANGES_MAX];
	struct memory *memory = *state;
	struct acpi_config config = config_for(64);
	uint64_t rsdp;

	config.keyboard = config.eject = true;
	config.nodes = ACPI_NODES_MAX;
	config.distance = 20;
	config.ranges = ranges;
	config.range_count = ACPI_RANGES_MAX;
	assert_int_equal(acpi_build(memory, &config, &rsdp, NULL), 0);
	assert_int_equal(
		load_le32(find(memory, rsdp, "SRAT") + 4), 48 + 64 * 16 + ACPI_RANGES_MAX * 40);
	/* Where there is one node, nothing is told of it. */
	config.nodes = 1;
	assert_int_equal(acpi_build(memory, &config, &rsdp, NULL), 0);
	assert_false(lists(memory, rsdp, "SRAT") || lists(memory, rsdp, "SLIT"));
}

static void test_no_memory(void **state)
{
	struct acpi_config config = config_for(1);
	struct memory empty;
	struct error err = {0};
	uint64_t rsdp;

	memory_init(&empty);
	assert_int_equal(acpi_build(&empty, &config, &rsdp, &err), -ENOMEM);
	assert_non_null(strstr(err.text, "--memory"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_fadt, table_set_up, table_tear_down),
		cmocka_unit_test_setup_teardown(test_keyboard, table_set_up, table_tear_down),
		cmocka_unit_test_setup_teardown(test_eject, table_set_up, table_tear_down),
		cmocka_unit_test_setup_teardown(test_generation, table_set_up, table_tear_down),
		cmocka_unit_test_setup_teardown(test_madt, table_set_up, table_tear_down),
		cmocka_unit_test_setup_teardown(test_mcfg, table_set_up, table_tear_down),
		cmocka_unit_test_setup_teardown(test_ssdt, table_set_up, table_tear_down),
		cmocka_unit_test_setup_teardown(test_numa, table_set_up, table_tear_down),
		cmocka_unit_test_setup_teardown(test_numa_most, table_set_up, table_tear_down),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
