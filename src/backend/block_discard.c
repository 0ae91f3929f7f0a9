/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Discards of a block device. The file operation for holes becomes "write zeroes" there, which
 * devices refuse that can only discard (thin LVM), and others carry out by writing; io_uring knows
 * the ioctl since Linux 6.12 only. It waits for the device, so a thread calls it, from the first
 * discard on: one at a time, each of which the kernel cuts into as many as the device likes.
 *
 * Threads: the queue is the loop's; the thread sees the one range that is handed to it under @lock.
 */
#include "backend/block_private.h"
#include "base/checked.h"
#include "base/thread.h"

#include <errno.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>

/*
 * #syscalls io discard: ioctl(BLKDISCARD)
 * #syscalls discard: seccomp(0 = SECCOMP_SET_MODE_FILTER) write
 * #syscalls io: seccomp(0 = SECCOMP_SET_MODE_FILTER)
 */

#define STACK_SIZE (64U << 10)

struct block_discard {
	struct block *block;
	struct loop_task ended;
	struct block_request *active, *first, **last;
	bool started; /* there is a thread */
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool full, quit; /* a range waits for the thread; no more will come */
	uint64_t offset, length;
	int result;
};

static int discard_device(int fd, uint64_t offset, uint64_t length)
{
	uint64_t range[2] = {offset, length};

	return ioctl(fd, BLKDISCARD, range) < 0 ? -errno : 0;
}

/* False: the end. */
static bool take_range(struct block_discard *discard, uint64_t *offset, uint64_t *length)
{
	bool taken;

	pthread_mutex_lock(&discard->lock);
	while (!discard->full && !discard->quit)
		pthread_cond_wait(&discard->changed, &discard->lock);
	taken = discard->full;
	discard->full = false;
	*offset = discard->offset;
	*length = discard->length;
	pthread_mutex_unlock(&discard->lock);
	return taken;
}

static void *run(void *opaque)
{
	struct block_discard *discard = opaque;
	uint64_t offset, length;

	pthread_setname_np(pthread_self(), "duet-discard");
	thread_confine(THREAD_DISCARD);
	while (take_range(discard, &offset, &length)) {
		/* A hint: what is no whole sector of the device stays. */
		discard->result = length ? discard->block->file.discard_device(
						   discard->block->file.fd, offset, length)
					 : 0;
		loop_post(discard->block->loop, &discard->ended);
	}
	return NULL;
}

static int start(struct block_discard *discard)
{
	int ret = 0;

	if (!discard->started)
		ret = thread_start(&discard->thread, STACK_SIZE, run, discard);
	discard->started = ret == 0;
	return ret;
}

static void hand_over(struct block_discard *discard, const struct block_request *request)
{
	const uint64_t sector = discard->block->file.logical_size;
	const uint64_t from = align_up(request->offset, sector);
	const uint64_t to = (request->offset + request->length) & ~(sector - 1);

	pthread_mutex_lock(&discard->lock);
	discard->offset = from;
	discard->length = to > from ? to - from : 0;
	discard->full = true;
	pthread_cond_signal(&discard->changed);
	pthread_mutex_unlock(&discard->lock);
}

static void begin_next(struct block_discard *discard)
{
	struct block_request *request = discard->first;

	discard->active = request;
	if (!request)
		return;
	discard->first = request->next;
	if (!discard->first)
		discard->last = &discard->first;
	hand_over(discard, request);
}

static void ended(struct loop_task *task)
{
	struct block_discard *discard = container_of(task, struct block_discard, ended);
	struct block_request *request = discard->active;
	int result = discard->result;

	begin_next(discard);
	block_step_ended(request, result);
}

void block_discard_submit(struct block_discard *discard, struct block_request *request)
{
	int ret = start(discard);

	if (ret) {
		block_give_up(request, -ret);
		return;
	}
	request->next = NULL;
	*discard->last = request;
	discard->last = &request->next;
	if (!discard->active)
		begin_next(discard);
}

void block_discard_drop(struct block_discard *discard)
{
	struct block_request *request = discard->first;

	discard->first = NULL;
	discard->last = &discard->first;
	while (request) {
		struct block_request *next = request->next;

		block_give_up(request, -ECANCELED);
		request = next;
	}
}

int block_discard_new(struct block *block)
{
	struct block_discard *discard = calloc(1, sizeof(*discard));

	if (!discard)
		return -ENOMEM;
	discard->block = block;
	discard->ended.run = ended;
	discard->last = &discard->first;
	pthread_mutex_init(&discard->lock, NULL);
	pthread_cond_init(&discard->changed, NULL);
	block->file.discard = discard;
	block->file.discard_device = discard_device;
	return 0;
}

/* The thread reads it when the next range is handed over. */
void block_discard_move(struct block_discard *discard, struct block *block)
{
	discard->block = block;
}

void block_discard_free(struct block_discard *discard)
{
	if (!discard)
		return;
	pthread_mutex_lock(&discard->lock);
	discard->quit = true;
	pthread_cond_signal(&discard->changed);
	pthread_mutex_unlock(&discard->lock);
	if (discard->started)
		pthread_join(discard->thread, NULL);
	pthread_cond_destroy(&discard->changed);
	pthread_mutex_destroy(&discard->lock);
	free(discard);
}
