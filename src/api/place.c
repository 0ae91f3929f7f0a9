/* SPDX-License-Identifier: Apache-2.0 */
/* On which of the host's nodes the guest's memory is, by what its vCPUs use, and where it is to go.
 */
#include "api/private.h"
#include "base/checked.h"
#include "base/clock.h"
#include "virtio/devices.h"

#include <errno.h>
#include <string.h>

/* A manager asks each second, and looking costs a walk through page tables. */
#define LOOK_NS (10 * SECOND_NS)

static json_t *nodes_json(const uint64_t bytes[MACHINE_NODES_MAX])
{
	json_t *array = json_array();
	unsigned count = MACHINE_NODES_MAX;

	while (count && !bytes[count - 1])
		count--;
	for (unsigned n = 0; n < count; n++)
		json_array_append_new(array, json_integer((json_int_t)bytes[n]));
	return array;
}

static json_t *uses_json(const struct machine_uses *uses, unsigned cpus)
{
	json_t *array = json_array();

	for (unsigned i = 0; i < cpus; i++)
		json_array_append_new(array, nodes_json(uses->bytes[i]));
	return array;
}

static json_t *place_json(const struct api *api, const struct machine_uses *uses)
{
	struct machine_placing placing;

	machine_placing(api->machine, &placing);
	return json_pack("{s:i, s:b, s:b, s:I, s:I, s:o}", "map", (int)uses->map, "complete",
		uses->complete, "moving", placing.moving, "moved", (json_int_t)placing.moved,
		"failed", (json_int_t)placing.failed, "uses",
		uses_json(uses, machine_config(api->machine)->cpus));
}

static int get(struct call *call)
{
	struct machine_uses uses;
	int ret = machine_uses(call->api->machine, &uses, &call->err);

	if (ret < 0)
		return ret;
	call->reply = place_json(call->api, &uses);
	return call->reply ? 0 : error_errno(&call->err, ENOMEM, "place");
}

/* Nothing has begun or ended since it was last looked at, and that was not long ago. */
static bool is_fresh(struct api *api, uint64_t now)
{
	struct machine_placing placing;
	struct virtio_coop_runs runs;
	bool same;

	machine_placing(api->machine, &placing);
	virtio_coop_runs(machine_coop(api->machine), VIRTIO_COOP_LOCALITY, &runs);
	same = api->place.was_moving == placing.moving && api->place.told == runs.told &&
	       api->place.was_complete == runs.complete;
	api->place.was_moving = placing.moving;
	api->place.told = runs.told;
	api->place.was_complete = runs.complete;
	return same && api->place.at && now - api->place.at < LOOK_NS;
}

json_t *place_brief_json(struct api *api)
{
	const uint64_t now = clock_ns();

	if (is_fresh(api, now))
		return json_incref(api->place.answer);
	place_forget(api);
	api->place.at = now;
	if (machine_uses(api->machine, &api->place.uses, NULL) == 0 && api->place.uses.complete)
		api->place.answer = place_json(api, &api->place.uses);
	return json_incref(api->place.answer);
}

void place_forget(struct api *api)
{
	json_decref(api->place.answer);
	api->place.answer = NULL;
	api->place.at = 0;
}

/* ---- where it is to go ---- */

struct fields {
	const json_t *nodes;
};

static const struct member members[] = {{.name = "nodes",
	.kind = MEMBER_ANY,
	.needed = true,
	.offset = offsetof(struct fields, nodes)}};
static const struct body body = {
	"Place", members, ARRAY_SIZE(members), .size = sizeof(struct fields)};

static bool read_nodes(const json_t *array, unsigned cpus, int8_t nodes[MACHINE_CPUS_MAX])
{
	memset(nodes, -1, MACHINE_CPUS_MAX);
	if (!json_is_array(array) || json_array_size(array) != cpus)
		return false;
	for (unsigned i = 0; i < cpus; i++) {
		const json_t *node = json_array_get(array, i);

		if (!json_is_integer(node) || json_integer_value(node) < -1 ||
			json_integer_value(node) >= MACHINE_NODES_MAX)
			return false;
		nodes[i] = (int8_t)json_integer_value(node);
	}
	return true;
}

static int patch(struct call *call)
{
	const struct fields *fields = call->fields;
	struct machine *machine = call->api->machine;
	unsigned cpus = machine_config(machine)->cpus;
	int8_t nodes[MACHINE_CPUS_MAX];

	if (!read_nodes(fields->nodes, cpus, nodes))
		return error_set(&call->err, EINVAL,
			"nodes: name a node of the host for each of the %u vCPUs, 0 to %d, or "
			"-1 "
			"for one whose memory stays.",
			cpus, MACHINE_NODES_MAX - 1);
	return machine_place(machine, nodes, &call->err);
}

static const struct route routes[] = {
	{"GET", "duet/place", WHEN_AFTER, .exact = true, .function = get},
	{"PATCH", "duet/place", WHEN_AFTER, .exact = true, .body = &body, .function = patch},
};
const struct route_set place_routes = {routes, ARRAY_SIZE(routes)};
