/* SPDX-License-Identifier: Apache-2.0 */
/* A configuration as JSON. */
#include "base/cleanup.h"
#include "machine/config_lines.h"
#include "machine/fields.h"
#include "machine/json_fault.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* ---- written ---- */

static int write_fields(
	json_t *object, const struct field_set *set, const void *from, struct error *err)
{
	for (unsigned i = 0; i < set->count; i++) {
		const struct field *field = &set->fields[i];
		json_t *value;
		int ret = field_to_json(field, from, &value);

		if (ret == -EILSEQ)
			return error_set(err, EILSEQ,
				"%s: is not UTF-8, so JSON cannot hold it; rename the file",
				field->name);
		if (ret < 0 || (value && json_object_set_new(object, field->name, value) < 0))
			return error_errno(err, ENOMEM, "configuration");
	}
	return 0;
}

static int write_device(json_t *devices, const struct device_config *device, struct error *err)
{
	const struct device_type_info *type = &device_types[device->type];
	json_t *object = json_object();
	int ret = 0;

	/* Each call takes a null, and says so. */
	if (json_object_set_new(object, "type", json_string(type->name)) < 0 ||
		json_array_append_new(devices, object) < 0)
		return error_errno(err, ENOMEM, "configuration");
	ret = write_fields(object, &device_fields, device, err);
	if (ret == 0)
		ret = write_fields(object, &type->fields, device, err);
	return ret < 0 ? error_prefix(err, "%s: ", device->id) : 0;
}

static int write_object(json_t *object, const struct machine_config *config, struct error *err)
{
	json_t *devices = json_array();
	int ret;

	if (json_object_set_new(object, "duet", json_integer(MACHINE_CONFIG_VERSION)) < 0)
		ret = error_errno(err, ENOMEM, "configuration");
	else
		ret = write_fields(object, &machine_fields, config, err);
	for (unsigned i = 0; ret == 0 && i < config->device_count; i++)
		ret = write_device(devices, &config->devices[i], err);
	if (json_object_set_new(object, "devices", devices) < 0 && ret == 0)
		ret = error_errno(err, ENOMEM, "configuration");
	return ret;
}

int machine_config_write(const struct machine_config *config, char **text, struct error *err)
{
	json_t *object = json_object();
	int ret = write_object(object, config, err);

	if (ret == 0) {
		*text = json_dumps(object, JSON_INDENT(2));
		if (!*text)
			ret = error_errno(err, ENOMEM, "configuration");
	}
	json_decref(object);
	return ret;
}

/* ---- read ---- */

/* A text that is being read. */
struct source {
	const char *text, *name;
	size_t length;
};

static unsigned line_of(
	const struct source *source, const struct config_place *place, const char *field)
{
	return config_line(source->text, source->length, place, field);
}

/* Puts in front of the words in @err where the fault is: "vm.json:7: disk: ". Returns -code. */
static int blame(const struct source *source, const struct config_place *place, const char *field,
	struct error *err)
{
	return error_prefix(err, "%s:%u: ", source->name, line_of(source, place, field));
}

static int unknown(const char *key, struct error *err)
{
	return error_set(err, EINVAL, "%.64s: unknown field; see duet run --help", key);
}

/* In the object of the machine. */
static int no_field(const char *key, struct error *err)
{
	for (unsigned i = 0; process_options[i]; i++)
		if (strcmp(key, process_options[i]) == 0)
			return error_set(err, EINVAL,
				"%s: is an option of duet run's command line, not of a machine; "
				"take it out of the file and write --%s there",
				key, key);
	for (unsigned type = 0; type < DEVICE_TYPES; type++)
		if (strcmp(key, device_types[type].name) == 0)
			return error_set(err, EINVAL,
				"%s: is a device; write \"devices\": [{\"type\": \"%s\", ...}]",
				key, key);
	return unknown(key, err);
}

/* @line: of @key. */
static int read_device_field(struct device_config *device, const char *key, json_t *value,
	unsigned line, struct error *err)
{
	const struct field *field = device_field_find(device->type, key, strlen(key));

	if (strcmp(key, "type") == 0)
		return 0;
	if (!field)
		return unknown(key, err);
	device->lines[device_field_number(device->type, field)] = line;
	return field_from_json(field, device, value, key, err);
}

static int no_type(const char *name, struct error *err)
{
	char list[128] = "";

	for (unsigned type = 0; type < DEVICE_TYPES; type++) {
		size_t used = strlen(list);

		snprintf(list + used, sizeof(list) - used, "%s%s",
			type == 0                 ? ""
			: type + 1 < DEVICE_TYPES ? ", "
						  : " or ",
			device_types[type].name);
	}
	return error_set(err, EINVAL, "type: \"%.32s\" is no type of device; write %s", name, list);
}

/* Null: it has no such type. */
static struct device_config *new_device(
	struct machine_config *config, json_t *object, struct error *err)
{
	const char *name = json_string_value(json_object_get(object, "type"));
	struct device_config *device;
	enum device_type type;

	if (!name) {
		error_set(err, EINVAL,
			"a device is an object with a type, such as {\"type\": \"disk\", "
			"\"path\": \"disk.img\"}");
		return NULL;
	}
	type = device_type_find(name, strlen(name));
	if (type == DEVICE_TYPES) {
		no_type(name, err);
		return NULL;
	}
	device = machine_config_add(config, type);
	if (!device)
		error_errno(err, ENOMEM, "devices");
	return device;
}

