/* SPDX-License-Identifier: Apache-2.0 */
/* The balloon, its statistics and its rounds of hints. */
#include "api/private.h"
#include "base/checked.h"
#include "virtio/devices.h"

#include <errno.h>
#include <string.h>

#define ROUND_SECONDS 60

struct fields {
	struct given_number amount, interval;
	struct given_switch deflate, hinting, reporting, acknowledge;
};

#define IN(member) offsetof(struct fields, member)
static const struct member put_members[] = {
	{.name = "amount_mib",
		.kind = MEMBER_NUMBER,
		.needed = true,
		.offset = IN(amount),
		.most = UINT32_MAX},
	{.name = "deflate_on_oom", .kind = MEMBER_SWITCH, .needed = true, .offset = IN(deflate)},
	{.name = "stats_polling_interval_s",
		.kind = MEMBER_NUMBER,
		.offset = IN(interval),
		.most = UINT16_MAX},
	{.name = "free_page_hinting", .kind = MEMBER_SWITCH, .offset = IN(hinting)},
	{.name = "free_page_reporting", .kind = MEMBER_SWITCH, .offset = IN(reporting)},
};
static const struct member patch_members[] = {
	{.name = "amount_mib",
		.kind = MEMBER_NUMBER,
		.needed = true,
		.offset = IN(amount),
		.most = UINT32_MAX},
};
static const struct member interval_members[] = {
	{.name = "stats_polling_interval_s",
		.kind = MEMBER_NUMBER,
		.needed = true,
		.offset = IN(interval),
		.most = UINT16_MAX},
};
static const struct member hint_members[] = {
	{.name = "acknowledge_on_stop", .kind = MEMBER_SWITCH, .offset = IN(acknowledge)},
};
static const struct body put_body = BODY("BalloonDeviceConfig", put_members, fields);
static const struct body patch_body = BODY("BalloonUpdateConfig", patch_members, fields);
static const struct body interval_body = BODY("BalloonUpdateStatsConfig", interval_members, fields);
static const struct body hint_body = BODY("StartHintingCmd", hint_members, fields);

/* ---- before the start ---- */

static int too_much(struct error *err)
{
	return error_set(
		err, EINVAL, "Balloon config error: Amount of pages requested is too large.");
}

static int put(struct call *call)
{
	const struct fields *fields = call->fields;
	struct machine_config *config = call->api->options.config;
	struct device_config *device = machine_config_device(config, DEVICE_BALLOON, 0);
	uint64_t size = fields->amount.value << 20;

	if (size && size >= config->memory)
		return too_much(&call->err);
	if (!device && api_device(&device, config, DEVICE_BALLOON, "balloon0", &call->err) < 0)
		return error_prefix(&call->err, "Balloon config error: ");
	device->balloon = (struct balloon_config){.size = size,
		.deflate_on_oom = fields->deflate.value,
		.stats = (unsigned)fields->interval.value,
		.reporting = fields->reporting.value,
		.hinting = fields->hinting.value};
	return 0;
}

static struct virtio_balloon_statistics statistics_of(const struct api *api)
{
	struct virtio_balloon_statistics statistics = {0};

	virtio_balloon_statistics(machine_balloon(api->machine), &statistics);
	return statistics;
}

uint64_t balloon_target_mib(const struct api *api)
{
	return machine_balloon(api->machine) ? statistics_of(api).target >> 20 : 0;
}

json_t *balloon_json(const struct api *api)
{
	const struct device_config *device =
		machine_config_device(api_config(api), DEVICE_BALLOON, 0);
	const struct balloon_config *balloon = device ? &device->balloon : NULL;
	uint64_t size = balloon ? balloon->size : 0;
	unsigned interval = balloon ? balloon->stats : 0;

	if (!balloon)
		return NULL;
	if (api->machine && machine_balloon(api->machine)) {
		const struct virtio_balloon_statistics now = statistics_of(api);

		size = now.target;
		interval = now.interval;
	}
	return json_pack("{s:I, s:b, s:i, s:b, s:b}", "amount_mib", (json_int_t)(size >> 20),
		"deflate_on_oom", balloon->deflate_on_oom, "stats_polling_interval_s",
		(int)interval, "free_page_hinting", balloon->hinting, "free_page_reporting",
		balloon->reporting);
}

static int no_balloon(struct error *err)
{
	return error_set(err, ENOTSUP, "Balloon config error: No balloon device found.");
}

static int get(struct call *call)
{
	call->reply = balloon_json(call->api);
	return call->reply ? 0 : no_balloon(&call->err);
}

static int unrecognized(struct call *call)
{
	return error_set(&call->err, EINVAL, "Unrecognized GET request path `%.64s`.", call->id);
}

/* ---- while it runs ---- */

