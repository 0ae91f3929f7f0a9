/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * /dev/duet-timer: a timer on effective time, that is time less what was stolen from the waiter's
 * CPU and less what the whole machine stood still. Each open file is one timer and one clock, for
 * one thread. It polls as readable while it has expired; a read of 8 bytes gives how often it
 * has since the last one, as from a timerfd, or waits (-EAGAIN with O_NONBLOCK).
 *
 * A time-out ends in bounded time whatever is stolen: at the latest after the module's parameter
 * `stretch` (16) times its length on the wall.
 */
#ifndef DUET_TIMER_DEVICE_H
#define DUET_TIMER_DEVICE_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define DUET_TIMER_DEVICE "/dev/duet-timer"

/* Nanoseconds. From now to the first expiration (0 disarms) and between those after it (0: it is
 * the only one). EINVAL: more than DUET_TIMER_MAX, or an interval below DUET_TIMER_LEAST. */
struct duet_timer_arm {
	__u64 first;
	__u64 interval;
};
#define DUET_TIMER_MAX   (1ULL << 57) /* four years */
#define DUET_TIMER_LEAST 100000ULL

/* Nanoseconds. @effective never goes back and begins with CLOCK_MONOTONIC when the file is opened;
 * @stolen is what was lost since then. */
struct duet_timer_now {
	__u64 effective;
	__u64 wall; /* CLOCK_MONOTONIC */
	__u64 stolen;
};

#define DUET_TIMER_ARM _IOW('D', 0x10, struct duet_timer_arm)
#define DUET_TIMER_NOW _IOR('D', 0x11, struct duet_timer_now)

#endif
