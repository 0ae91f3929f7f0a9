// SPDX-License-Identifier: GPL-2.0-only
/*
 * The host's wishes, and /dev/duet, by which a daemon hears and answers them: read() gives one
 * struct duet_coop_wish that this file has not given yet, the newest of its kind; write() takes
 * structs duet_coop_request of DUET_COOP_SHARE and DUET_COOP_LOCALITY.
 */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/poll.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "core.h"

#define KINDS 2 /* DUET_COOP_WISH_SHARE and DUET_COOP_WISH_LOCALITY, from 1 on */

/* The newest of each kind: a flood of them costs no memory. */
static struct {
	spinlock_t lock;
	u64 arrived[KINDS]; /* how many of the kind; 0: none yet */
	u32 number[KINDS];
	wait_queue_head_t waiters;
} heard = {
	.lock = __SPIN_LOCK_UNLOCKED(heard.lock),
	.waiters = __WAIT_QUEUE_HEAD_INITIALIZER(heard.waiters),
};

struct listener {
	struct duet *duet;
	u64 given[KINDS]; /* of heard.arrived; under heard.lock */
};

/* The event queue */

static void hear(const struct duet_coop_wish *wish)
{
	u32 kind = READ_ONCE(wish->kind), number = READ_ONCE(wish->number);

	if (kind < 1 || kind > KINDS)
		return;
	spin_lock(&heard.lock);
	heard.arrived[kind - 1]++;
	heard.number[kind - 1] = number;
	spin_unlock(&heard.lock);
	wake_up_interruptible(&heard.waiters);
}

static void offer(struct virtqueue *events, struct duet_coop_wish *wish)
{
	struct scatterlist buffer;

	sg_init_one(&buffer, wish, sizeof(*wish));
	/* There is room: the queue never has more than these buffers. One that is too small for
	 * them has fewer, and one is enough. */
	virtqueue_add_inbuf(events, &buffer, 1, wish, GFP_ATOMIC);
}

void duet_events_done(struct virtqueue *vq)
{
	struct duet *duet = vq->vdev->priv;
	struct duet_coop_wish *filled[DUET_WISHES];
	unsigned int length, i, count = 0;
	unsigned long flags;

	spin_lock_irqsave(&duet->lock, flags);
	while (count < DUET_WISHES && (filled[count] = virtqueue_get_buf(vq, &length))) {
		if (length >= sizeof(*filled[count]))
			hear(filled[count]);
		count++;
	}
	/* Not before: a device that goes on filling them would keep this CPU here for ever. */
	for (i = 0; i < count; i++)
		offer(vq, filled[i]);
	virtqueue_kick(vq);
	spin_unlock_irqrestore(&duet->lock, flags);
}

void duet_events_fill(struct duet *duet)
{
	unsigned long flags;
	unsigned int i;

	if (!duet_has(duet, DUET_COOP_F_WISHES))
		return;
	/* A device may use the first while the last is being added. */
	spin_lock_irqsave(&duet->lock, flags);
	for (i = 0; i < DUET_WISHES; i++)
		offer(duet->events, &duet->wishes[i]);
	virtqueue_kick(duet->events);
	spin_unlock_irqrestore(&duet->lock, flags);
}

void duet_events_drop(struct duet *duet)
{
	while (virtqueue_detach_unused_buf(duet->events))
		;
}

/* /dev/duet */

static int wishes_open(struct inode *inode, struct file *file)
{
	struct listener *listener = kzalloc(sizeof(*listener), GFP_KERNEL);

	if (!listener)
		return -ENOMEM;
	listener->duet = duet_get();
	if (!listener->duet) {
		kfree(listener);
		return -ENODEV;
	}
	file->private_data = listener;
	return stream_open(inode, file);
}

static int wishes_release(struct inode *inode, struct file *file)
{
	struct listener *listener = file->private_data;

	duet_put(listener->duet);
	kfree(listener);
	return 0;
}

static bool any(struct listener *listener)
{
	bool is;

	spin_lock_irq(&heard.lock);
	is = memcmp(listener->given, heard.arrived, sizeof(heard.arrived)) != 0;
	spin_unlock_irq(&heard.lock);
	return is;
}

