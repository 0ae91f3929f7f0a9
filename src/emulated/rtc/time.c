/* SPDX-License-Identifier: Apache-2.0 */
/* Date and time as registers, and when an alarm comes. */
#include "emulated/rtc/private.h"

#include <time.h>

#define HOURS_PM       0x80
#define SECOND_NS      1000000000L
#define UIP_NS         244000L /* an update is announced so long before it comes */
#define DAYS_400_YEARS 146097
#define DAYS_TO_1970   719468LL /* from 0000-03-01 */
#define ALARM_ANY      0xc0     /* both bits: any value */
/* Steps of rtc_next_alarm(): through the rest of a minute, an hour and a day, and once more. */
#define ALARM_STEPS 512

static uint8_t encode(const struct rtc *rtc, int value)
{
	return (uint8_t)(rtc->cmos[REG_B] & B_BINARY ? value : value / 10 * 16 + value % 10);
}

static int decode(const struct rtc *rtc, uint8_t value)
{
	return rtc->cmos[REG_B] & B_BINARY ? value : (value >> 4) * 10 + (value & 15);
}

static uint8_t encode_hours(const struct rtc *rtc, int hours)
{
	const int half = hours % 12 ? hours % 12 : 12;

	if (rtc->cmos[REG_B] & B_24H)
		return encode(rtc, hours);
	return encode(rtc, half) | (hours >= 12 ? HOURS_PM : 0);
}

static int decode_hours(const struct rtc *rtc, uint8_t value)
{
	if (rtc->cmos[REG_B] & B_24H)
		return decode(rtc, value);
	return decode(rtc, value & ~HOURS_PM) % 12 + (value & HOURS_PM ? 12 : 0);
}

bool rtc_is_time(unsigned index)
{
	return index == REG_SECONDS || index == REG_MINUTES || index == REG_HOURS ||
	       (index >= REG_WEEKDAY && index <= REG_YEAR) || index == REG_CENTURY;
}

/*
 * The calendar is computed here: gmtime_r() reads the host's time zone through a file, at the first
 * look at the clock on a vCPU's thread, and leaves 100 KiB of the C library and its buffer behind.
 *
 * Years begin in March, so that a leap day is a year's last; days are counted from 0000-03-01.
 */
static int64_t count_days(int64_t year, int month, int day) /* month: 0 January, -1 and more */
{
	const int64_t y = year - 1 + (month + 10) / 12;

	return 365 * y + y / 4 - y / 100 + y / 400 + (153 * ((month + 10) % 12) + 2) / 5 + day - 1;
}

static void load_date(struct rtc *rtc, int64_t days)
{
	const int64_t in_era = days % DAYS_400_YEARS;
	const int64_t in_year_of =
		(in_era - in_era / 1460 + in_era / 36524 - in_era / (DAYS_400_YEARS - 1)) / 365;
	const int in_year = (int)(in_era - (365 * in_year_of + in_year_of / 4 - in_year_of / 100));
	const int month = (5 * in_year + 2) / 153; /* 0: March */
	const int64_t year = days / DAYS_400_YEARS * 400 + in_year_of + (month >= 10);

	rtc->cmos[REG_WEEKDAY] = encode(rtc, (int)((days + 3) % 7) + 1);
	rtc->cmos[REG_DAY] = encode(rtc, in_year - (153 * month + 2) / 5 + 1);
	rtc->cmos[REG_MONTH] = encode(rtc, (month + 2) % 12 + 1);
	rtc->cmos[REG_YEAR] = encode(rtc, (int)(year % 100));
	rtc->cmos[REG_CENTURY] = encode(rtc, (int)(year / 100));
}

/* Not time(), which reads a coarser clock: it would be behind the second that read_a() announces.
 */
int64_t rtc_now(const struct rtc *rtc, int64_t *ns)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	if (ns)
		*ns = now.tv_nsec;
	return now.tv_sec + rtc->offset;
}

void rtc_load_time(struct rtc *rtc)
{
	const int64_t seconds = rtc_now(rtc, NULL) + DAYS_TO_1970 * DAY_S;
	const int in_day = (int)(seconds % DAY_S);

	rtc->cmos[REG_SECONDS] = encode(rtc, in_day % 60);
	rtc->cmos[REG_MINUTES] = encode(rtc, in_day / 60 % 60);
	rtc->cmos[REG_HOURS] = encode_hours(rtc, in_day / 3600);
	load_date(rtc, seconds / DAY_S);
}

/* Any bytes give some time; a wild one is brought back into
 * a range in which the arithmetic is safe. */
void rtc_take_time(struct rtc *rtc)
{
	const int64_t days = count_days(
		decode(rtc, rtc->cmos[REG_CENTURY]) * 100 + decode(rtc, rtc->cmos[REG_YEAR]),
		decode(rtc, rtc->cmos[REG_MONTH]) - 1, decode(rtc, rtc->cmos[REG_DAY]));
	const int64_t seconds =
		(days - DAYS_TO_1970) * DAY_S + decode_hours(rtc, rtc->cmos[REG_HOURS]) * 3600 +
		decode(rtc, rtc->cmos[REG_MINUTES]) * 60 + decode(rtc, rtc->cmos[REG_SECONDS]);
	const int64_t offset = seconds - (rtc_now(rtc, NULL) - rtc->offset);

	if (offset >= -OFFSET_MAX_S && offset <= OFFSET_MAX_S)
		rtc->offset = offset;
}

uint8_t rtc_read_a(const struct rtc *rtc)
{
	int64_t ns;

	rtc_now(rtc, &ns);
	if (!(rtc->cmos[REG_B] & B_SET) && ns >= SECOND_NS - UIP_NS)
		return rtc->cmos[REG_A] | A_UIP;
	return rtc->cmos[REG_A];
}

static bool fits(const struct rtc *rtc, unsigned index, uint8_t time)
{
	const uint8_t alarm = rtc->cmos[index];

	return (alarm & ALARM_ANY) == ALARM_ANY || alarm == time;
}

/* By the registers as they are, which the chip compares byte by byte: a value that is no time never
 * comes. */
int64_t rtc_next_alarm(const struct rtc *rtc, int64_t from)
{
	int64_t at = from + DAYS_TO_1970 * DAY_S;

	for (unsigned step = 0; step < ALARM_STEPS; step++) {
		const int in_day = (int)(at % DAY_S);

		if (!fits(rtc, REG_HOURS_ALARM, encode_hours(rtc, in_day / 3600)))
			at += 3600 - in_day % 3600;
		else if (!fits(rtc, REG_MINUTES_ALARM, encode(rtc, in_day / 60 % 60)))
			at += 60 - in_day % 60;
		else if (!fits(rtc, REG_SECONDS_ALARM, encode(rtc, in_day % 60)))
			at++;
		else
			return at - DAYS_TO_1970 * DAY_S;
	}
	return -1;
}
