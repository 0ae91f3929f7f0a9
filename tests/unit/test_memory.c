/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "memory/memory.h"
#include "memory/offer.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

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

	assert_non_null(memory_begin(memory, GPA(0), 0x10000));
	assert_null(memory_begin(memory, GPA(0), 0x10001));
	assert_null(memory_begin(memory, GPA(0xffff), 2));
	assert_non_null(memory_begin(memory, GPA(0xffff), 1));
	assert_null(memory_begin(memory, GPA(0x20000), 1));
	assert_null(memory_begin(memory, GPA(0x1000), UINT64_MAX));
	assert_null(memory_begin(memory, GPA(UINT64_MAX), 2));
	assert_non_null(memory_begin(memory, GPA((1ULL << 32) + 0xfff), 1));
	assert_null(memory_begin(memory, GPA((1ULL << 32) + 0xfff), 2));
}

static void finds_where_pointers_lead(void **state)
{
	static const uint64_t places[] = {0, 0xffff, 0x10000, 0x1ffff, (1ULL << 32) + 0xfff};
	const struct memory *memory = *state;
	gpa_t gpa;

	for (unsigned i = 0; i < sizeof(places) / sizeof(*places); i++) {
		assert_true(memory_locate(memory, memory_begin(memory, GPA(places[i]), 1), &gpa));
		assert_int_equal(gpa.value, places[i]);
	}
	assert_false(memory_locate(memory, &gpa, &gpa));
	assert_false(memory_locate(memory, NULL, &gpa));
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
	uint8_t bytes[16] = "xxxxxxxxxxxxxxxx", *end = memory_begin(memory, GPA(0x1fff8), 8);

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
	memory_wrote(memory, GPA(0x1fff), 2);
	assert_int_equal(memory_dirty_take(memory, 0), 6);
	assert_int_equal(memory_dirty_take(memory, 0), 0);
	/* The second region starts a word of its own. */
	assert_int_equal(memory_write(memory, GPA(0x10000), &byte, 1), 0);
	assert_int_equal(memory_dirty_take(memory, 1), 1);
	assert_int_equal(memory_dirty_take(memory, 1000), 0);
	memory_wrote(memory, GPA(1ULL << 40), 1);
	memory_dirty_stop(memory);
}

#define FILE_BASE  (1ULL << 33)
#define FILE_PAGES 4

/* A region with the bytes of a file, 'a' in its first page, 'b' in the next, ... */
static int add_file(struct memory *memory)
{
	uint8_t page[MEMORY_PAGE];
	int fd = memfd_create("test", 0);

	assert_true(fd >= 0);
	for (unsigned i = 0; i <= FILE_PAGES; i++) {
		memset(page, 'a' - 1 + (int)i, sizeof(page));
		assert_int_equal(write(fd, page, sizeof(page)), sizeof(page));
	}
	assert_int_equal(memory_add_file(memory, GPA(FILE_BASE), FILE_PAGES * MEMORY_PAGE, fd,
				 MEMORY_PAGE, "file", NULL),
		0);
	return fd;
}

static void assert_filled(const struct memory *memory, uint64_t gpa, uint8_t byte)
{
	const uint8_t *host = memory_begin(memory, GPA(gpa), MEMORY_PAGE);

	assert_non_null(host);
	for (unsigned i = 0; i < MEMORY_PAGE; i++)
		assert_int_equal(host[i], byte);
}

static void maps_a_file_and_leaves_it_alone(void **state)
{
	struct memory *memory = *state;
	int fd = add_file(memory);
	uint8_t byte = 'x', in_file;

	assert_filled(memory, FILE_BASE, 'a');
	assert_filled(memory, FILE_BASE + 3 * MEMORY_PAGE, 'd');
	assert_int_equal(memory_write(memory, GPA(FILE_BASE), &byte, 1), 0);
	assert_int_equal(pread(fd, &in_file, 1, MEMORY_PAGE), 1);
	assert_int_equal(in_file, 'a');
	close(fd);
}

