/* SPDX-License-Identifier: Apache-2.0 */
#include "duetctl/ask.h"
#include "http/client.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define ANSWER_MAX  (64U << 20) /* thousands of VMs */
#define PATIENCE_MS 30000

/* 0: @answer is there. */
static int wait_for(struct http_question *question, struct http_answer *answer, struct error *err)
{
	int ret = http_question_finish(question, PATIENCE_MS, answer, err);

	if (ret == -ETIMEDOUT)
		error_set(err, ETIMEDOUT, "duetd has not answered for %u s; is it stopped?",
			PATIENCE_MS / 1000);
	return ret;
}

static json_t *take(const struct http_answer *answer, struct error *err)
{
	json_t *json = answer->length ? json_loads(answer->body, 0, NULL) : json_null();
	const char *why = json_string_value(json_object_get(json, "fault_message"));

	if (answer->status < 300 && json)
		return json;
	error_set(err, EINVAL, "%s", why ? why : "its answer makes no sense: is that a duetd?");
	json_decref(json);
	return NULL;
}

json_t *ask(const char *socket, const char *method, const char *path, const char *body,
	struct error *err)
{
	const struct http_ask what = {.socket = socket,
		.method = method,
		.path = path,
		.body = body,
		.answer_max = ANSWER_MAX};
	struct http_question *question = NULL;
	struct http_answer answer;
	json_t *json = NULL;
	int ret = http_question_open(&question, &what, err);

	if (ret == -EACCES)
		error_set(err, EACCES, "%s: it is for the user alone who runs duetd; ask as root",
			socket);
	else if (ret < 0)
		error_set(err, -ret,
			"%s: no duetd answers there (%s); start it (systemctl start duetd), or "
			"name its socket by --socket",
			socket, strerror(-ret));
	else if (wait_for(question, &answer, err) == 0)
		json = take(&answer, err);
	http_question_close(question);
	return json;
}
