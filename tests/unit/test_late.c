/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory of which pages come later: who touches one waits for it, each is put once, and what
 * was given back meanwhile stays so. */
#include "base/thread.h"
#include "memory/late.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define PAGES   256
#define HIGH_AT (1ULL << 32)

struct rig {
	struct memory memory;
	struct memory_late *late;
};

static gpa_t page_of(unsigned page)
{
	return GPA(HIGH_AT + page * MEMORY_PAGE);
}

static const uint8_t *host(const struct rig *rig, unsigned page)
{
	return memory_begin(&rig->memory, page_of(page), MEMORY_PAGE);
}

/* Every page has its number's byte, in a region behind a smaller one. */
static void open_memory(struct rig *rig, enum memory_kind kind)
{
	*rig = (struct rig){0};
	memory_init(&rig->memory);
	assert_int_equal(memory_add(&rig->memory, GPA(0), 3 * MEMORY_PAGE, kind, "low", NULL), 0);
	assert_int_equal(
		memory_add(&rig->memory, page_of(0), PAGES * MEMORY_PAGE, kind, "high", NULL), 0);
	for (unsigned page = 0; page < PAGES; page++)
		memset(memory_begin(&rig->memory, page_of(page), MEMORY_PAGE), (int)page | 1,
			MEMORY_PAGE);
}

/* Skipped where this host does not let anybody have it. */
static void open_rig(struct rig *rig, enum memory_kind kind)
{
	struct error err = {0};
	int ret;

	open_memory(rig, kind);
	ret = memory_late_open(&rig->late, &rig->memory, &err);
	if (ret == -EPERM || ret == -ENOTSUP) {
		assert_non_null(strstr(err.text, "post-copy"));
		memory_free(&rig->memory);
		skip();
	}
	assert_int_equal(ret, 0);
	assert_int_equal(memory_late_serve(rig->late, NULL), 0);
}

static void close_rig(struct rig *rig)
{
	memory_late_free(rig->late);
	memory_free(&rig->memory);
}

/* Those of the second 64. */
static void lack(struct rig *rig, uint64_t bits)
{
	memory_late_lack(rig->late, page_of(64), bits);
	assert_int_equal(memory_late_begin(rig->late, NULL), 0);
}

static void put(struct rig *rig, unsigned page, unsigned count, uint8_t byte)
{
	uint8_t *bytes = malloc(count * MEMORY_PAGE);

	memset(bytes, byte, count * MEMORY_PAGE);
	assert_int_equal(memory_late_put(rig->late, page_of(page), byte ? bytes : NULL,
				 count * MEMORY_PAGE, NULL),
		0);
	free(bytes);
}

struct reader {
	const uint8_t *host;
	uint8_t got;
	pthread_t thread;
};

static void *read_byte(void *opaque)
{
	struct reader *reader = opaque;

	reader->got = *(const volatile uint8_t *)reader->host;
	return NULL;
}

static void begin_reader(struct rig *rig, struct reader *reader, unsigned page)
{
	reader->host = host(rig, page);
	assert_int_equal(thread_start(&reader->thread, 65536, read_byte, reader), 0);
}

static uint8_t end_reader(struct reader *reader)
{
	pthread_join(reader->thread, NULL);
	return reader->got;
}

static gpa_t await_want(struct rig *rig)
{
	struct pollfd fd = {.fd = memory_late_word(rig->late), .events = POLLIN};
	gpa_t page = GPA(0);

	while (!memory_late_next(rig->late, &page))
		assert_int_equal(poll(&fd, 1, -1), 1);
	return page;
}

static void wait_and_put(enum memory_kind kind)
{
	struct rig rig;
	struct reader reader;

	open_rig(&rig, kind);
	lack(&rig, 0x11);
	assert_int_equal(memory_late_left(rig.late), 2);
	assert_int_equal(memory_arriving(&rig.memory), 2);
	begin_reader(&rig, &reader, 64);
	assert_true(await_want(&rig).value == page_of(64).value);
	/* Of these all but two are there, and stay. */
	put(&rig, 60, 20, 0x77);
	assert_int_equal(end_reader(&reader), 0x77);
	assert_int_equal(*host(&rig, 68), 0x77);
	assert_int_equal(*host(&rig, 65), 65);
	assert_int_equal(*host(&rig, 63), 63);
	assert_int_equal(memory_late_left(rig.late), 0);
	memory_late_end(rig.late);
	assert_int_equal(memory_arriving(&rig.memory), 0);
	assert_int_equal(*host(&rig, 64), 0x77);
	close_rig(&rig);
}

static void test_who_touches_a_page_waits_for_it(void **state)
{
	wait_and_put(MEMORY_ANONYMOUS);
}

static void test_likewise_in_memory_of_a_file_in_memory(void **state)
{
	wait_and_put(MEMORY_SHARED);
}

static void test_a_page_comes_once(void **state)
{
	struct rig rig;

	open_rig(&rig, MEMORY_ANONYMOUS);
	lack(&rig, 6);
	put(&rig, 65, 1, 0x21);
	memset(memory_begin(&rig.memory, page_of(65), MEMORY_PAGE), 0x55, MEMORY_PAGE);
	put(&rig, 65, 2, 0x22);
	assert_int_equal(*host(&rig, 65), 0x55);
	assert_int_equal(*host(&rig, 66), 0x22);
	close_rig(&rig);
}

