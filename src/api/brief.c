/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a manager of many machines asks each of them every second, in one answer: small, and made
 * without looking at anything but numbers that are there; where memory is, by what was seen of
 * late. And what a cluster asks of one: whether its guest lives.
 */
#include "api/private.h"
#include "base/checked.h"
#include "virtio/devices.h"

#include <errno.h>

static bool has_passthrough(const struct machine_config *config)
{
	for (unsigned i = 0; i < config->device_count; i++)
		if (config->devices[i].type == DEVICE_VFIO)
			return true;
	return false;
}

static json_t *threads_json(const struct api *api)
{
	unsigned cpus = machine_config(api->machine)->cpus;
	json_t *array = json_array();

	for (unsigned i = 0; i < cpus; i++)
		json_array_append_new(array, json_integer(machine_vcpu_thread(api->machine, i)));
	return array;
}

/* Null: nobody speaks for the guest. */
static json_t *hints_json(const struct api *api)
{
	if (!machine_coop(api->machine))
		return NULL;
	return json_pack(
		"{s:o, s:o*}", "vcpus", hints_vcpus_json(api), "machine", hints_machine_json(api));
}

/* By it a manager knows which leases it need not renew. Null: there is none. */
static json_t *own_json(const struct api *api)
{
	return machine_balloon(api->machine) ? json_integer((json_int_t)lease_own_mib(api)) : NULL;
}

static json_t *place_json(struct api *api)
{
	return machine_coop(api->machine) ? place_brief_json(api) : NULL;
}

static int get(struct call *call)
{
	struct api *api = call->api;
	const struct machine_config *config = machine_config(api->machine);
	json_t *balloon = machine_balloon(api->machine) ? balloon_statistics_json(api) : NULL;

	call->reply = json_pack("{s:s, s:s, s:I, s:i, s:i, s:b, s:o, s:o, s:o*, s:o*, s:o*, s:o*}",
		"id", api->options.id, "state", api_state_name(api), "memory_mib",
		(json_int_t)(config->memory >> 20), "cpus", (int)config->cpus, "share",
		(int)config->share, "passthrough", has_passthrough(config), "threads",
		threads_json(api), "sharing", sharing_brief_json(api), "balloon", balloon,
		"balloon_own_mib", own_json(api), "hints", hints_json(api), "place",
		place_json(api));
	return call->reply ? 0 : error_set(&call->err, ENOMEM, "No memory for the answer.");
}

/* ---- does the guest live ---- */

static json_t *count(bool known, uint64_t value)
{
	return known ? json_integer((json_int_t)min_u64(value, INT64_MAX)) : NULL;
}

/* Asked by who watches the machine, and may start it anew: nothing is looked at that costs. */
static int get_alive(struct call *call)
{
	struct api *api = call->api;
	struct device *coop = machine_coop(api->machine);
	struct virtio_coop_machine_hints hints = {0};
	struct machine_progress progress;

	/* It was given away, or its guest is gone: its process ends. */
	if (machine_state(api->machine) == MACHINE_ENDED)
		return error_set(&call->err, ESRCH, "The machine has ended.");
	if (coop)
		virtio_coop_machine_hints(coop, &hints);
	machine_progress(api->machine, &progress);
	call->reply = json_pack("{s:s, s:i, s:o*, s:o*, s:o*, s:I}", "state", api_state_name(api),
		"cpus", (int)machine_config(api->machine)->cpus, "heartbeat",
		count(hints.valid, hints.heartbeat), "events",
		count(progress.known, progress.events), "exits",
		count(progress.known, progress.exits), "pages_arriving",
		(json_int_t)progress.arriving);
	return call->reply ? 0 : error_set(&call->err, ENOMEM, "No memory for the answer.");
}

static const struct route routes[] = {
	{"GET", "duet/brief", WHEN_AFTER, .exact = true, .function = get},
	{"GET", "duet/alive", WHEN_AFTER, .exact = true, .function = get_alive},
};
const struct route_set brief_routes = {routes, ARRAY_SIZE(routes)};
