/* SPDX-License-Identifier: Apache-2.0 */
/* The timers of duet/timer.h for a check on any machine: nothing is ever stolen. */
#include "duet/timer.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/timerfd.h>
#include <time.h>

int duet_timer_open(int flags)
{
	return timerfd_create(CLOCK_MONOTONIC,
		(flags & O_NONBLOCK ? TFD_NONBLOCK : 0) | (flags & O_CLOEXEC ? TFD_CLOEXEC : 0));
}

int duet_timer_set(int timer, uint64_t first, uint64_t interval)
{
	const struct itimerspec time = {
		.it_value = {(time_t)(first / 1000000000U), (long)(first % 1000000000U)},
		.it_interval = {(time_t)(interval / 1000000000U), (long)(interval % 1000000000U)}};
	int ret = timerfd_settime(timer, 0, &time, NULL);

	/* As an ioctl says it of another kind of file. */
	if (ret < 0 && errno == EINVAL)
		errno = ENOTTY;
	return ret;
}

int duet_timer_now(int timer, struct duet_time *now)
{
	struct itimerspec left;
	struct timespec time;

	if (timerfd_gettime(timer, &left) < 0) {
		errno = ENOTTY;
		return -1;
	}
	clock_gettime(CLOCK_MONOTONIC, &time);
	*now = (struct duet_time){
		.wall = (uint64_t)time.tv_sec * 1000000000U + (uint64_t)time.tv_nsec};
	now->effective = now->wall;
	return 0;
}
