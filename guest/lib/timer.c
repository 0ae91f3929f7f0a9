/* SPDX-License-Identifier: Apache-2.0 */
#include "include/duet/timer.h"

#include "../../include/duet/timer_device.h"

#include <fcntl.h>
#include <sys/ioctl.h>

int duet_timer_open(int flags)
{
	return open(DUET_TIMER_DEVICE, O_RDWR | flags);
}

int duet_timer_set(int timer, uint64_t first, uint64_t interval)
{
	const struct duet_timer_arm arm = {.first = first, .interval = interval};

	return ioctl(timer, DUET_TIMER_ARM, &arm);
}

int duet_timer_now(int timer, struct duet_time *now)
{
	struct duet_timer_now told;
	int ret = ioctl(timer, DUET_TIMER_NOW, &told);

	if (ret == 0)
		*now = (struct duet_time){
			.effective = told.effective, .wall = told.wall, .stolen = told.stolen};
	return ret;
}
