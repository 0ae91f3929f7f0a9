/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Update, alarm and periodic interrupts. The flags of register C are brought up to date when
 * somebody looks, so that a clock whose interrupts are off costs nothing; while one is enabled, and
 * the line not up already, a timer of the main loop looks when its next event is due.
 */
#include "base/clock.h"
#include "emulated/rtc/private.h"
#include "x86/layout.h"

/* The host's clock may be set meanwhile, or the host sleep: so long is the longest wait for it. */
#define WAIT_MAX_NS   (60 * SECOND_NS)
#define OSCILLATOR_HZ 32768

/* Exponent of two: oscillations in a period; -1: there are none. */
static int period_shift(const struct rtc *rtc)
{
	const int rate = rtc->cmos[REG_A] & A_RATE;

	return rate == 0 ? -1 : rate < 3 ? rate + 6 : rate - 1;
}

static uint64_t oscillations(uint64_t ns)
{
	return ns / SECOND_NS * OSCILLATOR_HZ + ns % SECOND_NS * OSCILLATOR_HZ / SECOND_NS;
}

static uint64_t period_now(const struct rtc *rtc)
{
	const int shift = period_shift(rtc);

	return shift < 0 ? 0 : oscillations(clock_ns()) >> shift;
}

void rtc_begin_anew(struct rtc *rtc)
{
	rtc->seen = rtc_now(rtc, NULL);
	rtc->seen_period = period_now(rtc);
}

void rtc_catch_up(struct rtc *rtc)
{
	const int64_t now = rtc_now(rtc, NULL), before = rtc->seen;
	const uint64_t period = period_now(rtc), period_before = rtc->seen_period;
	uint8_t *flags = &rtc->cmos[REG_C];
	int64_t alarm;

	rtc->seen = now;
	rtc->seen_period = period;
	if (period > period_before)
		*flags |= C_PERIODIC;
	/* A clock that is being set does not count; a host's may go back. */
	if ((rtc->cmos[REG_B] & B_SET) || now <= before)
		return;
	*flags |= C_UPDATE;
	alarm = rtc_next_alarm(rtc, before + 1);
	if (alarm >= 0 && alarm <= now)
		*flags |= C_ALARM;
}

/* When, on clock_ns()'s clock, the guest's clock shows @second. */
static uint64_t when(const struct rtc *rtc, int64_t second)
{
	int64_t ns;
	const int64_t left = second - rtc_now(rtc, &ns);

	if (left <= 0)
		return clock_ns();
	if (left > (int64_t)(WAIT_MAX_NS / SECOND_NS))
		return clock_ns() + WAIT_MAX_NS;
	return clock_ns() + (uint64_t)left * SECOND_NS - (uint64_t)ns;
}

static uint64_t next_period(const struct rtc *rtc)
{
	const int shift = period_shift(rtc);
	uint64_t end;

	if (shift < 0)
		return RTC_NEVER;
	end = (rtc->seen_period + 1) << shift; /* in oscillations; up by 1 ns at most */
	return end / OSCILLATOR_HZ * SECOND_NS +
	       (end % OSCILLATOR_HZ * SECOND_NS + OSCILLATOR_HZ - 1) / OSCILLATOR_HZ;
}

/* The next event that raises the line; caught up before. */
static uint64_t next_due(const struct rtc *rtc)
{
	const uint8_t enabled = rtc->cmos[REG_B];
	uint64_t due = RTC_NEVER;
	int64_t alarm;

	if (rtc_interrupts(rtc))
		return RTC_NEVER;
	if (enabled & C_PERIODIC)
		due = next_period(rtc);
	if (enabled & B_SET)
		return due;
	if (enabled & C_UPDATE)
		due = min_u64(due, when(rtc, rtc->seen + 1));
	alarm = enabled & C_ALARM ? rtc_next_alarm(rtc, rtc->seen + 1) : -1;
	return alarm < 0 ? due : min_u64(due, when(rtc, alarm));
}

static void set_line(struct rtc *rtc)
{
	const bool level = rtc_interrupts(rtc);

	if (level == rtc->line)
		return;
	rtc->line = level;
	rtc->host->ops->set_line(rtc->host, LAYOUT_RTC_GSI, level);
}

/* Main thread. A timer that comes too early finds nothing and is set anew. */
static void arm(struct rtc *rtc)
{
	const uint64_t due = next_due(rtc);

	if (due >= rtc->timer_at)
		return;
	rtc->timer_at = due;
	loop_timer_at(rtc->main, &rtc->timer, due);
}

static void look(struct rtc *rtc)
{
	if (!rtc->moving)
		return;
	rtc_catch_up(rtc);
	set_line(rtc);
	arm(rtc);
}

static void expired(struct loop_timer *timer)
{
	struct rtc *rtc = container_of(timer, struct rtc, timer);

	pthread_mutex_lock(&rtc->lock);
	rtc->timer_at = RTC_NEVER;
	look(rtc);
	pthread_mutex_unlock(&rtc->lock);
}

static void requested(struct loop_task *task)
{
	struct rtc *rtc = container_of(task, struct rtc, request);

	pthread_mutex_lock(&rtc->lock);
	rtc->posted = false;
	look(rtc);
	pthread_mutex_unlock(&rtc->lock);
}

void rtc_interrupt_init(struct rtc *rtc)
{
	rtc->timer.expired = expired;
	rtc->request.run = requested;
	rtc->timer_at = RTC_NEVER;
	rtc_begin_anew(rtc);
}

void rtc_update(struct rtc *rtc)
{
	set_line(rtc);
	if (!rtc->moving || rtc->posted || next_due(rtc) >= rtc->timer_at)
		return;
	rtc->posted = true;
	loop_post(rtc->main, &rtc->request);
}

uint8_t rtc_take_flags(struct rtc *rtc)
{
	uint8_t flags;

	rtc_catch_up(rtc);
	flags = rtc->cmos[REG_C] | (rtc_interrupts(rtc) ? C_IRQF : 0);
	rtc->cmos[REG_C] = 0;
	rtc_update(rtc);
	return flags;
}

void rtc_start(struct rtc *rtc)
{
	pthread_mutex_lock(&rtc->lock);
	rtc->moving = true;
	look(rtc);
	pthread_mutex_unlock(&rtc->lock);
}

void rtc_rest(struct rtc *rtc)
{
	pthread_mutex_lock(&rtc->lock);
	rtc->moving = false;
	loop_timer_stop(&rtc->timer);
	rtc->timer_at = RTC_NEVER;
	pthread_mutex_unlock(&rtc->lock);
}
