/* SPDX-License-Identifier: Apache-2.0 */
/* Firecracker's rate limiters: buckets of a size that fill up in refill_time. */
#include "api/private.h"
#include "base/checked.h"
#include "base/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define IN_BUCKET(member) offsetof(struct given_bucket, member)
static const struct member bucket_members[] = {
	{.name = "size",
		.kind = MEMBER_NUMBER,
		.needed = true,
		.offset = IN_BUCKET(size),
		.most = UINT64_MAX},
	{.name = "one_time_burst",
		.kind = MEMBER_NUMBER,
		.offset = IN_BUCKET(one_time_burst),
		.most = UINT64_MAX},
	{.name = "refill_time",
		.kind = MEMBER_NUMBER,
		.needed = true,
		.offset = IN_BUCKET(refill_time),
		.most = UINT64_MAX},
};
static const struct body bucket_body = {.name = "TokenBucketConfig",
	.members = bucket_members,
	.count = ARRAY_SIZE(bucket_members),
	.open = true,
	.size = sizeof(struct given_bucket)};

#define IN_LIMITER(member) offsetof(struct given_limiter, member)
static const struct member limiter_members[] = {
	{.name = "bandwidth",
		.kind = MEMBER_STRUCT,
		.offset = IN_LIMITER(bandwidth),
		.body = &bucket_body},
	{.name = "ops", .kind = MEMBER_STRUCT, .offset = IN_LIMITER(ops), .body = &bucket_body},
};
const struct body limiter_body = {.name = "RateLimiterConfig",
	.members = limiter_members,
	.count = ARRAY_SIZE(limiter_members),
	.size = sizeof(struct given_limiter)};

/* Without a size, or a time, there is no limit: so it is in Firecracker. */
static int bucket_take_config(
	const struct given_bucket *bucket, const struct field *field, void *to, struct error *err)
{
	const uint64_t size = bucket->size.value, time = bucket->refill_time.value,
		       once = bucket->one_time_burst.value;
	struct bucket_limit *limit = (struct bucket_limit *)(void *)((char *)to + field->offset);

	if (!bucket->given)
		return 0;
	if (size > field->most || once > field->most)
		return error_set(err, EINVAL,
			"Cannot create RateLimiter: size and one_time_burst: at most %" PRIu64,
			field->most);
	if (time > BUCKET_MAX / MS_NS)
		return error_set(err, EINVAL,
			"Cannot create RateLimiter: refill_time: at most %" PRIu64 " ms",
			(uint64_t)(BUCKET_MAX / MS_NS));
	*limit = (struct bucket_limit){0};
	if (size && time)
		*limit = (struct bucket_limit){.amount = size,
			.period = time * MS_NS == SECOND_NS ? 0 : time * MS_NS,
			.burst = size,
			.once = once};
	return 0;
}

int limiter_take_fields(const struct given_limiter *limiter, const struct field *bandwidth,
	const struct field *ops, void *to, struct error *err)
{
	int ret = bucket_take_config(&limiter->bandwidth, bandwidth, to, err);

	return ret < 0 ? ret : bucket_take_config(&limiter->ops, ops, to, err);
}

int limiter_take(const struct given_limiter *limiter, enum device_type type, const char *bandwidth,
	const char *ops, void *device, struct error *err)
{
	return limiter_take_fields(limiter, device_field_find(type, bandwidth, strlen(bandwidth)),
		device_field_find(type, ops, strlen(ops)), device, err);
}

static json_t *bucket_json(const struct bucket_limit *limit)
{
	uint64_t period = limit->period ? limit->period : SECOND_NS;

	if (!limit->amount)
		return json_null();
	return json_pack("{s:I, s:o, s:I}", "size", (json_int_t)limit->amount, "one_time_burst",
		limit->once ? json_integer((json_int_t)limit->once) : json_null(), "refill_time",
		(json_int_t)(period / MS_NS));
}

json_t *limiter_json(const struct bucket_limit *bytes, const struct bucket_limit *operations)
{
	if (!bytes->amount && !operations->amount)
		return json_null();
	return json_pack(
		"{s:o, s:o}", "bandwidth", bucket_json(bytes), "ops", bucket_json(operations));
}
