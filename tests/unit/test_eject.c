/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/log.h"
#include "board_fixture.h"

struct rig {
	struct board_fixture fixture;
	struct device *device;
	uint32_t ejected;
	unsigned times;
};

static void ejected(void *opaque, uint32_t slots)
{
	struct rig *rig = opaque;

	rig->ejected = slots;
	rig->times++;
}

static int set_up(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	log_set_level(LOG_LEVEL_ERROR);
	fixture_open(&rig->fixture);
	assert_int_equal(eject_new(&rig->device, ejected, rig, NULL), 0);
	assert_int_equal(rig->device->ops->realize(rig->device, &rig->fixture.place, NULL), 0);
	*state = rig;
	return 0;
}

static int tear_down(void **state)
{
	struct rig *rig = *state;

	rig->device->ops->free(rig->device);
	/* Nothing of it is left on the bus. */
	assert_int_equal(fixture_in(&rig->fixture, LAYOUT_EJECT, 4), UINT32_MAX);
	fixture_close(&rig->fixture);
	free(rig);
	return 0;
}

static uint32_t unread(struct rig *rig)
{
	return (uint32_t)fixture_in(&rig->fixture, LAYOUT_EJECT, 4);
}

static void test_slots_are_read_once(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(unread(rig), 0);
	eject_ask(rig->device, 3);
	eject_ask(rig->device, 31);
	assert_int_equal(rig->fixture.rises[LAYOUT_EJECT_GSI], 2);
	assert_int_equal(unread(rig), 1U << 3 | 1U << 31);
	assert_int_equal(unread(rig), 0);
	/* Asked once more, it is told once more. */
	eject_ask(rig->device, 3);
	assert_int_equal(unread(rig), 1U << 3);
	assert_int_equal(rig->times, 0);
}

static void test_only_what_was_asked_for_goes(void **state)
{
	struct rig *rig = *state;

	fixture_out(&rig->fixture, LAYOUT_EJECT, 4, UINT32_MAX);
	assert_int_equal(rig->times, 0);
	eject_ask(rig->device, 5);
	fixture_out(&rig->fixture, LAYOUT_EJECT, 4, 1U << 4);
	assert_int_equal(rig->times, 0);
	fixture_out(&rig->fixture, LAYOUT_EJECT, 4, 1U << 4 | 1U << 5);
	assert_int_equal(rig->times, 1);
	assert_int_equal(rig->ejected, 1U << 5);
	/* It is gone, and goes no second time. */
	fixture_out(&rig->fixture, LAYOUT_EJECT, 4, 1U << 5);
	assert_int_equal(rig->times, 1);
}

static void test_parts_of_the_register(void **state)
{
	struct rig *rig = *state;

	eject_ask(rig->device, 1);
	for (unsigned offset = 0; offset < 4; offset++) {
		assert_int_equal(fixture_in(&rig->fixture, LAYOUT_EJECT + offset, 1), 0);
		fixture_out(&rig->fixture, LAYOUT_EJECT + offset, 1, 0xff);
	}
	assert_int_equal(rig->times, 0);
	assert_int_equal(unread(rig), 1U << 1);
}

static void test_a_guest_that_resets_has_forgotten(void **state)
{
	struct rig *rig = *state;

	eject_ask(rig->device, 2);
	rig->device->ops->reset(rig->device);
	assert_int_equal(unread(rig), 0);
	fixture_out(&rig->fixture, LAYOUT_EJECT, 4, 1U << 2);
	assert_int_equal(rig->times, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_slots_are_read_once),
		TEST(test_only_what_was_asked_for_goes),
		TEST(test_parts_of_the_register),
		TEST(test_a_guest_that_resets_has_forgotten),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