static bool take(struct listener *listener, struct duet_coop_wish *wish)
{
	unsigned int i;

	spin_lock_irq(&heard.lock);
	for (i = 0; i < KINDS && listener->given[i] == heard.arrived[i]; i++)
		;
	if (i < KINDS) {
		listener->given[i] = heard.arrived[i];
		*wish = (struct duet_coop_wish){.kind = i + 1, .number = heard.number[i]};
	}
	spin_unlock_irq(&heard.lock);
	return i < KINDS;
}

static ssize_t wishes_read(struct file *file, char __user *buffer, size_t length, loff_t *at)
{
	struct listener *listener = file->private_data;
	struct duet_coop_wish wish;

	if (length < sizeof(wish))
		return -EINVAL;
	while (!take(listener, &wish)) {
		if (file->f_flags & O_NONBLOCK)
			return -EAGAIN;
		if (wait_event_interruptible(heard.waiters, any(listener)))
			return -ERESTARTSYS;
	}
	return copy_to_user(buffer, &wish, sizeof(wish)) ? -EFAULT : sizeof(wish);
}

static __poll_t wishes_poll(struct file *file, struct poll_table_struct *table)
{
	poll_wait(file, &heard.waiters, table);
	return EPOLLOUT | EPOLLWRNORM | (any(file->private_data) ? EPOLLIN | EPOLLRDNORM : 0);
}

static int check(const struct duet_coop_request *requests, unsigned int count)
{
	unsigned int i;

	for (i = 0; i < count; i++)
		if ((requests[i].function != DUET_COOP_SHARE &&
		     requests[i].function != DUET_COOP_LOCALITY) || requests[i].reserved)
			return -EINVAL;
	return 0;
}

/* How many of the first the device took; its error for the first one when it took none. */
static ssize_t taken(const struct duet_coop_answer *answers, unsigned int count)
{
	unsigned int i;

	for (i = 0; i < count && !answers[i].status; i++)
		;
	if (i)
		return i;
	/* The device's word, from which the file's user gets an errno and nothing else. */
	return answers[0].status < 0 && answers[0].status >= -MAX_ERRNO ? answers[0].status : -EPROTO;
}

static ssize_t tell(struct duet *duet, const struct duet_coop_request *requests, unsigned int count)
{
	struct duet_coop_answer *answers = kcalloc(count, sizeof(*answers), GFP_KERNEL);
	ssize_t result;

	if (!answers)
		return -ENOMEM;
	result = duet_request(duet, requests, answers, count);
	if (!result)
		result = taken(answers, count);
	kfree(answers);
	return result;
}

static ssize_t wishes_write(struct file *file, const char __user *buffer, size_t length, loff_t *at)
{
	struct listener *listener = file->private_data;
	unsigned int count = min_t(size_t, length / sizeof(struct duet_coop_request),
				   DUET_COOP_BATCH_MAX);
	struct duet_coop_request *requests;
	ssize_t result;

	if (!count)
		return -EINVAL;
	requests = memdup_user(buffer, count * sizeof(*requests));
	if (IS_ERR(requests))
		return PTR_ERR(requests);
	result = check(requests, count);
	if (!result)
		result = tell(listener->duet, requests, count);
	kfree(requests);
	return result > 0 ? result * sizeof(*requests) : result;
}

static const struct file_operations operations = {
	.owner = THIS_MODULE,
	.open = wishes_open,
	.release = wishes_release,
	.read = wishes_read,
	.write = wishes_write,
	.poll = wishes_poll,
};

static struct miscdevice device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "duet",
	.fops = &operations,
	.mode = 0600,
};

static int wishes_start(struct duet *duet)
{
	return misc_register(&device);
}

static void wishes_stop(struct duet *duet)
{
	misc_deregister(&device);
}

const struct duet_part duet_wishes = {
	.name = "wishes",
	.feature = DUET_COOP_F_WISHES,
	.start = wishes_start,
	.stop = wishes_stop,
};
