/* SPDX-License-Identifier: Apache-2.0 */
/* Any text as what systemctl and duet check print: each unit keeps plain, bounded words. */
#include "duetd/units.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT 3

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "fuzz_units: %s\n", what);
	abort();
}

static void check_words(const char *text, size_t room)
{
	must(strnlen(text, room) < room, "words without an end");
	for (; *text; text++)
		must(*text >= ' ' && *text <= '~', "words that are not plain");
}

static void check(const struct unit *units)
{
	static const char *const names[COUNT] = {"a", "db-1", "web"};

	for (unsigned i = 0; i < COUNT; i++) {
		must(strcmp(units[i].name, names[i]) == 0, "another name");
		check_words(units[i].state, sizeof(units[i].state));
		check_words(units[i].result, sizeof(units[i].result));
		check_words(units[i].fault, sizeof(units[i].fault));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct unit units[COUNT] = {{.name = "a"}, {.name = "db-1"}, {.name = "web"}};
	char *text = strndup((const char *)data, size);

	if (!text)
		return 0;
	units_read_show(units, COUNT, text);
	check(units);
	units_read_check(units, COUNT, "/etc/duet", text);
	check(units);
	must(!unit_name_is_valid(text) || (strlen(text) < VIEW_NAME_MAX && !strchr(text, '/')),
		"a name that is a path");
	free(text);
	return 0;
}
