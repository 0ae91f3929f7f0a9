/* SPDX-License-Identifier: Apache-2.0 */
/* From a request to the function of its resource, and from what that says to an answer. */
#include "api/private.h"
#include "base/checked.h"
#include "migrate/migrate.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOKENS_MAX 5

/* The parts of a path between slashes; what is beyond TOKENS_MAX is only counted. */
struct path {
	struct {
		const char *at;
		size_t length;
	} tokens[TOKENS_MAX];
	unsigned count;
};

const struct route_set *const route_sets[ROUTE_SETS] = {&instance_routes, &machine_config_routes,
	&boot_routes, &drive_routes, &net_routes, &balloon_routes, &output_routes, &vsock_routes,
	&absent_routes, &duet_routes, &hints_routes, &job_routes, &brief_routes, &lease_routes,
	&snapshot_routes, &snapshot_load_routes, &place_routes, &sharing_routes, &migration_routes};

/* ---- answers ---- */

/* Parts of a message are a client's, and may have been cut in the middle of a character. */
static json_t *text_json(const char *text)
{
	json_t *value = json_string(text);
	char copy[sizeof(((struct error *)0)->text)];

	if (value)
		return value;
	snprintf(copy, sizeof(copy), "%s", text);
	for (char *at = copy; *at; at++)
		if (*at & 0x80)
			*at = '?';
	return json_string(copy);
}

