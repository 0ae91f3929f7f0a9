/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/restore.h"

#include "machine/fields.h"
#include "machine/machine.h"
#include "state/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void forget(char **text)
{
	free(*text);
	*text = NULL;
}

int snapshot_config(
	const struct snapshot *snapshot, struct machine_config *config, struct error *err)
{
	int ret;

	machine_config_init(config);
	ret = machine_config_read(
		config, snapshot->config, snapshot->config_length, snapshot->name, err);
	if (ret < 0)
		return ret;
	/* What duet itself runs and writes to is for who restores it to say. */
	forget(&config->stats);
	forget(&config->passt);
	forget(&config->cache);
	return machine_config_complete(config, err);
}

int snapshot_override_net(
	struct machine_config *config, const char *id, const char *ifname, struct error *err)
{
	struct device_config *device = machine_config_find(config, id);

	if (!device || device->type != DEVICE_NET || device->net.kind != NET_TAP)
		return error_set(err, ENOENT, "the snapshot has no network %.64s on a tap", id);
	return field_from_text(device_field_find(DEVICE_NET, "ifname", strlen("ifname")), device,
		ifname, "ifname", err);
}

static int check_memory(const struct snapshot *snapshot, struct machine *machine, struct error *err)
{
	struct snapshot_head own;

	snapshot_head_of(&own, machine_memory(machine));
	if (own.regions == snapshot->head.regions &&
		memcmp(own.region, snapshot->head.region, sizeof(own.region)) == 0)
		return 0;
	return error_set(err, EINVAL, "%s: its memory is not laid out as its configuration says",
		snapshot->name);
}

int snapshot_restore(const struct snapshot *snapshot, struct machine *machine, struct error *err)
{
	struct state_reader reader;
	int ret;

	/* Before anything is mapped behind the file's end. */
	if (machine_config(machine)->memory != snapshot_head_size(&snapshot->head))
		return error_set(err, EINVAL,
			"%s: its memory is not as large as its configuration says", snapshot->name);
	ret = machine_build_over(machine, snapshot->memory_fd, err);
	if (ret == 0)
		ret = check_memory(snapshot, machine, err);
	if (ret == 0)
		ret = state_reader_init(&reader, snapshot->bytes + snapshot->machine_at,
			snapshot->length - snapshot->machine_at, err);
	if (ret == 0)
		ret = machine_restore(machine, &reader, err);
	return ret < 0 ? ret : machine_renew_generation(machine, err);
}