int balloon_resize(struct call *call, uint64_t mib)
{
	struct device *balloon = machine_balloon(call->api->machine);
	uint64_t size = mib << 20;

	if (!balloon)
		return no_balloon(&call->err);
	if (size && size >= machine_config(call->api->machine)->memory)
		return too_much(&call->err);
	return virtio_balloon_set_target(balloon, size, &call->err) < 0
		       ? error_prefix(&call->err, "Balloon update error: ")
		       : 0;
}

static int patch(struct call *call)
{
	const struct fields *fields = call->fields;
	int ret = balloon_resize(call, fields->amount.value);

	/* Who says a size without an end to it has the last word. */
	if (ret == 0)
		lease_end(call->api);
	return ret;
}

static int patch_statistics(struct call *call)
{
	const struct fields *fields = call->fields;
	struct device *balloon = machine_balloon(call->api->machine);

	if (!balloon)
		return no_balloon(&call->err);
	if (!fields->interval.value != !statistics_of(call->api).interval)
		return error_set(&call->err, EINVAL,
			"Balloon update error: Cannot enable/disable the statistics after boot.");
	virtio_balloon_set_interval(balloon, (unsigned)fields->interval.value);
	return 0;
}

static const char *const tag_names[VIRTIO_BALLOON_TAGS] = {"swap_in", "swap_out", "major_faults",
	"minor_faults", "free_memory", "total_memory", "available_memory", "disk_caches",
	"hugetlb_allocations", "hugetlb_failures", "oom_kill", "alloc_stall", "async_scan",
	"direct_scan", "async_reclaim", "direct_reclaim"};

json_t *balloon_statistics_json(const struct api *api)
{
	const struct virtio_balloon_statistics statistics = statistics_of(api);
	json_t *object = json_pack("{s:I, s:I, s:I, s:I}", "target_pages",
		(json_int_t)(statistics.target >> 12), "actual_pages",
		(json_int_t)(statistics.actual >> 12), "target_mib",
		(json_int_t)(statistics.target >> 20), "actual_mib",
		(json_int_t)(statistics.actual >> 20));
	for (unsigned i = 0; i < VIRTIO_BALLOON_TAGS; i++)
		if (statistics.present >> i & 1)
			json_object_set_new(object, tag_names[i],
				json_integer((json_int_t)statistics.values[i]));
	return object;
}

static int get_statistics(struct call *call)
{
	if (!machine_balloon(call->api->machine))
		return no_balloon(&call->err);
	if (!statistics_of(call->api).interval)
		return error_set(&call->err, ENOTSUP,
			"Balloon config error: Statistics for the balloon device are not enabled");
	call->reply = balloon_statistics_json(call->api);
	return 0;
}

/* ---- hints ---- */

/* Firecracker's clients do not wait for its end, but ask. */
static int start_hints(struct call *call)
{
	struct job *job;

	if (!machine_balloon(call->api->machine))
		return no_balloon(&call->err);
	return hints_begin(call->api, ROUND_SECONDS, &job, &call->err) < 0
		       ? error_prefix(&call->err, "Balloon update error: ")
		       : 0;
}

static int stop_hints(struct call *call)
{
	if (!machine_balloon(call->api->machine))
		return no_balloon(&call->err);
	hints_cut(call->api);
	return 0;
}

static int get_hints(struct call *call)
{
	struct device *balloon = machine_balloon(call->api->machine);
	struct virtio_balloon_hints status;

	if (!balloon)
		return no_balloon(&call->err);
	virtio_balloon_hint_status(balloon, &status);
	call->reply = json_pack("{s:I, s:I}", "host_cmd", (json_int_t)status.host_command,
		"guest_cmd", (json_int_t)status.guest_command);
	return 0;
}

static const struct route routes[] = {
	{"GET", "balloon/statistics", WHEN_AFTER, .function = get_statistics},
	{"GET", "balloon/hinting/status", WHEN_AFTER, .function = get_hints},
	{"GET", "balloon", .exact = true, .function = get},
	{"GET", "balloon/{}", .function = unrecognized},
	{"PUT", "balloon", WHEN_BEFORE, .body = &put_body, .function = put},
	{"PATCH", "balloon/statistics", WHEN_AFTER, .body = &interval_body,
		.function = patch_statistics},
	{"PATCH", "balloon/hinting/start", WHEN_AFTER, .bare = true, .body = &hint_body,
		.function = start_hints},
	{"PATCH", "balloon/hinting/stop", WHEN_AFTER, .bare = true, .function = stop_hints},
	{"PATCH", "balloon", WHEN_AFTER, .body = &patch_body, .function = patch},
};
const struct route_set balloon_routes = {routes, ARRAY_SIZE(routes)};
