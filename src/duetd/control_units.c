/* SPDX-License-Identifier: Apache-2.0 */
/* Machines of /etc/duet: told when a program has ended. */
#include "base/log.h"
#include "duetd/control_private.h"

#include <stdlib.h>
#include <string.h>

static json_t *unit_json(const struct unit *unit)
{
	json_t *object = json_pack("{s:s, s:b}", "name", unit->name, "at_boot", (int)unit->at_boot);

	if (unit->state[0])
		json_object_set_new(object, "state", json_string(unit->state));
	if (strcmp(unit->state, "failed") == 0 && unit->result[0])
		json_object_set_new(object, "result", json_string(unit->result));
	if (unit->fault[0])
		json_object_set_new(object, "fault", json_string(unit->fault));
	return object;
}

static void listed(void *opaque, const struct units_result *result)
{
	struct exchange *exchange = opaque;
	json_t *object, *array = json_array();

	for (unsigned i = 0; i < result->count; i++)
		json_array_append_new(array, unit_json(&result->units[i]));
	object = json_pack("{s:o}", "machines", array);
	/* What is known is told, beside what could not be found out. */
	if (result->why[0])
		json_object_set_new(object, "fault", json_string(result->why));
	control_answer(exchange, 200, object);
}

void control_get_machines(
	struct manager *manager, const struct request *request, struct exchange *exchange)
{
	units_list(manager->units, listed, exchange);
}

static void ordered(void *opaque, const struct units_result *result)
{
	struct exchange *exchange = opaque;

	if (result->status < 300)
		exchange->answer(exchange, result->status, EXCHANGE_JSON, NULL);
	else
		control_refuse(exchange, result->status, result->why);
}

void control_put_machine(
	struct manager *manager, const struct request *request, struct exchange *exchange)
{
	const char *name = request->path + strlen("/machines/");
	json_t *body = json_loads(request->body, 0, NULL);
	const char *action = json_string_value(json_object_get(body, "action"));
	const bool start = action && strcmp(action, "start") == 0;

	if (!start && (!action || strcmp(action, "stop") != 0)) {
		control_refuse(exchange, 400, "the body is to be {\"action\": \"start\"} or stop");
	} else if (!start) {
		log_info("%s: told to stop", name);
		units_stop(manager->units, name, ordered, exchange);
	} else {
		log_info("%s: told to start", name);
		units_start(manager->units, name, ordered, exchange);
	}
	json_decref(body);
}
