/* SPDX-License-Identifier: Apache-2.0 */
/* What of a guest's memory is offered, by what it names and writes to: a guest, a kernel and a
 * clock that are none, by the linker's --wrap. */
#include "loop_rig.h"

#include "machine/sharing.h"

#include "base/checked.h"
#include "base/clock.h"
#include "machine/sharing_list.h"
#include "virtio/devices.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define PAGES 1024
#define FAR   (1ULL << 32) /* where the second region is */

/* ---- the kernel ---- */

static bool offered[2 * PAGES]; /* pages of both regions */
static unsigned offers, offers_fail_after;
static bool tells_merged;
static uint64_t merged_of_all; /* parts in 100: of what is offered */

static unsigned page_of(uint64_t gpa)
{
	return (unsigned)(gpa >= FAR ? PAGES + (gpa - FAR) / MEMORY_PAGE : gpa / MEMORY_PAGE);
}

int __wrap_memory_offer(
	struct memory *memory, gpa_t gpa, uint64_t length, bool offer, struct error *err);
int __wrap_memory_offer(
	struct memory *memory, gpa_t gpa, uint64_t length, bool offer, struct error *err)
{
	const unsigned first = page_of(gpa.value);

	if (offer && ++offers > offers_fail_after)
		return error_set(err, ENOSPC, "no more mappings");
	assert_non_null(memory_begin(memory, gpa, length));
	for (unsigned i = 0; i < length / MEMORY_PAGE; i++) {
		/* Nothing is said twice, unless something failed in the middle. */
		if (offers_fail_after == UINT32_MAX)
			assert_int_not_equal(offered[first + i], offer);
		offered[first + i] = offer;
	}
	return 0;
}

int __wrap_memory_look_into(const struct memory_proc *proc, const struct memory *memory,
	struct memory_part *parts, unsigned count);
int __wrap_memory_look_into(const struct memory_proc *proc, const struct memory *memory,
	struct memory_part *parts, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		parts[i].resident = parts[i].length;
		parts[i].merged = parts[i].length / 100 * merged_of_all;
	}
	return tells_merged ? 0 : -ENOTSUP;
}

/* ---- the clock, which goes on by leaps too ---- */

static uint64_t leapt; /* ns */
int __real_clock_gettime(clockid_t clock, struct timespec *now);
int __wrap_clock_gettime(clockid_t clock, struct timespec *now);
int __wrap_clock_gettime(clockid_t clock, struct timespec *now)
{
	int ret = __real_clock_gettime(clock, now);

	now->tv_sec += (time_t)(leapt / SECOND_NS);
	return ret;
}

/* ---- the guest ---- */

static struct virtio_coop_runs state_of;
static struct virtio_coop_run named[64];
static bool no_driver;

int __wrap_virtio_coop_wish(struct device *device, enum virtio_coop_kind kind, struct error *err);
int __wrap_virtio_coop_wish(struct device *device, enum virtio_coop_kind kind, struct error *err)
{
	if (no_driver)
		return error_set(err, ENOTSUP, "no driver");
	state_of.wished++;
	return 0;
}

void __wrap_virtio_coop_runs(
	struct device *device, enum virtio_coop_kind kind, struct virtio_coop_runs *runs);
void __wrap_virtio_coop_runs(
	struct device *device, enum virtio_coop_kind kind, struct virtio_coop_runs *runs)
{
	*runs = state_of;
}

void __wrap_virtio_coop_each_run(struct device *device, enum virtio_coop_kind kind,
	void (*visit)(void *opaque, const struct virtio_coop_run *run), void *opaque);
void __wrap_virtio_coop_each_run(struct device *device, enum virtio_coop_kind kind,
	void (*visit)(void *opaque, const struct virtio_coop_run *run), void *opaque)
{
	for (unsigned i = 0; i < state_of.count; i++)
		visit(opaque, &named[i]);
}

/* ---- the rig ---- */

struct rig {
	struct memory memory;
	struct loop *loop;
	struct sharing sharing;
};

static int make(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	memory_init(&rig->memory);
	assert_int_equal(memory_add(&rig->memory, GPA(0), PAGES * MEMORY_PAGE, MEMORY_ANONYMOUS,
				 "low", NULL),
		0);
	assert_int_equal(memory_add(&rig->memory, GPA(FAR), PAGES * MEMORY_PAGE, MEMORY_ANONYMOUS,
				 "high", NULL),
		0);
	assert_int_equal(loop_new(&rig->loop, 16, NULL), 0);
	sharing_init(&rig->sharing, &rig->memory, rig->loop);
	rig->sharing.coop = (struct device *)rig;
	memset(offered, 0, sizeof(offered));
	state_of = (struct virtio_coop_runs){0};
	offers = 0;
	offers_fail_after = UINT32_MAX;
	tells_merged = no_driver = false;
	*state = rig;
	return 0;
}

