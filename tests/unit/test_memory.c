/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "memory/memory.h"

#include <errno.h>

/* Two regions that touch at 64 KiB and one far away. */
static int set_up(void **state)
{
	static struct memory memory;

	memory_init(&memory);
	assert_int_equal(memory_add(&memory, GPA(0), 0x10000, MEMORY_ANONYMOUS, "a", NULL), 0);
	assert_int_equal(memory_add(&memory, GPA(0x10000), 0x10000, MEMORY_SHARED, "b", NULL), 0);
	assert_int_equal(
		memory_add(&memory, GPA(1ULL << 32), 0x1000, MEMORY_ANONYMOUS, "c", NULL), 0);
	*state = &memory;
	return 0;
}

static int tear_down(void **state)
{
	memory_free(*state);
	return 0;
}

static void gives_pointers_inside_one_region_only(void **state)
{
	const struct memory *memory = *state;

	assert_non_null(memory_at(memory, GPA(0), 0x10000));
	assert_null(memory_at(memory, GPA(0), 0x10001));
	assert_null(memory_at(memory, GPA(0xffff), 2));
	assert_non_null(memory_at(memory, GPA(0xffff), 1));
	assert_null(memory_at(memory, GPA(0x20000), 1));
	assert_null(memory_at(memory, GPA(0x1000), UINT64_MAX));
	assert_null(memory_at(memory, GPA(UINT64_MAX), 2));
	assert_non_null(memory_at(memory, GPA((1ULL << 32) + 0xfff), 1));
	assert_null(memory_at(memory, GPA((1ULL << 32) + 0xfff), 2));
}

static void copies_across_touching_regions(void **state)
{
	struct memory *memory = *state;
	uint8_t out[16], in[16] = "0123456789abcdef";

	assert_int_equal(memory_write(memory, GPA(0xfff8), in, sizeof(in)), 0);
	assert_int_equal(memory_read(memory, GPA(0xfff8), out, sizeof(out)), 0);
	assert_memory_equal(in, out, sizeof(in));
}

static void copies_all_or_nothing(void **state)
{
	struct memory *memory = *state;
	uint8_t bytes[16] = "xxxxxxxxxxxxxxxx", *end = memory_at(memory, GPA(0x1fff8), 8);

	assert_int_equal(memory_write(memory, GPA(0x1fff8), bytes, sizeof(bytes)), -EFAULT);
	assert_int_equal(end[0], 0);
	assert_int_equal(memory_read(memory, GPA(0x1fff8), bytes, sizeof(bytes)), -EFAULT);
	assert_int_equal(memory_read(memory, GPA(UINT64_MAX - 3), bytes, 16), -EFAULT);
}

static void knows_what_overlaps_ram(void **state)
{
	const struct memory *memory = *state;

	assert_true(memory_overlaps(memory, GPA(0x1ffff), 1));
	assert_false(memory_overlaps(memory, GPA(0x20000), 0x1000));
	assert_true(memory_overlaps(memory, GPA(0x20000), 1ULL << 40));
	assert_true(memory_overlaps(memory, GPA(0), UINT64_MAX));
	assert_true(memory_overlaps(memory, GPA(UINT64_MAX - 1), 16) == false);
	assert_false(memory_overlaps(memory, GPA(0), 0));
}

static void refuses_bad_regions(void **state)
{
	struct memory *memory = *state;

	assert_int_equal(
		memory_add(memory, GPA(0xf000), 0x1000, MEMORY_ANONYMOUS, "x", NULL), -EEXIST);
	assert_int_equal(
		memory_add(memory, GPA(0x40000), 0x800, MEMORY_ANONYMOUS, "x", NULL), -EINVAL);
	assert_int_equal(memory_add(memory, GPA(UINT64_MAX & ~0xfffULL), 0x2000, MEMORY_ANONYMOUS,
				 "x", NULL),
		-EINVAL);
}

static void logs_dirty_pages(void **state)
{
	struct memory *memory = *state;
	uint8_t byte = 1;

	assert_int_equal(memory_write(memory, GPA(0), &byte, 1), 0);
	assert_int_equal(memory_dirty_start(memory), 0);
	assert_int_equal(memory_dirty_take(memory, 0), 0);
	memory_mark_dirty(memory, GPA(0x1fff), 2);
	assert_int_equal(memory_dirty_take(memory, 0), 6);
	assert_int_equal(memory_dirty_take(memory, 0), 0);
	/* The second region starts a word of its own. */
	assert_int_equal(memory_write(memory, GPA(0x10000), &byte, 1), 0);
	assert_int_equal(memory_dirty_take(memory, 1), 1);
	assert_int_equal(memory_dirty_take(memory, 1000), 0);
	memory_mark_dirty(memory, GPA(1ULL << 40), 1);
	memory_dirty_stop(memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			gives_pointers_inside_one_region_only, set_up, tear_down),
		cmocka_unit_test_setup_teardown(copies_across_touching_regions, set_up, tear_down),
		cmocka_unit_test_setup_teardown(copies_all_or_nothing, set_up, tear_down),
		cmocka_unit_test_setup_teardown(knows_what_overlaps_ram, set_up, tear_down),
		cmocka_unit_test_setup_teardown(refuses_bad_regions, set_up, tear_down),
		cmocka_unit_test_setup_teardown(logs_dirty_pages, set_up, tear_down),
	};

	return cmocka_run_group_tests_name("memory", tests, NULL, NULL);
}
