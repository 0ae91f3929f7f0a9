/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MC146818 real-time clock (data sheet of the same name) with 128 bytes of CMOS memory. It shows
 * the host's UTC plus what the guest has set.
 */
#include "base/checked.h"
#include "emulated/board.h"
#include "emulated/rtc/private.h"
#include "x86/layout.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define INDEX_MASK 0x7f /* bit 7 of the index port is the NMI mask */

static struct rtc *rtc_of(struct device *device)
{
	return container_of(device, struct rtc, device);
}

static uint8_t read_cmos(struct rtc *rtc, unsigned index)
{
	if (rtc_is_time(index) && !(rtc->cmos[REG_B] & B_SET))
		rtc_load_time(rtc);
	switch (index) {
	case REG_A:
		return rtc_read_a(rtc);
	case REG_C:
		return rtc_take_flags(rtc);
	case REG_D:
		return D_VALID;
	default:
		return rtc->cmos[index];
	}
}

/* Setting the clock turns its update interrupt off. */
static void write_b(struct rtc *rtc, uint8_t value)
{
	const uint8_t before = rtc->cmos[REG_B];

	/* The registers keep the form in which they were set. */
	if (!(before & B_SET) && (value & B_SET))
		rtc_load_time(rtc);
	if ((before & B_SET) && !(value & B_SET)) {
		rtc_take_time(rtc);
		rtc_begin_anew(rtc);
	}
	rtc->cmos[REG_B] = value & B_SET ? value & ~B_UIE : value;
}

static void write_time(struct rtc *rtc, unsigned index, uint8_t value)
{
	const bool running = !(rtc->cmos[REG_B] & B_SET);

	if (running)
		rtc_load_time(rtc);
	rtc->cmos[index] = value;
	if (!running)
		return;
	rtc_take_time(rtc);
	rtc_begin_anew(rtc);
}

static void write_a(struct rtc *rtc, uint8_t value)
{
	const uint8_t before = rtc->cmos[REG_A];

	rtc->cmos[REG_A] = value & ~A_UIP;
	/* Periods are numbered by their length. */
	if ((value ^ before) & A_RATE)
		rtc_begin_anew(rtc);
}

static void write_cmos(struct rtc *rtc, unsigned index, uint8_t value)
{
	if (index > REG_D && !rtc_is_time(index)) {
		rtc->cmos[index] = value;
		return;
	}
	rtc_catch_up(rtc);
	if (rtc_is_time(index))
		write_time(rtc, index, value);
	else if (index == REG_A)
		write_a(rtc, value);
	else if (index == REG_B)
		write_b(rtc, value);
	else if (index != REG_C && index != REG_D)
		rtc->cmos[index] = value;
	rtc_update(rtc);
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

	rtc->host = place->host;
	rtc->main = place->main;
	return ret < 0 ? error_errno(err, -ret, "real-time clock") : 0;
}

static int start(struct device *device, struct error *err)
{
	rtc_start(rtc_of(device));
	return 0;
}

static void quiesce(struct device *device, unsigned asking, bool drop)
{
	rtc_rest(rtc_of(device));
	device_at_rest(device, asking);
}

/* Its battery keeps time and memory over a reset of the machine. */
static void reset(struct device *device)
{
	struct rtc *rtc = rtc_of(device);

	pthread_mutex_lock(&rtc->lock);
	rtc->index = 0;
	rtc->cmos[REG_A] = A_DEFAULT;
	write_b(rtc, B_24H);
	rtc->cmos[REG_C] = 0;
	rtc_begin_anew(rtc);
	rtc_update(rtc);
	pthread_mutex_unlock(&rtc->lock);
}

static void save(struct device *device, struct state_writer *writer)
{
	struct rtc *rtc = rtc_of(device);

	state_put_u8(writer, rtc->index);
	state_put_bytes(writer, rtc->cmos, sizeof(rtc->cmos));
	state_put_u64(writer, (uint64_t)rtc->offset);
	state_put_u64(writer, (uint64_t)rtc->seen);
}

static int restore(struct device *device, struct state_reader *reader, struct error *err)
{
	struct rtc *rtc = rtc_of(device);
	int64_t offset, seen;

	rtc->index = state_get_u8(reader) & INDEX_MASK;
	state_get_bytes(reader, rtc->cmos, sizeof(rtc->cmos));
	offset = (int64_t)state_get_u64(reader);
	/* An alarm that falls into a move is told after it. Version 1 had none. */
	seen = reader->version < 2 ? 0 : (int64_t)state_get_u64(reader);
	if (reader->failed || offset < -OFFSET_MAX_S || offset > OFFSET_MAX_S)
		return error_set(err, EINVAL, "saved real-time clock is broken");
	rtc->cmos[REG_A] &= ~A_UIP;
	rtc->cmos[REG_C] &= C_FLAGS;
	rtc->line = rtc_interrupts(rtc);
	rtc->offset = offset;
	rtc_begin_anew(rtc);
	if (reader->version >= 2 && seen < rtc->seen && seen >= rtc->seen - OFFSET_MAX_S)
		rtc->seen = seen;
	return 0;
}

static void rtc_free(struct device *device)
{
	struct rtc *rtc = rtc_of(device);

	loop_timer_stop(&rtc->timer);
	if (rtc->posted)
		loop_unpost(rtc->main, &rtc->request);
	pthread_mutex_destroy(&rtc->lock);
	free(rtc);
}

static const struct device_ops rtc_ops = {
	.type = "rtc",
	.realize = realize,
	.start = start,
	.quiesce = quiesce,
	.reset = reset,
	.state_version = 2,
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
	rtc_interrupt_init(rtc);
	*device = &rtc->device;
	return 0;
}
