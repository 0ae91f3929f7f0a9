/* SPDX-License-Identifier: Apache-2.0 */
#include "base/checked.h"
#include "duetd/dashboard_private.h"
#include "http/client.h"

#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_MAX  (16U << 20)
#define PATIENCE_NS (4 * 1000000000ULL)

struct asking {
	struct loop *loop;
	char *socket;
	struct passed *passed;
};

/* A question that is under way, for somebody who waits. */
struct passed {
	struct passed *next;
	struct asking *asking; /* null: it is over */
	struct exchange *exchange;
	struct http_question *question;
	struct loop_watch watch;
	struct loop_timer patience;
};

void asking_refuse(struct exchange *exchange, unsigned status, const char *why)
{
	json_t *json = json_pack("{s:s}", "fault_message", why);
	char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;

	json_decref(json);
	exchange->answer(exchange, status, EXCHANGE_JSON, text);
}

struct asking *asking_new(struct loop *loop, const char *socket)
{
	struct asking *asking = calloc(1, sizeof(*asking));

	if (!asking)
		return NULL;
	asking->loop = loop;
	asking->socket = strdup(socket);
	if (asking->socket)
		return asking;
	free(asking);
	return NULL;
}

static void free_passed(struct loop_watch *watch)
{
	free(container_of(watch, struct passed, watch));
}

/* The exchange was answered. */
static void end(struct passed *passed)
{
	struct passed **at = &passed->asking->passed;

	while (*at != passed)
		at = &(*at)->next;
	*at = passed->next;
	passed->asking = NULL;
	loop_timer_stop(&passed->patience);
	loop_unwatch(&passed->watch, free_passed);
	http_question_close(passed->question);
}

void asking_free(struct asking *asking)
{
	if (!asking)
		return;
	while (asking->passed) {
		asking_refuse(asking->passed->exchange, 503, "the dashboard ends");
		end(asking->passed);
	}
	free(asking->socket);
	free(asking);
}

static void ready(struct loop_watch *watch, uint32_t events)
{
	struct passed *passed = container_of(watch, struct passed, watch);
	struct http_answer answer;
	struct error err = {0};
	int ret;

	if (!passed->asking)
		return;
	ret = http_question_go_on(passed->question, &answer, &err);
	if (ret > 0)
		return;
	if (ret < 0)
		asking_refuse(passed->exchange, 502, err.text);
	else
		passed->exchange->answer(
			passed->exchange, answer.status, EXCHANGE_JSON, strdup(answer.body));
	end(passed);
}

static void patience_over(struct loop_timer *timer)
{
	struct passed *passed = container_of(timer, struct passed, patience);

	asking_refuse(passed->exchange, 504, "no answer for some seconds: it hangs, or is stopped");
	end(passed);
}

static int open_question(
	struct passed *passed, const struct asking *asking, const char *path, struct error *err)
{
	const struct http_ask ask = {
		.socket = asking->socket, .method = "GET", .path = path, .answer_max = ANSWER_MAX};

	return http_question_open(&passed->question, &ask, err);
}

void asking_pass(struct asking *asking, const char *path, struct exchange *exchange)
{
	struct passed *passed = calloc(1, sizeof(*passed));
	struct error err = {.text = "no memory"};

	if (!passed || open_question(passed, asking, path, &err) < 0) {
		free(passed);
		asking_refuse(exchange, 502, err.text);
		return;
	}
	passed->asking = asking;
	passed->exchange = exchange;
	passed->next = asking->passed;
	asking->passed = passed;
	passed->patience.expired = patience_over;
	loop_timer_after(asking->loop, &passed->patience, PATIENCE_NS);
	loop_watch(asking->loop, &passed->watch, http_question_fd(passed->question),
		POLLIN | POLLOUT, ready);
}
