/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that goes after its machine: each page right and once, whatever happens to the line, and
 * never do two machines run. */
#include "migrate_rig.h"

#include "base/log.h"
#include "migrate/pages.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>

#include <cmocka.h>

#define MIB   (1ULL << 20)
#define PAGES (8 * MIB / MEMORY_PAGE)

static void fill(struct rig *rig)
{
	struct memory_region const *region;

	for (unsigned i = 0; (region = memory_region(&rig->here, i)); i++)
		for (uint64_t page = 0; page < region->size / MEMORY_PAGE; page++)
			if (page % 5)
				memset(region->mapped_at + page * MEMORY_PAGE, (int)page | 1, 90);
}

/* A guest that writes for ever, and too much though it is slowed down: pre-copy has no end. */
static struct rig busy(void)
{
	return (struct rig){.low = 8 * MIB, .writes = 60000, .limit = 1, .wait = 30};
}

static void migrate(struct rig *rig)
{
	if (!rig_has_late())
		skip();
	rig_open(rig);
	fill(rig);
	rig_migrate(rig);
}

static void assert_moved(const struct rig *rig)
{
	rig_assert_moved(rig);
	assert_int_equal(rig->result, 0);
	assert_true(atomic_load(&rig->progress.left) == 0);
}

static void test_it_is_the_way_out(void **state)
{
	for (unsigned streams = 1; streams <= WIRE_STREAMS_MAX; streams *= 4) {
		struct rig rig = busy();

		rig.streams = streams;
		rig.high = 4 * MIB;
		rig.compress = streams == 4;
		rig.force = streams == 16;
		migrate(&rig);
		assert_moved(&rig);
		rig_close(&rig);
	}
}

static void test_a_guest_at_rest_moves_as_ever(void **state)
{
	struct rig rig = {.low = 8 * MIB, .wait = 30};

	migrate(&rig);
	assert_int_equal(rig.end, SOURCE_MOVED);
	assert_true(rig_same_memory(&rig));
	assert_int_equal(rig.followed, 0);
	rig_close(&rig);
}

/* Of the machine there, as its guest sees it. */
static void compare(struct rig *rig, uint64_t page)
{
	const uint64_t offset = page * MEMORY_PAGE;

	assert_memory_equal(memory_region(&rig->there, 0)->mapped_at + offset,
		memory_region(&rig->here, 0)->mapped_at + offset, MEMORY_PAGE);
}

/* Before anything goes that nobody has asked for. */
static void touch_all(struct rig *rig)
{
	for (uint64_t i = 0; i < PAGES; i++)
		compare(rig, i * 1021 % PAGES);
}

static void test_who_touches_a_page_is_given_it(void **state)
{
	struct rig rig = busy();

	rig.follows = touch_all;
	migrate(&rig);
	assert_moved(&rig);
	assert_true(atomic_load(&rig.progress.urgent) > 100);
	rig_close(&rig);
}

static void test_the_state_is_restored_with_pages_that_lack(void **state)
{
	struct rig rig = busy();

	rig.restores = touch_all;
	migrate(&rig);
	assert_moved(&rig);
	assert_true(atomic_load(&rig.progress.urgent) > 100);
	rig_close(&rig);
}

/* ---- the line ---- */

static void touch_and_cut(struct rig *rig)
{
	for (uint64_t i = 0; i < 100; i++)
		compare(rig, i);
	rig_cut(rig);
}

static void test_a_cut_line_is_mended(void **state)
{
	for (unsigned streams = 1; streams < 4; streams++) {
		struct rig rig = busy();

		rig.streams = streams;
		rig.follows = touch_and_cut;
		migrate(&rig);
		assert_moved(&rig);
		assert_true(atomic_load(&rig.progress.cuts) >= 1);
		rig_close(&rig);
	}
}

static pthread_t toucher;

static void *touch(void *opaque)
{
	struct rig *rig = opaque;

	for (uint64_t i = 0; i < PAGES; i++)
		compare(rig, i * 1021 % PAGES);
	return NULL;
}

/* A guest goes on to touch pages while there is none. */
static void cut_with_a_toucher(struct rig *rig)
{
	rig_cut(rig);
	assert_int_equal(pthread_create(&toucher, NULL, touch, rig), 0);
}

static void test_who_waits_while_it_is_cut_is_given_it_then(void **state)
{
	struct rig rig = busy();

	rig.follows = cut_with_a_toucher;
	migrate(&rig);
	assert_moved(&rig);
	pthread_join(toucher, NULL);
	rig_close(&rig);
}

/* Its process has ended. */
static void leave(struct rig *rig)
{
	touch_and_cut(rig);
	eventfd_write(rig->gone, 1);
}

static void test_a_source_that_is_gone(void **state)
{
	struct rig rig = busy();

	rig.wait = 1;
	rig.follows = leave;
	migrate(&rig);
	assert_int_equal(rig.end, SOURCE_TORN);
	assert_true(rig.runs_there && !rig.runs_here && rig.arrived);
	assert_int_equal(rig.arrival_result, -ETIMEDOUT);
	assert_non_null(strstr(rig.arrival_err.text, "did not come again within 1 s"));
	rig_close(&rig);
}

static void test_a_target_that_is_gone(void **state)
{
	struct rig rig = busy();

	rig.wait = 1;
	rig.follows = rig_kill_target;
	migrate(&rig);
	assert_int_equal(rig.end, SOURCE_TORN);
	assert_non_null(strstr(rig.source_err.text, "nobody waits there"));
	assert_false(rig.runs_here || rig.disks_here);
	rig_close(&rig);
}

/* ---- before it is given away ---- */

