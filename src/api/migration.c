/* SPDX-License-Identifier: Apache-2.0 */
/* The migration of the machine: begun, looked at, cancelled. There is one at a time. */
#include "api/private.h"
#include "base/checked.h"
#include "migrate/migrate.h"

#include <errno.h>
#include <string.h>

struct fields {
	const char *to, *cert, *key, *ca;
	struct given_number downtime, streams, wait;
	struct given_switch force, plain, compress, post_copy, check;
};

#define TEXT(text, needs, member)                                                                  \
	{                                                                                          \
		.name = (text), .kind = MEMBER_TEXT, .needed = (needs),                            \
		.offset = offsetof(struct fields, member)                                          \
	}
#define NUMBER(text, member)                                                                       \
	{                                                                                          \
		.name = (text), .kind = MEMBER_NUMBER, .offset = offsetof(struct fields, member),  \
		.most = UINT32_MAX                                                                 \
	}
#define SWITCH(text, member)                                                                       \
	{                                                                                          \
		.name = (text), .kind = MEMBER_SWITCH, .offset = offsetof(struct fields, member)   \
	}

static const struct member members[] = {
	TEXT("to", true, to),
	TEXT("cert", false, cert),
	TEXT("key", false, key),
	TEXT("ca", false, ca),
	NUMBER("downtime_ms", downtime),
	NUMBER("streams", streams),
	SWITCH("force", force),
	SWITCH("plain", plain),
	SWITCH("compress", compress),
	SWITCH("post_copy", post_copy),
	NUMBER("wait_s", wait),
	SWITCH("check", check),
};
static const struct body body = {
	"Migration", members, ARRAY_SIZE(members), .size = sizeof(struct fields)};

static const char *const states[] = {
	[MIGRATION_RUNNING] = "running",
	[MIGRATION_DONE] = "done",
	[MIGRATION_FAILED] = "failed",
	[MIGRATION_CANCELLED] = "cancelled",
	[MIGRATION_LOST] = "lost",
};

static const char *const phases[] = {
	[SOURCE_CONNECTING] = "connecting",
	[SOURCE_COPYING] = "copying",
	[SOURCE_STOPPED] = "stopped",
	[SOURCE_COMMITTED] = "committed",
	[SOURCE_ARRIVING] = "arriving",
	[SOURCE_CUT] = "cut",
	[SOURCE_ENDED] = "ended",
};

static json_int_t number(const _Atomic uint64_t *value)
{
	return (json_int_t)atomic_load(value);
}

/* Of each vCPU. */
static json_t *shares_json(const struct source_progress *at)
{
	json_t *shares = json_array();

	for (unsigned i = 0; i < atomic_load(&at->cpus); i++)
		json_array_append_new(shares, json_integer(atomic_load(&at->held[i])));
	return shares;
}

static json_t *migration_json(const struct migration *migration)
{
	struct migration_status status = migration_status(migration);
	const struct source_progress *at = status.progress;

	return json_pack(
		"{s:s, s:s, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:I, s:I, "
		"s:I}",
		"state", states[status.state], "phase", phases[atomic_load(&at->phase)], "error",
		*status.why ? json_string(status.why) : json_null(), "pages_total",
		number(&at->total), "pages_sent", number(&at->sent), "pages_zero",
		number(&at->zero), "pages_resent", number(&at->resent), "pages_left",
		number(&at->left), "bytes_sent", number(&at->bytes), "rounds", number(&at->rounds),
		"bytes_per_second", number(&at->rate), "expected_downtime_ns",
		number(&at->expected), "throttle_percent", number(&at->throttle), "throttle_vcpus",
		shares_json(at), "downtime_ns", number(&at->stood), "pages_urgent",
		number(&at->urgent), "cuts", number(&at->cuts));
}

/* The machine is under way, or is somewhere else: there is none to move. */
static bool is_taken(const struct migration *migration)
{
	const enum migration_state state =
		migration ? migration_status(migration).state : MIGRATION_FAILED;

	return state == MIGRATION_RUNNING || state == MIGRATION_DONE || state == MIGRATION_LOST;
}

static int put(struct call *call)
{
	const struct fields *fields = call->fields;
	struct api *api = call->api;
	const struct migration_options options = {.to = fields->to,
		.downtime_ms = (unsigned)fields->downtime.value,
		.streams = (unsigned)fields->streams.value,
		.force = fields->force.value,
		.plain = fields->plain.value,
		.compress = fields->compress.value,
		.post_copy = fields->post_copy.value,
		.wait_s = (unsigned)fields->wait.value,
		.tls = {fields->cert, fields->key, fields->ca}};
	struct migration *migration = NULL;
	int ret;

	if (!api->options.calls && strncmp(fields->to, "tcp:", 4) == 0)
		return error_set(&call->err, EACCES,
			"%s: this machine's sandbox lets it call no other host; start it with "
			"--allow tcp.",
			fields->to);
	if (is_taken(api->migration))
		return error_set(&call->err, EBUSY,
			"The machine is being moved already, or has been; GET /duet/migration "
			"tells.");
	if (fields->check.value)
		return migration_check(&options, &call->err);
	ret = migration_begin(&migration, api->machine, api->options.loop, &options, &call->err);
	if (ret < 0)
		return ret;
	migration_free(api->migration);
	api->migration = migration;
	call->reply = migration_json(migration);
	return 0;
}

static int none(struct call *call)
{
	return error_set(&call->err, ENOENT, "The machine is not being moved.");
}

static int get(struct call *call)
{
	if (!call->api->migration)
		return none(call);
	call->reply = migration_json(call->api->migration);
	return 0;
}

static int delete (struct call *call)
{
	if (!call->api->migration)
		return none(call);
	switch (migration_cancel(call->api->migration)) {
	case 0:
		return 0;
	case -EXDEV:
		return error_set(&call->err, EALREADY,
			"It is too late: the machine runs there, and needs the rest of its memory "
			"from here.");
	default:
		return error_set(&call->err, EALREADY,
			"It is too late: the machine is given away, or all is over.");
	}
}

static const struct route routes[] = {
	{"PUT", "duet/migration", WHEN_AFTER, .exact = true, .body = &body, .function = put},
	{"GET", "duet/migration", .exact = true, .function = get},
	{"DELETE", "duet/migration", .exact = true, .bare = true, .function = delete},
};
const struct route_set migration_routes = {routes, ARRAY_SIZE(routes)};
