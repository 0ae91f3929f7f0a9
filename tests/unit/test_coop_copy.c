/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "virtio/devices/coop_copy.h"

#include <duet/coop.h>
#include <errno.h>
#include <stdlib.h>

#define LOW_SIZE  (16ULL << 20)
#define HIGH      (1ULL << 32)
#define HIGH_SIZE 0x10000ULL
#define LIST      0x1000ULL
#define PAGE      MEMORY_PAGE

static struct memory memory;
static struct duet_coop_copy *list;

static int set_up(void **state)
{
	memory_init(&memory);
	assert_int_equal(memory_add(&memory, GPA(0), LOW_SIZE, MEMORY_ANONYMOUS, "low", NULL), 0);
	assert_int_equal(
		memory_add(&memory, GPA(HIGH), HIGH_SIZE, MEMORY_ANONYMOUS, "high", NULL), 0);
	list = memory_begin(&memory, GPA(LIST), sizeof(*list));
	return 0;
}

static int tear_down(void **state)
{
	memory_free(&memory);
	return 0;
}

static uint8_t *at(uint64_t gpa)
{
	return memory_begin(&memory, GPA(gpa), 1);
}

static void add(uint64_t from, uint64_t to, uint32_t pages)
{
	list->runs[list->count++] =
		(struct duet_coop_copy_run){.from = from, .to = to, .pages = pages};
}

static void fill(uint64_t gpa, uint64_t pages, unsigned seed)
{
	for (uint64_t i = 0; i < pages * PAGE; i++)
		at(gpa)[i] = (uint8_t)(i * 7 + i / PAGE + seed);
}

static void copies_runs_in_order(void **state)
{
	uint64_t done;

	fill(0x10000, 3, 1);
	fill(HIGH, 2, 9);
	add(0x10000, 0x20000, 3);
	add(HIGH, 0x30000, 2);
	add(0x20000, HIGH + 0x8000, 1);
	assert_int_equal(coop_copy(&memory, GPA(LIST), &done), 0);
	assert_int_equal(done, 6);
	assert_memory_equal(at(0x10000), at(0x20000), 3 * PAGE);
	assert_memory_equal(at(HIGH), at(0x30000), 2 * PAGE);
	assert_memory_equal(at(0x10000), at(HIGH + 0x8000), PAGE);
	assert_int_equal(at(0x23000)[0], 0);
}

static void skips_what_is_done(void **state)
{
	uint64_t done;

	fill(0x10000, 3, 1);
	list->skip = 2;
	add(0x10000, 0x20000, 3);
	assert_int_equal(coop_copy(&memory, GPA(LIST), &done), 0);
	assert_int_equal(done, 1);
	assert_int_equal(at(0x20001)[0], 0);
	assert_memory_equal(at(0x12000), at(0x22000), PAGE);
}

struct told {
	uint64_t length;
	unsigned times;
};

static void tell(void *opaque, gpa_t to, uint64_t length)
{
	struct told *told = opaque;

	assert_non_null(memory_begin(&memory, to, length));
	told->length += length;
	told->times++;
}

/* As the driver does: it goes on behind what is done, until all is. */
static void stops_early_and_goes_on(void **state)
{
	const uint64_t from = 0x100000, to = 0x800000, pages = COOP_COPY_PAGES + 5;
	struct told told = {0};
	uint64_t done;

	fill(from, pages, 3);
	add(from, to, (uint32_t)pages);
	add(0x10000, 0x20000, 1);
	assert_int_equal(coop_copy_each(&memory, GPA(LIST), &done, tell, &told), 0);
	assert_int_equal(done, COOP_COPY_PAGES);
	assert_int_equal(told.length, COOP_COPY_PAGES * PAGE);
	assert_int_equal(told.times, 1);
	assert_int_equal(at(to + COOP_COPY_PAGES * PAGE)[8], 0);
	list->skip = (uint32_t)done;
	assert_int_equal(coop_copy_each(&memory, GPA(LIST), &done, tell, &told), 0);
	assert_int_equal(done, 6);
	assert_int_equal(told.times, 3);
	assert_memory_equal(at(from), at(to), pages * PAGE);
}

static void marks_the_dirty_log(void **state)
{
	uint64_t done;

	assert_int_equal(memory_dirty_start(&memory), 0);
	add(0x10000, 0x20000, 2);
	assert_int_equal(coop_copy(&memory, GPA(LIST), &done), 0);
	assert_int_equal(memory_dirty_take(&memory, 0), 3ULL << 0x20);
	memory_dirty_stop(&memory);
}

