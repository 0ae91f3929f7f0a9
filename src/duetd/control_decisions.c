/* SPDX-License-Identifier: Apache-2.0 */
#include "duetd/control_private.h"

static json_t *decision_json(const struct decision *decision)
{
	json_t *object = json_pack("{s:I, s:I, s:i, s:s, s:s}", "first_ms",
		(json_int_t)decision->first, "last_ms", (json_int_t)decision->last, "times",
		(int)decision->times, "vm", decision->vm, "words", decision->words);

	if (decision->mechanism < MECHANISMS)
		json_object_set_new(
			object, "mechanism", json_string(mechanism_name(decision->mechanism)));
	return object;
}

void control_get_decisions(
	struct manager *manager, const struct request *request, struct exchange *exchange)
{
	const struct decision *decision;
	json_t *array = json_array();

	for (unsigned i = 0; (decision = decisions_nth(manager->noted, i)); i++)
		json_array_append_new(array, decision_json(decision));
	control_answer(exchange, 200, array);
}
