/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/node.h"

#include "base/cleanup.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct node node_member(const struct node *up, const char *name)
{
	return (struct node){.json = up->json ? json_object_get(up->json, name) : NULL,
		.up = up,
		.name = name,
		.err = up->err};
}

struct node node_item(const struct node *up, size_t index)
{
	return (struct node){.json = up->json ? json_array_get(up->json, index) : NULL,
		.up = up,
		.index = index,
		.err = up->err};
}

bool node_is(const struct node *node)
{
	return node->json && !json_is_null(node->json);
}

/* "config.json: linux.devices[3]"; what does not fit is left out. */
static void write_way(const struct node *node, char *way, size_t room)
{
	size_t length;

	if (!node->up) {
		snprintf(way, room, "%s", node->name);
		return;
	}
	write_way(node->up, way, room);
	length = strlen(way);
	if (node->name)
		snprintf(
			way + length, room - length, "%s%s", node->up->up ? "." : ": ", node->name);
	else
		snprintf(way + length, room - length, "[%zu]", node->index);
}

int node_bad(const struct node *node, const char *format, ...)
{
	char way[192], words[512];
	va_list args;

	write_way(node, way, sizeof(way));
	va_start(args, format);
	vsnprintf(words, sizeof(words), format, args);
	va_end(args);
	return error_set(node->err, EINVAL, "%s: %s", way, words);
}

int node_no_memory(const struct node *node)
{
	return node_bad(node, "there is no memory");
}

int node_must(const struct node *node)
{
	return node_is(node) ? 0 : node_bad(node, "is missing");
}

int node_object(const struct node *node)
{
	return !node_is(node) || json_is_object(node->json) ? 0 : node_bad(node, "is no object");
}

int node_array(const struct node *node)
{
	return !node_is(node) || json_is_array(node->json) ? 0 : node_bad(node, "is no array");
}

size_t node_count(const struct node *node)
{
	return json_array_size(node->json);
}

int node_each(const struct node *all, node_take take, void *opaque)
{
	int ret = node_array(all);

	for (size_t i = 0; ret == 0 && i < node_count(all); i++) {
		const struct node item = node_item(all, i);

		ret = node_must(&item) ?: take(opaque, &item);
	}
	return ret;
}

int node_each_member(const struct node *all, node_take take, void *opaque)
{
	json_t *object = (json_t *)(uintptr_t)all->json;
	int ret = node_object(all);

	for (void *at = json_object_iter(object); ret == 0 && at;
		at = json_object_iter_next(object, at)) {
		const struct node node = node_member(all, json_object_iter_key(at));

		ret = take(opaque, &node);
	}
	return ret;
}

const char *node_word(const struct node *node)
{
	const char *text = json_string_value(node->json);

	return text && strlen(text) == json_string_length(node->json) ? text : NULL;
}

int node_text(const struct node *node, char **text)
{
	if (!node_is(node))
		return 0;
	if (!node_word(node))
		return node_bad(node, "is no text");
	free(*text);
	*text = strdup(node_word(node));
	return *text ? 0 : node_no_memory(node);
}

static int add_word(void *opaque, const struct node *item)
{
	if (!node_word(item))
		return node_bad(item, "is no text");
	if (strlen(node_word(item)) >= WIRE_TEXT_MAX)
		return node_bad(item, "is longer than Linux takes it");
	return texts_add(opaque, node_word(item)) < 0 ? node_no_memory(item) : 0;
}

int node_texts(const struct node *node, struct texts *texts)
{
	if (node_count(node) > WIRE_TEXTS_MAX)
		return node_bad(node, "has more than %d elements", WIRE_TEXTS_MAX);
	return node_each(node, add_word, texts);
}

int node_i64(const struct node *node, int64_t *number)
{
	if (!node_is(node))
		return 0;
	if (!json_is_integer(node->json))
		return node_bad(node, "is no whole number");
	*number = json_integer_value(node->json);
	return 0;
}

int node_u64(const struct node *node, uint64_t least, uint64_t most, uint64_t *number)
{
	const uint64_t value = (uint64_t)json_integer_value(node->json);

	if (!node_is(node))
		return 0;
	if (!json_is_integer(node->json) || json_integer_value(node->json) < 0)
		return node_bad(node, "is no whole number from 0 on");
	if (value < least || value > most)
		return node_bad(node, "%llu is not in [%llu, %llu]", (unsigned long long)value,
			(unsigned long long)least, (unsigned long long)most);
	*number = value;
	return 0;
}

int node_u32(const struct node *node, uint32_t *number)
{
	uint64_t value = *number;
	int ret = node_u64(node, 0, UINT32_MAX, &value);

	*number = (uint32_t)value;
	return ret;
}

int node_bool(const struct node *node, bool *value)
{
	if (!node_is(node))
		return 0;
	if (!json_is_boolean(node->json))
		return node_bad(node, "is neither true nor false");
	*value = json_is_true(node->json);
	return 0;
}

/* Whole numbers that jansson has no room for become INT64_MAX, and blanks. */
static void clip_numbers(char *text, size_t length)
{
	static const char most[] = "9223372036854775807";
	const size_t digits = sizeof(most) - 1;
	bool quoted = false;
	size_t run;

	for (size_t i = 0; i < length; i += run) {
		run = 0;
		while (!quoted && i + run < length && isdigit((unsigned char)text[i + run]))
			run++;
		/* A fraction or exponent makes it another kind of number. */
		if ((run > digits || (run == digits && memcmp(text + i, most, digits) > 0)) &&
			(i + run == length || !strchr(".eE", text[i + run]))) {
			memcpy(text + i, most, digits);
			memset(text + i + digits, ' ', run - digits);
		}
		if (run)
			continue;
		if (text[i] == '"')
			quoted = !quoted;
		/* What is behind a backslash ends no string. */
		run = quoted && text[i] == '\\' ? 2 : 1;
	}
}

static json_t *parse_copy(const char *name, const char *text, size_t length, struct error *err)
{
	json_error_t what;
	json_t *json = json_loadb(text, length, JSON_REJECT_DUPLICATES, &what);

	if (!json)
		error_set(err, EINVAL, "%s:%d: %s", name, what.line, what.text);
	return json;
}

json_t *node_parse(const char *name, const char *text, size_t length, struct error *err)
{
	_cleanup_free_ char *copy = malloc(length + 1);
	json_t *json;

	if (!copy) {
		error_set(err, ENOMEM, "%s: there is no memory", name);
		return NULL;
	}
	memcpy(copy, text, length);
	copy[length] = 0;
	clip_numbers(copy, length);
	json = parse_copy(name, copy, length, err);
	if (!json || json_is_object(json))
		return json;
	json_decref(json);
	error_set(err, EINVAL, "%s: is no object", name);
	return NULL;
}
