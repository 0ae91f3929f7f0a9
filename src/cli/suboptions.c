/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/suboptions.h"

#include "base/checked.h"
#include "base/pci_address.h"
#include "cli/size.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define QUEUES_MAX 8

struct part {
	const char *name;
	int (*set)(void *config, const char *value, struct error *err);
};

static int queues_of(const char *option, const char *value, unsigned *queues, struct error *err)
{
	uint64_t number;

	if (parse_number(value, 1, QUEUES_MAX, &number) < 0)
		return error_set(err, EINVAL, "%s: queues=%s: give a number from 1 to %d", option,
			value, QUEUES_MAX);
	*queues = (unsigned)number;
	return 0;
}

static int switch_of(
	const char *option, const char *name, const char *value, bool *to, struct error *err)
{
	int on;

	if (parse_switch(value, &on) < 0)
		return error_set(err, EINVAL, "%s: %s=%s: say on or off", option, name, value);
	*to = on;
	return 0;
}

static int disk_path(void *config, const char *value, struct error *err)
{
	(void)err;
	((struct disk_config *)config)->path = value;
	return 0;
}

static int disk_model(void *config, const char *value, struct error *err)
{
	struct disk_config *disk = config;

	if (strcmp(value, "virtio") == 0)
		disk->model = DISK_VIRTIO;
	else if (strcmp(value, "ide") == 0)
		disk->model = DISK_IDE;
	else
		return error_set(
			err, EINVAL, "--disk: model=%s: unknown; choose virtio or ide", value);
	return 0;
}

static int disk_readonly(void *config, const char *value, struct error *err)
{
	return switch_of(
		"--disk", "readonly", value, &((struct disk_config *)config)->readonly, err);
}

static int disk_cache(void *config, const char *value, struct error *err)
{
	struct disk_config *disk = config;

	if (strcmp(value, "writeback") == 0)
		disk->cache = BLOCK_CACHE_WRITEBACK;
	else if (strcmp(value, "direct") == 0)
		disk->cache = BLOCK_CACHE_DIRECT;
	else
		return error_set(
			err, EINVAL, "--disk: cache=%s: choose writeback or direct", value);
	return 0;
}

static int disk_queues(void *config, const char *value, struct error *err)
{
	return queues_of("--disk", value, &((struct disk_config *)config)->queues, err);
}

static int disk_poll(void *config, const char *value, struct error *err)
{
	return switch_of("--disk", "poll", value, &((struct disk_config *)config)->poll, err);
}

static int disk_iops(void *config, const char *value, struct error *err)
{
	if (parse_number(value, 1, 1000000, &((struct disk_config *)config)->iops) < 0)
		return error_set(
			err, EINVAL, "--disk: iops=%s: give a number from 1 to 1000000", value);
	return 0;
}

static const struct part disk_parts[] = {
	{"path", disk_path},
	{"model", disk_model},
	{"readonly", disk_readonly},
	{"cache", disk_cache},
	{"queues", disk_queues},
	{"poll", disk_poll},
	{"iops", disk_iops},
};

static int net_ifname(void *config, const char *value, struct error *err)
{
	if (strlen(value) > 15)
		return error_set(err, EINVAL,
			"--net: ifname=%s: longer than an interface name may be (15 characters)",
			value);
	((struct net_config *)config)->ifname = value;
	return 0;
}

static int net_model(void *config, const char *value, struct error *err)
{
	struct net_config *net = config;

	if (strcmp(value, "virtio") == 0)
		net->model = NET_MODEL_VIRTIO;
	else if (strcmp(value, "e1000") == 0)
		net->model = NET_MODEL_E1000;
	else
		return error_set(
			err, EINVAL, "--net: model=%s: unknown; choose virtio or e1000", value);
	return 0;
}

static int net_mac(void *config, const char *value, struct error *err)
{
	struct net_config *net = config;

	if (parse_mac(value, net->mac) < 0)
		return error_set(err, EINVAL,
			"--net: mac=%s: not a unicast MAC address; write for example "
			"mac=52:54:00:12:34:56",
			value);
	net->has_mac = true;
	return 0;
}

