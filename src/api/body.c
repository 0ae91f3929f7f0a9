/* SPDX-License-Identifier: Apache-2.0 */
#include "api/body.h"

#include "machine/json_fault.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- text ---- */

/* Looked at before the parser, which goes down by recursion. */
static bool is_too_deep(const char *text, size_t length)
{
	unsigned depth = 0;
	bool quoted = false;

	for (size_t i = 0; i < length; i++) {
		if (quoted && text[i] == '\\')
			i++;
		else if (text[i] == '"')
			quoted = !quoted;
		else if (quoted)
			continue;
		else if (text[i] == '{' || text[i] == '[')
			depth++;
		else if ((text[i] == '}' || text[i] == ']') && depth)
			depth--;
		if (depth > BODY_DEPTH_MAX)
			return true;
	}
	return false;
}

int body_parse(json_t **value, const char *text, size_t length, struct error *err)
{
	json_error_t fault;

	if (is_too_deep(text, length))
		return error_set(err, EINVAL, "recursion limit exceeded");
	*value = json_loadb(text, length, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &fault);
	if (*value)
		return 0;
	return error_set(err, EINVAL, "%s at line %d column %d", json_fault_words(&fault),
		fault.line, fault.column > 0 ? fault.column : 0);
}

/* ---- values ---- */

static int wrong_type(const json_t *value, const char *wanted, struct error *err)
{
	switch (json_typeof(value)) {
	case JSON_STRING:
		return error_set(err, EINVAL, "invalid type: string \"%.64s\", expected %s",
			json_string_value(value), wanted);
	case JSON_INTEGER:
		return error_set(err, EINVAL,
			"invalid type: integer `%" JSON_INTEGER_FORMAT "`, expected %s",
			json_integer_value(value), wanted);
	case JSON_REAL:
		return error_set(err, EINVAL, "invalid type: floating point `%g`, expected %s",
			json_real_value(value), wanted);
	case JSON_TRUE:
	case JSON_FALSE:
		return error_set(err, EINVAL, "invalid type: boolean `%s`, expected %s",
			json_is_true(value) ? "true" : "false", wanted);
	case JSON_NULL:
		return error_set(err, EINVAL, "invalid type: null, expected %s", wanted);
	case JSON_OBJECT:
		return error_set(err, EINVAL, "invalid type: map, expected %s", wanted);
	case JSON_ARRAY:
		break;
	}
	return error_set(err, EINVAL, "invalid type: sequence, expected %s", wanted);
}

/* What Firecracker calls a number of that size. */
static const char *number_name(uint64_t most)
{
	return most <= UINT8_MAX    ? "u8"
	       : most <= UINT16_MAX ? "u16"
	       : most <= UINT32_MAX ? "u32"
				    : "u64";
}

static int read_number(const struct member *member, struct given_number *to, const json_t *value,
	struct error *err)
{
	json_int_t number = json_integer_value(value);

	if (!json_is_integer(value))
		return wrong_type(value, number_name(member->most), err);
	if (number < 0 || (uint64_t)number > member->most)
		return error_set(err, EINVAL,
			"invalid value: integer `%" JSON_INTEGER_FORMAT "`, expected %s", number,
			number_name(member->most));
	*to = (struct given_number){true, (uint64_t)number};
	return 0;
}

/* "`a`", "`a` or `b`", "one of `a`, `b`, `c`". */
struct list {
	char text[512];
	size_t used;
};

static void list_add(struct list *list, const char *name, unsigned index, unsigned count)
{
	const char *before = index == 0 ? (count > 2 ? "one of " : "") : count == 2 ? " or " : ", ";
	int more = snprintf(
		list->text + list->used, sizeof(list->text) - list->used, "%s`%s`", before, name);

	list->used += (size_t)more;
	if (list->used >= sizeof(list->text))
		list->used = sizeof(list->text) - 1;
}

static int read_word(
	const struct member *member, struct given_word *to, const json_t *value, struct error *err)
{
	const char *text = json_string_value(value);
	struct list list = {.text = ""};
	unsigned count = 0;

	if (!text)
		return wrong_type(value, "string or map", err);
	for (; member->words[count]; count++)
		if (strcmp(member->words[count], text) == 0) {
			*to = (struct given_word){true, count};
			return 0;
		}
	for (unsigned i = 0; i < count; i++)
		list_add(&list, member->words[i], i, count);
	return error_set(err, EINVAL, "unknown variant `%.64s`, expected %s", text, list.text);
}

static int read_member(
	const struct member *member, void *to, const json_t *value, struct error *err)
{
	switch (member->kind) {
	case MEMBER_NUMBER:
		return read_number(member, to, value, err);
	case MEMBER_WORD:
		return read_word(member, to, value, err);
	case MEMBER_SWITCH:
		if (!json_is_boolean(value))
			return wrong_type(value, "a boolean", err);
		*(struct given_switch *)to = (struct given_switch){true, json_is_true(value)};
		return 0;
	case MEMBER_TEXT:
		if (!json_is_string(value))
			return wrong_type(value, "a string", err);
		*(const char **)to = json_string_value(value);
		return 0;
	case MEMBER_STRUCT:
		if (body_read(member->body, to, value, err) < 0)
			return -EINVAL;
		*(bool *)to = true;
		return 0;
	case MEMBER_ANY:
		break;
	}
	*(const json_t **)to = value;
	return 0;
}

/* ---- the whole ---- */

static const struct member *find(const struct body *body, const char *name)
{
	for (unsigned i = 0; i < body->count; i++)
		if (strcmp(body->members[i].name, name) == 0)
			return &body->members[i];
	return NULL;
}

static int unknown(const struct body *body, const char *name, struct error *err)
{
	struct list list = {.text = ""};

	if (body->open)
		return 0;
	for (unsigned i = 0; i < body->count; i++)
		list_add(&list, body->members[i].name, i, body->count);
	return error_set(err, EINVAL, "unknown field `%.64s`, expected %s", name,
		body->count ? list.text : "there are no fields");
}

int body_read(const struct body *body, void *to, const json_t *value, struct error *err)
{
	char wanted[64];
	const char *name;
	json_t *item;

	memset(to, 0, body->size);
	snprintf(wanted, sizeof(wanted), "struct %s", body->name);
	if (!json_is_object(value))
		return wrong_type(value, wanted, err);
	json_object_foreach((json_t *)(uintptr_t)value, name, item)
	{
		const struct member *member = find(body, name);
		int ret;

		if (member && json_is_null(item) && !member->needed)
			continue;
		ret = member ? read_member(member, (char *)to + member->offset, item, err)
			     : unknown(body, name, err);
		if (ret < 0)
			return ret;
	}
	for (unsigned i = 0; i < body->count; i++)
		if (body->members[i].needed && !json_object_get(value, body->members[i].name))
			return error_set(err, EINVAL, "missing field `%s`", body->members[i].name);
	return 0;
}
