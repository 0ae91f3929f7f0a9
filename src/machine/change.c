/* SPDX-License-Identifier: Apache-2.0 */
/* What is changed of a machine that runs. */
#include "machine/fields.h"
#include "machine/internal.h"
#include "machine/net_policy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct loop *io_of(const struct machine *machine)
{
	return loop_thread_loop(machine->io);
}

static int change_disk(const struct machine *machine, const struct machine_backend *backend,
	struct disk_config *disk, const struct disk_config *wanted, struct error *err)
{
	const struct bucket_limits limits = {.operations = wanted->iops, .bytes = wanted->bw};

	if (backend->block && block_set_limits(backend->block, io_of(machine), &limits) < 0)
		return error_errno(err, ENOMEM, "limits");
	disk->iops = wanted->iops;
	disk->bw = wanted->bw;
	return 0;
}

static int set_policy(const struct machine *machine, struct net *net,
	const struct net_config *config, struct error *err)
{
	struct net_policy *policy = NULL;
	int ret = net_config_policy(&policy, config, err);

	if (ret < 0)
		return ret;
	if (net_set_policy(net, io_of(machine), policy) < 0)
		return error_errno(err, ENOMEM, "policy");
	return 0;
}

/* What @wanted says of the policy, all else as it is. Its texts are the caller's. */
static int merge(struct net_config *merged, const struct net_config *net,
	const struct net_config *wanted, struct error *err)
{
	*merged = *wanted;
	merged->mac = net->mac;
	merged->ip = wanted->ip ? strdup(wanted->ip) : NULL;
	merged->rules = wanted->rules ? strdup(wanted->rules) : NULL;
	if ((wanted->ip && !merged->ip) || (wanted->rules && !merged->rules))
		return error_errno(err, ENOMEM, "policy");
	return 0;
}

static void keep(struct net_config *net, struct net_config *merged)
{
	char *ip = net->ip, *rules = net->rules;

	net->rx_rate = merged->rx_rate;
	net->rx_pps = merged->rx_pps;
	net->tx_rate = merged->tx_rate;
	net->tx_pps = merged->tx_pps;
	net->mac_check = merged->mac_check;
	net->rules_default = merged->rules_default;
	net->ip = merged->ip;
	net->rules = merged->rules;
	merged->ip = ip;
	merged->rules = rules;
}

static int change_net(const struct machine *machine, const struct machine_backend *backend,
	struct net_config *net, const struct net_config *wanted, struct error *err)
{
	struct net_config merged;
	int ret = merge(&merged, net, wanted, err);

	if (ret == 0 && backend->net)
		ret = set_policy(machine, backend->net, &merged, err);
	if (ret == 0)
		keep(net, &merged);
	free(merged.ip);
	free(merged.rules);
	return ret;
}

int machine_change_device(
	struct machine *machine, const struct device_config *wanted, struct error *err)
{
	struct device_config *device = machine_config_find(&machine->config, wanted->id);
	const struct machine_backend *backend;
	int ret;

	if (!device || device->type != wanted->type)
		return error_set(err, ENOENT, "%s: there is no such %s", wanted->id,
			device_types[wanted->type].name);
	if (machine->life.state == MACHINE_ENDED)
		return error_set(err, EINVAL, "%s: the machine has ended", wanted->id);
	if (machine->life.held)
		return error_set(err, EBUSY, "%s: the machine is being moved", wanted->id);
	backend = &machine->backends[device - machine->config.devices];
	if (device->type == DEVICE_DISK)
		ret = change_disk(machine, backend, &device->disk, &wanted->disk, err);
	else if (device->type == DEVICE_NET)
		ret = change_net(machine, backend, &device->net, &wanted->net, err);
	else
		return error_set(
			err, ENOTSUP, "%s: nothing of it can be changed while it runs", wanted->id);
	return ret < 0 ? error_prefix(err, "%s: ", wanted->id) : 0;
}

static int refresh_disk(
	struct machine *machine, struct device_config *device, const char *path, struct error *err)
{
	struct block *block = machine->backends[device - machine->config.devices].block;
	char *kept = path ? strdup(path) : NULL;
	int ret = 0;

	if (path && !kept)
		return error_errno(err, ENOMEM, "path");
	if (block) {
		machine_waits(machine, true);
		ret = block_refresh(block, io_of(machine), machine->owner.loop, path, err);
		machine_waits(machine, false);
	}
	if (ret < 0) {
		free(kept);
		return ret;
	}
	if (kept) {
		free(device->disk.path);
		device->disk.path = kept;
	}
	return 0;
}

int machine_refresh_disk(
	struct machine *machine, const char *id, const char *path, struct error *err)
{
	struct device_config *device = machine_config_find(&machine->config, id);
	int ret;

	if (!device || device->type != DEVICE_DISK)
		return error_set(err, ENOENT, "%s: there is no such disk", id);
	if (machine->life.state == MACHINE_ENDED)
		return error_set(err, EINVAL, "%s: the machine has ended", id);
	if (machine->life.held)
		return error_set(err, EBUSY, "%s: the machine is being moved", id);
	if (device->disk.model == DISK_IDE)
		return error_set(err, ENOTSUP,
			"%s: an IDE disk cannot tell its guest of another size; use model=virtio",
			id);
	ret = refresh_disk(machine, device, path, err);
	return ret < 0 ? error_prefix(err, "%s: ", id) : 0;
}

int machine_share(struct machine *machine, enum machine_sharing_state state, struct error *err)
{
	machine->sharing.coop = machine->coop;
	return sharing_set(&machine->sharing, state, err);
}

int machine_merged(const struct machine *machine, uint64_t *pages)
{
	return memory_merged(&machine->sharing.proc, pages);
}

void machine_sharing(const struct machine *machine, struct machine_sharing *told)
{
	sharing_tell(&machine->sharing, told);
}
