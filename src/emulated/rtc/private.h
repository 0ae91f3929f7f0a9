/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of the real-time clock, shared by the files of this folder. All with the lock held. */
#ifndef DUET_EMULATED_RTC_PRIVATE_H
#define DUET_EMULATED_RTC_PRIVATE_H

#include "base/checked.h"
#include "base/loop.h"
#include "bus/device.h"

#include <pthread.h>

#define CMOS_SIZE         128U
#define REG_SECONDS       0x00
#define REG_SECONDS_ALARM 0x01
#define REG_MINUTES       0x02
#define REG_MINUTES_ALARM 0x03
#define REG_HOURS         0x04
#define REG_HOURS_ALARM   0x05
#define REG_WEEKDAY       0x06
#define REG_DAY           0x07
#define REG_MONTH         0x08
#define REG_YEAR          0x09
#define REG_A             0x0a
#define REG_B             0x0b
#define REG_C             0x0c
#define REG_D             0x0d
#define REG_CENTURY       0x32
#define A_UIP             0x80
#define A_RATE            0x0f
#define A_DEFAULT         0x26 /* 32768 Hz time base, 1024 Hz rate */
#define B_SET             0x80
#define B_UIE             0x10
#define B_BINARY          0x04
#define B_24H             0x02
#define C_IRQF            0x80
#define C_PERIODIC        0x40 /* the flags of C are where B has what they enable */
#define C_ALARM           0x20
#define C_UPDATE          0x10
#define C_FLAGS           (C_PERIODIC | C_ALARM | C_UPDATE)
#define D_VALID           0x80 /* the battery is good */
#define DAY_S             86400
#define OFFSET_MAX_S      (200LL * 366 * DAY_S)

struct rtc {
	struct device device;
	struct bus_range range;
	struct bus_host *host;
	struct loop *main;
	pthread_mutex_t lock; /* vCPUs, main thread */
	uint8_t index;
	uint8_t cmos[CMOS_SIZE]; /* time registers: valid while B_SET; C: flags as of what is seen
				  */
	int64_t offset;          /* seconds, the guest's clock minus the host's */

	/* interrupt.c: up to when events are in the flags. */
	int64_t seen;         /* rtc_now() */
	uint64_t seen_period; /* number of the period of the present rate */
	bool moving;          /* started: may interrupt */
	bool posted;          /* @request */
	bool line;            /* as the interrupt controller has it */
	uint64_t timer_at;    /* clock_ns(); RTC_NEVER: it is not set */
	struct loop_timer timer;
	struct loop_task request; /* a vCPU wants the timer earlier */
};

#define RTC_NEVER UINT64_MAX

/* The line is up while a flag is set that is enabled. */
static inline bool rtc_interrupts(const struct rtc *rtc)
{
	return rtc->cmos[REG_B] & rtc->cmos[REG_C] & C_FLAGS;
}

/* ---- time.c: the registers that count ---- */

/* The guest's time of day, in seconds since 1970. @ns: into the second; may be null. */
int64_t rtc_now(const struct rtc *rtc, int64_t *ns);
bool rtc_is_time(unsigned index);
/* The guest's time of day into the time registers. */
void rtc_load_time(struct rtc *rtc);
/* The guest has set the time registers. */
void rtc_take_time(struct rtc *rtc);
uint8_t rtc_read_a(const struct rtc *rtc);
/* The first second from @from on that the alarm registers mean, -1: none. */
int64_t rtc_next_alarm(const struct rtc *rtc, int64_t from);

/* ---- interrupt.c ---- */

void rtc_interrupt_init(struct rtc *rtc);
/* What has happened by now into the flags: before something changes on which they depend. */
void rtc_catch_up(struct rtc *rtc);
/* What happened before does not count: the clock was set, or begins. */
void rtc_begin_anew(struct rtc *rtc);
/* Line and timer after a change. */
void rtc_update(struct rtc *rtc);
/* Reading C: the flags, which are cleared. */
uint8_t rtc_take_flags(struct rtc *rtc);
/* Main thread. */
void rtc_start(struct rtc *rtc);
void rtc_rest(struct rtc *rtc);

#endif
