/* SPDX-License-Identifier: Apache-2.0 */
/* A configuration as a value: made, copied, freed. */
#include "machine/config.h"

#include "machine/fields.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void machine_config_init(struct machine_config *config)
{
	*config = (struct machine_config){0};
	fields_init(&machine_fields, config);
}

void machine_config_free(struct machine_config *config)
{
	for (unsigned i = 0; i < config->device_count; i++)
		fields_free(&device_types[config->devices[i].type].fields, &config->devices[i]);
	free(config->devices);
	fields_free(&machine_fields, config);
	free(config->file);
	*config = (struct machine_config){0};
}

static int copy_devices(struct machine_config *to, const struct machine_config *from)
{
	int ret = 0;

	if (!from->device_count)
		return 0;
	to->devices = calloc(from->device_count, sizeof(*to->devices));
	if (!to->devices)
		return -ENOMEM;
	to->device_count = from->device_count;
	memcpy(to->devices, from->devices, from->device_count * sizeof(*to->devices));
	for (unsigned i = 0; i < to->device_count; i++) {
		struct device_config *device = &to->devices[i];

		if (fields_own(&device_types[device->type].fields, device) < 0)
			ret = -ENOMEM;
	}
	return ret;
}

int machine_config_copy(struct machine_config *to, const struct machine_config *from)
{
	int ret;

	*to = *from;
	to->devices = NULL;
	to->device_count = 0;
	to->file = from->file ? strdup(from->file) : NULL;
	ret = fields_own(&machine_fields, to);
	if (ret == 0)
		ret = copy_devices(to, from);
	if (ret == 0 && from->file && !to->file)
		ret = -ENOMEM;
	if (ret < 0)
		machine_config_free(to);
	return ret;
}

struct device_config *machine_config_add(struct machine_config *config, enum device_type type)
{
	struct device_config *devices =
		reallocarray(config->devices, config->device_count + 1, sizeof(*config->devices));
	struct device_config *device;

	if (!devices)
		return NULL;
	config->devices = devices;
	device = &devices[config->device_count++];
	*device = (struct device_config){.type = type};
	fields_init(&device_fields, device);
	fields_init(&device_types[type].fields, device);
	return device;
}

void machine_config_remove(struct machine_config *config, struct device_config *device)
{
	size_t behind = (size_t)(&config->devices[config->device_count] - device) - 1;

	fields_free(&device_types[device->type].fields, device);
	memmove(device, device + 1, behind * sizeof(*device));
	config->device_count--;
}

struct device_config *machine_config_device(
	const struct machine_config *config, enum device_type type, unsigned nth)
{
	for (unsigned i = 0; i < config->device_count; i++)
		if (config->devices[i].type == type && nth-- == 0)
			return &config->devices[i];
	return NULL;
}

struct device_config *machine_config_find(const struct machine_config *config, const char *id)
{
	for (unsigned i = 0; i < config->device_count; i++)
		if (strcmp(config->devices[i].id, id) == 0)
			return &config->devices[i];
	return NULL;
}
