// SPDX-License-Identifier: GPL-2.0-only
/* /dev/duet-timer, see timer_device.h; and the time that was stolen, for whoever asks. */
#include "../../include/duet/timer_device.h"
#include "duet.h"
#include "stolen.h"

#include <linux/delay.h>
#include <linux/fs.h>
#include <linux/hrtimer.h>
#include <linux/math64.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/poll.h>
#include <linux/slab.h>

/* A wait for less than this would cost more than it tells. */
#define REST_LEAST   20000ULL
#define STRETCH_MAX  32U

static unsigned int stretch = 16;
module_param(stretch, uint, 0444);
MODULE_PARM_DESC(stretch, "an effective time-out takes at most so many times its length (1 to 32)");

struct duet_timer {
	spinlock_t lock; /* of all that follows; interrupts off */
	wait_queue_head_t wait;
	struct hrtimer timer;
	struct duet_stolen stolen; /* from who waits here */
	u64 wall, lost;            /* when the next expiration was counted from */
	u64 due;                   /* until it: effective */
	u64 interval;
	u64 expirations; /* not yet read */
	bool rests;      /* it has expired, and goes on when that is read */
	u64 effective;   /* last told */
};

/* Since @wall and @lost were noted. A lump of stolen time may have begun before. */
static void since(const struct duet_timer *timer, u64 *wall, u64 *effective)
{
	u64 lost = duet_stolen_peek(&timer->stolen) - timer->lost;

	*wall = ktime_get_ns() - timer->wall;
	*effective = lost < *wall ? *wall - lost : 0;
}

/* Counts @due from now on. */
static void count_from_now(struct duet_timer *timer, u64 due)
{
	timer->wall = ktime_get_ns();
	timer->lost = duet_stolen_peek(&timer->stolen);
	timer->due = due;
}

/* It is due. Who has many timers and reads none of them keeps no CPU busy: an interval's next
 * expirations are counted when this one is read. */
static void expire(struct duet_timer *timer, u64 effective)
{
	u64 over = effective > timer->due ? effective - timer->due : 0, part = 0, missed = 0;

	timer->rests = timer->interval != 0;
	if (timer->interval)
		missed = div64_u64_rem(over, timer->interval, &part);
	timer->expirations += 1 + missed;
	if (timer->interval)
		count_from_now(timer, timer->interval - part);
}

/* The wall's clock says that it might be due. What is missing is waited for again: each time at
 * least a part of the time went by without a theft, or the bound on the wall comes nearer. */
static enum hrtimer_restart timer_fires(struct hrtimer *hrtimer)
{
	struct duet_timer *timer = container_of(hrtimer, struct duet_timer, timer);
	u64 wall, effective, limit, rest = 0;
	unsigned long flags;

	spin_lock_irqsave(&timer->lock, flags);
	since(timer, &wall, &effective);
	limit = timer->due * stretch;
	if (effective >= timer->due || wall >= limit)
		expire(timer, effective);
	else
		rest = max(min(timer->due - effective, limit - wall), REST_LEAST);
	if (rest)
		hrtimer_set_expires(hrtimer, ktime_add_ns(ktime_get(), rest));
	spin_unlock_irqrestore(&timer->lock, flags);
	if (!rest)
		wake_up_poll(&timer->wait, EPOLLIN);
	return rest ? HRTIMER_RESTART : HRTIMER_NORESTART;
}

/* It rested until now. The lock is held. */
static void go_on(struct duet_timer *timer)
{
	u64 wall, effective;

	since(timer, &wall, &effective);
	if (effective >= timer->due || wall >= timer->due * stretch) {
		expire(timer, effective);
		effective = 0;
	}
	timer->rests = false;
	hrtimer_start(&timer->timer,
		      ktime_add_ns(ktime_get(), max(timer->due - effective, REST_LEAST)),
		      HRTIMER_MODE_ABS_PINNED);
}

/* Takes the lock when the timer does not run and will not. */
static void lock_stopped(struct duet_timer *timer)
{
	for (;;) {
		spin_lock_irq(&timer->lock);
		if (hrtimer_try_to_cancel(&timer->timer) >= 0)
			return;
		spin_unlock_irq(&timer->lock);
		cpu_relax();
	}
}

static int timer_arm(struct duet_timer *timer, const struct duet_timer_arm *arm)
{
	if (arm->first > DUET_TIMER_MAX || arm->interval > DUET_TIMER_MAX ||
	    (arm->interval && arm->interval < DUET_TIMER_LEAST))
		return -EINVAL;
	lock_stopped(timer);
	duet_stolen_update(&timer->stolen);
	timer->expirations = 0;
	timer->rests = false;
	timer->interval = arm->interval;
	count_from_now(timer, arm->first);
	/* On this CPU, whose steal time is then as of its last entry when it fires. */
	if (arm->first)
		hrtimer_start(&timer->timer, ktime_add_ns(ktime_get(), arm->first),
			      HRTIMER_MODE_ABS_PINNED);
	spin_unlock_irq(&timer->lock);
	return 0;
}

static void timer_now(struct duet_timer *timer, struct duet_timer_now *now)
{
	u64 effective;

	spin_lock_irq(&timer->lock);
	now->stolen = duet_stolen_update(&timer->stolen);
	now->wall = ktime_get_ns();
	effective = now->stolen < now->wall ? now->wall - now->stolen : 0;
	timer->effective = max(timer->effective, effective);
	now->effective = timer->effective;
	spin_unlock_irq(&timer->lock);
}

