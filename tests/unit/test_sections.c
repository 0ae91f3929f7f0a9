/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>

#include "base/checked.h"
#include "machine/sections.h"

static void put(struct state_writer *writer, const char *name, uint32_t version, uint32_t value)
{
	state_section_begin(writer, name, version);
	state_put_u32(writer, value);
	state_section_close(writer);
}

static int read_back(struct sections *sections, const struct state_writer *writer, size_t length,
	struct error *err)
{
	struct state_reader reader;
	int ret = state_reader_init(&reader, writer->bytes, length, err);

	*sections = (struct sections){0};
	return ret < 0 ? ret : sections_read(sections, &reader, err);
}

static void in_any_order(void **state)
{
	static const char *const names[] = {"vm", "vcpu/0", "virtio-block/disk0"};
	struct state_reader *reader;
	struct state_writer writer;
	struct sections sections;
	struct error err = {0};

	(void)state;
	state_writer_init(&writer);
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		put(&writer, names[i], 1, i);
	assert_int_equal(state_writer_finish(&writer), 0);
	assert_int_equal(read_back(&sections, &writer, writer.length, &err), 0);
	for (unsigned i = ARRAY_SIZE(names); i-- > 0;) {
		assert_int_equal(sections_all_opened(&sections, &err), -EINVAL);
		assert_int_equal(sections_open(&sections, names[i], 1, &reader, &err), 0);
		assert_int_equal(state_get_u32(reader), i);
		assert_int_equal(state_section_end(reader, &err), 0);
	}
	assert_int_equal(sections_all_opened(&sections, &err), 0);
	sections_free(&sections);
	state_writer_free(&writer);
}

static void refuses_what_is_wrong(void **state)
{
	struct state_reader *reader;
	struct state_writer writer;
	struct sections sections;
	struct error err = {0};

	(void)state;
	state_writer_init(&writer);
	put(&writer, "vm", 3, 0);
	put(&writer, "old", 0, 0);
	put(&writer, "more", 1, 0);
	assert_int_equal(state_writer_finish(&writer), 0);
	assert_int_equal(read_back(&sections, &writer, writer.length, &err), 0);
	assert_int_equal(sections_open(&sections, "pci", 1, &reader, &err), -EINVAL);
	assert_non_null(strstr(err.text, "section pci is missing"));
	assert_int_equal(sections_open(&sections, "vm", 2, &reader, &err), -ENOTSUP);
	assert_non_null(strstr(err.text, "version 3"));
	assert_int_equal(sections_open(&sections, "old", 1, &reader, &err), -ENOTSUP);
	assert_int_equal(sections_open(&sections, "vm", 3, &reader, &err), 0);
	/* Left over, and read too far. */
	assert_int_equal(state_section_end(reader, &err), -EINVAL);
	assert_int_equal(sections_all_opened(&sections, &err), -EINVAL);
	sections_free(&sections);
	state_writer_free(&writer);
}

static void refuses_doubled(void **state)
{
	struct state_writer writer;
	struct sections sections;
	struct error err = {0};

	(void)state;
	state_writer_init(&writer);
	put(&writer, "vcpu/0", 1, 0);
	put(&writer, "vcpu/0", 1, 1);
	assert_int_equal(state_writer_finish(&writer), 0);
	assert_int_equal(read_back(&sections, &writer, writer.length, &err), -EINVAL);
	assert_non_null(strstr(err.text, "vcpu/0 is there twice"));
	sections_free(&sections);
	state_writer_free(&writer);
}

static void refuses_too_many(void **state)
{
	struct state_writer writer;
	struct sections sections;
	struct error err = {0};
	char name[16];

	(void)state;
	state_writer_init(&writer);
	for (unsigned i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "s%u", i);
		put(&writer, name, 1, 0);
	}
	assert_int_equal(state_writer_finish(&writer), 0);
	assert_int_equal(read_back(&sections, &writer, writer.length, &err), -EINVAL);
	assert_non_null(strstr(err.text, "more than 256"));
	sections_free(&sections);
	state_writer_free(&writer);
}

/* Cut anywhere, or one bit of it another. */
static void refuses_damaged(void **state)
{
	struct state_writer writer;
	struct sections sections;
	struct error err = {0};

	(void)state;
	state_writer_init(&writer);
	put(&writer, "vm", 1, 0x12345678);
	put(&writer, "vcpu/0", 1, 0);
	assert_int_equal(state_writer_finish(&writer), 0);
	for (size_t length = 0; length < writer.length; length++) {
		assert_true(read_back(&sections, &writer, length, &err) < 0);
		sections_free(&sections);
	}
	for (size_t bit = 0; bit < writer.length * 8; bit++) {
		writer.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_true(read_back(&sections, &writer, writer.length, &err) < 0);
		sections_free(&sections);
		writer.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	state_writer_free(&writer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(in_any_order),
		cmocka_unit_test(refuses_what_is_wrong),
		cmocka_unit_test(refuses_doubled),
		cmocka_unit_test(refuses_too_many),
		cmocka_unit_test(refuses_damaged),
	};

	return cmocka_run_group_tests_name("sections", tests, NULL, NULL);
}