static int net_mtu(void *config, const char *value, struct error *err)
{
	uint64_t number;

	if (parse_number(value, 68, 65535, &number) < 0)
		return error_set(
			err, EINVAL, "--net: mtu=%s: give a number from 68 to 65535", value);
	((struct net_config *)config)->mtu = (uint16_t)number;
	return 0;
}

static int net_queue_pairs(void *config, const char *value, struct error *err)
{
	return queues_of("--net", value, &((struct net_config *)config)->queues, err);
}

static int net_offloads_switch(void *config, const char *value, struct error *err)
{
	return switch_of("--net", "offloads", value, &((struct net_config *)config)->offloads, err);
}

static int net_vhost(void *config, const char *value, struct error *err)
{
	return switch_of("--net", "vhost", value, &((struct net_config *)config)->vhost, err);
}

static int net_poll(void *config, const char *value, struct error *err)
{
	return switch_of("--net", "poll", value, &((struct net_config *)config)->poll, err);
}

static int net_forward(void *config, const char *value, struct error *err)
{
	(void)err;
	((struct net_config *)config)->forward = value;
	return 0;
}

static const struct part net_parts[] = {
	{"ifname", net_ifname},
	{"model", net_model},
	{"mac", net_mac},
	{"mtu", net_mtu},
	{"queues", net_queue_pairs},
	{"offloads", net_offloads_switch},
	{"forward", net_forward},
	{"vhost", net_vhost},
	{"poll", net_poll},
};

static int set_part(const char *option, const struct part *parts, unsigned count, char *text,
	void *config, struct error *err)
{
	char *value = strchr(text, '=');

	if (!value || !value[1])
		return error_set(err, EINVAL, "%s: %.*s= needs a value; see duet run --help",
			option, (int)strcspn(text, "="), text);
	*value++ = 0;
	for (unsigned i = 0; i < count; i++) {
		if (strcmp(parts[i].name, text) == 0)
			return parts[i].set(config, value, err);
	}
	return error_set(err, EINVAL, "%s: %s=: unknown; see duet run --help", option, text);
}

/* Cuts at commas; a path with a comma writes it twice (",,"). */
static char *next_part(char **rest)
{
	char *start = *rest, *to = start, *from = start;

	if (!start)
		return NULL;
	while (*from && (*from != ',' || from[1] == ',')) {
		if (*from == ',')
			from++;
		*to++ = *from++;
	}
	*rest = *from ? from + 1 : NULL;
	*to = 0;
	return start;
}

/* All that is left of the option's text. */
static int set_parts(const char *option, const struct part *parts, unsigned count, char *rest,
	void *config, struct error *err)
{
	char *part;
	int ret = 0;

	while (ret == 0 && (part = next_part(&rest)))
		ret = set_part(option, parts, count, part, config, err);
	return ret;
}

static char *copy(struct run_options *options, const char *value)
{
	char *text = strdup(value);

	if (text)
		options->copies[options->copy_count++] = text;
	return text;
}

static int check_disk(const struct machine_config *config, const struct disk_config *disk,
	const char *value, struct error *err)
{
	unsigned ide = disk->model == DISK_IDE;

	for (unsigned i = 0; i < config->disk_count; i++)
		ide += config->disks[i].model == DISK_IDE;
	if (!disk->path)
		return error_set(err, EINVAL, "--disk %s: names no file; write path=FILE", value);
	if (disk->model == DISK_IDE && (disk->queues || disk->poll))
		return error_set(
			err, EINVAL, "--disk %s: queues= and poll= are for model=virtio", value);
	if (disk->model == DISK_IDE && disk->readonly)
		return error_set(err, EINVAL,
			"--disk %s: an IDE disk cannot be read-only; give it model=virtio", value);
	if (ide > MACHINE_IDE_MAX)
		return error_set(err, EINVAL,
			"--disk %s: at most %d disks with model=ide; give this one model=virtio",
			value, MACHINE_IDE_MAX);
	return 0;
}

int suboptions_disk(struct run_options *options, const char *value, struct error *err)
{
	struct machine_config *config = &options->config;
	struct disk_config *disk = &config->disks[config->disk_count];
	char *rest = copy(options, value);
	int ret;

	if (!rest)
		return error_errno(err, ENOMEM, "--disk");
	if (config->disk_count == MACHINE_DISKS_MAX)
		return error_set(err, EINVAL, "--disk: at most %d disks", MACHINE_DISKS_MAX);
	*disk = (struct disk_config){0};
	ret = set_parts("--disk", disk_parts, ARRAY_SIZE(disk_parts), rest, disk, err);
	if (ret == 0)
		ret = check_disk(config, disk, value, err);
	if (ret == 0)
		config->disk_count++;
	return ret;
}

