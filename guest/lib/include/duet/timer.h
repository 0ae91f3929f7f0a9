/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Timers and a clock on effective time: time less what the host stole from the waiter's CPU and
 * less what the whole machine stood still, so that a time-out of T gives the awaited T of time in
 * which it could have come.
 *
 * A timer is a file descriptor that polls like timerfd's: readable while it has expired; read(2) of
 * 8 bytes takes the count. It is one thread's: it goes by the CPU of who waits on it. All times are
 * nanoseconds. Functions return -1 with errno; ENOENT is a guest without the device, or its
 * module: use CLOCK_MONOTONIC there.
 *
 * A time-out ends in bounded time whatever is stolen: 16 times its length on the wall, unless the
 * module's parameter `stretch` says otherwise.
 */
#ifndef DUET_TIMER_H
#define DUET_TIMER_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* @flags: O_NONBLOCK, O_CLOEXEC or 0. The caller closes it. */
int duet_timer_open(int flags);
/* From now: the first expiration (0: none, disarmed), and then one each @interval (0: no other; 100
 * us at least). What expired before is forgotten. */
int duet_timer_set(int timer, uint64_t first, uint64_t interval);

struct duet_time {
	uint64_t effective; /* never goes back; of this timer's waiters alone */
	uint64_t wall;      /* CLOCK_MONOTONIC */
	uint64_t stolen;    /* since the timer was opened */
};
int duet_timer_now(int timer, struct duet_time *now);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
