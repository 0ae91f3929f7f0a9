/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "board_fixture.h"

#include <time.h>

struct clock {
	struct board_fixture fixture;
	struct device *device;
};

static int set_up(void **state)
{
	struct clock *clock = calloc(1, sizeof(*clock));

	fixture_open(&clock->fixture);
	assert_int_equal(rtc_new(&clock->device, NULL), 0);
	assert_int_equal(
		clock->device->ops->realize(clock->device, &clock->fixture.place, NULL), 0);
	clock->device->ops->reset(clock->device);
	*state = clock;
	return 0;
}

static int tear_down(void **state)
{
	struct clock *clock = *state;

	clock->device->ops->free(clock->device);
	fixture_close(&clock->fixture);
	free(clock);
	return 0;
}

static unsigned get(struct clock *clock, unsigned index)
{
	fixture_out(&clock->fixture, LAYOUT_RTC_PORT, 1, index);
	return (unsigned)fixture_in(&clock->fixture, LAYOUT_RTC_PORT + 1, 1);
}

static void set(struct clock *clock, unsigned index, unsigned value)
{
	fixture_out(&clock->fixture, LAYOUT_RTC_PORT, 1, index);
	fixture_out(&clock->fixture, LAYOUT_RTC_PORT + 1, 1, value);
}

static int bcd(unsigned value)
{
	assert_true((value & 15) < 10 && value >> 4 < 10);
	return (int)(value >> 4) * 10 + (int)(value & 15);
}

static time_t read_bcd(struct clock *clock)
{
	unsigned second;
	struct tm tm;

	do {
		second = get(clock, 0);
		tm = (struct tm){.tm_sec = bcd(second),
			.tm_min = bcd(get(clock, 2)),
			.tm_hour = bcd(get(clock, 4)),
			.tm_mday = bcd(get(clock, 7)),
			.tm_mon = bcd(get(clock, 8)) - 1,
			.tm_year = bcd(get(clock, 0x32)) * 100 + bcd(get(clock, 9)) - 1900};
	} while (second != get(clock, 0));
	return timegm(&tm);
}

static void test_shows_the_hosts_time(void **state)
{
	struct clock *clock = *state;
	const time_t before = time(NULL);
	const time_t shown = read_bcd(clock);

	assert_true(shown >= before && shown <= time(NULL));
	assert_int_equal(get(clock, 0x0d), 0x80);
	assert_int_equal(get(clock, 0x0b), 0x02);
	assert_int_equal(get(clock, 0x0a) & 0x7f, 0x26);
}

static void test_update_is_rarely_in_progress(void **state)
{
	struct clock *clock = *state;
	unsigned busy = 0;

	for (unsigned i = 0; i < 1000; i++)
		busy += get(clock, 0x0a) >> 7;
	assert_true(busy < 1000);
}

static void test_can_be_set(void **state)
{
	struct clock *clock = *state;
	struct tm tm = {.tm_year = 101, .tm_mon = 1, .tm_mday = 3, .tm_hour = 16, .tm_min = 5};

	set(clock, 0x0b, 0x82);
	set(clock, 0, 0x06);
	set(clock, 2, 0x05);
	set(clock, 4, 0x16);
	set(clock, 7, 0x03);
	set(clock, 8, 0x02);
	set(clock, 9, 0x01);
	set(clock, 0x32, 0x20);
	assert_int_equal(get(clock, 4), 0x16); /* stands still */
	set(clock, 0x0b, 0x02);
	tm.tm_sec = 6;
	assert_in_range(read_bcd(clock), timegm(&tm), timegm(&tm) + 2);
	/* Binary, twelve hours: 4 in the afternoon. */
	set(clock, 0x0b, 0x04);
	assert_int_equal(get(clock, 4), 0x84);
	assert_int_equal(get(clock, 9), 1);
}

static void set_time(struct clock *clock, const struct tm *tm)
{
	set(clock, 0x0b, 0x86); /* stopped, binary */
	set(clock, 0, (unsigned)tm->tm_sec);
	set(clock, 2, (unsigned)tm->tm_min);
	set(clock, 4, (unsigned)tm->tm_hour);
	set(clock, 7, (unsigned)tm->tm_mday);
	set(clock, 8, (unsigned)tm->tm_mon + 1);
	set(clock, 9, (unsigned)tm->tm_year % 100);
	set(clock, 0x32, (unsigned)(tm->tm_year + 1900) / 100);
	set(clock, 0x0b, 0x06);
}

/* The C library's calendar is the reference: some 60 years, leap days and centuries among them. */
static void test_calendar_is_the_c_librarys(void **state)
{
	struct clock *clock = *state;

	for (time_t day = 20000; day < 62000; day += 29) {
		const time_t seconds = day * 86400 + 43200;
		struct tm tm;

		assert_non_null(gmtime_r(&seconds, &tm));
		tm.tm_year -= 100 * (day % 2); /* before 1970, too */
		timegm(&tm);
		set_time(clock, &tm);
		assert_int_equal(get(clock, 4), 12);
		assert_int_equal(get(clock, 6), tm.tm_wday + 1);
		assert_int_equal(get(clock, 7), tm.tm_mday);
		assert_int_equal(get(clock, 8), tm.tm_mon + 1);
		assert_int_equal(get(clock, 9), tm.tm_year % 100);
		assert_int_equal(get(clock, 0x32), (tm.tm_year + 1900) / 100);
	}
}

static void test_wild_values_are_harmless(void **state)
{
	struct clock *clock = *state;

	for (unsigned round = 0; round < 20000; round++)
		set(clock, (round * 7919) % 256, (round * 104729) % 251);
	for (unsigned index = 0; index < 256; index++)
		get(clock, index);
}

static void test_memory_and_move(void **state)
{
	struct clock *from = *state;
	struct clock *to;

	set_up((void **)&to);
	set(from, 0x40, 0xa5);
	set(from, 0x80 | 0x41, 0x5a); /* with the NMI mask */
	set(from, 9, 0x35);
	assert_int_equal(fixture_move(from->device, to->device), 0);
	assert_int_equal(get(to, 0x40), 0xa5);
	assert_int_equal(get(to, 0x41), 0x5a);
	assert_int_equal(get(to, 9), 0x35);
	tear_down((void **)&to);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_shows_the_hosts_time, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_update_is_rarely_in_progress, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_can_be_set, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_calendar_is_the_c_librarys, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_wild_values_are_harmless, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_memory_and_move, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
