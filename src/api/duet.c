/* SPDX-License-Identifier: Apache-2.0 */
/* Our own resources: what Firecracker's names have no room for. */
#include "api/metrics.h"
#include "api/private.h"
#include "api/prometheus.h"
#include "base/checked.h"
#include "virtio/devices.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- what there is ---- */

static json_t *config_json(const struct api *api, struct error *err)
{
	json_t *object = NULL;
	char *text;

	if (machine_config_write(api_config(api), &text, err) < 0)
		return NULL;
	object = json_loads(text, 0, NULL);
	free(text);
	if (!object)
		error_errno(err, ENOMEM, "configuration");
	return object;
}

static int get_config(struct call *call)
{
	call->reply = config_json(call->api, &call->err);
	return call->reply ? 0 : -EINVAL;
}

static int get_stats(struct call *call)
{
	call->reply = machine_stats(call->api->machine);
	return call->reply ? 0 : error_errno(&call->err, ENOMEM, "statistics");
}

static int get_metrics(struct call *call)
{
	json_t *stats = machine_stats(call->api->machine);
	char *text = stats ? prometheus_of(stats) : NULL;

	json_decref(stats);
	if (!text)
		return error_errno(&call->err, ENOMEM, "metrics");
	call->exchange->answer(call->exchange, 200, EXCHANGE_TEXT, text);
	return CALL_LATER;
}

static json_t *by_name(json_t *array, const char *key, const char *name)
{
	json_t *item;
	size_t index;

	json_array_foreach(array, index, item)
	{
		const char *is = json_string_value(json_object_get(item, key));

		if (is && strcmp(is, name) == 0)
			return item;
	}
	return NULL;
}

/* Those of the board have no configuration, an IDE disk is counted at its controller. */
static json_t *device_json(const char *id, json_t *config, json_t *statistics)
{
	json_t *type = json_object_get(config ? config : statistics, "type");

	return json_pack("{s:s, s:O, s:O?, s:O?}", "id", id, "type", type, "config", config,
		"statistics", statistics);
}

static json_t *devices_json(json_t *configs, json_t *stats)
{
	json_t *array = json_array(), *item;
	size_t index;

	json_array_foreach(configs, index, item)
	{
		const char *id = json_string_value(json_object_get(item, "id"));

		id = id ? id : "";
		json_array_append_new(array, device_json(id, item, by_name(stats, "name", id)));
	}
	json_array_foreach(stats, index, item)
	{
		const char *name = json_string_value(json_object_get(item, "name"));

		if (!by_name(configs, "id", name))
			json_array_append_new(array, device_json(name, NULL, item));
	}
	return array;
}

/* Null: @err says why. */
static json_t *all_devices(struct api *api, struct error *err)
{
	json_t *config = config_json(api, err), *array;
	json_t *stats = api->machine ? machine_stats(api->machine) : NULL;

	if (!config)
		return NULL;
	array = devices_json(json_object_get(config, "devices"), json_object_get(stats, "devices"));
	json_decref(config);
	json_decref(stats);
	return array;
}

static int get_devices(struct call *call)
{
	call->reply = all_devices(call->api, &call->err);
	return call->reply ? 0 : -EINVAL;
}

static int no_device(struct call *call)
{
	return error_set(&call->err, ENOENT,
		"There is no device %.64s; GET /duet/devices lists them.", call->id);
}

static int get_device(struct call *call)
{
	json_t *array = all_devices(call->api, &call->err), *found;

	if (!array)
		return -EINVAL;
	found = json_incref(by_name(array, "id", call->id));
	json_decref(array);
	call->reply = found;
	return found ? 0 : no_device(call);
}

static int get_vcpus(struct call *call)
{
	const struct machine *machine = call->api->machine;
	unsigned cpus = machine_config(machine)->cpus;

	call->reply = json_array();
	for (unsigned i = 0; i < cpus; i++)
		json_array_append_new(
			call->reply, json_pack("{s:i, s:i}", "index", (int)i, "thread_id",
					     machine_vcpu_thread(machine, i)));
	return 0;
}

/* ---- what can be changed ---- */

/* While it runs, machine_change_device() looks at these alone. */
static const char *const running_fields[] = {"iops", "bw", "rx-rate", "rx-pps", "tx-rate", "tx-pps",
	"mac-check", "ip", "rules", "rules-default"};

static bool may_change(const char *name)
{
	for (unsigned i = 0; i < ARRAY_SIZE(running_fields); i++)
		if (strcmp(running_fields[i], name) == 0)
			return true;
	return false;
}

/* null is what takes a limit, or a list, away. */
static bool unset(const struct field *field, struct device_config *device)
{
	void *place = (char *)device + field->offset;

	switch (field->kind) {
	case FIELD_LIMIT:
		*(struct bucket_limit *)place = (struct bucket_limit){0};
		return true;
	case FIELD_RULES:
	case FIELD_ADDRESSES:
		free(*(char **)place);
		*(char **)place = NULL;
		return true;
	default:
		return false;
	}
}