static long timer_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	struct duet_timer *timer = file->private_data;
	void __user *user = (void __user *)argument;
	struct duet_timer_arm arm;
	struct duet_timer_now now;

	switch (command) {
	case DUET_TIMER_ARM:
		if (copy_from_user(&arm, user, sizeof(arm)))
			return -EFAULT;
		return timer_arm(timer, &arm);
	case DUET_TIMER_NOW:
		timer_now(timer, &now);
		return copy_to_user(user, &now, sizeof(now)) ? -EFAULT : 0;
	default:
		return -ENOTTY;
	}
}

static u64 take_expirations(struct duet_timer *timer)
{
	u64 taken;

	spin_lock_irq(&timer->lock);
	duet_stolen_update(&timer->stolen);
	if (timer->rests)
		go_on(timer);
	taken = timer->expirations;
	timer->expirations = 0;
	spin_unlock_irq(&timer->lock);
	return taken;
}

static ssize_t timer_read(struct file *file, char __user *user, size_t length, loff_t *at)
{
	struct duet_timer *timer = file->private_data;
	u64 taken;
	int ret;

	if (length < sizeof(taken))
		return -EINVAL;
	taken = take_expirations(timer);
	if (!taken && file->f_flags & O_NONBLOCK)
		return -EAGAIN;
	ret = taken ? 0 : wait_event_interruptible(timer->wait, (taken = take_expirations(timer)));
	if (ret)
		return ret;
	return copy_to_user(user, &taken, sizeof(taken)) ? -EFAULT : sizeof(taken);
}

/* Who polls here is who waits: what its CPU loses is lost to it. */
static __poll_t timer_poll(struct file *file, poll_table *table)
{
	struct duet_timer *timer = file->private_data;
	__poll_t events;

	poll_wait(file, &timer->wait, table);
	spin_lock_irq(&timer->lock);
	duet_stolen_update(&timer->stolen);
	events = timer->expirations ? EPOLLIN : 0;
	spin_unlock_irq(&timer->lock);
	return events;
}

static struct duet_timer *timer_new(void)
{
	struct duet_timer *timer = kzalloc(sizeof(*timer), GFP_KERNEL_ACCOUNT);

	if (!timer)
		return NULL;
	spin_lock_init(&timer->lock);
	init_waitqueue_head(&timer->wait);
	hrtimer_init(&timer->timer, CLOCK_MONOTONIC, HRTIMER_MODE_ABS_PINNED);
	timer->timer.function = timer_fires;
	duet_stolen_begin(&timer->stolen);
	return timer;
}

static void timer_free(struct duet_timer *timer)
{
	hrtimer_cancel(&timer->timer);
	kfree(timer);
}

static int timer_open(struct inode *inode, struct file *file)
{
	file->private_data = timer_new();
	if (!file->private_data)
		return -ENOMEM;
	return stream_open(inode, file);
}

static int timer_release(struct inode *inode, struct file *file)
{
	timer_free(file->private_data);
	return 0;
}

static const struct file_operations timer_operations = {
	.owner = THIS_MODULE,
	.open = timer_open,
	.release = timer_release,
	.read = timer_read,
	.poll = timer_poll,
	.unlocked_ioctl = timer_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

/* As timerfd_create() is for everybody. */
static struct miscdevice timer_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "duet-timer",
	.fops = &timer_operations,
	.mode = 0666,
};

static int timers_start(struct duet *duet)
{
	int ret;

	stretch = clamp(stretch, 1U, STRETCH_MAX);
	ret = duet_stolen_start(duet);
	if (ret == -EOPNOTSUPP)
		dev_info(&duet->vdev->dev,
			 "no steal time: effective time leaves out only what the machine stood still\n");
	else if (ret)
		return ret;
	ret = misc_register(&timer_device);
	if (ret)
		duet_stolen_stop();
	return ret;
}

static void timers_stop(struct duet *duet)
{
	misc_deregister(&timer_device);
	duet_stolen_stop();
}

/* Three expirations of 2 ms, none before its time; the clock goes, and not ahead of the wall's. */
static int timers_selftest(struct duet *duet)
{
	const struct duet_timer_arm arm = {.first = 2 * NSEC_PER_MSEC, .interval = 2 * NSEC_PER_MSEC};
	struct duet_timer *timer = timer_new();
	struct duet_timer_now before, after;
	u64 expirations = 0;
	int ret = duet_stolen_selftest();

	if (!timer)
		return -ENOMEM;
	timer_now(timer, &before);
	timer_arm(timer, &arm);
	while (expirations < 3 &&
	       wait_event_timeout(timer->wait, READ_ONCE(timer->expirations), 10 * HZ))
		expirations += take_expirations(timer);
	timer_now(timer, &after);
	if (expirations < 3 || after.wall - before.wall < 3 * arm.first ||
	    after.effective < before.effective ||
	    after.effective - before.effective > after.wall - before.wall) {
		dev_err(&duet->vdev->dev, "timers: %llu expirations in %llu ns, %llu effective\n",
			expirations, after.wall - before.wall, after.effective - before.effective);
		ret = -EIO;
	}
	timer_free(timer);
	return ret;
}

const struct duet_part duet_timers = {
	.name = "timers",
	.feature = DUET_NO_FEATURE,
	.start = timers_start,
	.stop = timers_stop,
	.selftest = timers_selftest,
};