static void test_zeroes_come_without_bytes(void **state)
{
	struct rig rig;
	struct reader reader;

	open_rig(&rig, MEMORY_ANONYMOUS);
	lack(&rig, ~0ULL);
	begin_reader(&rig, &reader, 70);
	await_want(&rig);
	put(&rig, 64, 64, 0);
	assert_int_equal(end_reader(&reader), 0);
	assert_int_equal(memory_late_left(rig.late), 0);
	assert_int_equal(*host(&rig, 64), 0);
	assert_int_equal(*host(&rig, 128), 129);
	close_rig(&rig);
}

/* A balloon's page is not put back by what was on its way. */
static void test_a_discarded_page_lacks_no_longer(void **state)
{
	struct rig rig;
	struct reader reader;

	open_rig(&rig, MEMORY_ANONYMOUS);
	lack(&rig, 0xff);
	begin_reader(&rig, &reader, 66);
	await_want(&rig);
	assert_int_equal(memory_discard(&rig.memory, page_of(65), 3 * MEMORY_PAGE), 0);
	assert_int_equal(memory_late_left(rig.late), 5);
	assert_int_equal(end_reader(&reader), 0);
	put(&rig, 64, 8, 0x42);
	assert_int_equal(*host(&rig, 65), 0);
	assert_int_equal(*host(&rig, 64), 0x42);
	/* Discarded after it came, likewise. */
	assert_int_equal(memory_discard(&rig.memory, page_of(64), MEMORY_PAGE), 0);
	put(&rig, 64, 1, 0x43);
	assert_int_equal(*host(&rig, 64), 0);
	close_rig(&rig);
}

static void test_memory_that_is_cleared_lacks_nothing(void **state)
{
	struct rig rig;

	open_rig(&rig, MEMORY_ANONYMOUS);
	lack(&rig, ~1ULL);
	/* Its table stays as it is meanwhile. */
	assert_int_equal(memory_remove(&rig.memory, GPA(0)), -EBUSY);
	assert_int_equal(memory_clear(&rig.memory), 0);
	assert_int_equal(memory_late_left(rig.late), 0);
	put(&rig, 64, 64, 0x42);
	for (unsigned page = 0; page < PAGES; page++)
		assert_int_equal(*host(&rig, page), 0);
	memory_late_end(rig.late);
	assert_int_equal(memory_remove(&rig.memory, GPA(0)), 0);
	assert_int_equal(memory_late_left(rig.late), 0);
	close_rig(&rig);
}

static void test_in_a_range_of_several_mappings(void **state)
{
	struct rig rig;

	open_rig(&rig, MEMORY_ANONYMOUS);
	/* A node for a part of it: a mapping of its own, where the host has nodes. */
	memory_prefer(&rig.memory, page_of(70), 8 * MEMORY_PAGE, 0);
	lack(&rig, ~0ULL);
	put(&rig, 64, 64, 0x42);
	for (unsigned page = 64; page < 128; page++)
		assert_int_equal(*host(&rig, page), 0x42);
	close_rig(&rig);
}

static void test_what_is_not_memory_is_refused(void **state)
{
	static const uint8_t bytes[2 * MEMORY_PAGE];
	struct rig rig;

	open_rig(&rig, MEMORY_ANONYMOUS);
	lack(&rig, 1);
	assert_int_equal(
		memory_late_put(rig.late, page_of(PAGES - 1), bytes, 2 * MEMORY_PAGE, NULL),
		-EFAULT);
	assert_int_equal(
		memory_late_put(rig.late, GPA(HIGH_AT + 8), bytes, MEMORY_PAGE, NULL), -EFAULT);
	assert_int_equal(memory_late_put(rig.late, page_of(0), bytes, 8, NULL), -EFAULT);
	assert_int_equal(memory_late_left(rig.late), 1);
	close_rig(&rig);
}

/* The end, while somebody waits. */
static void test_nobody_waits_for_ever(void **state)
{
	struct rig rig;
	struct reader reader;

	open_rig(&rig, MEMORY_ANONYMOUS);
	lack(&rig, 1);
	begin_reader(&rig, &reader, 64);
	await_want(&rig);
	memory_late_end(rig.late);
	assert_int_equal(end_reader(&reader), 0);
	close_rig(&rig);
}

static void test_pinned_memory_cannot_come_later(void **state)
{
	struct rig rig;
	struct error err;

	open_memory(&rig, MEMORY_ANONYMOUS);
	memory_pin(&rig.memory, true);
	assert_int_equal(memory_late_open(&rig.late, &rig.memory, &err), -EBUSY);
	assert_non_null(strstr(err.text, "--post-copy"));
	memory_pin(&rig.memory, false);
	memory_free(&rig.memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_who_touches_a_page_waits_for_it),
		cmocka_unit_test(test_likewise_in_memory_of_a_file_in_memory),
		cmocka_unit_test(test_a_page_comes_once),
		cmocka_unit_test(test_zeroes_come_without_bytes),
		cmocka_unit_test(test_a_discarded_page_lacks_no_longer),
		cmocka_unit_test(test_memory_that_is_cleared_lacks_nothing),
		cmocka_unit_test(test_in_a_range_of_several_mappings),
		cmocka_unit_test(test_what_is_not_memory_is_refused),
		cmocka_unit_test(test_nobody_waits_for_ever),
		cmocka_unit_test(test_pinned_memory_cannot_come_later),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