/* What another process sees that has the descriptor (vhost-user). */
static void shares_what_is_a_memfd(void **state)
{
	struct memory *memory = *state;
	const struct memory_region *region = memory_region(memory, 1);
	uint8_t *other, byte = 'x';

	assert_int_equal(region->kind, MEMORY_SHARED);
	other = mmap(NULL, region->size, PROT_READ | PROT_WRITE, MAP_SHARED, region->fd, 0);
	assert_true(other != MAP_FAILED);
	assert_int_equal(memory_dirty_start(memory), 0);
	assert_int_equal(memory_write(memory, GPA(0x11000), &byte, 1), 0);
	assert_int_equal(other[0x1000], 'x');
	assert_int_equal(memory_dirty_take(memory, region->first_page / 64), 2);
	memory_dirty_stop(memory);
	other[0x2000] = 'y';
	assert_int_equal(memory_read(memory, GPA(0x12000), &byte, 1), 0);
	assert_int_equal(byte, 'y');
	/* Given back, it is gone for both. */
	assert_int_equal(memory_discard(memory, GPA(0x11000), 2 * MEMORY_PAGE), 0);
	assert_int_equal(other[0x1000], 0);
	assert_int_equal(other[0x2000], 0);
	other[0x3000] = 'z';
	assert_int_equal(memory_clear(memory), 0);
	assert_int_equal(other[0x3000], 0);
	/* The descriptor is the memory's; the pages are there as long as somebody has them. */
	other[0] = 'w';
	assert_int_equal(memory_remove(memory, GPA(0x10000)), 0);
	assert_int_equal(other[0], 'w');
	munmap(other, 0x10000);
}

/* Whatever lies behind a page, given back it reads as zeroes and nothing comes back. */
static void discards_to_zeroes(void **state)
{
	static const uint64_t bases[] = {0, 0x10000, 1ULL << 32, FILE_BASE};
	struct memory *memory = *state;
	uint8_t page[MEMORY_PAGE];

	memset(page, 'y', sizeof(page));
	close(add_file(memory));
	assert_int_equal(memory_dirty_start(memory), 0);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(memory_write(memory, GPA(bases[i]), page, sizeof(page)), 0);
		memory_dirty_take(memory, memory_region(memory, i)->first_page / 64);
		assert_int_equal(memory_discard(memory, GPA(bases[i]), MEMORY_PAGE), 0);
		assert_filled(memory, bases[i], 0);
		assert_int_equal(
			memory_dirty_take(memory, memory_region(memory, i)->first_page / 64), 1);
	}
	memory_dirty_stop(memory);
	assert_filled(memory, FILE_BASE + MEMORY_PAGE, 'b');
	assert_int_equal(memory_discard(memory, GPA(0xf000), 2 * MEMORY_PAGE), -EFAULT);
	assert_int_equal(memory_discard(memory, GPA(0x800), MEMORY_PAGE), -EINVAL);
	assert_int_equal(memory_discard(memory, GPA(1ULL << 40), MEMORY_PAGE), -EFAULT);
	assert_int_equal(memory_clear(memory), 0);
	assert_filled(memory, FILE_BASE + MEMORY_PAGE, 0);
}

static unsigned count_mappings(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	unsigned count = 0;
	int byte;

	assert_non_null(maps);
	while ((byte = fgetc(maps)) != EOF)
		count += byte == '\n';
	fclose(maps);
	return count;
}

#define MANY (40000U * 2) /* pages: with each second one a hole the process would have no room */

/* A guest that gives back each second page of a file: its owner can still start threads, and a
 * reset makes it one piece again. */
