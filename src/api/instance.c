/* SPDX-License-Identifier: Apache-2.0 */
/* What concerns the machine as a whole: what it is, that it starts, pauses and goes on. */
#include "api/private.h"
#include "base/checked.h"

#include <errno.h>
#include <string.h>

#define PAUSE_LIMIT_NS 10000000000ULL

const char *api_state_name(const struct api *api)
{
	if (!api->started)
		return "Not started";
	/* Nothing of it runs, though it will not go on. */
	if (!api->machine || machine_state(api->machine) != MACHINE_RUNNING)
		return "Paused";
	return "Running";
}

static int get_instance(struct call *call)
{
	call->reply = json_pack("{s:s, s:s, s:s, s:s}", "id", call->api->options.id, "state",
		api_state_name(call->api), "vmm_version", API_FIRECRACKER_VERSION, "app_name",
		"Firecracker");
	return 0;
}

static int get_version(struct call *call)
{
	call->reply = json_pack("{s:s}", "firecracker_version", API_FIRECRACKER_VERSION);
	return 0;
}

static json_t *or_null(json_t *value)
{
	return value ? value : json_null();
}

static json_t *entropy_json(const struct api *api)
{
	const struct machine_config *config = api_config(api);

	if (!config->entropy)
		return json_null();
	return json_pack(
		"{s:o}", "rate_limiter", limiter_json(&config->entropy_bw, &config->entropy_ops));
}

static int get_config(struct call *call)
{
	const struct api *api = call->api;

	call->reply = json_pack("{s:o, s:o, s:o, s:o, s:n, s:o, s:n, s:n, s:o, s:o, s:o}",
		"balloon", or_null(balloon_json(api)), "drives", drives_json(api), "boot-source",
		boot_json(api), "cpu-config", cpu_config_json(api), "logger", "machine-config",
		machine_config_json(api), "metrics", "mmds-config", "network-interfaces",
		nets_json(api), "vsock", or_null(vsock_json(api)), "entropy", entropy_json(api));
	return 0;
}

/* ---- state ---- */

static const char *const state_words[] = {"Paused", "Resumed", NULL};

struct vm_fields {
	struct given_word state;
};

static const struct member vm_members[] = {
	{"state", MEMBER_WORD, true, offsetof(struct vm_fields, state), .words = state_words},
};
static const struct body vm_body = {.name = "Vm",
	.members = vm_members,
	.count = ARRAY_SIZE(vm_members),
	.size = sizeof(struct vm_fields)};

static bool is_loaded(const struct api *api)
{
	return machine_state(api->machine) == MACHINE_BUILT;
}

static int go(const struct api *api, struct error *err)
{
	if (!api->options.go)
		return error_set(err, EBUSY, API_COMES);
	return api->options.go(api->options.opaque, err);
}

static int begin_pause(struct api *api, struct error *err)
{
	int ret = machine_pause(api->machine, &api->pause, PAUSE_LIMIT_NS);

	if (ret == -EALREADY)
		return error_set(
			err, EBUSY, "The machine is being paused for a moment already; ask again.");
	if (ret < 0)
		return error_set(err, -ret, "The machine cannot be paused: it has ended.");
	api->pausing = true;
	return 0;
}

/* Answered when nothing of it runs any more. */
static int pause_machine(struct call *call)
{
	struct api *api = call->api;

	if (machine_is_paused(api->machine) || is_loaded(api))
		return 0;
	if (api->waiter_count == API_WAITERS_MAX)
		return error_set(&call->err, EBUSY, "Too many wait for the pause already.");
	/* First: it may be paused before machine_pause() returns. */
	api->waiters[api->waiter_count++] = call->exchange;
	if (!api->pausing && begin_pause(api, &call->err) < 0) {
		api->waiter_count--;
		return -EBUSY;
	}
	return CALL_LATER;
}

static int patch_vm(struct call *call)
{
	const struct vm_fields *fields = call->fields;

	if (fields->state.value == 0)
		return pause_machine(call);
	if (is_loaded(call->api))
		return go(call->api, &call->err);
	if (snapshot_check_resume(call->api, &call->err) < 0)
		return -EBUSY;
	machine_resume(call->api->machine);
	return 0;
}

/* ---- actions ---- */

static const char *const action_words[] = {"FlushMetrics", "InstanceStart", "SendCtrlAltDel", NULL};
enum action {
	ACTION_FLUSH,
	ACTION_START,
	ACTION_KEYS,
};

struct action_fields {
	struct given_word action;
};

static const struct member action_members[] = {
	{"action_type", MEMBER_WORD, true, offsetof(struct action_fields, action),
		.words = action_words},
};
static const struct body action_body = {.name = "ActionBody",
	.members = action_members,
	.count = ARRAY_SIZE(action_members),
	.size = sizeof(struct action_fields)};

static int start(struct call *call)
{
	const struct api_options *options = &call->api->options;

	if (call->api->started)
		return error_set(&call->err, EINVAL,
			"The requested operation is not supported after starting the microVM.");
	if (!options->config->kernel)
		return error_set(&call->err, EINVAL,
			"Start microvm error: Cannot start microvm without kernel configuration.");
	return options->start(options->opaque, &call->err) < 0
		       ? error_prefix(&call->err, "Start microvm error: ")
		       : 0;
}

static int flush(struct call *call)
{
	const struct api_options *options = &call->api->options;

	/* As in Firecracker, which writes them to nowhere. */
	if (!options->flush_metrics)
		return 0;
	return options->flush_metrics(options->opaque, &call->err) < 0
		       ? error_prefix(&call->err, "Metrics error: ")
		       : 0;
}

static int put_action(struct call *call)
{
	const struct action_fields *fields = call->fields;

	if (fields->action.value == ACTION_START)
		return start(call);
	if (!call->api->started)
		return error_set(&call->err, EINVAL,
			"The requested operation is not supported before starting the microVM.");
	if (!call->api->machine)
		return error_set(&call->err, EINVAL, "The machine has ended.");
	return fields->action.value == ACTION_FLUSH ? flush(call) : press_ctrl_alt_del(call);
}

static const struct route routes[] = {
	{"GET", "version", .function = get_version},
	{"GET", "vm/config", .function = get_config},
	{"PATCH", "vm", WHEN_AFTER, .body = &vm_body, .function = patch_vm},
	{"PUT", "actions", .body = &action_body, .function = put_action},
	{"GET", "", .exact = true, .function = get_instance},
};
const struct route_set instance_routes = {routes, ARRAY_SIZE(routes)};