static void test_each_step_fails(void **state)
{
	for (enum rig_step step = RIG_CONFIG; step < RIG_STEPS; step++) {
		struct rig rig = busy();

		rig.fails = step;
		rig.streams = 2;
		migrate(&rig);
		rig_assert_stays(&rig);
		assert_int_equal(rig.fails, RIG_NOTHING);
		rig_close(&rig);
	}
}

/* Who restores it waits for pages that nobody will send, and is let go. */
static void cancel_and_touch(struct rig *rig)
{
	eventfd_write(rig->gone, 1);
	for (uint64_t page = 0; page < PAGES; page++)
		(void)*(const volatile uint8_t *)memory_begin(
			&rig->there, GPA(page * MEMORY_PAGE), 1);
}

static void test_it_is_cancelled_while_it_is_restored(void **state)
{
	struct rig rig = busy();

	rig.restores = cancel_and_touch;
	migrate(&rig);
	rig_assert_stays(&rig);
	rig_close(&rig);
}

static enum source_end try_fault(
	enum rig_fault fault, bool of_target, uint64_t at, uint64_t said[2])
{
	struct rig rig = {.low = 64 * MEMORY_PAGE,
		.writes = 4000,
		.limit = 1,
		.wait = 20,
		.fault = fault,
		.of_target = of_target,
		.at = at};

	rig_open(&rig);
	fill(&rig);
	rig_migrate(&rig);
	assert_false(rig.runs_here && rig.runs_there);
	/* Whatever came of commit: over the next line one learns of the other whose it is. */
	if (rig.runs_there)
		assert_moved(&rig);
	else
		assert_int_equal(rig.end, SOURCE_STAYS);
	if (rig.end == SOURCE_STAYS)
		assert_true(rig.runs_here && rig.disks_here);
	if (said)
		memcpy(said, rig.said, sizeof(rig.said));
	rig_close(&rig);
	return rig.end;
}

/* The target's word is not needed: who takes the source's second call has the machine. */
static void test_an_answer_that_is_lost(void **state)
{
	uint64_t said[2];

	if (!rig_has_late())
		skip();
	assert_int_equal(try_fault(RIG_WHOLE, true, 0, said), SOURCE_MOVED);
	for (uint64_t back = 1; back <= WIRE_HEADER; back += 6)
		assert_int_equal(try_fault(RIG_CUT, true, said[1] - back, NULL), SOURCE_MOVED);
	/* And ready, before. */
	for (uint64_t back = WIRE_HEADER + 1; back <= 2 * WIRE_HEADER; back += 6)
		assert_int_equal(try_fault(RIG_CUT, true, said[1] - back, NULL), SOURCE_STAYS);
}

/* All that the source says, also what follows the machine: at many of its bytes, more of them near
 * the end. */
static void fail_at_each(enum rig_fault fault)
{
	uint64_t said[2];
	unsigned ends[4] = {0};

	if (!rig_has_late())
		skip();
	try_fault(RIG_WHOLE, false, 0, said);
	for (uint64_t at = 0; at < said[0]; at += said[0] - at < 60000 ? 1201 : said[0] / 150)
		ends[try_fault(fault, false, at, NULL)]++;
	assert_true(ends[SOURCE_STAYS] > 50 && ends[SOURCE_MOVED] > 20);
}

static void test_the_line_is_cut_at_each_byte_and_mended(void **state)
{
	fail_at_each(RIG_CUT_ONCE);
}

static void test_each_byte_is_altered(void **state)
{
	fail_at_each(RIG_ALTER);
}

/* ---- who gives back ---- */

static void discard_and_touch(struct rig *rig)
{
	static const uint8_t zeroes[MEMORY_PAGE];

	assert_int_equal(memory_discard(&rig->there, GPA(0), rig->low / 2), 0);
	for (uint64_t page = 0; page < PAGES / 2; page++)
		assert_memory_equal(memory_region(&rig->there, 0)->mapped_at + page * MEMORY_PAGE,
			zeroes, MEMORY_PAGE);
	/* The same here, for who compares. */
	memset(memory_region(&rig->here, 0)->mapped_at, 0, rig->low / 2);
}

static void test_what_is_given_back_does_not_come_back(void **state)
{
	struct rig rig = busy();

	rig.follows = discard_and_touch;
	migrate(&rig);
	assert_moved(&rig);
	rig_close(&rig);
}

static void test_a_guest_that_resets_needs_nothing(void **state)
{
	struct rig rig = busy();

	rig.follows = rig_clear_memory;
	migrate(&rig);
	assert_int_equal(rig.end, SOURCE_MOVED);
	assert_true(rig.arrived && rig.arrival_result == 0 && rig_same_memory(&rig));
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_it_is_the_way_out),
		cmocka_unit_test(test_a_guest_at_rest_moves_as_ever),
		cmocka_unit_test(test_who_touches_a_page_is_given_it),
		cmocka_unit_test(test_the_state_is_restored_with_pages_that_lack),
		cmocka_unit_test(test_a_cut_line_is_mended),
		cmocka_unit_test(test_who_waits_while_it_is_cut_is_given_it_then),
		cmocka_unit_test(test_a_source_that_is_gone),
		cmocka_unit_test(test_a_target_that_is_gone),
		cmocka_unit_test(test_each_step_fails),
		cmocka_unit_test(test_it_is_cancelled_while_it_is_restored),
		cmocka_unit_test(test_an_answer_that_is_lost),
		cmocka_unit_test(test_the_line_is_cut_at_each_byte_and_mended),
		cmocka_unit_test(test_each_byte_is_altered),
		cmocka_unit_test(test_what_is_given_back_does_not_come_back),
		cmocka_unit_test(test_a_guest_that_resets_needs_nothing),
	};

	/* Of a line that is cut it says so each time. */
	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
