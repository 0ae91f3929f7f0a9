/* SPDX-License-Identifier: Apache-2.0 */
/* What a configuration leaves open is decided here, once in a machine's life. */
#include "base/checked.h"
#include "base/clock.h"
#include "machine/config_rules.h"
#include "machine/fields.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

static void name_device(const struct machine_config *config, struct device_config *device)
{
	const char *prefix = device_types[device->type].prefix;
	char id[MACHINE_ID_SIZE];

	if (*device->id)
		return;
	for (unsigned n = 0; n <= config->device_count; n++) {
		snprintf(id, sizeof(id), "%s%u", prefix, n);
		if (!machine_config_find(config, id))
			break;
	}
	strcpy(device->id, id);
}

static void name_devices(struct machine_config *config)
{
	for (unsigned i = 0; i < config->device_count; i++)
		name_device(config, &config->devices[i]);
}

/* A type of device that comes by itself. */
struct follower {
	enum device_type type;
	bool wanted;
	const char *field; /* of the machine, that wants it; null: none does */
	const char *but;   /* what contradicts it in a file, and what to write there */
};

/* Whether the file has @device although it says elsewhere that there is none. An option that says
 * so wins over the file. */
static bool contradicts_itself(const struct machine_config *config,
	const struct device_config *device, const struct follower *follower)
{
	const char *name = follower->field;
	const struct field *field = name ? field_find(&machine_fields, name, strlen(name)) : NULL;

	return device->line &&
	       !(field && config->lines[field - machine_fields.fields] == MACHINE_LINE_OPTION);
}

/* It is there when it is wanted, and not when it is not. */
static int follow(struct machine_config *config, const struct follower *follower, struct error *err)
{
	struct device_config *device = machine_config_device(config, follower->type, 0);

	while (device && !follower->wanted) {
		if (contradicts_itself(config, device, follower))
			return config_refuse(config, device, NULL, err, "%s", follower->but);
		machine_config_remove(config, device);
		device = machine_config_device(config, follower->type, 0);
	}
	if (!device && follower->wanted && !machine_config_add(config, follower->type))
		return error_errno(err, ENOMEM, "configuration");
	return 0;
}

static int add_followers(struct machine_config *config, struct error *err)
{
	struct follower followers[] = {
		{DEVICE_IDE, false, NULL,
			"no disk has \"model\": \"ide\"; leave the controller out"},
		{DEVICE_CONSOLE, config->console == CONSOLE_VIRTIO, "console",
			"\"console\" is \"serial\"; write \"console\": \"virtio\", or leave the "
			"device out"},
		{DEVICE_ENTROPY, config->entropy, "entropy",
			"\"entropy\" is false; write \"entropy\": true, or leave the device out"},
	};
	int ret = 0;

	for (unsigned i = 0; i < config->device_count; i++)
		followers[0].wanted |= config->devices[i].type == DEVICE_DISK &&
				       config->devices[i].disk.model == DISK_IDE;
	for (unsigned i = 0; ret == 0 && i < ARRAY_SIZE(followers); i++)
		ret = follow(config, &followers[i], err);
	return ret;
}

static bool has_slot(const struct device_config *device)
{
	return device->type != DEVICE_DISK || device->disk.model != DISK_IDE;
}

static int take_given_slots(const struct machine_config *config, uint32_t *taken, struct error *err)
{
	for (unsigned i = 0; i < config->device_count; i++) {
		const struct device_config *device = &config->devices[i];

		if (device->slot && *taken >> device->slot & 1)
			return config_refuse(config, device, "slot", err,
				"{slot=%u} is another device's; give each its own", device->slot);
		if (device->slot)
			*taken |= 1U << device->slot;
	}
	return 0;
}

static int give_slot(const struct machine_config *config, struct device_config *device,
	uint32_t *taken, struct error *err)
{
	if (device->slot || !has_slot(device))
		return 0;
	if (*taken == UINT32_MAX)
		return config_refuse(config, device, NULL, err,
			"all %d PCI slots are taken; use fewer devices", MACHINE_SLOTS - 1);
	device->slot = (unsigned)__builtin_ctz(~*taken);
	*taken |= 1U << device->slot;
	return 0;
}

/* By type, so that a disk behind a network on the command line is where it is before it. */
static int give_slots(struct machine_config *config, struct error *err)
{
	uint32_t taken = 1; /* the host bridge's */
	int ret = take_given_slots(config, &taken, err);

	for (unsigned type = 0; type < DEVICE_TYPES; type++)
		for (unsigned i = 0; ret == 0 && i < config->device_count; i++)
			if (config->devices[i].type == type)
				ret = give_slot(config, &config->devices[i], &taken, err);
	return ret;
}

static int take_drive(const struct machine_config *config, struct device_config *device,
	unsigned *taken, bool given, struct error *err)
{
	struct disk_config *disk = &device->disk;

	if (device->type != DEVICE_DISK || disk->model != DISK_IDE || given != (disk->drive != 0))
		return 0;
	if (given && *taken >> disk->drive & 1)
		return config_refuse(config, device, "drive", err,
			"{drive=%u} is another disk's; give each its own", disk->drive);
	/* No more disks than drives: one is free. */
	if (!given)
		disk->drive = (unsigned)__builtin_ctz(~*taken);
	*taken |= 1U << disk->drive;
	return 0;
}

static int give_drives(struct machine_config *config, struct error *err)
{
	unsigned taken = 1; /* counted from 1 */
	int ret = 0;

	for (int given = 1; given >= 0; given--)
		for (unsigned i = 0; ret == 0 && i < config->device_count; i++)
			ret = take_drive(config, &config->devices[i], &taken, given, err);
	return ret;
}

static void give_mac(struct mac_address *mac, unsigned index)
{
	if (mac->given)
		return;
	if (getrandom(mac->bytes, sizeof(mac->bytes), GRND_NONBLOCK) != sizeof(mac->bytes)) {
		/* Before the host has entropy: still different in each machine of this host. */
		pid_t pid = getpid();

		memcpy(mac->bytes, &pid, 4);
		mac->bytes[4] = (uint8_t)index;
		mac->bytes[5] = 0;
	}
	mac->bytes[0] = (uint8_t)((mac->bytes[0] & 0xfc) | 0x02);
	mac->given = true;
}

/* RFC 9562, version 4. */
static void give_uuid(struct machine_uuid *uuid)
{
	uint8_t *bytes = uuid->bytes;

	if (uuid->given)
		return;
	if (getrandom(bytes, sizeof(uuid->bytes), GRND_NONBLOCK) != sizeof(uuid->bytes)) {
		/* As for a MAC address, and different from start to start. */
		const uint64_t now = clock_ns();
		pid_t pid = getpid();

		memcpy(bytes, &pid, 4);
		memcpy(bytes + 8, &now, sizeof(now));
	}
	bytes[6] = (uint8_t)((bytes[6] & 0x0f) | 0x40);
	bytes[8] = (uint8_t)((bytes[8] & 0x3f) | 0x80);
	uuid->given = true;
}

int machine_config_complete(struct machine_config *config, struct error *err)
{
	int ret;

	name_devices(config);
	ret = add_followers(config, err);
	if (ret < 0)
		return ret;
	name_devices(config); /* the followers */
	ret = config_check(config, err);
	if (ret == 0)
		ret = give_drives(config, err);
	if (ret == 0)
		ret = give_slots(config, err);
	if (ret == 0)
		give_uuid(&config->uuid);
	for (unsigned i = 0; ret == 0 && i < config->device_count; i++)
		if (config->devices[i].type == DEVICE_NET)
			give_mac(&config->devices[i].net.mac, i);
	return ret;
}
