/* SPDX-License-Identifier: Apache-2.0 */
/* The SMBIOS table as Linux and dmidecode find and walk it. */
#include "base/bytes.h"
#include "table_fixture.h"
#include "x86/layout.h"
#include "x86/smbios.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const struct smbios_config example = {
	.manufacturer = "duet",
	.product = "virtual machine",
	.serial = "SN-1",
	.uuid = {0x6f, 0x1c, 0x8e, 0x52, 0x0b, 0x7d, 0x4f, 0x1a, 0x9c, 0x3e, 0x2d, 0x5b, 0x7a, 0x4e,
		0x9f, 0x10},
};

struct table {
	const uint8_t *at, *end;
};

static struct table find(struct memory *memory)
{
	for (uint64_t at = 0xf0000; at < 0x100000; at += 16) {
		const uint8_t *entry = memory_begin(memory, GPA(at), 16);
		uint32_t length;

		if (memcmp(entry, "_SM3_", 5) != 0)
			continue;
		assert_int_equal(entry[6], 24);
		assert_int_equal(entry[7], 3);
		assert_int_equal(table_sum(entry, entry[6]), 0);
		length = load_le32(entry + 12);
		at = load_le64(entry + 16);
		assert_true(at >= 0xf0000 && at + length <= LAYOUT_RESET_VECTOR);
		entry = memory_begin(memory, GPA(at), length);
		return (struct table){entry, entry + length};
	}
	fail_msg("no SMBIOS entry point");
	return (struct table){0};
}

/* Behind the strings of @structure, which end with an empty one. */
static const uint8_t *next(const uint8_t *structure)
{
	const uint8_t *at = structure + structure[1];

	while (at[0] || at[1])
		at++;
	return at + 2;
}

/* The structure of @type; all must fill the table. */
static const uint8_t *structure(struct table table, uint8_t type)
{
	const uint8_t *found = NULL, *last = NULL;

	for (const uint8_t *at = table.at; at < table.end; at = next(at)) {
		if (at[0] == type)
			found = at;
		last = at;
	}
	assert_non_null(last);
	assert_int_equal(last[0], 127);
	assert_ptr_equal(next(last), table.end);
	assert_non_null(found);
	return found;
}

static const char *text(const uint8_t *structure, unsigned field)
{
	const char *at = (const char *)structure + structure[1];
	unsigned number = structure[field];

	if (number == 0)
		return NULL;
	while (--number)
		at += strlen(at) + 1;
	return at;
}

static void test_system(void **state)
{
	static const uint8_t uuid[] = {0x52, 0x8e, 0x1c, 0x6f, 0x7d, 0x0b, 0x1a, 0x4f, 0x9c, 0x3e,
		0x2d, 0x5b, 0x7a, 0x4e, 0x9f, 0x10};
	const uint8_t *system;

	assert_int_equal(smbios_write(*state, &example, NULL), 0);
	system = structure(find(*state), 1);
	assert_int_equal(system[1], 27);
	assert_string_equal(text(system, 4), "duet");
	assert_string_equal(text(system, 5), "virtual machine");
	assert_string_equal(text(system, 7), "SN-1");
	assert_memory_equal(system + 8, uuid, sizeof(uuid)); /* its first fields turned round */
}

static void test_others(void **state)
{
	struct table table;

	assert_int_equal(smbios_write(*state, &example, NULL), 0);
	table = find(*state);
	assert_string_equal(text(structure(table, 0), 4), "duet");
	assert_true(structure(table, 0)[19] & 1 << 4); /* a virtual machine */
	assert_string_equal(text(structure(table, 3), 7), "SN-1");
	assert_int_equal(structure(table, 32)[10], 0);
}

static void test_without_serial(void **state)
{
	struct smbios_config config = example;

	config.serial = NULL;
	assert_int_equal(smbios_write(*state, &config, NULL), 0);
	assert_null(text(structure(find(*state), 1), 7));
	assert_null(text(structure(find(*state), 3), 7));
}

static void test_longest_names(void **state)
{
	struct smbios_config config = example;
	char name[SMBIOS_TEXT_MAX + 1];

	memset(name, 'x', SMBIOS_TEXT_MAX);
	name[SMBIOS_TEXT_MAX] = 0;
	config.manufacturer = config.product = config.serial = name;
	assert_int_equal(smbios_write(*state, &config, NULL), 0);
	assert_string_equal(text(structure(find(*state), 1), 7), name);
}

static void test_no_memory(void **state)
{
	struct memory empty;
	struct error err = {0};

	(void)state;
	memory_init(&empty);
	assert_int_equal(smbios_write(&empty, &example, &err), -ENOMEM);
	assert_non_null(strstr(err.text, "--memory"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_system, table_set_up, table_tear_down),
		cmocka_unit_test_setup_teardown(test_others, table_set_up, table_tear_down),
		cmocka_unit_test_setup_teardown(test_without_serial, table_set_up, table_tear_down),
		cmocka_unit_test_setup_teardown(test_longest_names, table_set_up, table_tear_down),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
