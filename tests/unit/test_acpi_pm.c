/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "board_fixture.h"

#include <time.h>

struct pm {
	struct board_fixture fixture;
	struct device *device;
};

static int set_up(void **state)
{
	struct pm *pm = calloc(1, sizeof(*pm));

	fixture_open(&pm->fixture);
	assert_int_equal(acpi_pm_new(&pm->device, &fixture_events, &pm->fixture, NULL), 0);
	assert_int_equal(pm->device->ops->realize(pm->device, &pm->fixture.place, NULL), 0);
	pm->device->ops->reset(pm->device);
	*state = pm;
	return 0;
}

static int tear_down(void **state)
{
	struct pm *pm = *state;

	pm->device->ops->free(pm->device);
	fixture_close(&pm->fixture);
	free(pm);
	return 0;
}

static bool sci(const struct pm *pm)
{
	return pm->fixture.lines >> LAYOUT_ACPI_SCI & 1;
}

static void test_power_button(void **state)
{
	struct pm *pm = *state;

	assert_false(acpi_pm_power_button(pm->device));
	assert_false(sci(pm));
	fixture_out(&pm->fixture, LAYOUT_PM_EVENT + 2, 2, 0x100);
	assert_int_equal(fixture_in(&pm->fixture, LAYOUT_PM_EVENT + 2, 2), 0x100);
	assert_true(acpi_pm_power_button(pm->device));
	assert_true(sci(pm));
	assert_int_equal(fixture_in(&pm->fixture, LAYOUT_PM_EVENT, 4), 0x01000100);
	fixture_out(&pm->fixture, LAYOUT_PM_EVENT, 1, 0xff); /* another byte of the status */
	assert_true(sci(pm));
	fixture_out(&pm->fixture, LAYOUT_PM_EVENT, 2, 0x100);
	assert_false(sci(pm));
	assert_int_equal(fixture_in(&pm->fixture, LAYOUT_PM_EVENT + 2, 2), 0x100);
}

static void test_power_off(void **state)
{
	struct pm *pm = *state;

	assert_int_equal(fixture_in(&pm->fixture, LAYOUT_PM_CONTROL, 2), 1);
	fixture_out(&pm->fixture, LAYOUT_PM_CONTROL, 2, 3 << 10 | 1 << 13);
	assert_int_equal(pm->fixture.power_offs, 0); /* S3 is not offered */
	fixture_out(&pm->fixture, LAYOUT_PM_CONTROL, 2, LAYOUT_SLEEP_TYPE_S5 << 10);
	assert_int_equal(pm->fixture.power_offs, 0);
	fixture_out(&pm->fixture, LAYOUT_PM_CONTROL, 2, LAYOUT_SLEEP_TYPE_S5 << 10 | 1 << 13);
	assert_int_equal(pm->fixture.power_offs, 1);
	/* By bytes: the type first, then with the enable bit. */
	fixture_out(&pm->fixture, LAYOUT_PM_CONTROL + 1, 1, LAYOUT_SLEEP_TYPE_S5 << 2 | 1 << 5);
	assert_int_equal(pm->fixture.power_offs, 2);
	assert_int_equal(pm->fixture.resets, 0);
}

static void test_reset_port(void **state)
{
	struct pm *pm = *state;

	fixture_out(&pm->fixture, LAYOUT_RESET_PORT, 1, 0x02);
	assert_int_equal(pm->fixture.resets, 0);
	assert_int_equal(fixture_in(&pm->fixture, LAYOUT_RESET_PORT, 1), 0x02);
	fixture_out(&pm->fixture, LAYOUT_RESET_PORT, 1, 0x06);
	fixture_out(&pm->fixture, LAYOUT_RESET_PORT, 1, 0x0e);
	assert_int_equal(pm->fixture.resets, 2);
}

static void test_timer_runs_at_its_rate(void **state)
{
	struct pm *pm = *state;
	const struct timespec delay = {.tv_nsec = 20000000};
	struct timespec before, after;
	uint64_t first, second;
	double seconds, rate;

	clock_gettime(CLOCK_MONOTONIC, &before);
	first = fixture_in(&pm->fixture, LAYOUT_PM_TIMER, 4);
	nanosleep(&delay, NULL);
	second = fixture_in(&pm->fixture, LAYOUT_PM_TIMER, 4);
	clock_gettime(CLOCK_MONOTONIC, &after);
	seconds = (double)(after.tv_sec - before.tv_sec) +
		  (double)(after.tv_nsec - before.tv_nsec) / 1e9;
	rate = (double)(uint32_t)(second - first) / seconds;
	/* The span around the two reads is the longer one. */
	assert_true(rate <= 3579545 * 1.001 && rate > 3579545 * 0.5);
}

static void test_move(void **state)
{
	struct pm *from = *state;
	struct pm *to;
	uint64_t before;

	set_up((void **)&to);
	fixture_out(&from->fixture, LAYOUT_PM_EVENT + 2, 2, 0x120);
	acpi_pm_power_button(from->device);
	before = fixture_in(&from->fixture, LAYOUT_PM_TIMER, 4);
	assert_int_equal(fixture_move(from->device, to->device), 0);
	assert_int_equal(fixture_in(&to->fixture, LAYOUT_PM_EVENT, 4), 0x01200100);
	assert_true((uint32_t)(fixture_in(&to->fixture, LAYOUT_PM_TIMER, 4) - before) < 3579545);
	tear_down((void **)&to);
}

static void test_keyboard_resets(void **state)
{
	struct pm *pm = *state;
	struct device *keyboard;

	assert_int_equal(keyboard_new(&keyboard, false, &fixture_events, &pm->fixture, NULL), 0);
	assert_int_equal(keyboard->ops->realize(keyboard, &pm->fixture.place, NULL), 0);
	assert_int_equal(fixture_in(&pm->fixture, LAYOUT_PIT + 2, 1), 0); /* no timer chip */
	/* Who waits for an empty input buffer goes on; who drains the output buffer gives up. */
	assert_int_equal(fixture_in(&pm->fixture, LAYOUT_KEYBOARD_CMD, 1) & 3, 1);
	fixture_out(&pm->fixture, LAYOUT_KEYBOARD_CMD, 1, 0xaa);
	fixture_out(&pm->fixture, LAYOUT_KEYBOARD_CMD, 1, 0xff);
	assert_int_equal(pm->fixture.resets, 0);
	fixture_out(&pm->fixture, LAYOUT_KEYBOARD_CMD, 1, 0xfe);
	assert_int_equal(pm->fixture.resets, 1);
	keyboard->ops->free(keyboard);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_power_button, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_power_off, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_reset_port, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_timer_runs_at_its_rate, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_move, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_keyboard_resets, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
