/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/config_rules.h"

#include "machine/fields.h"

#include <errno.h>
#include <stdio.h>

int config_refuse(const struct machine_config *config, const struct device_config *device,
	struct error *err, const char *format, ...)
{
	const struct device_type_info *type = &device_types[device->type];
	char words[512];
	va_list args;

	va_start(args, format);
	vsnprintf(words, sizeof(words), format, args);
	va_end(args);
	if (device->line)
		return error_set(err, EINVAL, "%s:%u: %s: %s",
			config->file ? config->file : "configuration", device->line, device->id,
			words);
	return error_set(err, EINVAL, "%s %s: %s", type->option ? type->option : type->name,
		device->id, words);
}

#define REFUSE(...) config_refuse(config, device, err, __VA_ARGS__)

static int check_disk(
	const struct machine_config *config, const struct device_config *device, struct error *err)
{
	const struct disk_config *disk = &device->disk;

	if (!disk->path)
		return REFUSE("names no file; write path=FILE");
	if (disk->model != DISK_IDE)
		return disk->drive ? REFUSE("drive= is for model=ide") : 0;
	if (disk->queues || disk->poll)
		return REFUSE("queues= and poll= are for model=virtio");
	if (disk->readonly)
		return REFUSE("an IDE disk cannot be read-only; give it model=virtio");
	if (device->slot)
		return REFUSE("an IDE disk has no slot; its controller, ide0, has");
	return 0;
}

static int check_net(
	const struct machine_config *config, const struct device_config *device, struct error *err)
{
	const struct net_config *net = &device->net;

	if (net->kind == NET_TAP && !net->ifname)
		return REFUSE("names no interface; write tap,ifname=NAME (made by: ip tuntap add "
			      "NAME mode tap)");
	if (net->kind == NET_TAP && net->forward)
		return REFUSE("forward= is for --net user");
	if (net->kind == NET_USER && net->ifname)
		return REFUSE("ifname= is for --net tap");
	if (net->kind == NET_USER && net->queues > 1)
		return REFUSE("queues= is for --net tap");
	if (net->model == NET_MODEL_E1000 &&
		(net->queues > 1 || net->mtu || net->poll || !net->offloads))
		return REFUSE("queues=, mtu=, poll= and offloads=off are for model=virtio");
	if (net->vhost && (net->kind != NET_TAP || net->model != NET_MODEL_VIRTIO || net->poll))
		return REFUSE("vhost=on is for --net tap with model=virtio, without poll=on");
	return 0;
}

static int check_vfio(
	const struct machine_config *config, const struct device_config *device, struct error *err)
{
	if (!device->vfio.host)
		return REFUSE("names no function; write host=0000:01:10.0, for example "
			      "(lspci -D shows them)");
	return 0;
}

static int (*const checks[DEVICE_TYPES])(const struct machine_config *config,
	const struct device_config *device, struct error *err) = {
	[DEVICE_DISK] = check_disk,
	[DEVICE_NET] = check_net,
	[DEVICE_VFIO] = check_vfio,
};

bool device_is_virtio(const struct device_config *device)
{
	switch (device->type) {
	case DEVICE_DISK:
		return device->disk.model == DISK_VIRTIO;
	case DEVICE_NET:
		return device->net.model == NET_MODEL_VIRTIO;
	case DEVICE_CONSOLE:
	case DEVICE_ENTROPY:
		return true;
	default:
		return false;
	}
}

static bool is_ide_disk(const struct device_config *device)
{
	return device->type == DEVICE_DISK && device->disk.model == DISK_IDE;
}

/* Those of the same type, or kind, up to @device. */
static unsigned rank(const struct machine_config *config, const struct device_config *device,
	bool (*of_kind)(const struct device_config *device))
{
	unsigned count = 0;

	for (const struct device_config *at = config->devices; at <= device; at++)
		count += of_kind ? of_kind(at) : at->type == device->type;
	return count;
}

static int check_device(
	const struct machine_config *config, const struct device_config *device, struct error *err)
{
	const struct device_type_info *type = &device_types[device->type];

	if (rank(config, device, NULL) > type->most)
		return REFUSE(
			"one too many; at most %u of the type \"%s\"", type->most, type->name);
	if (is_ide_disk(device) && rank(config, device, is_ide_disk) > MACHINE_IDE_MAX)
		return REFUSE("at most %d disks with model=ide; give this one model=virtio",
			MACHINE_IDE_MAX);
	if (machine_config_find(config, device->id) != device)
		return REFUSE("the id is another device's; give each its own");
	if (device->features && !device_is_virtio(device))
		return REFUSE("features= is for virtio devices");
	return checks[device->type] ? checks[device->type](config, device, err) : 0;
}

int config_check(const struct machine_config *config, struct error *err)
{
	int ret = 0;

	for (unsigned i = 0; ret == 0 && i < config->device_count; i++)
		ret = check_device(config, &config->devices[i], err);
	if (ret == 0 && !config->kernel)
		return error_set(err, EINVAL,
			"--kernel: missing; name a Linux bzImage or vmlinux, for example "
			"--kernel /boot/vmlinuz-$(uname -r)");
	return ret;
}
