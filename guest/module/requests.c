// SPDX-License-Identifier: GPL-2.0-only
/*
 * Batched requests, by one fast call or, from a device that does not take them so, by the queue.
 * There a batch lives as long as its caller waits and as long as the ring has it: a
 * caller that has lost patience leaves it to the ring, so that a device that answers late writes
 * into memory that is still the batch's.
 */
#include <linux/completion.h>
#include <linux/io.h>
#include <linux/jiffies.h>
#include <linux/module.h>
#include <linux/refcount.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>

#include "core.h"

/* How often a second may pass without an answer. Counted, not measured: after a long pause of the
 * whole machine one of them is over, and not all. */
#define PATIENCE 30

struct batch {
	refcount_t users;
	struct completion done;
	int error;
	unsigned int count;
	struct duet_coop_answer *answers;
	struct duet_coop_request requests[];
};

static void batch_put(struct batch *batch)
{
	if (refcount_dec_and_test(&batch->users)) {
		kfree(batch->answers);
		kfree(batch);
	}
}

static struct batch *batch_new(const struct duet_coop_request *requests, unsigned int count)
{
	struct batch *batch = kmalloc(struct_size(batch, requests, count), GFP_KERNEL);

	if (!batch)
		return NULL;
	/* Zeroes: a device that writes less than it says must not give away old memory. */
	batch->answers = kcalloc(count, sizeof(*batch->answers), GFP_KERNEL);
	if (!batch->answers) {
		kfree(batch);
		return NULL;
	}
	refcount_set(&batch->users, 1);
	init_completion(&batch->done);
	batch->error = 0;
	batch->count = count;
	memcpy(batch->requests, requests, count * sizeof(*requests));
	return batch;
}

static void batch_finish(struct batch *batch, int error)
{
	batch->error = error;
	complete(&batch->done);
	batch_put(batch);
}

void duet_requests_done(struct virtqueue *vq)
{
	struct duet *duet = vq->vdev->priv;
	struct batch *batch;
	unsigned long flags;
	unsigned int length;

	spin_lock_irqsave(&duet->lock, flags);
	do {
		virtqueue_disable_cb(vq);
		while ((batch = virtqueue_get_buf(vq, &length)))
			batch_finish(batch, length < batch->count * sizeof(*batch->answers) ? -EPROTO : 0);
	} while (!virtqueue_enable_cb(vq));
	spin_unlock_irqrestore(&duet->lock, flags);
	wake_up_all(&duet->room);
}

void duet_requests_fail(struct duet *duet)
{
	struct batch *batch;
	unsigned long flags;

	spin_lock_irqsave(&duet->lock, flags);
	while ((batch = virtqueue_detach_unused_buf(duet->requests)))
		batch_finish(batch, -ENODEV);
	spin_unlock_irqrestore(&duet->lock, flags);
	wake_up_all(&duet->room);
}

/* -ENOSPC: not now. */
static int batch_add(struct duet *duet, struct batch *batch)
{
	struct scatterlist requests, answers, *sgs[] = {&requests, &answers};
	unsigned long flags;
	int error = -ENODEV;

	sg_init_one(&requests, batch->requests, batch->count * sizeof(*batch->requests));
	sg_init_one(&answers, batch->answers, batch->count * sizeof(*batch->answers));
	spin_lock_irqsave(&duet->lock, flags);
	if (!duet->gone)
		error = virtqueue_add_sgs(duet->requests, sgs, 1, 1, batch, GFP_ATOMIC);
	if (!error) {
		refcount_inc(&batch->users);
		virtqueue_kick(duet->requests);
	}
	spin_unlock_irqrestore(&duet->lock, flags);
	return error;
}

static int batch_send(struct duet *duet, struct batch *batch)
{
	unsigned int second;
	int error;

	for (second = 0; second < PATIENCE; second++)
		if (wait_event_timeout(duet->room, (error = batch_add(duet, batch)) != -ENOSPC, HZ))
			return error;
	return -ETIMEDOUT;
}

static int batch_wait(struct batch *batch)
{
	unsigned int second;

	for (second = 0; second < PATIENCE; second++)
		if (wait_for_completion_timeout(&batch->done, HZ))
			return batch->error;
	return -ETIMEDOUT;
}

static int by_queue(struct duet *duet, struct batch *batch)
{
	int error = batch_send(duet, batch);

	return error ? error : batch_wait(batch);
}

static int by_call(struct duet *duet, struct batch *batch)
{
	const u64 arguments[] = {virt_to_phys(batch->requests), virt_to_phys(batch->answers),
				 batch->count};
	u64 values[4];
	int error = duet_call(duet, DUET_COOP_BATCH, arguments, ARRAY_SIZE(arguments), values);

	if (!error && values[0] != batch->count)
		return -EPROTO;
	return error;
}

/* A CPU that has no page to call from has the queue, too. */
static int by_either(struct duet *duet, struct batch *batch)
{
	int error = by_call(duet, batch);

	return error == -ENOSYS || error == -ENODEV ? by_queue(duet, batch) : error;
}

static int run(struct duet *duet, const struct duet_coop_request *requests,
	       struct duet_coop_answer *answers, unsigned int count,
	       int (*go)(struct duet *duet, struct batch *batch))
{
	struct batch *batch = batch_new(requests, count);
	int error;

	if (!batch)
		return -ENOMEM;
	error = go(duet, batch);
	if (!error)
		memcpy(answers, batch->answers, count * sizeof(*answers));
	batch_put(batch);
	return error;
}

static int run_all(struct duet *duet, const struct duet_coop_request *requests,
		   struct duet_coop_answer *answers, unsigned int count,
		   int (*go)(struct duet *duet, struct batch *batch))
{
	unsigned int done, now;
	int error;

	for (done = 0; done < count; done += now) {
		now = min_t(unsigned int, count - done, DUET_COOP_BATCH_MAX);
		error = run(duet, requests + done, answers + done, now, go);
		if (error)
			return error;
	}
	return 0;
}

int duet_request(struct duet *duet, const struct duet_coop_request *requests,
		 struct duet_coop_answer *answers, unsigned int count)
{
	return run_all(duet, requests, answers, count, by_either);
}

int duet_request_queued(struct duet *duet, const struct duet_coop_request *requests,
			struct duet_coop_answer *answers, unsigned int count)
{
	return run_all(duet, requests, answers, count, by_queue);
}
