/* SPDX-License-Identifier: Apache-2.0 */
#include "state/crc32c.h"
#include "state/state.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_checksum(void **state)
{
	uint8_t bytes[32];

	(void)state;
	/* RFC 3720, B.4. */
	memset(bytes, 0, sizeof(bytes));
	assert_int_equal(crc32c(0, bytes, sizeof(bytes)), 0x8a9136aa);
	memset(bytes, 0xff, sizeof(bytes));
	assert_int_equal(crc32c(0, bytes, sizeof(bytes)), 0x62a8ab43);
	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)i;
	assert_int_equal(crc32c(0, bytes, sizeof(bytes)), 0x46dd794e);
	assert_int_equal(crc32c(crc32c(0, bytes, 7), bytes + 7, 25), 0x46dd794e);
	for (unsigned i = 0; i <= sizeof(bytes); i++)
		assert_int_equal(crc32c_by_table(1, bytes, i), crc32c(1, bytes, i));
}

static void write_sample(struct state_writer *writer)
{
	state_writer_init(writer);
	state_section_begin(writer, "pci/00:01.0/virtio-block", 3);
	state_put_u8(writer, 0x11);
	state_put_u16(writer, 0x2233);
	state_put_u32(writer, 0x44556677);
	state_put_u64(writer, 0x8899aabbccddeeff);
	state_put_bool(writer, true);
	state_put_bytes(writer, "abc", 3);
	state_section_close(writer);
	state_section_begin(writer, "empty", 1);
	state_section_close(writer);
	assert_int_equal(state_writer_finish(writer), 0);
}

static void test_round_trip(void **state)
{
	struct state_writer writer;
	struct state_reader reader;
	struct error err;
	char bytes[3];

	(void)state;
	write_sample(&writer);
	/* Little-endian, whatever the host: the version follows the magic. */
	assert_memory_equal(writer.bytes, "DUETSAVE\1\0\0\0\x18\0pci/", 18);
	assert_int_equal(state_reader_init(&reader, writer.bytes, writer.length, &err), 0);
	assert_int_equal(state_section_next(&reader, &err), 1);
	assert_string_equal(reader.name, "pci/00:01.0/virtio-block");
	assert_int_equal(reader.version, 3);
	assert_int_equal(state_get_u8(&reader), 0x11);
	assert_int_equal(state_get_u16(&reader), 0x2233);
	assert_int_equal(state_get_u32(&reader), 0x44556677);
	assert_true(state_get_u64(&reader) == 0x8899aabbccddeeff);
	assert_true(state_get_bool(&reader));
	state_get_bytes(&reader, bytes, 3);
	assert_memory_equal(bytes, "abc", 3);
	assert_int_equal(state_section_end(&reader, &err), 0);
	assert_int_equal(state_section_next(&reader, &err), 1);
	assert_string_equal(reader.name, "empty");
	assert_int_equal(state_section_end(&reader, &err), 0);
	assert_int_equal(state_section_next(&reader, &err), 0);
	state_writer_free(&writer);
}

/* Reads all there is as bytes; the number of sections, or a negative errno. */
static int read_through(const void *bytes, size_t length)
{
	struct state_reader reader;
	struct error err;
	int sections = 0, ret;

	ret = state_reader_init(&reader, bytes, length, &err);
	if (ret < 0)
		return ret;
	while ((ret = state_section_next(&reader, &err)) == 1) {
		while (reader.at < reader.section_end)
			state_get_u8(&reader);
		ret = state_section_end(&reader, &err);
		if (ret < 0)
			return ret;
		sections++;
	}
	return ret < 0 ? ret : sections;
}

static void test_damage(void **state)
{
	struct state_writer writer;
	uint8_t *copy;

	(void)state;
	write_sample(&writer);
	assert_int_equal(read_through(writer.bytes, writer.length), 2);
	copy = malloc(writer.length);
	for (size_t cut = 0; cut < writer.length; cut++) {
		/* A buffer of that very size, so that a sanitizer sees a byte too much. */
		uint8_t *part = malloc(cut ? cut : 1);

		memcpy(part, writer.bytes, cut);
		assert_int_equal(read_through(part, cut), -EINVAL);
		free(part);
	}
	for (size_t at = 0; at < writer.length; at++) {
		for (unsigned bit = 0; bit < 8; bit++) {
			memcpy(copy, writer.bytes, writer.length);
			copy[at] ^= (uint8_t)(1U << bit);
			assert_int_equal(read_through(copy, writer.length), -EINVAL);
		}
	}
	free(copy);
	state_writer_free(&writer);
}

static void test_bounds_of_a_section(void **state)
{
	struct state_writer writer;
	struct state_reader reader;
	struct error err;

	(void)state;
	write_sample(&writer);
	assert_int_equal(state_reader_init(&reader, writer.bytes, writer.length, &err), 0);
	assert_int_equal(state_section_next(&reader, &err), 1);
	for (unsigned i = 0; i < 3; i++)
		state_get_u64(&reader);
	/* 19 bytes are there: the third read failed, and so do all others. */
	assert_int_equal(state_get_u8(&reader), 0);
	assert_int_equal(state_section_end(&reader, &err), -EINVAL);
	assert_int_equal(state_section_next(&reader, &err), -EINVAL);
	assert_int_equal(state_reader_init(&reader, writer.bytes, writer.length, &err), 0);
	assert_int_equal(state_section_next(&reader, &err), 1);
	state_get_u64(&reader);
	assert_int_equal(state_section_end(&reader, &err), -EINVAL); /* left over */
	state_writer_free(&writer);
}

static void test_bool_is_0_or_1(void **state)
{
	struct state_writer writer;
	struct state_reader reader;
	struct error err;

	(void)state;
	state_writer_init(&writer);
	state_section_begin(&writer, "s", 1);
	state_put_u8(&writer, 2);
	state_section_close(&writer);
	assert_int_equal(state_writer_finish(&writer), 0);
	assert_int_equal(state_reader_init(&reader, writer.bytes, writer.length, &err), 0);
	assert_int_equal(state_section_next(&reader, &err), 1);
	assert_false(state_get_bool(&reader));
	assert_int_equal(state_section_end(&reader, &err), -EINVAL);
	state_writer_free(&writer);
}

static void test_wrong_use_gives_no_stream(void **state)
{
	char name[STATE_NAME_MAX + 2];
	struct state_writer writer;

	(void)state;
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = 0;
	state_writer_init(&writer);
	state_section_begin(&writer, name, 1);
	state_section_close(&writer);
	assert_true(state_writer_finish(&writer) < 0);
	state_writer_free(&writer);
	state_writer_init(&writer);
	state_section_begin(&writer, "a", 1);
	state_section_begin(&writer, "b", 1);
	assert_true(state_writer_finish(&writer) < 0);
	state_writer_free(&writer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_checksum),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_bounds_of_a_section),
		cmocka_unit_test(test_bool_is_0_or_1),
		cmocka_unit_test(test_wrong_use_gives_no_stream),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