static void copies_a_list_over_itself(void **state)
{
	uint64_t done;

	fill(0x10000, 1, 1);
	add(0x10000, LIST, 1);
	add(0x10000, 0x20000, 1);
	assert_int_equal(coop_copy(&memory, GPA(LIST), &done), 0);
	assert_int_equal(done, 2);
	assert_memory_equal(at(0x10000), at(LIST), PAGE);
	assert_memory_equal(at(0x10000), at(0x20000), PAGE);
}

static void bad_runs_copy_nothing(void **state)
{
	static const struct {
		uint64_t from, to;
		uint32_t pages;
		int error;
	} bad[] = {
		{0x10001, 0x20000, 1, -EINVAL},
		{0x10000, 0x20800, 1, -EINVAL},
		{0x10000, 0x20000, 0, -EINVAL},
		{LOW_SIZE, 0x20000, 1, -EFAULT},
		{0x10000, LOW_SIZE, 1, -EFAULT},
		{LOW_SIZE - PAGE, 0x20000, 2, -EFAULT},
		{0x10000, LOW_SIZE - PAGE, 2, -EFAULT},
		{HIGH - PAGE, 0x20000, 2, -EFAULT},
		{0x10000, 0x20000, UINT32_MAX, -EFAULT},
		{0x10000, UINT64_MAX - PAGE + 1, 1, -EFAULT},
		{UINT64_MAX - PAGE + 1, 0x20000, 2, -EFAULT},
		{HIGH + HIGH_SIZE, 0x20000, 1, -EFAULT},
	};
	uint64_t done;

	fill(0x40000, 1, 1);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		list->count = 0;
		add(0x40000, 0x50000, 1);
		add(bad[i].from, bad[i].to, bad[i].pages);
		done = 77;
		assert_int_equal(coop_copy(&memory, GPA(LIST), &done), bad[i].error);
		assert_int_equal(done, 0);
		assert_int_equal(at(0x50001)[0], 0);
	}
}

static void bad_lists_are_refused(void **state)
{
	uint64_t done;

	assert_int_equal(coop_copy(&memory, GPA(LIST), &done), -EINVAL);
	add(0x10000, 0x20000, 2);
	list->skip = 2;
	assert_int_equal(coop_copy(&memory, GPA(LIST), &done), -EINVAL);
	list->skip = UINT32_MAX;
	assert_int_equal(coop_copy(&memory, GPA(LIST), &done), -EINVAL);
	list->skip = 0;
	list->count = DUET_COOP_COPY_RUNS + 1;
	assert_int_equal(coop_copy(&memory, GPA(LIST), &done), -EINVAL);
	list->count = UINT32_MAX;
	assert_int_equal(coop_copy(&memory, GPA(LIST), &done), -EINVAL);
	assert_int_equal(coop_copy(&memory, GPA(LIST + 8), &done), -EINVAL);
	assert_int_equal(coop_copy(&memory, GPA(LOW_SIZE), &done), -EFAULT);
	assert_int_equal(coop_copy(&memory, GPA(UINT64_MAX - PAGE + 1), &done), -EFAULT);
	assert_int_equal(done, 0);
}

/* Any bytes for a list: what comes is an error, or pages within the bound, never a crash. */
static void random_lists_stay_within_memory(void **state)
{
	uint64_t done;

	srand(1);
	for (unsigned round = 0; round < 2000; round++) {
		list->count = (uint32_t)rand() % 200;
		list->skip = rand() % 4 ? 0 : (uint32_t)rand() % 8;
		for (unsigned i = 0; i < DUET_COOP_COPY_RUNS; i++)
			list->runs[i] = (struct duet_coop_copy_run){
				.from = (uint64_t)(rand() % 4200) * PAGE + (rand() % 5000 == 0),
				.to = (uint64_t)(rand() % 4200 + 2) * PAGE,
				.pages = (uint32_t)rand() % 3 + (round % 2)};
		if (coop_copy(&memory, GPA(LIST), &done) < 0)
			assert_int_equal(done, 0);
		else
			assert_in_range(done, 1, COOP_COPY_PAGES);
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(copies_runs_in_order),
		TEST(skips_what_is_done),
		TEST(stops_early_and_goes_on),
		TEST(marks_the_dirty_log),
		TEST(copies_a_list_over_itself),
		TEST(bad_runs_copy_nothing),
		TEST(bad_lists_are_refused),
		TEST(random_lists_stay_within_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