static int check_net(const struct net_config *net, const char *value, struct error *err)
{
	if (net->kind == NET_TAP && !net->ifname)
		return error_set(err, EINVAL,
			"--net %s: names no interface; write tap,ifname=NAME (made by: ip tuntap "
			"add "
			"NAME mode tap)",
			value);
	if (net->kind == NET_TAP && net->forward)
		return error_set(err, EINVAL, "--net %s: forward= is for --net user", value);
	if (net->kind == NET_USER && net->ifname)
		return error_set(err, EINVAL, "--net %s: ifname= is for --net tap", value);
	if (net->kind == NET_USER && net->queues > 1)
		return error_set(err, EINVAL, "--net %s: queues= is for --net tap", value);
	if (net->model == NET_MODEL_E1000 &&
		(net->queues > 1 || net->mtu || net->poll || !net->offloads))
		return error_set(err, EINVAL,
			"--net %s: queues=, mtu=, poll= and offloads=off are for model=virtio",
			value);
	if (net->vhost && (net->kind != NET_TAP || net->model != NET_MODEL_VIRTIO || net->poll))
		return error_set(err, EINVAL,
			"--net %s: vhost=on is for --net tap with model=virtio, without poll=on",
			value);
	return 0;
}

int suboptions_net(struct run_options *options, const char *value, struct error *err)
{
	struct machine_config *config = &options->config;
	struct net_config *net = &config->nets[config->net_count];
	char *rest = copy(options, value);
	char *part = next_part(&rest);
	int ret;

	if (!part)
		return error_errno(err, ENOMEM, "--net");
	if (config->net_count == MACHINE_NETS_MAX)
		return error_set(err, EINVAL, "--net: at most %d networks", MACHINE_NETS_MAX);
	*net = (struct net_config){.offloads = true};
	if (strcmp(part, "user") == 0)
		net->kind = NET_USER;
	else if (strcmp(part, "tap") == 0)
		net->kind = NET_TAP;
	else
		return error_set(err, EINVAL,
			"--net %s: unknown kind; write user or tap,ifname=NAME", value);
	ret = set_parts("--net", net_parts, ARRAY_SIZE(net_parts), rest, net, err);
	if (ret == 0)
		ret = check_net(net, value, err);
	if (ret == 0)
		config->net_count++;
	return ret;
}

static int passed_host(void *config, const char *value, struct error *err)
{
	char canonical[PCI_ADDRESS_SIZE];

	if (pci_address_parse(value, canonical) < 0)
		return error_set(err, EINVAL,
			"--device: host=%s: no PCI address; write host=0000:01:10.0, for example "
			"(lspci -D shows them)",
			value);
	((struct vfio_config *)config)->host = value;
	return 0;
}

static const struct part passed_parts[] = {
	{"host", passed_host},
};

int suboptions_device(struct run_options *options, const char *value, struct error *err)
{
	struct machine_config *config = &options->config;
	struct vfio_config *passed = &config->passed[config->passed_count];
	char *rest = copy(options, value);
	char *part = next_part(&rest);
	int ret;

	if (!part)
		return error_errno(err, ENOMEM, "--device");
	if (config->passed_count == MACHINE_VFIO_MAX)
		return error_set(err, EINVAL, "--device: at most %d devices", MACHINE_VFIO_MAX);
	*passed = (struct vfio_config){0};
	if (strcmp(part, "vfio") != 0)
		return error_set(err, EINVAL,
			"--device %s: unknown kind; write vfio,host=DOMAIN:BUS:DEVICE.FUNCTION",
			value);
	ret = set_parts("--device", passed_parts, ARRAY_SIZE(passed_parts), rest, passed, err);
	if (ret == 0 && !passed->host)
		ret = error_set(err, EINVAL,
			"--device %s: names no function; write host=0000:01:10.0, for example "
			"(lspci -D shows them)",
			value);
	if (ret == 0)
		config->passed_count++;
	return ret;
}
