/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/loop.h"
#include "board_fixture.h"
#include "bus/rest.h"

#include <time.h>

#define LINE (1U << LAYOUT_RTC_GSI)

struct clock {
	struct board_fixture fixture;
	struct device *device;
	struct loop *loop; /* the main one */
	struct loop_timer stop;
};

static int set_up(void **state)
{
	struct clock *clock = calloc(1, sizeof(*clock));

	fixture_open(&clock->fixture);
	assert_int_equal(loop_new(&clock->loop, 8, NULL), 0);
	clock->fixture.place.main = clock->loop;
	assert_int_equal(rtc_new(&clock->device, NULL), 0);
	assert_int_equal(
		clock->device->ops->realize(clock->device, &clock->fixture.place, NULL), 0);
	clock->device->ops->reset(clock->device);
	clock->device->ops->start(clock->device, NULL);
	*state = clock;
	return 0;
}

static int tear_down(void **state)
{
	struct clock *clock = *state;

	clock->device->ops->free(clock->device);
	fixture_close(&clock->fixture);
	loop_free(clock->loop);
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

/* time() reads a coarser clock than the one that ticks here. */
static time_t now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec;
}

static void test_shows_the_hosts_time(void **state)
{
	struct clock *clock = *state;
	const time_t before = now();
	const time_t shown = read_bcd(clock);

	assert_true(shown >= before && shown <= now());
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

static void expired(struct loop_timer *timer)
{
	loop_stop(container_of(timer, struct clock, stop)->loop);
}

/* The main loop, for so long. */
static void run(struct clock *clock, unsigned milliseconds)
{
	clock->stop.expired = expired;
	loop_timer_after(clock->loop, &clock->stop, milliseconds * 1000000ULL);
	assert_int_equal(loop_run(clock->loop), 0);
}

static unsigned rises(const struct clock *clock)
{
	return clock->fixture.rises[LAYOUT_RTC_GSI];
}

/* The next one does not begin while the clock is being set. */
static void early_in_a_second(void)
{
	const struct timespec delay = {.tv_nsec = 10000000};
	struct timespec now;

	do {
		nanosleep(&delay, NULL);
		clock_gettime(CLOCK_REALTIME, &now);
	} while (now.tv_nsec > 400000000);
}

/* Over midnight, which is when hours, minutes and seconds all change. */
static void test_alarm(void **state)
{
	struct clock *clock = *state;
	struct tm tm = {.tm_year = 126, .tm_mday = 1, .tm_hour = 23, .tm_min = 59, .tm_sec = 59};

	early_in_a_second();
	set_time(clock, &tm);
	set(clock, 1, 0);
	set(clock, 3, 0);
	set(clock, 5, 0);
	get(clock, 0x0c);
	set(clock, 0x0b, 0x26);
	assert_int_equal(rises(clock), 0);
	run(clock, 1100);
	assert_int_equal(rises(clock), 1);
	assert_true(clock->fixture.lines & LINE);
	assert_int_equal(get(clock, 4), 0);
	assert_int_equal(get(clock, 0x0c), 0xf0); /* all three have happened */
	assert_false(clock->fixture.lines & LINE);
	assert_int_equal(get(clock, 0x0c) & 0xa0, 0);
	/* Tomorrow again; not before. */
	run(clock, 1100);
	assert_int_equal(rises(clock), 1);
}

/* Twelve hours, BCD: one in the afternoon, whatever the minute. */
static void test_alarm_as_it_is_written(void **state)
{
	struct clock *clock = *state;
	struct tm tm = {.tm_year = 126, .tm_mday = 1, .tm_hour = 12, .tm_min = 59, .tm_sec = 59};

	early_in_a_second();
	set_time(clock, &tm);
	set(clock, 0x0b, 0x00);
	set(clock, 1, 0xff);
	set(clock, 3, 0xc0);
	set(clock, 5, 0x81);
	get(clock, 0x0c);
	set(clock, 0x0b, 0x20);
	run(clock, 1100);
	assert_int_equal(rises(clock), 1);
	/* A second that there is not. */
	set(clock, 1, 0x60);
	get(clock, 0x0c);
	run(clock, 1100);
	assert_int_equal(rises(clock), 1);
}

static void test_update_interrupt(void **state)
{
	struct clock *clock = *state;

	get(clock, 0x0c);
	set(clock, 0x0b, 0x12);
	run(clock, 1100);
	assert_int_equal(rises(clock), 1);
	run(clock, 1100); /* nobody has read C */
	assert_int_equal(rises(clock), 1);
	assert_int_equal(get(clock, 0x0c) & 0xf0, 0xd0);
	assert_false(clock->fixture.lines & LINE);
	set(clock, 0x0b, 0x92); /* being set: off */
	assert_int_equal(get(clock, 0x0b), 0x82);
}

static void test_periodic_interrupt(void **state)
{
	struct clock *clock = *state;
	unsigned before;

	get(clock, 0x0c);
	set(clock, 0x0b, 0x42);
	for (unsigned i = 1; i <= 5; i++) {
		run(clock, 10);
		assert_int_equal(rises(clock), i);
		assert_int_equal(get(clock, 0x0c) & 0xc0, 0xc0);
	}
	set(clock, 0x0a, 0x20); /* no rate */
	get(clock, 0x0c);
	before = rises(clock);
	run(clock, 10);
	assert_int_equal(rises(clock), before);
}

/* Who asks register C instead of waiting for an interrupt sees the same flags. */
static void test_flags_without_interrupts(void **state)
{
	struct clock *clock = *state;

	get(clock, 0x0c);
	run(clock, 1100);
	assert_int_equal(get(clock, 0x0c), 0x50);
	assert_int_equal(rises(clock), 0);
	/* ... and who turns it on afterwards is told at once. */
	run(clock, 1100);
	set(clock, 0x0b, 0x12);
	assert_int_equal(rises(clock), 1);
}

static void count_rest(struct device_rest *rest)
{
}

static void come_to_rest(struct clock *clock)
{
	struct device_rest rest;

	device_rest_init(&rest, count_rest);
	device_rest_ask(&rest, clock->device, false);
	assert_int_equal(clock->device->asked, 0);
	device_rest_destroy(&rest);
}

/* At rest it does not interrupt; what fell into a pause or a move is told when it goes on. */
static void test_rest_and_move(void **state)
{
	struct clock *from = *state;
	struct clock *to;

	set_up((void **)&to);
	for (unsigned index = 1; index <= 5; index += 2)
		set(from, index, 0xff);
	get(from, 0x0c);
	set(from, 0x0b, 0x22);
	come_to_rest(from);
	come_to_rest(to);
	assert_int_equal(fixture_move(from->device, to->device), 0);
	run(from, 1100);
	assert_int_equal(rises(from), 0);
	from->device->ops->start(from->device, NULL);
	to->device->ops->start(to->device, NULL);
	assert_int_equal(rises(from), 1);
	assert_int_equal(rises(to), 1);
	/* A reset of the machine ends it. */
	to->device->ops->reset(to->device);
	assert_false(to->fixture.lines & LINE);
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
		cmocka_unit_test_setup_teardown(test_alarm, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_alarm_as_it_is_written, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_update_interrupt, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_periodic_interrupt, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_flags_without_interrupts, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_rest_and_move, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