static int drop(void **state)
{
	struct rig *rig = *state;

	sharing_end(&rig->sharing);
	loop_free(rig->loop);
	memory_free(&rig->memory);
	free(rig);
	return 0;
}

/* Lets @seconds pass, and what is due then be done. */
static void passes(struct rig *rig, unsigned seconds)
{
	leapt += seconds * SECOND_NS;
	loop_run_for(rig->loop, 0);
}

struct pages {
	unsigned first, count;
};

/* The guest answers the last wish, and the sharing looks. */
static void answers(struct rig *rig, const struct pages *pages, unsigned count)
{
	state_of.told = state_of.wished;
	state_of.complete = true;
	state_of.count = count;
	for (unsigned i = 0; i < count; i++)
		named[i] = (struct virtio_coop_run){
			.gpa = pages[i].first >= PAGES
				       ? FAR + (pages[i].first - PAGES) * MEMORY_PAGE
				       : pages[i].first * MEMORY_PAGE,
			.pages = pages[i].count};
	passes(rig, 1);
}

static void assert_offered(const struct pages *pages, unsigned count)
{
	bool expected[2 * PAGES] = {false};

	for (unsigned i = 0; i < count; i++)
		memset(&expected[pages[i].first], true, pages[i].count);
	assert_memory_equal(offered, expected, sizeof(expected));
}

#define ANSWERS(rig, ...)                                                                          \
	answers(rig, (const struct pages[]){__VA_ARGS__},                                          \
		sizeof((const struct pages[]){__VA_ARGS__}) / sizeof(struct pages))
#define ASSERT_OFFERED(...)                                                                        \
	assert_offered((const struct pages[]){__VA_ARGS__},                                        \
		sizeof((const struct pages[]){__VA_ARGS__}) / sizeof(struct pages))

static struct machine_sharing told_of(const struct rig *rig)
{
	struct machine_sharing told;

	sharing_tell(&rig->sharing, &told);
	return told;
}

static void hinted(struct rig *rig)
{
	assert_int_equal(sharing_set(&rig->sharing, MACHINE_SHARING_HINTED, NULL), 0);
	passes(rig, 0);
}

/* ---- tests ---- */

static void offers_what_is_named(void **state)
{
	struct rig *rig = *state;

	hinted(rig);
	assert_int_equal(state_of.wished, 1);
	assert_offered(NULL, 0);
	/* Out of order, touching, overlapping, in both regions. */
	ANSWERS(rig, {40, 5}, {10, 10}, {20, 10}, {42, 8}, {PAGES + 3, 1});
	ASSERT_OFFERED({10, 20}, {40, 10}, {PAGES + 3, 1});
	assert_int_equal(offers, 3);
	assert_int_equal(told_of(rig).runs, 3);
	assert_int_equal(told_of(rig).offered, 31 * MEMORY_PAGE);
	assert_int_equal(told_of(rig).answers, 1);
	/* Not asked again before its minute is over, whoever asks the guest meanwhile. */
	passes(rig, 50);
	assert_int_equal(state_of.wished, 1);
	passes(rig, 10);
	assert_int_equal(state_of.wished, 2);
	assert_int_equal(told_of(rig).wishes, 2);
}

static void takes_back_what_is_not_named_twice(void **state)
{
	struct rig *rig = *state;

	hinted(rig);
	ANSWERS(rig, {10, 20});
	passes(rig, 60);
	ANSWERS(rig, {15, 5}, {100, 1});
	ASSERT_OFFERED({10, 20}, {100, 1});
	passes(rig, 60);
	ANSWERS(rig, {15, 5}, {100, 1});
	ASSERT_OFFERED({15, 5}, {100, 1});
	assert_int_equal(told_of(rig).taken_back, 15 * MEMORY_PAGE);
	assert_int_equal(told_of(rig).written, 0);
	/* One that never answers again keeps what it has. */
	passes(rig, 60);
	passes(rig, 600);
	ASSERT_OFFERED({15, 5}, {100, 1});
	/* An answer that has begun is none yet. */
	state_of.told = state_of.wished;
	state_of.complete = false;
	state_of.count = 0;
	passes(rig, 1);
	ASSERT_OFFERED({15, 5}, {100, 1});
}

