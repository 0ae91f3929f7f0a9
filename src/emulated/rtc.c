/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MC146818 real-time clock (data sheet of the same name) with 128 bytes of CMOS memory. It shows
 * the host's UTC plus what the guest has set. Alarm, periodic and update interrupts are not
 * offered: their flags never rise.
 */
#include "base/checked.h"
#include "emulated/board.h"
#include "x86/layout.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CMOS_SIZE      128U
#define INDEX_MASK     0x7f /* bit 7 of the index port is the NMI mask */
#define REG_SECONDS    0x00
#define REG_MINUTES    0x02
#define REG_HOURS      0x04
#define REG_WEEKDAY    0x06
#define REG_DAY        0x07
#define REG_MONTH      0x08
#define REG_YEAR       0x09
#define REG_A          0x0a
#define REG_B          0x0b
#define REG_C          0x0c
#define REG_D          0x0d
#define REG_CENTURY    0x32
#define A_UIP          0x80
#define A_DEFAULT      0x26 /* 32768 Hz time base, 1024 Hz rate */
#define B_SET          0x80
#define B_BINARY       0x04
#define B_24H          0x02
#define D_VALID        0x80 /* the battery is good */
#define HOURS_PM       0x80
#define UIP_NS         244000L /* an update is announced so long before it comes */
#define SECOND_NS      1000000000L
#define DAY_S          86400
#define OFFSET_MAX_S   (200LL * 366 * DAY_S)
#define DAYS_400_YEARS 146097
#define DAYS_TO_1970   719468LL /* from 0000-03-01 */

struct rtc {
	struct device device;
	struct bus_range range;
	pthread_mutex_t lock; /* vCPUs */
	uint8_t index;
	uint8_t cmos[CMOS_SIZE]; /* time registers: valid while B_SET */
	int64_t offset;          /* seconds, the guest's clock minus the host's */
};

static struct rtc *rtc_of(struct device *device)
{
	return container_of(device, struct rtc, device);
}

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

static bool is_time(unsigned index)
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

/* The guest's time of day into the time registers. */
static void load_time(struct rtc *rtc)
{
	const int64_t seconds = (int64_t)time(NULL) + rtc->offset + DAYS_TO_1970 * DAY_S;
	const int in_day = (int)(seconds % DAY_S);

	rtc->cmos[REG_SECONDS] = encode(rtc, in_day % 60);
	rtc->cmos[REG_MINUTES] = encode(rtc, in_day / 60 % 60);
	rtc->cmos[REG_HOURS] = encode_hours(rtc, in_day / 3600);
	load_date(rtc, seconds / DAY_S);
}

/* The guest has set the time registers. Any bytes give some time; a wild one is brought back into
 * a range in which the arithmetic is safe. */
static void take_time(struct rtc *rtc)
{
	const int64_t days = count_days(
		decode(rtc, rtc->cmos[REG_CENTURY]) * 100 + decode(rtc, rtc->cmos[REG_YEAR]),
		decode(rtc, rtc->cmos[REG_MONTH]) - 1, decode(rtc, rtc->cmos[REG_DAY]));
	const int64_t seconds =
		(days - DAYS_TO_1970) * DAY_S + decode_hours(rtc, rtc->cmos[REG_HOURS]) * 3600 +
		decode(rtc, rtc->cmos[REG_MINUTES]) * 60 + decode(rtc, rtc->cmos[REG_SECONDS]);
	const int64_t offset = seconds - (int64_t)time(NULL);

	if (offset >= -OFFSET_MAX_S && offset <= OFFSET_MAX_S)
		rtc->offset = offset;
}

static uint8_t read_a(const struct rtc *rtc)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	if (!(rtc->cmos[REG_B] & B_SET) && now.tv_nsec >= SECOND_NS - UIP_NS)
		return rtc->cmos[REG_A] | A_UIP;
	return rtc->cmos[REG_A];
}

static uint8_t read_cmos(struct rtc *rtc, unsigned index)
{
	if (is_time(index) && !(rtc->cmos[REG_B] & B_SET))
		load_time(rtc);
	switch (index) {
	case REG_A:
		return read_a(rtc);
	case REG_C:
		return 0;
	case REG_D:
		return D_VALID;
	default:
		return rtc->cmos[index];
	}
}

static void write_b(struct rtc *rtc, uint8_t value)
{
	const uint8_t before = rtc->cmos[REG_B];

	/* The registers keep the form in which they were set. */
	if (!(before & B_SET) && (value & B_SET))
		load_time(rtc);
	if ((before & B_SET) && !(value & B_SET))
		take_time(rtc);
	rtc->cmos[REG_B] = value;
}

