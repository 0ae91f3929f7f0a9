/* SPDX-License-Identifier: Apache-2.0 */
/* A machine's memory and the host's nodes. */
#include "machine/internal.h"

#include <errno.h>

static int read_map(struct machine *machine, struct placement_map *map, struct error *err)
{
	int ret;

	if (!machine->coop)
		return error_set(
			err, ENOENT, "the machine has no cooperation device; --coop gives it one");
	ret = placement_read_map(machine->coop, map);
	return ret < 0 ? error_errno(err, -ret, "the map of what vCPUs use") : 0;
}

int machine_uses(struct machine *machine, struct machine_uses *uses, struct error *err)
{
	struct virtio_coop_runs runs;
	struct placement_map map;
	int ret = read_map(machine, &map, err);

	*uses = (struct machine_uses){0};
	if (ret < 0)
		return ret;
	virtio_coop_runs(machine->coop, VIRTIO_COOP_LOCALITY, &runs);
	uses->map = runs.told;
	uses->complete = runs.complete;
	ret = placement_uses(&machine->memory, &map, uses->bytes);
	placement_free_map(&map);
	if (ret < 0)
		return error_errno(err, -ret,
			"the host's kernel does not say on which nodes memory is (move_pages)");
	return 0;
}

int machine_place(struct machine *machine, const int8_t nodes[MACHINE_CPUS_MAX], struct error *err)
{
	struct placement_map map;
	int ret = read_map(machine, &map, err);

	if (ret < 0)
		return ret;
	ret = placement_begin(
		&machine->placement, machine->owner.loop, &machine->memory, &map, nodes);
	placement_free_map(&map);
	if (ret < 0)
		return error_set(err, -ret,
			"a passed-through function pins the memory: it stays where it is");
	return 0;
}

void machine_placing(const struct machine *machine, struct machine_placing *placing)
{
	*placing = machine->placement.placing;
}
