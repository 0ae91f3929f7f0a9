/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A balloon's size that ends by itself: whoever manages the host's memory says it anew before that,
 * and when he stays away the guest has its memory back. What it goes back to is what it was before
 * the first such word.
 */
#include "api/private.h"
#include "base/checked.h"
#include "base/clock.h"
#include "base/log.h"

#define LEASE_MS_MAX (24 * 3600 * 1000U)

struct fields {
	struct given_number amount, span;
};

static const struct member members[] = {
	{.name = "amount_mib",
		.kind = MEMBER_NUMBER,
		.needed = true,
		.offset = offsetof(struct fields, amount),
		.most = UINT32_MAX},
	{.name = "for_ms",
		.kind = MEMBER_NUMBER,
		.needed = true,
		.offset = offsetof(struct fields, span),
		.most = LEASE_MS_MAX},
};
static const struct body body = {
	"BalloonLease", members, ARRAY_SIZE(members), .size = sizeof(struct fields)};

static void expired(struct loop_timer *timer)
{
	struct api *api = container_of(timer, struct api, lease.timer);
	struct call call = {.api = api};

	log_info("balloon: nobody has said its size anew; it goes back to %u MiB",
		(unsigned)api->lease.back);
	if (balloon_resize(&call, api->lease.back) < 0)
		log_warning("%s", call.err.text);
}

void lease_init(struct api *api)
{
	api->lease.timer.expired = expired;
}

uint64_t lease_own_mib(const struct api *api)
{
	return loop_timer_set(&api->lease.timer) ? api->lease.back : balloon_target_mib(api);
}

void lease_end(struct api *api)
{
	loop_timer_stop(&api->lease.timer);
}

static int patch(struct call *call)
{
	const struct fields *fields = call->fields;
	struct api *api = call->api;
	uint64_t before = lease_own_mib(api);
	int ret = balloon_resize(call, fields->amount.value);

	if (ret < 0)
		return ret;
	api->lease.back = before;
	loop_timer_after(api->options.loop, &api->lease.timer, fields->span.value * MS_NS);
	return 0;
}

static const struct route routes[] = {
	{"PATCH", "duet/balloon", WHEN_AFTER, .exact = true, .body = &body, .function = patch},
};
const struct route_set lease_routes = {routes, ARRAY_SIZE(routes)};
