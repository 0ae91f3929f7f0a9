/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk's limits: a request that comes before there is a token for it waits in a queue, and a
 * timer on the loop wakes the queue. What the guest asks for in parts (a short transfer, a
 * substitute) is one request.
 */
#include "backend/block_private.h"
#include "base/bucket.h"
#include "base/checked.h"
#include "base/clock.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

/* What was begun ahead of its time is paid for by those that follow, but nobody waits for longer.
 */
#define DEBT_MAX SECOND_NS

struct block_throttle {
	struct loop_timer timer;
	struct block *block;
	struct bucket_pair buckets;
	struct block_request *first, **last;
	/* A change on its way from the main thread. */
	struct loop_task change;
	_Atomic bool posted;
	pthread_mutex_t lock;
	struct bucket_limits wanted;
	struct loop *io; /* where it may be posted; main thread */
};

/* Zeroes are written unless they may be a hole; nothing else moves data. */
static uint64_t bytes_of(const struct block_request *request)
{
	bool moves = request->kind == BLOCK_READ || request->kind == BLOCK_WRITE ||
		     (request->kind == BLOCK_WRITE_ZEROES && !request->unmap);

	return moves ? request->length : 0;
}

static void begin(struct block_throttle *throttle, struct block_request *request)
{
	bucket_pair_take(&throttle->buckets, bytes_of(request), 1);
	block_begin(request);
}

static struct block_request *take_first(struct block_throttle *throttle)
{
	struct block_request *request = throttle->first;

	throttle->first = request->next;
	if (!throttle->first)
		throttle->last = &throttle->first;
	return request;
}

static void expired(struct loop_timer *timer)
{
	struct block_throttle *throttle = container_of(timer, struct block_throttle, timer);
	uint64_t now = clock_ns(), wait = 0;

	while (throttle->first) {
		wait = bucket_pair_wait(&throttle->buckets, now, true);
		if (wait)
			break;
		begin(throttle, take_first(throttle));
	}
	if (throttle->first)
		loop_timer_at(throttle->block->loop, timer, now + wait);
}

/* Those that wait look again; without any limit they all go. */
static void change(struct loop_task *task)
{
	struct block_throttle *throttle = container_of(task, struct block_throttle, change);
	struct bucket_limits limits;

	/* First: what comes from here on is either seen below or posted again. */
	atomic_store(&throttle->posted, false);
	pthread_mutex_lock(&throttle->lock);
	limits = throttle->wanted;
	pthread_mutex_unlock(&throttle->lock);
	bucket_pair_change(&throttle->buckets, &limits, clock_ns());
	loop_timer_stop(&throttle->timer);
	expired(&throttle->timer);
	throttle->block->throttle = bucket_limits_any(&limits) ? throttle : NULL;
}

struct block_throttle *block_throttle_new(struct block *block, const struct bucket_limits *limits)
{
	struct block_throttle *throttle = calloc(1, sizeof(*throttle));

	if (!throttle)
		return NULL;
	throttle->block = block;
	throttle->timer.expired = expired;
	throttle->last = &throttle->first;
	throttle->change.run = change;
	pthread_mutex_init(&throttle->lock, NULL);
	bucket_pair_init(&throttle->buckets, limits, clock_ns());
	return throttle;
}

void block_throttle_free(struct block_throttle *throttle)
{
	if (!throttle)
		return;
	if (throttle->io)
		loop_unpost(throttle->io, &throttle->change);
	pthread_mutex_destroy(&throttle->lock);
	free(throttle);
}

int block_set_limits(struct block *block, struct loop *io, const struct bucket_limits *limits)
{
	static const struct bucket_limits none;
	struct block_throttle *throttle = block->kept;

	if (!throttle)
		throttle = block->kept = block_throttle_new(block, &none);
	if (!throttle)
		return -ENOMEM;
	pthread_mutex_lock(&throttle->lock);
	throttle->wanted = *limits;
	pthread_mutex_unlock(&throttle->lock);
	throttle->io = io;
	if (!atomic_exchange(&throttle->posted, true))
		loop_post(io, &throttle->change);
	return 0;
}

void block_throttle_submit(struct block_throttle *throttle, struct block_request *request)
{
	uint64_t now = clock_ns();
	uint64_t wait = 0;

	/* Behind those that wait, even when the timer is late. */
	if (!throttle->first) {
		wait = bucket_pair_wait(&throttle->buckets, now, false);
		if (wait == 0) {
			begin(throttle, request);
			return;
		}
	}
	request->next = NULL;
	*throttle->last = request;
	throttle->last = &request->next;
	if (!loop_timer_set(&throttle->timer))
		loop_timer_at(throttle->block->loop, &throttle->timer, now + wait);
}

void block_throttle_release(struct block_throttle *throttle)
{
	loop_timer_stop(&throttle->timer);
	while (throttle->first)
		begin(throttle, take_first(throttle));
	bucket_pair_forgive(&throttle->buckets, DEBT_MAX);
}

void block_throttle_drop(struct block_throttle *throttle)
{
	loop_timer_stop(&throttle->timer);
	while (throttle->first)
		block_give_up(take_first(throttle), -ECANCELED);
}