static int set_field(
	struct call *call, struct device_config *device, const char *name, const json_t *value)
{
	const struct field *field = device_field_find(device->type, name, strlen(name));

	if (!field)
		return error_set(&call->err, EINVAL, "%.64s: unknown field; see man duet", name);
	if (field->kind == FIELD_ID)
		return error_set(&call->err, EINVAL, "id: a device keeps its own");
	if (call->api->started && !may_change(name))
		return error_set(
			&call->err, EINVAL, "%s: cannot be changed while the machine runs", name);
	if (json_is_null(value) && unset(field, device))
		return 0;
	return field_from_json(field, device, value, name, &call->err);
}

static int set_fields(struct call *call, struct device_config *device)
{
	const char *name;
	json_t *value;
	int ret = 0;

	if (!json_is_object(call->json))
		return error_set(&call->err, EINVAL, "must be an object of fields");
	json_object_foreach((json_t *)(uintptr_t)call->json, name, value)
	{
		if (ret == 0)
			ret = set_field(call, device, name, value);
	}
	return ret;
}

/* Its fields are those of a command line, but only these two change a balloon that is there. */
static int change_balloon(struct call *call, const struct device_config *device)
{
	struct device *balloon = machine_balloon(call->api->machine);
	const json_t *size = json_object_get(call->json, "size"),
		     *stats = json_object_get(call->json, "stats");
	struct device_config wanted = *device;
	int ret = 0;

	if (!balloon || !json_is_object(call->json) ||
		json_object_size(call->json) != (size_t)(!!size + !!stats))
		return error_set(&call->err, EINVAL,
			"only size and stats can be changed while the machine runs");
	if (size)
		ret = field_from_json(device_field_find(DEVICE_BALLOON, "size", 4), &wanted, size,
			"size", &call->err);
	if (ret == 0 && stats)
		ret = field_from_json(device_field_find(DEVICE_BALLOON, "stats", 5), &wanted, stats,
			"stats", &call->err);
	if (ret == 0 && size)
		ret = virtio_balloon_set_target(balloon, wanted.balloon.size, &call->err);
	/* A size without an end to it, as PATCH /balloon says one. */
	if (ret == 0 && size)
		lease_end(call->api);
	if (ret == 0 && stats)
		virtio_balloon_set_interval(balloon, wanted.balloon.stats);
	return ret;
}

static int change(struct call *call, struct device_config *device)
{
	struct device_config copy;
	int ret;

	if (call->api->machine && device->type == DEVICE_BALLOON)
		return change_balloon(call, device);
	ret = api_copy(&copy, device, &call->err);
	if (ret < 0)
		return ret;
	ret = set_fields(call, &copy);
	if (ret == 0 && !call->api->machine) {
		api_keep(device, &copy);
		return 0;
	}
	if (ret == 0)
		ret = machine_change_device(call->api->machine, &copy, &call->err);
	api_drop(&copy);
	return ret;
}

static int patch_device(struct call *call)
{
	struct device_config *device = machine_config_find(api_config(call->api), call->id);

	if (call->api->started && !call->api->machine)
		return error_set(&call->err, EINVAL, "The machine has ended.");
	return device && *call->id ? change(call, device) : no_device(call);
}

static int delete_device(struct call *call)
{
	if (!*call->id)
		return no_device(call);
	return machine_unplug(call->api->machine, call->id, &call->err);
}

/* ---- metrics ---- */

char *api_metrics(struct api *api)
{
	json_t *stats = api->machine ? machine_stats(api->machine) : NULL, *line, *groups;
	struct timespec now;
	char *text;

	clock_gettime(CLOCK_REALTIME, &now);
	line = json_pack("{s:I, s:o?}", "utc_timestamp_ms",
		(json_int_t)now.tv_sec * 1000 + now.tv_nsec / 1000000, "duet", stats);
	groups = stats ? metrics_of(stats, &api->told) : NULL;
	json_object_update(line, groups);
	json_decref(groups);
	text = line ? json_dumps(line, JSON_COMPACT) : NULL;
	json_decref(line);
	return text;
}

static const struct route routes[] = {
	{"GET", "duet/config", .exact = true, .function = get_config},
	{"GET", "duet/stats", WHEN_AFTER, .exact = true, .function = get_stats},
	{"GET", "duet/metrics", WHEN_AFTER, .exact = true, .function = get_metrics},
	{"GET", "duet/vcpus", WHEN_AFTER, .exact = true, .function = get_vcpus},
	{"GET", "duet/devices", .exact = true, .function = get_devices},
	{"GET", "duet/devices/{}", .exact = true, .function = get_device},
	{"PATCH", "duet/devices/{}", .exact = true, .function = patch_device},
	{"DELETE", "duet/devices/{}", WHEN_AFTER, .exact = true, .bare = true,
		.function = delete_device},
};
const struct route_set duet_routes = {routes, ARRAY_SIZE(routes)};
