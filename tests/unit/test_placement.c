/* SPDX-License-Identifier: Apache-2.0 */
/* A map of what vCPUs use, beside the nodes of the host that runs this test: it has one at least.
 */
#include "machine/placement.h"

#include "base/checked.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define PAGES   4096ULL
#define NO_NODE 7 /* few hosts that run tests have eight */

static struct rig {
	struct memory memory;
	struct loop *loop;
	struct placement placement;
	struct loop_timer look;
} rig;

/* [0, PAGES) is vCPU 0's but for the last 64 pages, which are vCPU 1's. */
static struct placement_map make_map(void)
{
	static const struct virtio_coop_run runs[] = {
		{.gpa = 0, .pages = 1, .vcpu = 0},
		{.gpa = MEMORY_PAGE, .pages = PAGES - 65, .vcpu = 0},
		{.gpa = (PAGES - 64) * MEMORY_PAGE, .pages = 64, .vcpu = 1},
	};
	struct placement_map map = {.count = ARRAY_SIZE(runs), .pages = PAGES};

	map.runs = calloc(ARRAY_SIZE(runs), sizeof(*runs));
	assert_non_null(map.runs);
	memcpy(map.runs, runs, sizeof(runs));
	return map;
}

static void touch(uint64_t pages)
{
	for (uint64_t page = 0; page < pages; page++) {
		uint64_t value = page + 1;

		assert_int_equal(
			memory_write(&rig.memory, GPA(page * MEMORY_PAGE), &value, sizeof(value)),
			0);
	}
}

static void assert_untouched(uint64_t pages)
{
	for (uint64_t page = 0; page < pages; page++) {
		uint64_t value;

		assert_int_equal(
			memory_read(&rig.memory, GPA(page * MEMORY_PAGE), &value, sizeof(value)),
			0);
		assert_int_equal(value, page + 1);
	}
}

/* False: this host's kernel, or what confines us, does not tell. */
static bool can(void)
{
	const gpa_t page = GPA(0);
	int node, ret = memory_nodes(&rig.memory, &page, &node, 1);

	if (ret < 0)
		print_message("skipped: move_pages: %s\n", strerror(-ret));
	return ret == 0;
}

static int set_up(void **state)
{
	memset(&rig, 0, sizeof(rig));
	memory_init(&rig.memory);
	if (memory_add(&rig.memory, GPA(0), PAGES * MEMORY_PAGE, MEMORY_ANONYMOUS, "low", NULL) < 0)
		return -1;
	return loop_new(&rig.loop, 8, NULL);
}

static int tear_down(void **state)
{
	placement_end(&rig.placement);
	loop_free(rig.loop);
	memory_free(&rig.memory);
	return 0;
}

static uint64_t sum(const uint64_t nodes[MACHINE_NODES_MAX])
{
	uint64_t bytes = 0;

	for (unsigned n = 0; n < MACHINE_NODES_MAX; n++)
		bytes += nodes[n];
	return bytes;
}

static void what_is_there_is_counted(void **state)
{
	uint64_t uses[MACHINE_CPUS_MAX][MACHINE_NODES_MAX] = {0};
	struct placement_map map = make_map();

	if (!can())
		skip();
	/* Half of it: what was never touched is on no node. */
	touch(PAGES / 2);
	assert_int_equal(placement_uses(&rig.memory, &map, uses), 0);
	assert_int_equal(sum(uses[0]), PAGES / 2 * MEMORY_PAGE);
	assert_int_equal(sum(uses[1]), 0);
	placement_free_map(&map);
}

/* A sample of a map that is too large stands for all of it. */
static void a_sample_stands_for_all(void **state)
{
	uint64_t uses[MACHINE_CPUS_MAX][MACHINE_NODES_MAX] = {0};
	struct placement_map map = make_map();
	unsigned rounds = 5;

	if (!can())
		skip();
	touch(PAGES);
	free(map.runs);
	map = (struct placement_map){.count = rounds, .pages = rounds * (PAGES - 1)};
	map.runs = calloc(rounds, sizeof(*map.runs));
	assert_non_null(map.runs);
	for (unsigned i = 0; i < rounds; i++)
		map.runs[i] = (struct virtio_coop_run){.pages = PAGES - 1, .vcpu = i % 2};
	assert_int_equal(placement_uses(&rig.memory, &map, uses), 0);
	assert_in_range(
		sum(uses[0]), 3 * (PAGES - 20) * MEMORY_PAGE, 3 * (PAGES + 20) * MEMORY_PAGE);
	assert_in_range(
		sum(uses[1]), 2 * (PAGES - 20) * MEMORY_PAGE, 2 * (PAGES + 20) * MEMORY_PAGE);
	placement_free_map(&map);
}

