/* SPDX-License-Identifier: Apache-2.0 */
/* All resources in one file, which a start by --config-file reads. */
#include "api/private.h"
#include "base/checked.h"
#include "base/cleanup.h"

#include <errno.h>
#include <string.h>

#define FILE_MAX (1U << 20)

/* In the order in which they depend on each other. What is not listed is no section. */
static const struct section {
	const char *name;
	const struct route_set *group;
	const char *pattern; /* of the PUT that it stands for */
	bool list;
	bool needed;
} sections[] = {
	{.name = "logger", .group = &output_routes, .pattern = "logger"},
	{.name = "metrics", .group = &output_routes, .pattern = "metrics"},
	{.name = "machine-config", .group = &machine_config_routes, .pattern = "machine-config"},
	{.name = "cpu-config", .group = &machine_config_routes, .pattern = "cpu-config"},
	{.name = "boot-source", .group = &boot_routes, .pattern = "boot-source", .needed = true},
	{.name = "drives",
		.group = &drive_routes,
		.pattern = "drives/{}",
		.list = true,
		.needed = true},
	{.name = "network-interfaces",
		.group = &net_routes,
		.pattern = "network-interfaces/{}",
		.list = true},
	{.name = "balloon", .group = &balloon_routes, .pattern = "balloon"},
	{.name = "vsock", .group = &vsock_routes, .pattern = "vsock"},
	{.name = "entropy", .group = &output_routes, .pattern = "entropy"},
	{.name = "serial", .group = &output_routes, .pattern = "serial"},
	{.name = "mmds-config", .group = &absent_routes, .pattern = "mmds"},
	{.name = "pmem", .group = &absent_routes, .pattern = "pmem", .list = true},
	{.name = "memory-hotplug", .group = &absent_routes, .pattern = "hotplug/memory"},
};

static const struct route *route_of(const struct section *section)
{
	const struct route *route = section->group->routes;

	while (strcmp(route->method, "PUT") != 0 || strcmp(route->pattern, section->pattern) != 0)
		route++;
	return route;
}

/* Ids stand in the bodies alone, so there is no check against a path. */
static int put(
	struct api *api, const struct section *section, const json_t *value, struct error *err)
{
	_Alignas(8) char fields[REQUEST_FIELDS] = "";
	const struct route *route = route_of(section);
	struct call call = {.api = api, .id = "", .fields = fields, .json = value};
	int ret = route->body ? body_read(route->body, fields, value, &call.err) : 0;

	if (ret == 0 && route->check && !section->list)
		ret = route->check(&call);
	if (ret == 0)
		ret = route->function(&call);
	json_decref(call.reply);
	return ret < 0 ? error_set(err, call.err.code, "%s: %s", section->name, call.err.text) : 0;
}

static int put_list(
	struct api *api, const struct section *section, const json_t *array, struct error *err)
{
	const json_t *value;
	size_t index;
	int ret = 0;

	if (!json_is_array(array))
		return error_set(err, EINVAL, "%s: must be an array", section->name);
	json_array_foreach(array, index, value)
	{
		if (ret == 0)
			ret = put(api, section, value, err);
	}
	return ret;
}

static int check_names(const json_t *object, struct error *err)
{
	const char *name;
	json_t *value;

	if (!json_is_object(object))
		return error_set(err, EINVAL, "must be an object of resources");
	json_object_foreach((json_t *)(uintptr_t)object, name, value)
	{
		bool known = false;

		for (unsigned i = 0; i < ARRAY_SIZE(sections); i++)
			known |= strcmp(sections[i].name, name) == 0;
		if (!known)
			return error_set(err, EINVAL, "%.64s: unknown field", name);
	}
	return 0;
}

static int put_all(struct api *api, const json_t *object, struct error *err)
{
	int ret = check_names(object, err);

	for (unsigned i = 0; ret == 0 && i < ARRAY_SIZE(sections); i++) {
		const json_t *value = json_object_get(object, sections[i].name);

		if (sections[i].needed && !value)
			ret = error_set(err, EINVAL, "missing field `%s`", sections[i].name);
		else if (value && !json_is_null(value))
			ret = sections[i].list ? put_list(api, &sections[i], value, err)
					       : put(api, &sections[i], value, err);
	}
	return ret;
}

static int parse_file(json_t **object, const char *path, struct error *err)
{
	_cleanup_fclose_ FILE *file = fopen(path, "re");
	_cleanup_free_ char *text = malloc(FILE_MAX + 1);
	size_t length;

	if (!file || !text)
		return error_set(err, text ? errno : ENOMEM, "%s; name a file that you may read",
			strerrordesc_np(text ? errno : ENOMEM));
	length = fread(text, 1, FILE_MAX + 1, file);
	if (ferror(file))
		return error_set(err, errno, "%s", strerrordesc_np(errno));
	if (length > FILE_MAX)
		return error_set(err, EFBIG, "larger than %u KiB", FILE_MAX >> 10);
	return body_parse(object, text, length, err);
}

int api_read_file(struct api *api, const char *path, struct error *err)
{
	struct error inner = {0};
	json_t *object = NULL;
	int ret;

	if (api->started)
		return error_set(err, EINVAL, "--config-file %s: the machine runs already", path);
	ret = parse_file(&object, path, &inner);
	if (ret == 0)
		ret = put_all(api, object, &inner);
	json_decref(object);
	if (ret < 0)
		error_set(err, inner.code, "--config-file %s: %.500s", path, inner.text);
	return ret;
}
