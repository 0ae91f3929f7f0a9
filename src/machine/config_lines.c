/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/config_lines.h"

#include <stdbool.h>
#include <string.h>

/* Where one is in the text. At its end every character is 0. */
struct cursor {
	const char *at, *end;
	unsigned line;
};

static char here(const struct cursor *cursor)
{
	return cursor->at < cursor->end ? *cursor->at : 0;
}

static void step(struct cursor *cursor)
{
	if (cursor->at == cursor->end)
		return;
	cursor->line += *cursor->at == '\n';
	cursor->at++;
}

/* Space, and the commas and colons between values. */
static void skip_between(struct cursor *cursor)
{
	while (here(cursor) && strchr(" \t\r\n,:", here(cursor)))
		step(cursor);
}

static void skip_string(struct cursor *cursor)
{
	step(cursor);
	while (cursor->at < cursor->end && here(cursor) != '"') {
		if (here(cursor) == '\\')
			step(cursor);
		step(cursor);
	}
	step(cursor);
}

static void skip_value(struct cursor *cursor)
{
	unsigned depth = 0;

	do {
		char c = here(cursor);

		if (c == '"') {
			skip_string(cursor);
			continue;
		}
		if (depth == 0 && (c == ',' || c == '}' || c == ']'))
			return;
		if (c == '{' || c == '[')
			depth++;
		if (c == '}' || c == ']')
			depth--;
		step(cursor);
	} while (cursor->at < cursor->end && (depth || !strchr(" \t\r\n,}]", here(cursor))));
}

/* Inside an object: goes to the value of its member @name; @line: of the name. */
static bool find_member(struct cursor *cursor, const char *name, unsigned *line)
{
	if (here(cursor) != '{')
		return false;
	step(cursor);
	for (skip_between(cursor); here(cursor) == '"'; skip_between(cursor)) {
		const char *key = cursor->at + 1;
		size_t length;

		*line = cursor->line;
		skip_string(cursor);
		length = (size_t)(cursor->at - key);
		skip_between(cursor);
		if (length && length - 1 == strlen(name) && memcmp(key, name, length - 1) == 0)
			return true;
		skip_value(cursor);
	}
	return false;
}

static struct config_place place_of(const struct cursor *cursor, const char *text)
{
	return (struct config_place){.offset = (size_t)(cursor->at - text), .line = cursor->line};
}

static struct cursor begin(const char *text, size_t length, const struct config_place *place)
{
	return (struct cursor){
		.at = text + place->offset, .end = text + length, .line = place->line};
}

struct config_place config_place(const char *text, size_t length)
{
	struct cursor cursor = begin(text, length, &(struct config_place){.line = 1});

	skip_between(&cursor);
	return place_of(&cursor, text);
}

struct config_place config_place_of_device(const char *text, size_t length, unsigned index)
{
	struct config_place whole = config_place(text, length);
	struct cursor cursor = begin(text, length, &whole);
	unsigned line;

	if (!find_member(&cursor, "devices", &line) || here(&cursor) != '[')
		return whole;
	step(&cursor);
	for (skip_between(&cursor); index-- > 0; skip_between(&cursor))
		skip_value(&cursor);
	return place_of(&cursor, text);
}

unsigned config_line(
	const char *text, size_t length, const struct config_place *place, const char *field)
{
	struct cursor cursor = begin(text, length, place);
	unsigned line;

	return find_member(&cursor, field, &line) ? line : place->line;
}