/* What a guest tells of a page more than once counts once. */
static void each_page_is_in_one_run(void **state)
{
	static const struct virtio_coop_run told[] = {
		{.gpa = 50 * MEMORY_PAGE, .pages = 100, .vcpu = 1},
		{.gpa = 0, .pages = PAGES, .vcpu = 1},
		{.gpa = 0, .pages = 60, .vcpu = 0},
		{.gpa = 20 * MEMORY_PAGE, .pages = 10, .vcpu = 1},
		{.gpa = 0, .pages = PAGES, .vcpu = 1},
		{.gpa = 0, .pages = PAGES, .vcpu = 0},
	};
	struct placement_map map = {.count = ARRAY_SIZE(told)};
	uint64_t end = 0;

	map.runs = calloc(ARRAY_SIZE(told), sizeof(*told));
	assert_non_null(map.runs);
	memcpy(map.runs, told, sizeof(told));
	placement_untangle(&map);
	assert_int_equal(map.pages, PAGES);
	for (unsigned i = 0; i < map.count; i++) {
		assert_true(map.runs[i].pages > 0 && map.runs[i].gpa == end);
		end += map.runs[i].pages * MEMORY_PAGE;
	}
	assert_int_equal(end, PAGES * MEMORY_PAGE);
	placement_free_map(&map);
	placement_untangle(&map);
	assert_int_equal(map.count + map.pages, 0);
}

static void is_over(struct loop_timer *timer)
{
	if (rig.placement.placing.moving)
		loop_timer_after(rig.loop, timer, 1000);
	else
		loop_stop(rig.loop);
}

static void run_to_the_end(void)
{
	rig.look.expired = is_over;
	loop_timer_after(rig.loop, &rig.look, 0);
	assert_int_equal(loop_run(rig.loop), 0);
	assert_null(rig.placement.map.runs);
}

static int begin(int8_t first, int8_t second)
{
	struct placement_map map = make_map();
	int8_t nodes[MACHINE_CPUS_MAX] = {first, second};
	int ret = placement_begin(&rig.placement, rig.loop, &rig.memory, &map, nodes);

	placement_free_map(&map);
	return ret;
}

/* To where it is already: nothing is moved and nothing lost. */
static void what_is_at_home_stays(void **state)
{
	const gpa_t page = GPA(0);
	int node;

	touch(PAGES);
	if (!can())
		skip();
	assert_int_equal(memory_nodes(&rig.memory, &page, &node, 1), 0);
	assert_int_equal(begin((int8_t)node, -1), 0);
	assert_true(rig.placement.placing.moving);
	run_to_the_end();
	assert_int_equal(rig.placement.placing.error, 0);
	assert_true(rig.placement.placing.failed == 0);
	assert_untouched(PAGES);
}

/* A node that is not there ends it at its first piece, with all that the guest had in place. */
static void a_node_that_is_not_there(void **state)
{
	touch(PAGES);
	if (!can() || access("/sys/devices/system/node/node7", F_OK) == 0)
		skip();
	assert_int_equal(begin(-1, NO_NODE), 0);
	run_to_the_end();
	assert_int_equal(rig.placement.placing.error, ENODEV);
	assert_int_equal(rig.placement.placing.failed, 64);
	assert_int_equal(rig.placement.placing.moved, 0);
	assert_untouched(PAGES);
}

/* Each leaks no map, whatever became of the one before. */
static void a_new_order_replaces_the_last(void **state)
{
	touch(PAGES);
	assert_int_equal(begin(0, -1), 0);
	assert_int_equal(begin(-1, -1), 0);
	run_to_the_end();
	assert_int_equal(rig.placement.placing.moved + rig.placement.placing.failed, 0);
	memory_pin(&rig.memory, true);
	assert_int_equal(begin(0, 0), -EBUSY);
	assert_false(rig.placement.placing.moving);
	memory_pin(&rig.memory, false);
	assert_int_equal(begin(0, 0), 0);
}

static void no_more_than_fits(void **state)
{
	static gpa_t pages[MEMORY_PLACE_MAX + 1];
	static int nodes[MEMORY_PLACE_MAX + 1];

	assert_int_equal(memory_nodes(&rig.memory, pages, nodes, MEMORY_PLACE_MAX + 1), -EINVAL);
	assert_int_equal(memory_move(&rig.memory, pages, nodes, MEMORY_PLACE_MAX + 1), -EINVAL);
	if (!can())
		skip();
	pages[0] = GPA(PAGES * MEMORY_PAGE); /* where there is no memory */
	assert_int_equal(memory_nodes(&rig.memory, pages, nodes, 1), 0);
	assert_true(nodes[0] < 0);
}

#define PLACEMENT_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		PLACEMENT_TEST(each_page_is_in_one_run),
		PLACEMENT_TEST(what_is_there_is_counted),
		PLACEMENT_TEST(a_sample_stands_for_all),
		PLACEMENT_TEST(what_is_at_home_stays),
		PLACEMENT_TEST(a_node_that_is_not_there),
		PLACEMENT_TEST(a_new_order_replaces_the_last),
		PLACEMENT_TEST(no_more_than_fits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