static void takes_back_what_is_written_to(void **state)
{
	struct rig *rig = *state;

	tells_merged = true;
	hinted(rig);
	ANSWERS(rig, {10, 100}, {200, 100});
	merged_of_all = 80;
	passes(rig, 60);
	ANSWERS(rig, {10, 100}, {200, 100});
	assert_true(told_of(rig).sees_writes);
	/* A half is borne. */
	merged_of_all = 40;
	passes(rig, 60);
	ANSWERS(rig, {10, 100}, {200, 100});
	ASSERT_OFFERED({10, 100}, {200, 100});
	merged_of_all = 19;
	passes(rig, 60);
	ANSWERS(rig, {5, 105}, {400, 1});
	ASSERT_OFFERED({5, 5}, {400, 1});
	assert_int_equal(told_of(rig).written, 200 * MEMORY_PAGE);
	for (unsigned i = 1; i < 16; i++) {
		ASSERT_OFFERED({5, 5}, {400, 1});
		passes(rig, 60);
		ANSWERS(rig, {5, 105}, {400, 1});
	}
	passes(rig, 60);
	ANSWERS(rig, {5, 105}, {400, 1});
	ASSERT_OFFERED({5, 105}, {400, 1});
	assert_int_equal(told_of(rig).written, 200 * MEMORY_PAGE);
}

static void offers_all_blindly(void **state)
{
	struct rig *rig = *state;

	rig->sharing.coop = NULL;
	assert_int_equal(sharing_set(&rig->sharing, MACHINE_SHARING_BLIND, NULL), 0);
	ASSERT_OFFERED({0, 2 * PAGES});
	assert_int_equal(sharing_set(&rig->sharing, MACHINE_SHARING_BLIND, NULL), 0);
	assert_int_equal(offers, 2);
	sharing_reset(&rig->sharing);
	ASSERT_OFFERED({0, 2 * PAGES});
	/* From one to the other nothing stays. */
	rig->sharing.coop = (struct device *)rig;
	hinted(rig);
	assert_offered(NULL, 0);
	ANSWERS(rig, {1, 1});
	assert_int_equal(sharing_set(&rig->sharing, MACHINE_SHARING_OFF, NULL), 0);
	assert_offered(NULL, 0);
	passes(rig, 600);
	assert_int_equal(state_of.wished, 1);
}

static void forgets_at_a_reset(void **state)
{
	struct rig *rig = *state;

	hinted(rig);
	ANSWERS(rig, {10, 20});
	sharing_reset(&rig->sharing);
	assert_offered(NULL, 0);
	/* The device has forgotten the answer, and the guest has no driver yet. */
	state_of.complete = false;
	state_of.told = state_of.count = 0;
	no_driver = true;
	passes(rig, 0);
	assert_string_equal(told_of(rig).why, "no driver");
	no_driver = false;
	passes(rig, 5);
	assert_int_equal(state_of.wished, 2);
	assert_string_equal(told_of(rig).why, "");
	ANSWERS(rig, {30, 1});
	ASSERT_OFFERED({30, 1});
}

static void refuses(void **state)
{
	struct rig *rig = *state;
	struct error err = {0};

	rig->sharing.coop = NULL;
	assert_int_equal(sharing_set(&rig->sharing, MACHINE_SHARING_HINTED, &err), -ENOTSUP);
	assert_non_null(strstr(err.text, "--coop"));
	memory_pin(&rig->memory, true);
	assert_int_equal(sharing_set(&rig->sharing, MACHINE_SHARING_BLIND, &err), -EBUSY);
	assert_non_null(strstr(err.text, "--device vfio"));
	assert_int_equal(sharing_set(&rig->sharing, MACHINE_SHARING_OFF, &err), 0);
	memory_pin(&rig->memory, false);
	/* All or nothing. */
	offers_fail_after = 1;
	assert_int_equal(sharing_set(&rig->sharing, MACHINE_SHARING_BLIND, &err), -ENOSPC);
	assert_string_equal(err.text, "no more mappings");
	assert_int_equal(told_of(rig).state, MACHINE_SHARING_OFF);
	assert_int_equal(told_of(rig).offered, 0);
	assert_offered(NULL, 0);
}

/* Whatever it names and writes to: nothing is offered twice or taken back without having been, and
 * nothing but what one of the last two answers had. */