static void write_time(struct rtc *rtc, unsigned index, uint8_t value)
{
	const bool running = !(rtc->cmos[REG_B] & B_SET);

	if (running)
		load_time(rtc);
	rtc->cmos[index] = value;
	if (running)
		take_time(rtc);
}

static void write_cmos(struct rtc *rtc, unsigned index, uint8_t value)
{
	if (is_time(index))
		write_time(rtc, index, value);
	else if (index == REG_A)
		rtc->cmos[REG_A] = value & ~A_UIP;
	else if (index == REG_B)
		write_b(rtc, value);
	else if (index != REG_C && index != REG_D)
		rtc->cmos[index] = value;
}

static uint64_t read_port(void *opaque, uint64_t offset, unsigned size)
{
	struct rtc *rtc = opaque;
	uint64_t value = 0xff; /* the index port cannot be read */

	/* A 16-bit read begins at the index port. */
	if (offset == 0 && size == 1)
		return value;
	pthread_mutex_lock(&rtc->lock);
	if (offset == 1)
		value = read_cmos(rtc, rtc->index);
	else
		value |= (uint64_t)read_cmos(rtc, rtc->index) << 8;
	pthread_mutex_unlock(&rtc->lock);
	return value;
}

static void write_port(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct rtc *rtc = opaque;

	pthread_mutex_lock(&rtc->lock);
	if (offset == 0) {
		rtc->index = value & INDEX_MASK;
		value >>= 8;
	}
	if (offset == 1 || size == 2)
		write_cmos(rtc, rtc->index, (uint8_t)value);
	pthread_mutex_unlock(&rtc->lock);
}

static const struct bus_ops rtc_bus_ops = {.read = read_port, .write = write_port};

static int realize(struct device *device, const struct device_place *place, struct error *err)
{
	struct rtc *rtc = rtc_of(device);
	int ret = bus_map(place->ports, &rtc->range, LAYOUT_RTC_PORT, 2);

	return ret < 0 ? error_errno(err, -ret, "real-time clock") : 0;
}

/* Its battery keeps time and memory over a reset of the machine. */
static void reset(struct device *device)
{
	struct rtc *rtc = rtc_of(device);

	pthread_mutex_lock(&rtc->lock);
	rtc->index = 0;
	rtc->cmos[REG_A] = A_DEFAULT;
	write_b(rtc, B_24H);
	pthread_mutex_unlock(&rtc->lock);
}

static void save(struct device *device, struct state_writer *writer)
{
	struct rtc *rtc = rtc_of(device);

	state_put_u8(writer, rtc->index);
	state_put_bytes(writer, rtc->cmos, sizeof(rtc->cmos));
	state_put_u64(writer, (uint64_t)rtc->offset);
}

static int restore(struct device *device, struct state_reader *reader, struct error *err)
{
	struct rtc *rtc = rtc_of(device);
	int64_t offset;

	rtc->index = state_get_u8(reader) & INDEX_MASK;
	state_get_bytes(reader, rtc->cmos, sizeof(rtc->cmos));
	offset = (int64_t)state_get_u64(reader);
	if (reader->failed || offset < -OFFSET_MAX_S || offset > OFFSET_MAX_S)
		return error_set(err, EINVAL, "saved real-time clock is broken");
	rtc->cmos[REG_A] &= ~A_UIP;
	rtc->offset = offset;
	return 0;
}

static void rtc_free(struct device *device)
{
	struct rtc *rtc = rtc_of(device);

	pthread_mutex_destroy(&rtc->lock);
	free(rtc);
}

static const struct device_ops rtc_ops = {
	.type = "rtc",
	.realize = realize,
	.reset = reset,
	.state_version = 1,
	.save = save,
	.restore = restore,
	.free = rtc_free,
};

int rtc_new(struct device **device, struct error *err)
{
	struct rtc *rtc = calloc(1, sizeof(*rtc));

	if (!rtc)
		return error_errno(err, ENOMEM, "real-time clock");
	rtc->device.ops = &rtc_ops;
	snprintf(rtc->device.name, sizeof(rtc->device.name), "rtc0");
	rtc->range = (struct bus_range){.name = "rtc", .ops = &rtc_bus_ops, .device = rtc};
	rtc->cmos[REG_A] = A_DEFAULT;
	rtc->cmos[REG_B] = B_24H;
	pthread_mutex_init(&rtc->lock, NULL);
	*device = &rtc->device;
	return 0;
}
