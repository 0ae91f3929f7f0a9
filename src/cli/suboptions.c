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

/* An option that is being read. */
struct reading {
	struct device_config *device;
	const char *option; /* "--disk" */
	const char *value;  /* all that follows it */
	uint32_t given;     /* fields, by device_field_number() */
};

/* Whether @field was already given; it is from now on. */
static bool given(struct reading *reading, const struct field *field)
{
	unsigned bit = device_field_number(reading->device->type, field);
	bool before = reading->given >> bit & 1;

	reading->given |= 1U << bit;
	return before;
}

/* The field that a value alone is for, as in "--disk disk.img". */
static const struct field *main_field(const struct reading *reading)
{
	const struct field *field = device_types[reading->device->type].fields.fields;

	if (field->kind != FIELD_TEXT && field->kind != FIELD_PCI)
		return NULL;
	return field;
}

static int unknown(struct reading *reading, const char *text, size_t length, struct error *err)
{
	const struct field *meant = main_field(reading);

	if (!*text)
		return error_set(err, EINVAL,
			"%s %.400s: %s with a comma; take it away, or write ,, for a comma in a "
			"value",
			reading->option, reading->value,
			reading->value[0] == ',' ? "begins" : "ends");
	if (text[length])
		return error_set(err, EINVAL, "%s: %.*s=: unknown; see duet run --help",
			reading->option, (int)length, text);
	if (meant && !given(reading, meant))
		return error_set(err, EINVAL, "%s %.400s: write %s=%.200s", reading->option, text,
			meant->name, text);
	return error_set(err, EINVAL,
		"%s: %.400s: unknown; see duet run --help (a comma in a value is written ,,)",
		reading->option, text);
}

static int set_part(struct reading *reading, const char *text, struct error *err)
{
	size_t length = strcspn(text, "=");
	const struct field *field = device_field_find(reading->device->type, text, length);
	char what[512];

	if (!field)
		return unknown(reading, text, length, err);
	if (!text[length] || !text[length + 1])
		return error_set(err, EINVAL, "%s: %s= needs a value; see duet run --help",
			reading->option, field->name);
	if (given(reading, field))
		return error_set(err, EINVAL, "%s: %s= given twice; give it once", reading->option,
			field->name);
	snprintf(what, sizeof(what), "%s: %.400s", reading->option, text);
	return field_from_text(field, reading->device, text + length + 1, what, err);
}

/* --net tap: the first field's value, without its name. */
static int set_first(struct reading *reading, const char *text, struct error *err)
{
	const struct field *field = &device_types[reading->device->type].fields.fields[0];
	char what[512];

	given(reading, field);
	snprintf(what, sizeof(what), "%s %.400s", reading->option, text);
	return field_from_text(field, reading->device, text, what, err);
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

static int read_parts(struct reading *reading, char *rest, struct error *err)
{
	const char *part;
	int ret = 0;

	if (device_types[reading->device->type].first_word && (part = next_part(&rest)))
		ret = set_first(reading, part, err);
	while (ret == 0 && (part = next_part(&rest)))
		ret = set_part(reading, part, err);
	return ret;
}

int suboptions_add(struct machine_config *config, const char *name, size_t length,
	const char *value, struct error *err)
{
	_cleanup_free_ char *text = strdup(value);
	char option[16], *rest = text;
	enum device_type type = device_type_find(name, length);
	struct reading reading = {.option = option, .value = value};

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
	reading.device = machine_config_add(config, type);
	if (!reading.device)
		return error_errno(err, ENOMEM, "%s", option);
	return *value ? read_parts(&reading, rest, err) : 0;
}
