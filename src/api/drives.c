/* SPDX-License-Identifier: Apache-2.0 */
/* Disks. The root drive is the first of them, so that the guest finds it at /dev/vda. */
#include "api/private.h"
#include "base/checked.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const cache_words[] = {"Unsafe", "Writeback", NULL};
static const char *const engine_words[] = {"Sync", "Async", NULL};

struct fields {
	const char *id, *path, *partuuid, *socket;
	struct given_switch root, readonly;
	struct given_word cache, engine;
	struct given_limiter limiter;
};

#define IN(member) offsetof(struct fields, member)
static const struct member put_members[] = {
	{.name = "drive_id", .kind = MEMBER_TEXT, .needed = true, .offset = IN(id)},
	{.name = "partuuid", .kind = MEMBER_TEXT, .offset = IN(partuuid)},
	{.name = "is_root_device", .kind = MEMBER_SWITCH, .needed = true, .offset = IN(root)},
	{.name = "cache_type", .kind = MEMBER_WORD, .offset = IN(cache), .words = cache_words},
	{.name = "is_read_only", .kind = MEMBER_SWITCH, .offset = IN(readonly)},
	{.name = "path_on_host", .kind = MEMBER_TEXT, .offset = IN(path)},
	{.name = "rate_limiter",
		.kind = MEMBER_STRUCT,
		.offset = IN(limiter),
		.body = &limiter_body},
	{.name = "io_engine", .kind = MEMBER_WORD, .offset = IN(engine), .words = engine_words},
	{.name = "socket", .kind = MEMBER_TEXT, .offset = IN(socket)},
};
static const struct member patch_members[] = {
	{.name = "drive_id", .kind = MEMBER_TEXT, .needed = true, .offset = IN(id)},
	{.name = "path_on_host", .kind = MEMBER_TEXT, .offset = IN(path)},
	{.name = "rate_limiter",
		.kind = MEMBER_STRUCT,
		.offset = IN(limiter),
		.body = &limiter_body},
};
static const struct body put_body = {
	"BlockDeviceConfig", put_members, ARRAY_SIZE(put_members), .size = sizeof(struct fields)};
static const struct body patch_body = {"BlockDeviceUpdateConfig", patch_members,
	ARRAY_SIZE(patch_members), .size = sizeof(struct fields)};

static int check(struct call *call)
{
	const struct fields *fields = call->fields;

	if (strcmp(fields->id, call->id) == 0)
		return 0;
	return error_set(
		&call->err, EINVAL, "The id from the path does not match the id from the body!");
}

static const struct api_drive *find_drive(const struct api *api, const char *id)
{
	for (unsigned i = 0; i < api->drive_count; i++)
		if (strcmp(api->drives[i].id, id) == 0)
			return &api->drives[i];
	return NULL;
}

static int check_root(const struct api *api, const struct fields *fields, struct error *err)
{
	for (unsigned i = 0; i < api->drive_count; i++)
		if (fields->root.value && api->drives[i].root &&
			strcmp(api->drives[i].id, fields->id) != 0)
			return error_set(err, EINVAL, "A root block device already exists!");
	return 0;
}

/* As Firecracker, which opens it at once. */
static int check_file(const struct fields *fields, struct error *err)
{
	if (fields->socket)
		return error_set(err, ENOTSUP,
			"vhost-user is not there; name a file or a block device by path_on_host");
	if (!fields->path)
		return error_set(
			err, EINVAL, "path_on_host: missing; name a file or a block device");
	if (access(fields->path, fields->readonly.value ? R_OK : R_OK | W_OK) == 0)
		return 0;
	return error_set(err, errno,
		"Virtio block error: Error manipulating the backing file: %s (os error %d) %.256s",
		strerrordesc_np(errno), errno, fields->path);
}

/* In the place of the first disk, all those before it behind it. */
static void move_first(struct machine_config *config, struct device_config *disk)
{
	struct device_config *first = machine_config_device(config, DEVICE_DISK, 0);
	const struct device_config moved = *disk;

	memmove(first + 1, first, (size_t)(disk - first) * sizeof(*disk));
	*first = moved;
}

static int note_drive(struct api *api, const struct fields *fields)
{
	struct api_drive *drive = (struct api_drive *)(uintptr_t)find_drive(api, fields->id);
	char *partuuid = fields->partuuid ? strdup(fields->partuuid) : NULL;

	if (fields->partuuid && !partuuid)
		return -ENOMEM;
	if (!drive) {
		drive = &api->drives[api->drive_count++];
		strcpy(drive->id, fields->id);
	}
	free(drive->partuuid);
	drive->partuuid = partuuid;
	drive->root = fields->root.value;
	drive->writeback = fields->cache.value;
	drive->async = fields->engine.value;
	return 0;
}

