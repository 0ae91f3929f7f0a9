/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/suboptions.h"

#include "base/cleanup.h"
#include "machine/fields.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

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

static int set_part(
	struct device_config *device, const char *option, const char *text, struct error *err)
{
	const struct device_type_info *type = &device_types[device->type];
	size_t length = strcspn(text, "=");
	const struct field *field = field_find(&type->fields, text, length);
	char what[512];

	if (!field)
		field = field_find(&device_fields, text, length);
	if (!field)
		return error_set(err, EINVAL, "%s: %.*s=: unknown; see duet run --help", option,
			(int)length, text);
	if (!text[length] || !text[length + 1])
		return error_set(err, EINVAL, "%s: %s= needs a value; see duet run --help", option,
			field->name);
	snprintf(what, sizeof(what), "%s: %.400s", option, text);
	return field_from_text(field, device, text + length + 1, what, err);
}

/* --net tap: the first field's value, without its name. */
static int set_first(
	struct device_config *device, const char *option, const char *text, struct error *err)
{
	const struct field *field = &device_types[device->type].fields.fields[0];
	char what[512];

	snprintf(what, sizeof(what), "%s %.400s", option, text);
	return field_from_text(field, device, text, what, err);
}

/* DEVICE_TYPES: an error. */
static enum device_type type_of(const char *option, const char *word, struct error *err)
{
	enum device_type type = device_type_find(word, strlen(word));

	if (type < DEVICE_TYPES && !device_types[type].automatic)
		return type;
	error_set(err, EINVAL,
		"%s %s: unknown kind of device; write for example vfio,host=DOMAIN:BUS:DEVICE."
		"FUNCTION",
		option, word);
	return DEVICE_TYPES;
}

int suboptions_add(struct machine_config *config, const char *name, size_t length,
	const char *value, struct error *err)
{
	_cleanup_free_ char *text = strdup(value);
	char option[16], *rest = text, *part;
	enum device_type type = device_type_find(name, length);
	struct device_config *device;
	int ret = 0;

	if (!text)
		return error_errno(err, ENOMEM, "--%.*s", (int)length, name);
	snprintf(option, sizeof(option), "--%.*s", (int)length, name);
	if (type == DEVICE_TYPES)
		type = type_of(option, next_part(&rest), err);
	if (type == DEVICE_TYPES)
		return -EINVAL;
	if (config->device_count >= MACHINE_DEVICES_MAX)
		return error_set(
			err, EINVAL, "%s: at most %d devices", option, MACHINE_DEVICES_MAX);
	device = machine_config_add(config, type);
	if (!device)
		return error_errno(err, ENOMEM, "%s", option);
	if (device_types[type].first_word && (part = next_part(&rest)))
		ret = set_first(device, option, part, err);
	while (ret == 0 && (part = next_part(&rest)))
		ret = set_part(device, option, part, err);
	return ret;
}
