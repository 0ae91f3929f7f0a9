/* SPDX-License-Identifier: Apache-2.0 */
/* All numbers that are multiplied are at most 2^48 (times 2^64 nanoseconds): 128 bits have room. */
#include "base/bucket.h"

#include "base/checked.h"
#include "base/clock.h"

#include <string.h>

/* What idleness saves up unless told otherwise: the host's timers are no finer. */
#define BURST_NS (SECOND_NS / 500)
/* So late may a timer be without loss. */
#define LATE_NS (SECOND_NS / 50)

static __int128 tokens(const struct bucket *bucket, uint64_t count)
{
	return (__int128)min_u64(count, BUCKET_MAX) * bucket->period;
}

static void set_limit(struct bucket *bucket, const struct bucket_limit *limit)
{
	__int128 burst;

	bucket->limit = *limit;
	bucket->amount = min_u64(limit->amount, BUCKET_MAX);
	bucket->period = limit->period ? min_u64(limit->period, BUCKET_MAX) : SECOND_NS;
	bucket->once = min_u64(limit->once, BUCKET_MAX);
	burst = limit->burst ? tokens(bucket, limit->burst) : (__int128)bucket->amount * BURST_NS;
	bucket->capacity = burst > bucket->period ? burst : bucket->period;
}

void bucket_init(struct bucket *bucket, const struct bucket_limit *limit, uint64_t now)
{
	set_limit(bucket, limit);
	bucket->level = bucket->capacity;
	bucket->at = now;
}

static void refill(struct bucket *bucket, uint64_t now, bool waited)
{
	__int128 most = bucket->capacity;
	__int128 level;

	if (now <= bucket->at)
		return;
	if (waited)
		most += (__int128)bucket->amount * LATE_NS;
	/* What was made up for before may be more, and stays. */
	if (most < bucket->level)
		most = bucket->level;
	level = bucket->level + (__int128)(now - bucket->at) * bucket->amount;
	bucket->level = level < most ? level : most;
	bucket->at = now;
}

void bucket_change(struct bucket *bucket, const struct bucket_limit *limit, uint64_t now)
{
	uint64_t period = bucket->period;

	if (memcmp(&bucket->limit, limit, sizeof(*limit)) == 0)
		return;
	if (!bucket->amount) {
		bucket_init(bucket, limit, now);
		return;
	}
	refill(bucket, now, false);
	set_limit(bucket, limit);
	/* The remainder of a token first: a level times a period might not fit. */
	bucket->level = bucket->level / period * bucket->period +
			bucket->level % period * bucket->period / period;
	if (bucket->level > bucket->capacity)
		bucket->level = bucket->capacity;
}

uint64_t bucket_wait(struct bucket *bucket, uint64_t now, bool waited)
{
	__int128 wait;

	if (!bucket->amount)
		return 0;
	refill(bucket, now, waited);
	if (bucket->once || bucket->level >= bucket->period)
		return 0;
	wait = (bucket->period - bucket->level + bucket->amount - 1) / bucket->amount;
	return wait < INT64_MAX ? (uint64_t)wait : INT64_MAX;
}

void bucket_take(struct bucket *bucket, uint64_t count)
{
	uint64_t free = min_u64(count, bucket->once);

	if (!bucket->amount)
		return;
	bucket->once -= free;
	bucket->level -= tokens(bucket, count - free);
}

void bucket_forgive(struct bucket *bucket, uint64_t nanoseconds)
{
	__int128 least = bucket->period - (__int128)nanoseconds * bucket->amount;

	if (bucket->level < least)
		bucket->level = least;
}

void bucket_pair_init(struct bucket_pair *pair, const struct bucket_limits *limits, uint64_t now)
{
	bucket_init(&pair->bytes, &limits->bytes, now);
	bucket_init(&pair->operations, &limits->operations, now);
}

void bucket_pair_change(struct bucket_pair *pair, const struct bucket_limits *limits, uint64_t now)
{
	bucket_change(&pair->bytes, &limits->bytes, now);
	bucket_change(&pair->operations, &limits->operations, now);
}

uint64_t bucket_pair_wait(struct bucket_pair *pair, uint64_t now, bool waited)
{
	uint64_t bytes = bucket_wait(&pair->bytes, now, waited);
	uint64_t operations = bucket_wait(&pair->operations, now, waited);

	return bytes > operations ? bytes : operations;
}

void bucket_pair_take(struct bucket_pair *pair, uint64_t bytes, uint64_t operations)
{
	bucket_take(&pair->bytes, bytes);
	bucket_take(&pair->operations, operations);
}

void bucket_pair_forgive(struct bucket_pair *pair, uint64_t nanoseconds)
{
	bucket_forgive(&pair->bytes, nanoseconds);
	bucket_forgive(&pair->operations, nanoseconds);
}