/* What an option cannot leave out, a file may not either: net's "kind". */
static int check_first_word(const struct device_config *device, struct error *err)
{
	const struct device_type_info *type = &device_types[device->type];
	const struct field *field = type->fields.fields;
	char list[128] = "";

	if (!type->first_word || device->lines[device_field_number(device->type, field)])
		return 0;
	for (unsigned i = 0; field->words[i]; i++) {
		size_t used = strlen(list);

		snprintf(list + used, sizeof(list) - used, "%s\"%s\": \"%s\"", i ? " or " : "",
			field->name, field->words[i]);
	}
	return error_set(
		err, EINVAL, "%s: names no \"%s\"; write %s", type->name, field->name, list);
}

static int read_device(struct machine_config *config, const struct source *source, unsigned index,
	json_t *object, struct error *err)
{
	struct config_place place = config_place_of_device(source->text, source->length, index);
	struct device_config *device = new_device(config, object, err);
	const char *key;
	json_t *value;

	if (!device)
		return blame(source, &place, "type", err);
	device->line = place.line;
	json_object_foreach(object, key, value)
	{
		unsigned line = line_of(source, &place, key);

		if (read_device_field(device, key, value, line, err) == 0)
			continue;
		return error_prefix(
			err, "%s:%u: %s: ", source->name, line, device_types[device->type].name);
	}
	return check_first_word(device, err) < 0 ? blame(source, &place, "type", err) : 0;
}

/* The array stands at @line. */
static int read_devices(struct machine_config *config, const struct source *source, unsigned line,
	json_t *array, struct error *err)
{
	size_t index;
	json_t *value;
	int ret = 0;

	if (!json_is_array(array))
		return error_set(err, EINVAL, "%s:%u: devices: must be an array of objects",
			source->name, line);
	if (json_array_size(array) + config->device_count > MACHINE_DEVICES_MAX)
		return error_set(err, EINVAL, "%s:%u: devices: more than %d", source->name, line,
			MACHINE_DEVICES_MAX);
	json_array_foreach(array, index, value)
	{
		if (ret == 0)
			ret = read_device(config, source, (unsigned)index, value, err);
	}
	return ret;
}

static int read_member(struct machine_config *config, const struct source *source, const char *key,
	json_t *value, struct error *err)
{
	const struct config_place place = config_place(source->text, source->length);
	const struct field *field = field_find(&machine_fields, key, strlen(key));
	unsigned line = line_of(source, &place, key);
	int ret;

	if (strcmp(key, "duet") == 0)
		return 0;
	if (strcmp(key, "devices") == 0)
		return read_devices(config, source, line, value, err);
	if (field)
		config->lines[field - machine_fields.fields] = line;
	ret = field ? field_from_json(field, config, value, key, err) : no_field(key, err);
	return ret < 0 ? error_prefix(err, "%s:%u: ", source->name, line) : 0;
}

/* Before all else: what another version means is not known. */
static int check_version(const struct source *source, json_t *object, struct error *err)
{
	const struct config_place place = config_place(source->text, source->length);
	json_t *version = json_object_get(object, "duet");

	if (!version)
		return error_set(err, EINVAL,
			"%s: no configuration of duet's; it begins with {\"duet\": %d, ...",
			source->name, MACHINE_CONFIG_VERSION);
	if (json_is_integer(version) && json_integer_value(version) == MACHINE_CONFIG_VERSION)
		return 0;
	error_set(err, EINVAL, "duet: this program reads version %d only", MACHINE_CONFIG_VERSION);
	return blame(source, &place, "duet", err);
}

static int read_object(struct machine_config *config, const struct source *source, json_t *object,
	struct error *err)
{
	int ret = check_version(source, object, err);
	const char *key;
	json_t *value;

	if (ret < 0)
		return ret;
	free(config->file);
	config->file = strdup(source->name);
	json_object_foreach(object, key, value)
	{
		if (ret == 0)
			ret = read_member(config, source, key, value, err);
	}
	return ret;
}

int machine_config_read(struct machine_config *config, const char *text, size_t length,
	const char *name, struct error *err)
{
	const struct source source = {.text = text, .length = length, .name = name};
	json_error_t fault;
	json_t *object;
	int ret;

	if (length == 0)
		return error_set(err, EINVAL,
			"%s: the file is empty; fill it with duet run ... --print-config", name);
	if (length > MACHINE_CONFIG_MAX)
		return error_set(err, EFBIG, "%s: larger than the %u KiB of a configuration", name,
			MACHINE_CONFIG_MAX >> 10);
	object = json_loadb(text, length, JSON_REJECT_DUPLICATES, &fault);
	if (!object)
		return error_set(err, EINVAL, "%s:%d: not JSON: %s", name, fault.line,
			json_fault_words(&fault));
	ret = read_object(config, &source, object, err);
	json_decref(object);
	return ret;
}

static int cannot_read(const char *path, int code, struct error *err)
{
	if (code == EISDIR)
		return error_set(err, code, "--config %s: is a directory; name a file in it", path);
	if (code == ENOENT)
		return error_set(err, code,
			"--config %s: No such file; name one that duet run ... --print-config "
			"wrote",
			path);
	if (code == EACCES)
		return error_set(err, code,
			"--config %s: Permission denied; name a file that you may read", path);
	return error_errno(err, code, "--config %s", path);
}

/* A FIFO will do as well: it is read once, from its beginning to its end. */
int machine_config_read_file(struct machine_config *config, const char *path, struct error *err)
{
	_cleanup_fclose_ FILE *file = fopen(path, "re");
	_cleanup_free_ char *text = malloc(MACHINE_CONFIG_MAX + 1);
	size_t length;

	if (!file)
		return cannot_read(path, errno, err);
	if (!text)
		return error_errno(err, ENOMEM, "--config %s", path);
	/* One byte more than there may be, to see that there is more. */
	length = fread(text, 1, MACHINE_CONFIG_MAX + 1, file);
	if (ferror(file))
		return cannot_read(path, errno, err);
	return machine_config_read(config, text, length, path, err);
}