static void leaves_mappings_for_others(void **state)
{
	struct memory *memory = *state;
	const struct memory_region *region;
	int fd = memfd_create("many", 0);
	uint8_t page[MEMORY_PAGE];
	unsigned before;

	memset(page, 'x', sizeof(page));
	assert_int_equal(ftruncate(fd, (off_t)MANY * MEMORY_PAGE), 0);
	assert_int_equal(
		pwrite(fd, page, sizeof(page), (off_t)(MANY - 2) * MEMORY_PAGE), sizeof(page));
	assert_int_equal(memory_add_file(memory, GPA(FILE_BASE), (uint64_t)MANY * MEMORY_PAGE, fd,
				 0, "file", NULL),
		0);
	close(fd);
	before = count_mappings();
	for (unsigned round = 0; round < 2; round++)
		for (uint64_t i = 0; i < MANY; i += 2)
			assert_int_equal(memory_discard(memory, GPA(FILE_BASE + i * MEMORY_PAGE),
						 MEMORY_PAGE),
				0);
	assert_in_range(count_mappings() - before, 1000, 40000);
	assert_filled(memory, FILE_BASE + (uint64_t)(MANY - 2) * MEMORY_PAGE, 0);
	assert_int_equal(memory_clear(memory), 0);
	assert_in_range(count_mappings(), 0, before + 8);
	region = memory_region(memory, memory->count - 1);
	assert_int_equal(region->kind, MEMORY_ANONYMOUS);
	/* From then on pages go without a mapping of their own. */
	for (uint64_t i = 0; i < MANY; i += 2)
		assert_int_equal(
			memory_discard(memory, GPA(FILE_BASE + i * MEMORY_PAGE), MEMORY_PAGE), 0);
	assert_in_range(count_mappings(), 0, before + 8);
}

static void keeps_pinned_pages(void **state)
{
	struct memory *memory = *state;
	uint8_t *host = memory_begin(memory, GPA(0), 1);

	*host = 1;
	memory_pin(memory, true);
	assert_int_equal(memory_discard(memory, GPA(0), MEMORY_PAGE), -EBUSY);
	assert_int_equal(memory_remove(memory, GPA(0)), -EBUSY);
	assert_int_equal(
		memory_add(memory, GPA(1ULL << 40), 0x1000, MEMORY_ANONYMOUS, "x", NULL), -EBUSY);
	assert_int_equal(memory_clear(memory), 0);
	assert_int_equal(*host, 0);
	memory_pin(memory, false);
	assert_int_equal(memory_remove(memory, GPA(0)), 0);
}

static void changes_are_new_generations(void **state)
{
	struct memory *memory = *state;
	unsigned before = memory_generation(memory);

	assert_int_equal(memory_remove(memory, GPA(0x10000)), 0);
	assert_int_not_equal(memory_generation(memory), before);
	assert_null(memory_begin(memory, GPA(0x10000), 1));
	assert_non_null(memory_begin(memory, GPA(1ULL << 32), 1));
	assert_int_equal(memory_remove(memory, GPA(0x10000)), -ENOENT);
	before = memory_generation(memory);
	assert_int_equal(
		memory_add(memory, GPA(0x10000), 0x2000, MEMORY_ANONYMOUS, "again", NULL), 0);
	assert_int_not_equal(memory_generation(memory), before);
	/* Numbers of pages do not overlap, and none spans two words of the log. */
	for (unsigned i = 0; memory_region(memory, i); i++)
		assert_int_equal(memory_region(memory, i)->first_page % 64, 0);
	assert_null(memory_region(memory, 3));
}

/* Of the mapping that begins at @host: a flag of VmFlags in /proc/self/smaps. */
static bool has_flag(const void *host, const char *flag)
{
	char line[512], begin[24];
	bool here = false, found = false;
	FILE *file = fopen("/proc/self/smaps", "re");

	assert_non_null(file);
	snprintf(begin, sizeof(begin), "%lx-", (unsigned long)(uintptr_t)host);
	while (fgets(line, sizeof(line), file)) {
		if (strchr(line, '-') && strspn(line, "0123456789abcdef") > 7)
			here = strncmp(line, begin, strlen(begin)) == 0;
		if (here && strncmp(line, "VmFlags:", 8) == 0)
			found = strstr(line, flag);
	}
	fclose(file);
	return found;
}

