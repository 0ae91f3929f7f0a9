/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests, one a line: method, path and body apart by a blank; and lines by which the machine,
 * which is none, does what it was asked for (events[]). Each request is answered once, in JSON or
 * text or without a body, before the API is gone.
 */
#include "api/api.h"
#include "api_machine.h"
#include "base/checked.h"
#include "base/log.h"
#include "virtio/devices.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define VCPUS 32 /* as many as the API gives a machine */

static struct {
	struct machine_config config;
	struct api *api;
	struct loop *loop;
	struct device *cooperation;
	unsigned waiting;
} fuzz;

/* ---- the API and its client ---- */

static void answered(struct exchange *exchange, unsigned status, const char *type, char *body)
{
	bool is_json = strcmp(type, EXCHANGE_JSON) == 0;
	json_t *value = body && is_json ? json_loads(body, JSON_DECODE_ANY, NULL) : NULL;

	fuzz.waiting--;
	if ((status != 200 && status != 204 && status != 400) || (status == 204) != !body ||
		(body && is_json && !value))
		abort();
	json_decref(value);
	free(body);
	free(exchange);
}

static void ask(char *line)
{
	const char *method = strsep(&line, " "), *path = line ? strsep(&line, " ") : "";
	struct request request = {.method = method, .path = path, .body = line ? line : ""};
	struct exchange *exchange = malloc(sizeof(*exchange));

	if (!exchange)
		abort();
	exchange->answer = answered;
	request.length = strlen(request.body);
	fuzz.waiting++;
	api_handle(fuzz.api, &request, exchange);
}

/* ---- the machine ---- */

static int start(void *opaque, struct error *err)
{
	if (machine_config_complete(&fuzz.config, err) < 0)
		return -EINVAL;
	api_machine_begin(&fuzz.config);
	fake.no_balloon = !machine_config_device(&fuzz.config, DEVICE_BALLOON, 0);
	fake.cooperation = fuzz.cooperation;
	api_set_machine(fuzz.api, api_machine());
	return 0;
}

static int restore(void *opaque, const struct snapshot *snapshot, struct error *err)
{
	return error_set(err, 1, "no");
}

static void run(void)
{
	if (!fake.config)
		start(NULL, NULL);
}

static void end(void)
{
	if (fake.state != MACHINE_RUNNING && fake.state != MACHINE_PAUSED)
		return;
	api_machine_end();
	api_set_machine(fuzz.api, NULL);
}

static void pause_comes(void)
{
	api_machine_end_pause(0);
}

static void no_pause_comes(void)
{
	api_machine_end_pause(-ETIMEDOUT);
}

static void hints_come(void)
{
	api_machine_end_hints(0);
}

static void no_hints_come(void)
{
	api_machine_end_hints(-ETIMEDOUT);
}

static void taken(void)
{
	api_machine_end_take(0);
}

static void not_taken(void)
{
	api_machine_end_take(-ENOSPC);
}

static void stop(struct loop_timer *timer)
{
	loop_stop(fuzz.loop);
}

/* What is due. */
static void turn(void)
{
	struct loop_timer timer = {.expired = stop};

	loop_timer_after(fuzz.loop, &timer, 0);
	if (loop_run(fuzz.loop) < 0)
		abort();
}

static void (*const events[])(void) = {['r'] = run,
	['e'] = end,
	['p'] = pause_comes,
	['P'] = no_pause_comes,
	['h'] = hints_come,
	['H'] = no_hints_come,
	['s'] = taken,
	['S'] = not_taken,
	['t'] = turn};

static void one_line(char *line)
{
	const unsigned event = line[0] == '+' ? (unsigned char)line[1] : 0;

	if (event && event < ARRAY_SIZE(events) && events[event] && !line[2])
		events[event]();
	else
		ask(line);
}

/* What is the same for all inputs. */
static void prepare(void)
{
	static const struct virtio_coop_host_ops no_host = {0};
	static struct virtio_coop_host host = {.ops = &no_host};
	const struct virtio_coop_options options = {.host = &host, .vcpus = VCPUS, .hints = true};

	if (fuzz.loop)
		return;
	log_set_level(LOG_LEVEL_ERROR);
	if (loop_new(&fuzz.loop, 16, NULL) < 0 ||
		virtio_coop_new(&fuzz.cooperation, "coop0", &options, NULL) < 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct api_options options = {.config = &fuzz.config, .start = start, .restore = restore};
	char *text = strndup((const char *)data, size), *rest = text;

	prepare();
	api_machine_outputs(&options);
	options.loop = fuzz.loop;
	fake = (struct api_machine){0};
	machine_config_init(&fuzz.config);
	if (!text || api_new(&fuzz.api, &options, NULL) < 0)
		abort();
	while (rest)
		one_line(strsep(&rest, "\n"));
	free(api_metrics(fuzz.api));
	end();
	api_free(fuzz.api);
	if (fuzz.waiting)
		abort();
	machine_config_free(&fuzz.config);
	free(text);
	return 0;
}
