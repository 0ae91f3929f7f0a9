/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Token buckets: so much in a period, with a burst after idleness. The caller brings the clock
 * (clock_ns()), which does not go back. Pure functions on the caller's structs: any thread, one at
 * a time for each bucket.
 *
 *   wait = bucket_wait(&bucket, now, false);
 *   if (wait == 0)
 *           bucket_take(&bucket, bytes);       and go on
 *   else    set a timer, and then ask again with @waited
 */
#ifndef DUET_BASE_BUCKET_H
#define DUET_BASE_BUCKET_H

#include <stdbool.h>
#include <stdint.h>

/* The largest number in a limit: beyond any hardware's, and a product of two still has room. */
#define BUCKET_MAX (1ULL << 48)

/* Numbers up to BUCKET_MAX; larger ones count as that. */
struct bucket_limit {
	uint64_t amount; /* tokens that come in a period; 0: no limit at all */
	uint64_t period; /* nanoseconds; 0: a second */
	uint64_t burst;  /* tokens that idleness saves up; 0: what comes in 2 ms, at least one */
	uint64_t once;   /* tokens beyond those, for the first who come */
};

/* Private: a token is @period units, and @amount units come each nanosecond. */
struct bucket {
	__int128 level, capacity; /* in units; a level below 0 is a debt */
	uint64_t amount, period, once, at;
	struct bucket_limit limit; /* as it was given */
};

/* Full. */
void bucket_init(struct bucket *bucket, const struct bucket_limit *limit, uint64_t now);
/* Another limit from @now on: what is in the bucket stays as far as it fits, a debt too; the
 * one-time burst is the new one's. A bucket that had no limit begins full. The limit that it has
 * already changes nothing, so that who sets several does not give the others' bursts again. */
void bucket_change(struct bucket *bucket, const struct bucket_limit *limit, uint64_t now);
/* Nanoseconds until there is a token; 0: now. @waited: somebody has been waiting since this last
 * said so, so that what a late timer missed is made up for, 20 ms of it. */
uint64_t bucket_wait(struct bucket *bucket, uint64_t now, bool waited);
/* Whether the wait is over or not: what lacks is owed. */
void bucket_take(struct bucket *bucket, uint64_t tokens);
/* A debt is cut to what makes the next one wait for @nanoseconds. */
void bucket_forgive(struct bucket *bucket, uint64_t nanoseconds);

static inline bool bucket_limits(const struct bucket *bucket)
{
	return bucket->amount != 0;
}

/* What is limited by bytes and by operations (or packets) at once. */
struct bucket_limits {
	struct bucket_limit bytes, operations;
};
struct bucket_pair {
	struct bucket bytes, operations;
};
void bucket_pair_init(struct bucket_pair *pair, const struct bucket_limits *limits, uint64_t now);
void bucket_pair_change(struct bucket_pair *pair, const struct bucket_limits *limits, uint64_t now);
uint64_t bucket_pair_wait(struct bucket_pair *pair, uint64_t now, bool waited);
void bucket_pair_take(struct bucket_pair *pair, uint64_t bytes, uint64_t operations);
void bucket_pair_forgive(struct bucket_pair *pair, uint64_t nanoseconds);

static inline bool bucket_limits_any(const struct bucket_limits *limits)
{
	return limits->bytes.amount || limits->operations.amount;
}

#endif
