/* SPDX-License-Identifier: Apache-2.0 */
/* What of a configuration is this host's and not the guest's: where things are. */
#include "machine/config.h"
#include "machine/fields.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int take_text(char **to, const char *from, struct error *err)
{
	char *copy = from ? strdup(from) : NULL;

	if (from && !copy)
		return error_errno(err, ENOMEM, "configuration");
	free(*to);
	*to = copy;
	return 0;
}

static int take_given(char **to, const char *from, struct error *err)
{
	return from ? take_text(to, from, err) : 0;
}

static int take_net(struct net_config *to, const struct net_config *from, struct error *err)
{
	int ret = take_text(&to->ifname, from->ifname, err);

	to->kind = from->kind;
	return ret < 0 ? ret : take_text(&to->forward, from->forward, err);
}

int machine_config_check_place(const struct device_config *device, struct error *err)
{
	const struct device_type_info *type = &device_types[device->type];

	if (device->type == DEVICE_DISK || device->type == DEVICE_NET ||
		device->type == DEVICE_VSOCK)
		return 0;
	return error_set(err, EINVAL, "%s: comes with the machine (--incoming); leave it out",
		type->option ? type->option : type->name);
}

static int take_device(
	struct device_config *to, const struct device_config *from, struct error *err)
{
	switch (from->type) {
	case DEVICE_DISK:
		return take_given(&to->disk.path, from->disk.path, err);
	case DEVICE_NET:
		return take_net(&to->net, &from->net, err);
	case DEVICE_VSOCK:
		return take_given(&to->vsock.path, from->vsock.path, err);
	default:
		return machine_config_check_place(from, err);
	}
}

/* By its id where it has one, else by its place among those of its type. */
static struct device_config *counterpart(const struct machine_config *config,
	const struct machine_config *own, const struct device_config *device)
{
	unsigned nth = 0;

	if (*device->id)
		return machine_config_find(config, device->id);
	for (const struct device_config *at = own->devices; at < device; at++)
		nth += at->type == device->type;
	return machine_config_device(config, device->type, nth);
}

int machine_config_take_places(
	struct machine_config *config, const struct machine_config *own, struct error *err)
{
	int ret = take_text(&config->passt, own->passt, err);

	if (ret == 0)
		ret = take_text(&config->cache, own->cache, err);
	if (ret == 0)
		ret = take_text(&config->stats, own->stats, err);
	if (ret == 0)
		ret = take_given(&config->kernel, own->kernel, err);
	if (ret == 0)
		ret = take_given(&config->initrd, own->initrd, err);
	for (unsigned i = 0; ret == 0 && i < own->device_count; i++) {
		const struct device_config *device = &own->devices[i];
		struct device_config *to = counterpart(config, own, device);

		if (!to || to->type != device->type)
			return error_set(err, EINVAL,
				"--%s %s: the machine that came has no such device",
				device_types[device->type].name, device->id);
		ret = take_device(to, device, err);
	}
	return ret;
}
