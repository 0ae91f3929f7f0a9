/* SPDX-License-Identifier: Apache-2.0 */
/* The sections with options of duet(1), in man(7)'s language. */
#include "cli/options.h"
#include "cli/words.h"

#include <string.h>

/* Hyphens stay what they are, and nothing at a line's begin is a request. */
static void put(FILE *file, const char *text)
{
	for (; *text; text++) {
		if (*text == '-' || *text == '\\')
			fprintf(file, "\\%c", *text == '-' ? '-' : 'e');
		else
			fputc(*text == '\n' ? ' ' : *text, file);
	}
}

static void put_field(FILE *file, const char *before, const char *after, const struct field *field)
{
	char buffer[WORDS_SIZE];

	fputs(".TP\n.BI \"", file);
	put(file, before);
	put(file, *before || *after ? field->name : "");
	put(file, after);
	fputs("\" \"", file);
	put(file, words_value(field, buffer));
	fputs("\"\n", file);
	put(file, field->help);
	if (*words_default(field, buffer)) {
		fputc(' ', file);
		put(file, buffer);
	}
	fputs(".\n", file);
}

static void put_options(FILE *file, const struct field_set *set)
{
	for (unsigned i = 0; i < set->count; i++) {
		if (set->fields[i].section)
			fprintf(file, ".SS %s\n", set->fields[i].section);
		put_field(file, "--", " ", &set->fields[i]);
	}
}

static void put_parts(FILE *file, const struct field_set *set, bool first_word)
{
	fputs(".RS\n", file);
	for (unsigned i = 0; i < set->count; i++)
		put_field(file, "", i == 0 && first_word ? "" : "=", &set->fields[i]);
	fputs(".RE\n", file);
}

void man_write(FILE *file)
{
	put_options(file, &machine_fields);
	fputs(".SS Several of each\n", file);
	for (unsigned i = 0; i < DEVICE_TYPES; i++) {
		if (device_types[i].automatic)
			continue;
		fputs(".TP\n.B \"", file);
		put(file, device_types[i].usage);
		fprintf(file, "\"\n%s; at most %u.\n", device_types[i].help, device_types[i].most);
		put_parts(file, &device_types[i].fields, device_types[i].first_word);
	}
	fputs(".TP\n.B in each of them\n", file);
	put_parts(file, &device_fields, false);
	put_options(file, &run_fields);
	fputs(".TP\n.B \\-\\-print\\-config\nPrint the configuration as JSON instead of running "
	      "it.\n",
		file);
}
