/* SPDX-License-Identifier: Apache-2.0 */
/* Requests before the start, one a line: method, path and body apart by a blank. Each is answered
 * once, in JSON or without a body. */
#include "api/api.h"
#include "base/checked.h"
#include "base/log.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct rig {
	struct exchange exchange;
	unsigned answers;
};

static void answered(struct exchange *exchange, unsigned status, const char *type, char *body)
{
	json_t *value = body ? json_loads(body, JSON_DECODE_ANY, NULL) : NULL;

	container_of(exchange, struct rig, exchange)->answers++;
	if ((status == 204) != !body || (body && !value) || status == 500)
		abort();
	json_decref(value);
	free(body);
}

static int start(void *opaque, struct error *err)
{
	return machine_config_complete(opaque, err) < 0 ? -1 : error_set(err, 1, "no");
}

static int restore(void *opaque, const struct snapshot *snapshot, struct error *err)
{
	return error_set(err, 1, "no");
}

static void ask(struct api *api, char *line)
{
	const char *method = strsep(&line, " "), *path = line ? strsep(&line, " ") : "";
	struct request request = {.method = method, .path = path, .body = line ? line : ""};
	struct rig rig = {.exchange.answer = answered};

	request.length = strlen(request.body);
	api_handle(api, &request, &rig.exchange);
	if (rig.answers != 1)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct machine_config config;
	struct api_options options = {
		.config = &config, .start = start, .restore = restore, .opaque = &config};
	char *text = strndup((const char *)data, size), *rest = text;
	struct api *api;

	log_set_level(LOG_LEVEL_ERROR);
	machine_config_init(&config);
	if (!text || api_new(&api, &options, NULL) < 0)
		abort();
	while (rest)
		ask(api, strsep(&rest, "\n"));
	free(api_metrics(api));
	api_free(api);
	machine_config_free(&config);
	free(text);
	return 0;
}