static int fill_copy(struct device_config *disk, const struct fields *fields, struct error *err)
{
	struct bucket_limit none = {0};
	int ret = api_set(disk, "path", fields->path, err);

	disk->disk.readonly = fields->readonly.value;
	disk->disk.iops = disk->disk.bw = none;
	if (ret == 0)
		ret = limiter_take(&fields->limiter, DEVICE_DISK, "bw", "iops", disk, err);
	return ret;
}

static int fill(struct device_config *disk, const struct fields *fields, struct error *err)
{
	struct device_config copy;
	int ret = api_copy(&copy, disk, err);

	if (ret < 0)
		return ret;
	ret = fill_copy(&copy, fields, err);
	if (ret < 0)
		api_drop(&copy);
	else
		api_keep(disk, &copy);
	return ret;
}

static int insert(struct api *api, const struct fields *fields, struct error *err)
{
	struct machine_config *config = api->options.config;
	bool known = find_drive(api, fields->id);
	struct device_config *disk;
	int ret;

	if (!known && api->drive_count == API_DRIVES_MAX)
		return error_set(err, EINVAL, "more than %d drives", API_DRIVES_MAX);
	ret = api_device(&disk, config, DEVICE_DISK, fields->id, err);
	if (ret < 0)
		return ret;
	ret = fill(disk, fields, err);
	if (ret == 0 && note_drive(api, fields) < 0)
		ret = error_errno(err, ENOMEM, "%s", fields->id);
	if (ret < 0 && !known)
		machine_config_remove(config, disk);
	else if (ret == 0 && fields->root.value)
		move_first(config, disk);
	return ret;
}

static int put(struct call *call)
{
	const struct fields *fields = call->fields;
	int ret = check_root(call->api, fields, &call->err);

	if (ret == 0)
		ret = check_file(fields, &call->err);
	if (ret == 0)
		ret = insert(call->api, fields, &call->err);
	if (ret == 0 && boot_update(call->api) < 0)
		ret = error_errno(&call->err, ENOMEM, "boot_args");
	return ret < 0 ? error_prefix(&call->err, "Drive config error: ") : 0;
}

/* What can be refused without an attempt comes first: of a request that is, nothing is done. */
static int change(struct call *call, const struct device_config *disk, const struct fields *fields)
{
	struct device_config wanted = *disk;
	int ret = limiter_take(&fields->limiter, DEVICE_DISK, "bw", "iops", &wanted, &call->err);

	/* Nothing but its name: the file has grown. */
	if (ret == 0 && (fields->path || !fields->limiter.given))
		ret = refresh_drive(call, fields->id, fields->path);
	if (ret == 0 && fields->limiter.given)
		ret = machine_change_device(call->api->machine, &wanted, &call->err);
	return ret;
}

static int patch(struct call *call)
{
	const struct fields *fields = call->fields;
	const struct device_config *disk = machine_config_find(api_config(call->api), fields->id);
	int ret;

	if (disk && disk->type == DEVICE_DISK)
		ret = change(call, disk, fields);
	else
		ret = error_set(&call->err, ENOENT, "there is no drive %.64s", fields->id);
	return ret < 0 ? error_prefix(&call->err, "Drive config error: ") : 0;
}

static json_t *drive_json(const struct api *api, const struct device_config *disk)
{
	static const struct api_drive unknown;
	const struct api_drive *drive = find_drive(api, disk->id);
	json_t *path = disk->disk.path ? json_string(disk->disk.path) : NULL;

	if (!drive)
		drive = &unknown;
	return json_pack("{s:s, s:o, s:b, s:s, s:b, s:o, s:o, s:s, s:n}", "drive_id", disk->id,
		"partuuid", drive->partuuid ? json_string(drive->partuuid) : json_null(),
		"is_root_device", drive->root, "cache_type", cache_words[drive->writeback],
		"is_read_only", disk->disk.readonly, "path_on_host", path ? path : json_null(),
		"rate_limiter", limiter_json(&disk->disk.bw, &disk->disk.iops), "io_engine",
		engine_words[drive->async], "socket");
}

json_t *drives_json(const struct api *api)
{
	const struct machine_config *config = api_config(api);
	const struct device_config *disk;
	json_t *array = json_array();

	for (unsigned i = 0; (disk = machine_config_device(config, DEVICE_DISK, i)); i++)
		json_array_append_new(array, drive_json(api, disk));
	return array;
}

static const struct route routes[] = {
	{"PUT", "drives/{}", WHEN_BEFORE, .resource = true, .body = &put_body, .check = check,
		.function = put},
	{"PATCH", "drives/{}", WHEN_AFTER, .resource = true, .body = &patch_body, .check = check,
		.function = patch},
};
const struct route_set drive_routes = {routes, ARRAY_SIZE(routes)};
