/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which memory is offered to the host's KSM. Said with for_ms it ends by itself, as a balloon's
 * size does: the machine goes back to what it did before the first such word when nobody says it
 * anew.
 */
#include "api/private.h"
#include "base/checked.h"
#include "base/clock.h"
#include "base/log.h"

#include <errno.h>

#define LEASE_MS_MAX (24 * 3600 * 1000U)

static const char *const states[] = {
	[MACHINE_SHARING_OFF] = "off",
	[MACHINE_SHARING_HINTED] = "hinted",
	[MACHINE_SHARING_BLIND] = "blind",
	NULL,
};

/* ---- what there is ---- */

static json_t *number(uint64_t value)
{
	return json_integer((json_int_t)min_u64(value, INT64_MAX));
}

json_t *sharing_brief_json(const struct api *api)
{
	struct machine_sharing told;

	machine_sharing(api->machine, &told);
	return json_pack(
		"{s:s, s:o}", "state", states[told.state], "offered_bytes", number(told.offered));
}

static int get(struct call *call)
{
	const struct api *api = call->api;
	struct machine_sharing told;
	uint64_t merged;

	machine_sharing(api->machine, &told);
	call->reply = json_pack("{s:s, s:b, s:o, s:i, s:o, s:o, s:o, s:o, s:o, s:b, s:o, s:o}",
		"state", states[told.state], "leased", loop_timer_set(&api->sharing.timer),
		"offered_bytes", number(told.offered), "runs", (int)told.runs, "left_out_bytes",
		number(told.left_out), "wishes", number(told.wishes), "answers",
		number(told.answers), "taken_back_bytes", number(told.taken_back), "written_bytes",
		number(told.written), "sees_writes", told.sees_writes, "merged_pages",
		machine_merged(api->machine, &merged) == 0 ? number(merged) : json_null(), "why",
		*told.why ? json_string(told.why) : json_null());
	return call->reply ? 0 : error_errno(&call->err, ENOMEM, "sharing");
}

/* ---- what it is told ---- */

struct fields {
	struct given_word state;
	struct given_number span;
};

static const struct member members[] = {
	{.name = "state",
		.kind = MEMBER_WORD,
		.needed = true,
		.offset = offsetof(struct fields, state),
		.words = states},
	{.name = "for_ms",
		.kind = MEMBER_NUMBER,
		.offset = offsetof(struct fields, span),
		.most = LEASE_MS_MAX},
};
static const struct body body = {
	"Sharing", members, ARRAY_SIZE(members), .size = sizeof(struct fields)};

static void expired(struct loop_timer *timer)
{
	struct api *api = container_of(timer, struct api, sharing.timer);
	struct error err = {0};

	log_info("sharing: nobody has said anew what to share; it is %s again",
		states[api->sharing.back]);
	if (machine_share(api->machine, api->sharing.back, &err) < 0)
		log_warning("%s", err.text);
}

void sharing_lease_init(struct api *api)
{
	api->sharing.timer.expired = expired;
}

void sharing_lease_end(struct api *api)
{
	loop_timer_stop(&api->sharing.timer);
}

static int patch(struct call *call)
{
	const struct fields *fields = call->fields;
	struct api *api = call->api;
	const bool leased = loop_timer_set(&api->sharing.timer);
	struct machine_sharing told;
	int ret;

	machine_sharing(api->machine, &told);
	ret = machine_share(
		api->machine, (enum machine_sharing_state)fields->state.value, &call->err);
	if (ret < 0)
		return ret;
	sharing_lease_end(api);
	if (!fields->span.given)
		return 0;
	if (!leased)
		api->sharing.back = told.state;
	loop_timer_after(api->options.loop, &api->sharing.timer, fields->span.value * MS_NS);
	return 0;
}

static const struct route routes[] = {
	{"GET", "duet/sharing", WHEN_AFTER, .exact = true, .function = get},
	{"PATCH", "duet/sharing", WHEN_AFTER, .exact = true, .body = &body, .function = patch},
};
const struct route_set sharing_routes = {routes, ARRAY_SIZE(routes)};
