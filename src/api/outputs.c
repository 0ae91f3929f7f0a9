/* SPDX-License-Identifier: Apache-2.0 */
/* Where log, metrics and the guest's console go; and the random number device. */
#include "api/private.h"
#include "base/checked.h"
#include "base/log.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

struct fields {
	const char *path, *level, *module;
	struct given_switch show_level, show_origin;
	struct given_limiter limiter;
	const json_t *serial_limiter;
};

#define IN(member) offsetof(struct fields, member)
static const struct member logger_members[] = {
	{.name = "log_path", .kind = MEMBER_TEXT, .offset = IN(path)},
	{.name = "level", .kind = MEMBER_TEXT, .offset = IN(level)},
	{.name = "show_level", .kind = MEMBER_SWITCH, .offset = IN(show_level)},
	{.name = "show_log_origin", .kind = MEMBER_SWITCH, .offset = IN(show_origin)},
	{.name = "module", .kind = MEMBER_TEXT, .offset = IN(module)},
};
static const struct member metrics_members[] = {
	{.name = "metrics_path", .kind = MEMBER_TEXT, .needed = true, .offset = IN(path)},
};
static const struct member serial_members[] = {
	{.name = "serial_out_path", .kind = MEMBER_TEXT, .offset = IN(path)},
	{.name = "rate_limiter", .kind = MEMBER_ANY, .offset = IN(serial_limiter)},
};
static const struct member entropy_members[] = {
	{.name = "rate_limiter",
		.kind = MEMBER_STRUCT,
		.offset = IN(limiter),
		.body = &limiter_body},
};
static const struct body logger_body = BODY("LoggerConfig", logger_members, fields);
static const struct body metrics_body = BODY("MetricsConfig", metrics_members, fields);
static const struct body serial_body = BODY("SerialConfig", serial_members, fields);
static const struct body entropy_body = BODY("EntropyDeviceConfig", entropy_members, fields);

const char *api_log_level(const char *name)
{
	static const struct {
		const char *name, *level;
	} levels[] = {{"Off", "error"}, {"Error", "error"}, {"Warning", "warning"},
		{"Warn", "warning"}, {"Info", "info"}, {"Debug", "debug"}, {"Trace", "debug"}};

	for (unsigned i = 0; i < ARRAY_SIZE(levels); i++)
		if (strcasecmp(levels[i].name, name) == 0)
			return levels[i].level;
	return NULL;
}

static int find_level(const char *name, const char **level, struct error *err)
{
	*level = name ? api_log_level(name) : NULL;
	if (!name || *level)
		return 0;
	return error_set(err, EINVAL,
		"An error occurred when deserializing the json body of a request: unknown variant "
		"`%.64s`, expected one of `Off`, `Trace`, `Debug`, `Info`, `Warn`, `Error`.",
		name);
}

/* A level is wrong before the state is. */
static int check_logger(struct call *call)
{
	const struct fields *fields = call->fields;
	const char *level;

	return find_level(fields->level, &level, &call->err);
}

/* What is taken, as clients give it, and makes no difference. */
static void warn_logger(const struct fields *fields)
{
	if (fields->show_level.given && !fields->show_level.value)
		log_warning("logger: show_level is not heeded: each line has its level");
	if (fields->show_origin.value)
		log_warning("logger: show_log_origin is not heeded: lines do not name the source");
	if (fields->module)
		log_warning("logger: module is not heeded: lines of all parts are written");
}

static int put_logger(struct call *call)
{
	const struct api_options *options = &call->api->options;
	const struct fields *fields = call->fields;
	const char *level;
	int ret = find_level(fields->level, &level, &call->err);

	if (ret < 0)
		return ret;
	warn_logger(fields);
	if (!options->log_to)
		return error_set(&call->err, ENOTSUP, "Logger error: the log stays where it is.");
	return options->log_to(options->opaque, fields->path, level, &call->err) < 0
		       ? error_prefix(&call->err, "Logger error: ")
		       : 0;
}

static int put_metrics(struct call *call)
{
	const struct api_options *options = &call->api->options;
	const struct fields *fields = call->fields;

	if (!options->metrics_to)
		return error_set(
			&call->err, ENOTSUP, "Metrics error: they cannot be written here.");
	return options->metrics_to(options->opaque, fields->path, &call->err) < 0
		       ? error_prefix(&call->err, "Metrics error: ")
		       : 0;
}

static int put_serial(struct call *call)
{
	const struct api_options *options = &call->api->options;
	const struct fields *fields = call->fields;

	if (fields->serial_limiter)
		return error_set(&call->err, ENOTSUP,
			"Serial error: rate_limiter: the console's output is not limited; leave it "
			"out, and read a FIFO as fast as you like.");
	if (!fields->path)
		return 0;
	if (!options->serial_to)
		return error_set(
			&call->err, ENOTSUP, "Serial error: the console stays where it is.");
	return options->serial_to(options->opaque, fields->path, &call->err) < 0
		       ? error_prefix(&call->err, "Serial error: ")
		       : 0;
}

static int limit_entropy(
	struct machine_config *config, const struct given_limiter *limiter, struct error *err)
{
	static const char bandwidth[] = "entropy-bw", ops[] = "entropy-ops";

	return limiter_take_fields(limiter,
		field_find(&machine_fields, bandwidth, strlen(bandwidth)),
		field_find(&machine_fields, ops, strlen(ops)), config, err);
}

/* What was said of it before is replaced, or stays when this is refused. */
static int put_entropy(struct call *call)
{
	const struct fields *fields = call->fields;
	struct machine_config *config = call->api->options.config;
	const struct bucket_limit bandwidth = config->entropy_bw, ops = config->entropy_ops;

	config->entropy_bw = config->entropy_ops = (struct bucket_limit){0};
	if (limit_entropy(config, &fields->limiter, &call->err) < 0) {
		config->entropy_bw = bandwidth;
		config->entropy_ops = ops;
		return error_prefix(&call->err, "Entropy device error: ");
	}
	config->entropy = true;
	return 0;
}

static const struct route routes[] = {
	{"PUT", "logger", WHEN_BEFORE, .body = &logger_body, .check = check_logger,
		.function = put_logger},
	{"PUT", "metrics", WHEN_BEFORE, .body = &metrics_body, .function = put_metrics},
	{"PUT", "serial", WHEN_BEFORE, .body = &serial_body, .function = put_serial},
	{"PUT", "entropy", WHEN_BEFORE, .body = &entropy_body, .function = put_entropy},
};
const struct route_set output_routes = {routes, ARRAY_SIZE(routes)};