static void offers_private_memory_alone(void **state)
{
	struct memory *memory = *state;
	struct error err = {0};

	assert_int_equal(memory_may_offer(memory, &err), -ENOTSUP);
	assert_int_equal(memory_offer(memory, GPA(0), 0x1000, true, &err), -ENOTSUP);
	assert_int_equal(memory_remove(memory, GPA(0x10000)), 0);
	assert_int_equal(memory_may_offer(memory, &err), 0);
	assert_int_equal(memory_offer(memory, GPA(0xf000), 0x2000, true, &err), -EFAULT);
	assert_int_equal(memory_offer(memory, GPA(0x800), 0x1000, true, &err), -EFAULT);
	assert_int_equal(memory_offer(memory, GPA(0), UINT64_MAX - 0xfff, true, &err), -EFAULT);
	memory_pin(memory, true);
	assert_int_equal(memory_offer(memory, GPA(0x2000), 0x1000, true, &err), -EBUSY);
	assert_int_equal(memory_offer(memory, GPA(0x2000), 0x1000, false, NULL), 0);
	memory_pin(memory, false);
}

static void offers_and_takes_back(void **state)
{
	struct memory *memory = *state;
	const void *host = memory_begin(memory, GPA(0x2000), 0x3000);
	struct memory_part part = {.gpa = 0x2000, .length = 0x3000};
	struct memory_proc proc;
	uint64_t pages;

	if (madvise(memory_begin(memory, GPA(0), 1), 4096, MADV_UNMERGEABLE) < 0) {
		print_message("skipped: the kernel has no KSM\n");
		skip();
	}
	assert_int_equal(memory_remove(memory, GPA(0x10000)), 0);
	assert_int_equal(memory_offer(memory, GPA(0x2000), 0x3000, true, NULL), 0);
	assert_true(has_flag(host, " mg"));
	assert_int_equal(memory_write(memory, GPA(0x3000), "x", 1), 0);
	memory_proc_open(&proc);
	if (memory_look_into(&proc, memory, &part, 1) == 0) {
		assert_int_equal(part.resident, 0x1000);
		assert_in_range(part.merged, 0, 0x1000);
	}
	memory_proc_close(&proc);
	memory_proc_close(&proc);
	assert_int_equal(memory_look_into(&proc, memory, &part, 1), -ENOTSUP);
	assert_int_equal(memory_merged(&proc, &pages), -ENOTSUP);
	assert_int_equal(memory_offer(memory, GPA(0x2000), 0x3000, false, NULL), 0);
	assert_false(has_flag(host, " mg"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			gives_pointers_inside_one_region_only, set_up, tear_down),
		cmocka_unit_test_setup_teardown(finds_where_pointers_lead, set_up, tear_down),
		cmocka_unit_test_setup_teardown(copies_across_touching_regions, set_up, tear_down),
		cmocka_unit_test_setup_teardown(copies_all_or_nothing, set_up, tear_down),
		cmocka_unit_test_setup_teardown(knows_what_overlaps_ram, set_up, tear_down),
		cmocka_unit_test_setup_teardown(refuses_bad_regions, set_up, tear_down),
		cmocka_unit_test_setup_teardown(logs_dirty_pages, set_up, tear_down),
		cmocka_unit_test_setup_teardown(shares_what_is_a_memfd, set_up, tear_down),
		cmocka_unit_test_setup_teardown(maps_a_file_and_leaves_it_alone, set_up, tear_down),
		cmocka_unit_test_setup_teardown(discards_to_zeroes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(leaves_mappings_for_others, set_up, tear_down),
		cmocka_unit_test_setup_teardown(keeps_pinned_pages, set_up, tear_down),
		cmocka_unit_test_setup_teardown(changes_are_new_generations, set_up, tear_down),
		cmocka_unit_test_setup_teardown(offers_private_memory_alone, set_up, tear_down),
		cmocka_unit_test_setup_teardown(offers_and_takes_back, set_up, tear_down),
	};

	return cmocka_run_group_tests_name("memory", tests, NULL, NULL);
}
