/* SPDX-License-Identifier: Apache-2.0 */
/* What is in the directory, and what the programs say that duetd runs. */
#include "duetd/plain.h"
#include "duetd/units.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX "duet@"
#define SUFFIX ".service"

bool unit_name_is_valid(const char *name)
{
	const size_t length = strlen(name);

	if (!length || length >= VIEW_NAME_MAX || *name == '.' || *name == '-')
		return false;
	for (; *name; name++)
		if (!isalnum((unsigned char)*name) && !strchr("-_.:@", *name))
			return false;
	return true;
}

/* ---- the directory ---- */

static bool take_file(struct unit *unit, const char *file)
{
	const size_t length = strlen(file), suffix = strlen(".json");

	if (length <= suffix || length - suffix >= sizeof(unit->name) ||
		strcmp(file + length - suffix, ".json") != 0)
		return false;
	*unit = (struct unit){0};
	memcpy(unit->name, file, length - suffix);
	return unit_name_is_valid(unit->name);
}

static int in_order(const void *a, const void *b)
{
	return strcmp(((const struct unit *)a)->name, ((const struct unit *)b)->name);
}

int units_read_directory(const char *path, struct unit *units, unsigned room)
{
	DIR *directory = opendir(path);
	const struct dirent *file;
	unsigned count = 0;
	bool more = false;
	struct unit unit;

	if (!directory)
		return -errno;
	while (!more && (file = readdir(directory))) {
		if (!take_file(&unit, file->d_name))
			continue;
		more = count == room;
		if (!more)
			units[count++] = unit;
	}
	closedir(directory);
	qsort(units, count, sizeof(*units), in_order);
	return (int)(count + more);
}

/* ---- systemctl show: NAME=VALUE, an empty line between two units ---- */

struct block {
	char id[VIEW_NAME_MAX + 16], state[16], result[24];
	bool at_boot;
};

static void copy(char *to, size_t room, const char *text, size_t length)
{
	snprintf(to, room, "%.*s", (int)(length < room ? length : room - 1), text);
	make_plain(to);
}

static bool takes(const char *line, const char *name)
{
	return strncmp(line, name, strlen(name)) == 0;
}

static void read_line(struct block *block, const char *line, size_t length)
{
	const char *value = memchr(line, '=', length);
	const size_t rest = value ? length - (size_t)(value + 1 - line) : 0;

	if (!value)
		return;
	value++;
	if (takes(line, "Id="))
		copy(block->id, sizeof(block->id), value, rest);
	else if (takes(line, "ActiveState="))
		copy(block->state, sizeof(block->state), value, rest);
	else if (takes(line, "Result="))
		copy(block->result, sizeof(block->result), value, rest);
	else if (takes(line, "UnitFileState="))
		block->at_boot = rest >= 7 && strncmp(value, "enabled", 7) == 0;
}

static int by_name(const void *name, const void *unit)
{
	return strcmp(name, ((const struct unit *)unit)->name);
}

static void end_block(struct unit *units, unsigned count, struct block *block)
{
	const size_t length = strlen(block->id);
	char name[VIEW_NAME_MAX];
	struct unit *unit;

	if (length <= strlen(PREFIX SUFFIX) || length - strlen(PREFIX SUFFIX) >= sizeof(name) ||
		!takes(block->id, PREFIX) ||
		strcmp(block->id + length - strlen(SUFFIX), SUFFIX) != 0)
		return;
	copy(name, sizeof(name), block->id + strlen(PREFIX), length - strlen(PREFIX SUFFIX));
	unit = bsearch(name, units, count, sizeof(*units), by_name);
	if (!unit)
		return;
	memcpy(unit->state, block->state, sizeof(unit->state));
	memcpy(unit->result, block->result, sizeof(unit->result));
	unit->at_boot = block->at_boot;
}

void units_read_show(struct unit *units, unsigned count, const char *text)
{
	struct block block = {0};

	while (*text) {
		const size_t length = strcspn(text, "\n");

		if (length) {
			read_line(&block, text, length);
		} else {
			end_block(units, count, &block);
			block = (struct block){0};
		}
		text += length + (text[length] == '\n');
	}
	end_block(units, count, &block);
}

/* ---- duet check ---- */

static bool is_ok(const struct unit *unit, const char *directory, const char *line, size_t length)
{
	char wanted[512];
	const int size = snprintf(wanted, sizeof(wanted), "%s/%s.json: ok", directory, unit->name);

	return size > 0 && (size_t)size == length && strncmp(line, wanted, length) == 0;
}

void units_read_check(struct unit *units, unsigned count, const char *directory, const char *text)
{
	for (unsigned i = 0; i < count; i++) {
		const size_t length = strcspn(text, "\n");

		if (!length)
			snprintf(units[i].fault, sizeof(units[i].fault),
				"duet check %s/%s.json said nothing of it", directory,
				units[i].name);
		else if (!is_ok(&units[i], directory, text, length))
			copy(units[i].fault, sizeof(units[i].fault), text, length);
		text += length + (text[length] == '\n');
	}
}
