/* SPDX-License-Identifier: Apache-2.0 */
#include "api_rig.h"

#include "answer_log.h"
#include "base/checked.h"
#include "base/log.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void answered(struct exchange *exchange, unsigned status, const char *type, char *body)
{
	struct api_rig *rig = container_of(exchange, struct api_rig, exchange);

	answer_log(&rig->asked, status, type, body);
	rig->status = status;
	rig->answers++;
	free(rig->body);
	rig->body = body;
}

static int start(void *opaque, struct error *err)
{
	struct api_rig *rig = opaque;

	rig->starts++;
	return error_set(err, ENOENT, "/dev/kvm: No such file");
}

void rig_runs(struct api_rig *rig)
{
	api_machine_begin(&rig->config);
	api_set_machine(rig->api, api_machine());
}

int rig_make(void **state)
{
	struct api_rig *rig = calloc(1, sizeof(*rig));
	struct api_options options = {.config = &rig->config, .start = start, .opaque = rig};

	fake = (struct api_machine){0};
	log_set_level(LOG_LEVEL_ERROR);
	rig->exchange.answer = answered;
	machine_config_init(&rig->config);
	assert_int_equal(loop_new(&rig->loop, 16, NULL), 0);
	api_machine_outputs(&options);
	options.loop = rig->loop;
	assert_int_equal(api_new(&rig->api, &options, NULL), 0);
	*state = rig;
	return 0;
}

int rig_drop(void **state)
{
	struct api_rig *rig = *state;

	api_free(rig->api);
	loop_free(rig->loop);
	machine_config_free(&rig->config);
	free(rig->body);
	free(rig);
	return 0;
}

void rig_ask_later(struct api_rig *rig, const char *method, const char *path, const char *body)
{
	rig->asked = (struct request){
		.method = method, .path = path, .body = body, .length = strlen(body)};
	api_handle(rig->api, &rig->asked, &rig->exchange);
}

void rig_ask(struct api_rig *rig, const char *method, const char *path, const char *body)
{
	unsigned before = rig->answers;

	rig_ask_later(rig, method, path, body);
	assert_int_equal(rig->answers, before + 1);
}

void rig_done(struct api_rig *rig, const char *method, const char *path, const char *body)
{
	rig_ask(rig, method, path, body);
	if (rig->status != 204)
		fail_msg("%s %s: %u %s", method, path, rig->status, rig->body);
	assert_null(rig->body);
}

void rig_gives(struct api_rig *rig, const char *path, const char *expected)
{
	rig_ask(rig, "GET", path, "");
	assert_int_equal(rig->status, 200);
	assert_string_equal(rig->body, expected);
}

void rig_refused(struct api_rig *rig, const char *method, const char *path, const char *body,
	const char *message)
{
	char expected[1024];

	rig_ask(rig, method, path, body);
	snprintf(expected, sizeof(expected), "{\"fault_message\":\"%s\"}", message);
	assert_int_equal(rig->status, 400);
	assert_string_equal(rig->body, expected);
}