void api_answer_json(struct exchange *exchange, unsigned status, json_t *body)
{
	char *text = body ? json_dumps(body, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;

	if (body && !text)
		status = 500;
	json_decref(body);
	exchange->answer(exchange, status, EXCHANGE_JSON, text);
}

void api_answer_fault(struct exchange *exchange, const char *message)
{
	api_answer_json(exchange, 400, json_pack("{s:o}", "fault_message", text_json(message)));
}

static void answer(struct call *call, int result)
{
	if (result == CALL_LATER)
		return;
	if (result < 0)
		api_answer_fault(call->exchange, call->err.text);
	else
		api_answer_json(call->exchange, call->reply ? 200 : 204, json_incref(call->reply));
	json_decref(call->reply);
}

/* ---- which route ---- */

static void split(struct path *path, const char *text)
{
	path->count = 0;
	text += strspn(text, "/");
	while (*text) {
		size_t length = strcspn(text, "/");

		if (path->count < TOKENS_MAX) {
			path->tokens[path->count].at = text;
			path->tokens[path->count].length = length;
		}
		path->count++;
		text += length;
		text += *text == '/';
	}
}

static bool token_is(const struct path *path, unsigned index, const char *text, size_t length)
{
	if (index >= path->count || index >= TOKENS_MAX)
		return false;
	return path->tokens[index].length == length &&
	       memcmp(path->tokens[index].at, text, length) == 0;
}

/* @id: the token's number that {} stands for. */
static bool matches(const struct route *route, const struct path *path, int *id)
{
	const char *at = route->pattern;
	unsigned index = 0;

	*id = -1;
	for (; *at; index++) {
		size_t length = strcspn(at, "/");
		bool any = length == 2 && at[0] == '{';

		if (any)
			*id = (int)index;
		else if (!token_is(path, index, at, length))
			return false;
		at += length;
		at += *at == '/';
	}
	return !route->exact || path->count == index;
}

static const struct route *find_route(const char *method, const struct path *path, int *id)
{
	for (unsigned i = 0; i < ROUTE_SETS; i++)
		for (unsigned n = 0; n < route_sets[i]->count; n++) {
			const struct route *route = &route_sets[i]->routes[n];

			if (strcmp(route->method, method) == 0 && matches(route, path, id))
				return route;
		}
	return NULL;
}

static int no_route(const struct request *request, const struct path *path, struct error *err)
{
	return error_set(err, EINVAL, "Invalid request method and/or path: %.16s %.*s.",
		request->method, path->count ? (int)min_u64(path->tokens[0].length, 256) : 0,
		path->count ? path->tokens[0].at : "");
}

static int check_length(const struct route *route, const struct request *request, struct error *err)
{
	bool put = strcmp(request->method, "PUT") == 0,
	     patch = strcmp(request->method, "PATCH") == 0;

	if (request->length && strcmp(request->method, "GET") == 0)
		return error_set(err, EINVAL, "GET request cannot have a body.");
	if (request->length || (route && route->bare) || !(put || patch))
		return 0;
	return error_set(err, EINVAL, "Empty %s request.", request->method);
}

/* ---- what it is given ---- */

static int check_id(const struct route *route, const char *id, struct error *err)
{
	static const char allowed[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";

	if (!route->resource)
		return 0;
	if (!*id)
		return error_set(err, EINVAL, "The ID cannot be empty.");
	if (id[strspn(id, allowed)])
		return error_set(err, EINVAL,
			"API Resource IDs can only contain alphanumeric characters and "
			"underscores.");
	return 0;
}

/* Line and column of what ends the body, where a field that is missing is missed. */
static void put_end(const struct request *request, struct error *err)
{
	size_t end = request->length, used = strlen(err->text), column = 0;
	unsigned line = 1;

	if (strncmp(err->text, "missing field", strlen("missing field")) != 0)
		return;
	while (end && strchr(" \t\r\n", request->body[end - 1]))
		end--;
	for (size_t i = 0; i < end; i++) {
		line += request->body[i] == '\n';
		column = request->body[i] == '\n' ? 0 : column + 1;
	}
	snprintf(
		err->text + used, sizeof(err->text) - used, " at line %u column %zu", line, column);
}

static int read_body(const struct route *route, const struct request *request, json_t **json,
	void *fields, struct error *err)
{
	int ret = body_parse(json, request->body, request->length, err);
	size_t used;

	if (ret == 0 && route->body)
		ret = body_read(route->body, fields, *json, err);
	if (ret == 0)
		return 0;
	put_end(request, err);
	used = strlen(err->text);
	snprintf(err->text + used, sizeof(err->text) - used, ".");
	return error_prefix(
		err, "An error occurred when deserializing the json body of a request: ");
}

static int check_state(const struct route *route, const struct api *api, struct error *err)
{
	if (!api->started && !api->options.start)
		return error_set(err, EBUSY, API_COMES);
	if (route->when == WHEN_BEFORE && api->started)
		return error_set(err, EINVAL,
			"The requested operation is not supported after starting the microVM.");
	if (route->when == WHEN_AFTER && !api->started)
		return error_set(err, EINVAL,
			"The requested operation is not supported before starting the microVM.");
	if (route->when == WHEN_AFTER && !api->machine)
		return error_set(err, EINVAL, "The machine has ended.");
	return 0;
}

static int run(const struct route *route, struct call *call)
{
	int ret = route->check ? route->check(call) : 0;

	if (ret == 0)
		ret = check_state(route, call->api, &call->err);
	return ret == 0 ? route->function(call) : ret;
}

static int call_route(const struct route *route, const struct request *request, struct call *call)
{
	_Alignas(8) char fields[REQUEST_FIELDS] = "";
	json_t *json = NULL;
	int ret = check_id(route, call->id, &call->err);

	call->fields = route->body ? fields : NULL;
	if (ret == 0 && request->length)
		ret = read_body(route, request, &json, fields, &call->err);
	call->json = json;
	if (ret == 0)
		ret = run(route, call);
	json_decref(json);
	call->fields = NULL;
	call->json = NULL;
	return ret;
}

void api_handle(struct api *api, const struct request *request, struct exchange *exchange)
{
	struct call call = {.api = api, .exchange = exchange};
	const struct route *route;
	struct path path;
	char text[256] = "";
	int ret, id;

	split(&path, request->path);
	route = find_route(request->method, &path, &id);
	if (route && id >= 0 && id < TOKENS_MAX && (unsigned)id < path.count)
		snprintf(text, sizeof(text), "%.*s",
			(int)min_u64(path.tokens[id].length, sizeof(text)), path.tokens[id].at);
	call.id = text;
	ret = check_length(route, request, &call.err);
	if (ret == 0)
		ret = route ? call_route(route, request, &call)
			    : no_route(request, &path, &call.err);
	answer(&call, ret);
}

/* ---- its life ---- */

static void paused(struct machine_pause *pause, int result, const char *why)
{
	struct api *api = container_of(pause, struct api, pause);

	api->pausing = false;
	for (unsigned i = 0; i < api->waiter_count; i++)
		if (result == 0)
			api_answer_json(api->waiters[i], 204, NULL);
		else
			api_answer_fault(api->waiters[i], why);
	api->waiter_count = 0;
}

int api_new(struct api **api, const struct api_options *options, struct error *err)
{
	struct api *made = calloc(1, sizeof(*made));

	if (!made)
		return error_errno(err, ENOMEM, "--api-sock");
	made->options = *options;
	made->pause.done = paused;
	lease_init(made);
	sharing_lease_init(made);
	if (!made->options.id)
		made->options.id = API_ID;
	if (options->start) {
		options->config->cpus = 1;
		options->config->memory = 128ULL << 20;
		options->config->entropy = false;
		options->config->on_reset = RESET_EXIT;
	}
	*api = made;
	return 0;
}

void api_set_machine(struct api *api, struct machine *machine)
{
	if (api->machine && !machine) {
		migration_free(api->migration);
		api->migration = NULL;
		jobs_ended(api);
		lease_end(api);
		snapshot_track_end(&api->track);
		place_forget(api);
		sharing_lease_end(api);
		if (api->pausing)
			paused(&api->pause, -ECANCELED, "the machine has ended");
	}
	api->machine = machine;
	api->started = api->started || machine;
}

void api_free(struct api *api)
{
	if (!api)
		return;
	api_set_machine(api, NULL);
	jobs_free(api);
	place_forget(api);
	for (unsigned i = 0; i < api->drive_count; i++)
		free(api->drives[i].partuuid);
	free(api->boot_args);
	json_decref(api->told);
	free(api);
}

int api_track(struct api *api, const struct snapshot_id *parent, struct error *err)
{
	api->track.wanted = true;
	return parent ? snapshot_track_begin(&api->track, api->machine, parent, err) : 0;
}

const struct machine_config *api_config(const struct api *api)
{
	return api->machine ? machine_config(api->machine) : api->options.config;
}

int api_device(struct device_config **device, struct machine_config *config, enum device_type type,
	const char *id, struct error *err)
{
	const struct field *field = field_find(&device_fields, "id", 2);
	char checked[sizeof(**device)];
	int ret = field_from_text(field, checked, id, "id", err);

	if (ret < 0)
		return ret;
	*device = machine_config_find(config, id);
	if (*device && (*device)->type != type)
		return error_set(err, EINVAL, "the id %s is that of another device", id);
	if (*device)
		return 0;
	if (config->device_count == MACHINE_DEVICES_MAX)
		return error_set(err, EINVAL, "more than %d devices", MACHINE_DEVICES_MAX);
	*device = machine_config_add(config, type);
	if (!*device)
		return error_errno(err, ENOMEM, "%s", id);
	return api_set(*device, "id", id, err);
}

int api_set(struct device_config *device, const char *field, const char *text, struct error *err)
{
	return field_from_text(
		device_field_find(device->type, field, strlen(field)), device, text, field, err);
}

int api_copy(struct device_config *copy, const struct device_config *device, struct error *err)
{
	*copy = *device;
	if (fields_own(&device_types[copy->type].fields, copy) == 0)
		return 0;
	api_drop(copy);
	return error_errno(err, ENOMEM, "%s", device->id);
}

void api_keep(struct device_config *device, struct device_config *copy)
{
	api_drop(device);
	*device = *copy;
}

void api_drop(struct device_config *copy)
{
	fields_free(&device_types[copy->type].fields, copy);
}