static void bears_any_guest(void **state)
{
	struct rig *rig = *state;
	bool now[2 * PAGES], before[2 * PAGES] = {false};
	unsigned seed = 7;

	tells_merged = true;
	hinted(rig);
	for (unsigned round = 0; round < 300; round++) {
		struct pages pages[64];
		const unsigned count = rand_r(&seed) % 65;
		unsigned sum = 0;

		memset(now, 0, sizeof(now));
		for (unsigned i = 0; i < count; i++) {
			pages[i].first = rand_r(&seed) % (2 * PAGES);
			pages[i].count = 1 + rand_r(&seed) % (PAGES - pages[i].first % PAGES) / 4;
			memset(&now[pages[i].first], true, pages[i].count);
		}
		merged_of_all = rand_r(&seed) % 101;
		answers(rig, pages, count);
		for (unsigned i = 0; i < 2 * PAGES; i++) {
			assert_true(!offered[i] || now[i] || before[i]);
			sum += offered[i];
		}
		assert_int_equal(told_of(rig).offered, sum * MEMORY_PAGE);
		assert_int_equal(told_of(rig).answers, round + 1);
		memcpy(before, now, sizeof(before));
		passes(rig, 60);
	}
	assert_true(told_of(rig).written > 0);
}

/* ---- lists, beside a map of pages ---- */

#define MAP 256

static void fill(struct sharing_list *list, bool *map, unsigned *seed)
{
	const unsigned runs = rand_r(seed) % 24;

	memset(map, 0, MAP);
	for (unsigned i = 0; i < runs; i++) {
		const unsigned first = rand_r(seed) % MAP,
			       count = rand_r(seed) % (MAP - first < 20 ? MAP - first : 20);

		memset(map + first, true, count);
		assert_int_equal(
			sharing_list_add(list, first * MEMORY_PAGE, count * MEMORY_PAGE), 0);
	}
	sharing_list_join(list);
}

static int draw(void *opaque, uint64_t gpa, uint64_t length)
{
	bool *map = opaque;

	assert_int_not_equal(length, 0);
	for (uint64_t i = gpa / MEMORY_PAGE; i < (gpa + length) / MEMORY_PAGE; i++) {
		assert_false(map[i]);
		map[i] = true;
	}
	return 0;
}

static void reckons_with_lists(void **state)
{
	const struct sharing_list none = {0};
	unsigned seed = 1;

	for (unsigned round = 0; round < 2000; round++) {
		struct sharing_list a = {0}, b = {0};
		bool in_a[MAP], in_b[MAP], drawn[MAP] = {false}, expected[MAP];

		fill(&a, in_a, &seed);
		fill(&b, in_b, &seed);
		for (unsigned i = 0; i < MAP; i++)
			expected[i] = in_a[i] && !in_b[i];
		assert_int_equal(sharing_list_each_but(&a, &b, draw, drawn), 0);
		assert_memory_equal(drawn, expected, MAP);
		assert_int_equal(sharing_list_unite(&a, &b), 0);
		memset(drawn, 0, MAP);
		for (unsigned i = 0; i < MAP; i++)
			expected[i] = in_a[i] || in_b[i];
		sharing_list_each_but(&a, &none, draw, drawn);
		assert_memory_equal(drawn, expected, MAP);
		for (unsigned i = 1; i < a.count; i++)
			assert_true(a.parts[i].gpa > a.parts[i - 1].gpa + a.parts[i - 1].length);
		sharing_list_free(&a);
		sharing_list_free(&b);
	}
}

static void keeps_the_longest(void **state)
{
	struct sharing_list list = {0};

	for (unsigned i = 0; i < 100; i++)
		sharing_list_add(&list, i * 0x100000ULL, (1 + i % 10) * MEMORY_PAGE);
	sharing_list_join(&list);
	assert_int_equal(sharing_list_cut(&list, 100), 0);
	assert_int_equal(sharing_list_cut(&list, 20), 360 * MEMORY_PAGE);
	assert_int_equal(list.count, 20);
	assert_int_equal(sharing_list_bytes(&list), 190 * MEMORY_PAGE);
	assert_int_equal(list.parts[0].gpa, 8 * 0x100000ULL);
	assert_non_null(sharing_list_find(&list, 8 * 0x100000ULL, 9 * MEMORY_PAGE));
	assert_null(sharing_list_find(&list, 8 * 0x100000ULL, MEMORY_PAGE));
	assert_null(sharing_list_find(&list, 0, MEMORY_PAGE));
	sharing_list_free(&list);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, make, drop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(offers_what_is_named),
		TEST(takes_back_what_is_not_named_twice),
		TEST(takes_back_what_is_written_to),
		TEST(offers_all_blindly),
		TEST(forgets_at_a_reset),
		TEST(refuses),
		TEST(bears_any_guest),
		cmocka_unit_test(reckons_with_lists),
		cmocka_unit_test(keeps_the_longest),
	};

	return cmocka_run_group_tests_name("sharing", tests, NULL, NULL);
}
