/* SPDX-License-Identifier: Apache-2.0 */
/* What the guest says of itself by the cooperation device, and what it is asked for. */
#include "api/private.h"
#include "base/checked.h"
#include "virtio/devices.h"

#include <errno.h>

static const char *const kinds[] = {
	[VIRTIO_COOP_SHARE] = "share", [VIRTIO_COOP_LOCALITY] = "locality", NULL};

static struct device *coop_of(struct call *call)
{
	struct device *coop = machine_coop(call->api->machine);

	if (!coop)
		error_set(&call->err, ENOENT,
			"The machine has no cooperation device; --coop gives it one.");
	return coop;
}

/* ---- what it says ---- */

/* A number of the guest's, which may be any; JSON's end at 2^63. */
static json_t *number(uint64_t value)
{
	return json_integer((json_int_t)min_u64(value, INT64_MAX));
}

static json_t *vcpu_json(struct device *coop, unsigned vcpu)
{
	struct virtio_coop_vcpu_hints hints;

	if (!virtio_coop_vcpu_hints(coop, vcpu, &hints) || !hints.valid)
		return json_pack("{s:i}", "index", (int)vcpu);
	return json_pack("{s:i, s:o, s:o, s:o, s:o}", "index", (int)vcpu, "runnable",
		number(hints.runnable), "burst_ns", number(hints.burst_ns), "switches",
		number(hints.switches), "updated_ns", number(hints.updated_ns));
}

json_t *hints_vcpus_json(const struct api *api)
{
	struct device *coop = machine_coop(api->machine);
	unsigned cpus = machine_config(api->machine)->cpus;
	json_t *array = json_array();

	for (unsigned i = 0; i < cpus; i++)
		json_array_append_new(array, vcpu_json(coop, i));
	return array;
}

json_t *hints_machine_json(const struct api *api)
{
	struct device *coop = machine_coop(api->machine);
	struct virtio_coop_machine_hints hints;

	if (!virtio_coop_machine_hints(coop, &hints) || !hints.valid)
		return NULL;
	return json_pack("{s:o, s:o, s:o, s:{s:o, s:o, s:o, s:o, s:o}}", "working_set_bytes",
		number(hints.working_set), "refaults", number(hints.refaults), "heartbeat",
		number(hints.heartbeat), "pressure", "memory_some", number(hints.pressure[0]),
		"memory_full", number(hints.pressure[1]), "cpu_some", number(hints.pressure[2]),
		"io_some", number(hints.pressure[3]), "io_full", number(hints.pressure[4]));
}

/* Of the runs of each vCPU. */
struct sums {
	uint64_t runs[MACHINE_CPUS_MAX], pages[MACHINE_CPUS_MAX];
};

static void add_run(void *opaque, const struct virtio_coop_run *run)
{
	struct sums *sums = opaque;

	if (run->vcpu >= MACHINE_CPUS_MAX)
		return;
	sums->runs[run->vcpu]++;
	sums->pages[run->vcpu] += run->pages;
}

static json_t *runs_json(struct device *coop, enum virtio_coop_kind kind)
{
	struct virtio_coop_runs runs;

	virtio_coop_runs(coop, kind, &runs);
	return json_pack("{s:o, s:o, s:b, s:o, s:o, s:o}", "wished", number(runs.wished),
		"answered", number(runs.told), "complete", runs.complete, "runs",
		number(runs.count), "pages", number(runs.pages), "refused", number(runs.refused));
}

static json_t *locality_json(struct device *coop)
{
	json_t *object = runs_json(coop, VIRTIO_COOP_LOCALITY), *array = json_array();
	struct sums sums = {0};

	virtio_coop_each_run(coop, VIRTIO_COOP_LOCALITY, add_run, &sums);
	for (unsigned i = 0; i < MACHINE_CPUS_MAX; i++)
		if (sums.runs[i])
			json_array_append_new(array,
				json_pack("{s:i, s:o, s:o}", "index", (int)i, "runs",
					number(sums.runs[i]), "pages", number(sums.pages[i])));
	json_object_set_new(object, "vcpus", array);
	return object;
}

static int get(struct call *call)
{
	struct device *coop = coop_of(call);
	struct virtio_coop_vcpu_hints any;

	if (!coop)
		return -ENOENT;
	call->reply = json_pack("{s:b, s:o, s:o, s:o*, s:o, s:o}", "driver",
		virtio_coop_vcpu_hints(coop, 0, &any), "away_ns", number(virtio_coop_away(coop)),
		"vcpus", hints_vcpus_json(call->api), "machine", hints_machine_json(call->api),
		"share", runs_json(coop, VIRTIO_COOP_SHARE), "locality", locality_json(coop));
	return call->reply ? 0 : error_errno(&call->err, ENOMEM, "hints");
}

/* ---- what it is asked for ---- */

struct fields {
	struct given_word wish;
};

static const struct member members[] = {
	{.name = "wish",
		.kind = MEMBER_WORD,
		.needed = true,
		.offset = offsetof(struct fields, wish),
		.words = kinds},
};
static const struct body wish_body = {
	"Wish", members, ARRAY_SIZE(members), .size = sizeof(struct fields)};

static int put(struct call *call)
{
	const struct fields *fields = call->fields;
	struct device *coop = coop_of(call);

	if (!coop)
		return -ENOENT;
	return virtio_coop_wish(coop, (enum virtio_coop_kind)fields->wish.value, &call->err);
}

static const struct route routes[] = {
	{"GET", "duet/hints", WHEN_AFTER, .exact = true, .function = get},
	{"PUT", "duet/hints", WHEN_AFTER, .exact = true, .body = &wish_body, .function = put},
};
const struct route_set hints_routes = {routes, ARRAY_SIZE(routes)};
