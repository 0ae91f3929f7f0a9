/* SPDX-License-Identifier: Apache-2.0 */
/* A snapshot is loaded, instead of a start. */
#include "api/private.h"
#include "base/checked.h"
#include "snapshot/restore.h"

#include <errno.h>

static const char *const backend_words[] = {"File", "Uffd", NULL};

struct backend_fields {
	bool given;
	struct given_word type;
	const char *path;
};

struct load_fields {
	const char *state, *memory;
	struct backend_fields backend;
	struct given_switch diff, track, resume;
	const json_t *overrides;
};

#define IN_BACKEND(member) offsetof(struct backend_fields, member)
static const struct member backend_members[] = {
	{.name = "backend_type",
		.kind = MEMBER_WORD,
		.needed = true,
		.offset = IN_BACKEND(type),
		.words = backend_words},
	{.name = "backend_path", .kind = MEMBER_TEXT, .needed = true, .offset = IN_BACKEND(path)},
};
static const struct body backend_body = {"MemBackendConfig", backend_members,
	ARRAY_SIZE(backend_members), .size = sizeof(struct backend_fields)};

#define IN_LOAD(member) offsetof(struct load_fields, member)
static const struct member load_members[] = {
	{.name = "snapshot_path", .kind = MEMBER_TEXT, .needed = true, .offset = IN_LOAD(state)},
	{.name = "mem_file_path", .kind = MEMBER_TEXT, .offset = IN_LOAD(memory)},
	{.name = "mem_backend",
		.kind = MEMBER_STRUCT,
		.offset = IN_LOAD(backend),
		.body = &backend_body},
	{.name = "enable_diff_snapshots", .kind = MEMBER_SWITCH, .offset = IN_LOAD(diff)},
	{.name = "track_dirty_pages", .kind = MEMBER_SWITCH, .offset = IN_LOAD(track)},
	{.name = "resume_vm", .kind = MEMBER_SWITCH, .offset = IN_LOAD(resume)},
	{.name = "network_overrides", .kind = MEMBER_ANY, .offset = IN_LOAD(overrides)},
};
static const struct body load_body = {"LoadSnapshotConfig", load_members, ARRAY_SIZE(load_members),
	.size = sizeof(struct load_fields)};

struct override_fields {
	const char *id, *ifname;
};

#define IN_OVERRIDE(member) offsetof(struct override_fields, member)
static const struct member override_members[] = {
	{.name = "iface_id", .kind = MEMBER_TEXT, .needed = true, .offset = IN_OVERRIDE(id)},
	{.name = "host_dev_name",
		.kind = MEMBER_TEXT,
		.needed = true,
		.offset = IN_OVERRIDE(ifname)},
};
static const struct body override_body = {"NetworkOverride", override_members,
	ARRAY_SIZE(override_members), .size = sizeof(struct override_fields)};

#define BODY_ERROR "An error occurred when deserializing the json body of a request: "

/* As part of the body: before the state is looked at. */
static int check_load(struct call *call)
{
	const struct load_fields *fields = call->fields;

	if (fields->backend.given && fields->memory)
		return error_set(&call->err, EINVAL,
			BODY_ERROR "too many fields: either `mem_backend` or `mem_file_path` "
				   "exclusively is required.");
	if (!fields->backend.given && !fields->memory)
		return error_set(&call->err, EINVAL,
			BODY_ERROR "missing field: either `mem_backend` or `mem_file_path` is "
				   "required.");
	if (fields->overrides && !json_is_array(fields->overrides))
		return error_set(
			&call->err, EINVAL, BODY_ERROR "network_overrides: must be an array.");
	return 0;
}

static int override_nets(struct machine_config *config, const json_t *overrides, struct error *err)
{
	struct override_fields fields;
	const json_t *value;
	size_t index;
	int ret = 0;

	json_array_foreach(overrides, index, value)
	{
		ret = body_read(&override_body, &fields, value, err);
		if (ret == 0)
			ret = snapshot_override_net(config, fields.id, fields.ifname, err);
		if (ret < 0)
			break;
	}
	return ret;
}

/* The owner's configuration becomes the snapshot's, unless that fails. */
static int restore(struct call *call, const struct snapshot *snapshot)
{
	const struct load_fields *fields = call->fields;
	const struct api_options *options = &call->api->options;
	struct machine_config before = *options->config;
	int ret = snapshot_config(snapshot, options->config, &call->err);

	if (ret == 0)
		ret = override_nets(options->config, fields->overrides, &call->err);
	if (ret == 0)
		ret = options->restore(options->opaque, snapshot, &call->err);
	if (ret < 0) {
		machine_config_free(options->config);
		*options->config = before;
		return ret;
	}
	machine_config_free(&before);
	return 0;
}

static int load_files(struct call *call)
{
	const struct load_fields *fields = call->fields;
	const struct snapshot_place place = {.state = fields->state,
		.memory = fields->memory ? fields->memory : fields->backend.path};
	struct snapshot snapshot;
	int ret = snapshot_open(&snapshot, &place, true, &call->err);

	if (ret == 0)
		ret = restore(call, &snapshot);
	if (ret == 0 && (fields->diff.value || fields->track.value))
		ret = api_track(call->api, &snapshot.head.id, &call->err);
	snapshot_close(&snapshot);
	return ret < 0 ? error_prefix(&call->err, "Failed to restore from snapshot: ") : 0;
}

static bool is_configured(const struct machine_config *config)
{
	return config->kernel || config->device_count || config->cpus != 1 ||
	       config->memory != 128ULL << 20;
}

static int load_checked(struct call *call)
{
	const struct load_fields *fields = call->fields;
	const struct api_options *options = &call->api->options;
	int ret;

	if (!options->restore)
		return error_set(&call->err, ENOTSUP, "there is nobody here who restores one");
	if (is_configured(options->config))
		return error_set(&call->err, EINVAL,
			"Loading a microVM snapshot not allowed after configuring boot-specific "
			"resources.");
	if (fields->backend.given && fields->backend.type.value)
		return error_set(&call->err, ENOTSUP,
			"Failed to restore from snapshot: Uffd is not there in duet, which reads "
			"the "
			"file itself as the guest needs it; say File.");
	ret = load_files(call);
	if (ret == 0 && fields->resume.value && options->go(options->opaque, &call->err) < 0)
		ret = error_prefix(&call->err, "Failed to resume microVM: ");
	return ret;
}

static int load(struct call *call)
{
	return load_checked(call) < 0 ? error_prefix(&call->err, "Load snapshot error: ") : 0;
}

static int no_operation(struct call *call)
{
	return error_set(&call->err, EINVAL,
		*call->id ? "Invalid request method and/or path: PUT snapshot/%.64s."
			  : "Missing snapshot operation type.",
		call->id);
}

static const struct route routes[] = {
	{"PUT", "snapshot/load", WHEN_BEFORE, .body = &load_body, .check = check_load,
		.function = load},
	{"PUT", "snapshot/{}", .function = no_operation},
	{"PUT", "snapshot", .function = no_operation},
};
/* Behind snapshot_routes: what no other route has is no operation. */
const struct route_set snapshot_load_routes = {routes, ARRAY_SIZE(routes)};
