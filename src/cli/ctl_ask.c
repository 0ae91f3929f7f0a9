/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/ctl_ask.h"

#include <errno.h>
#include <string.h>

#define ANSWER_MAX  (1U << 20)
#define PATIENCE_MS 30000

const char *ctl_why(const json_t *body, const struct http_answer *answer)
{
	const char *why = json_string_value(json_object_get(body, "fault_message"));

	/* Of the HTTP server itself. */
	if (!why)
		why = json_string_value(json_object_get(body, "error"));
	if (!why)
		why = *answer->body && !strchr(answer->body, '<') ? answer->body
								  : "the request is not understood";
	return why;
}

static int read_answer(const struct http_answer *answer, json_t **json, struct error *err)
{
	json_t *body = json_loads(answer->body, 0, NULL);
	const char *why = ctl_why(body, answer);
	int ret = 0;

	if (answer->status < 200 || answer->status >= 300)
		ret = error_set(err, EPROTO, "refused (%u): %.*s", answer->status,
			(int)strcspn(why, "\r\n"), why);
	if (ret == 0 && json && !body)
		ret = error_set(err, EPROTO, "an answer that is no JSON");
	if (ret == 0 && json)
		*json = body;
	else
		json_decref(body);
	return ret;
}

int ctl_ask(const char *socket, const char *method, const char *path, const char *body,
	json_t **json, struct error *err)
{
	const struct http_ask question = {.socket = socket,
		.method = method,
		.path = path,
		.body = body,
		.answer_max = ANSWER_MAX};
	struct http_question *asked = NULL;
	struct http_answer answer;
	int ret = http_question_open(&asked, &question, err);

	if (json)
		*json = NULL;
	if (ret == 0)
		ret = http_question_finish(asked, PATIENCE_MS, &answer, err);
	if (ret == 0)
		ret = read_answer(&answer, json, err);
	http_question_close(asked);
	return ret;
}
