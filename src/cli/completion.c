/* SPDX-License-Identifier: Apache-2.0 */
/* A completion for bash: options, their words, and the parts of a device's option. */
#include "cli/options.h"
#include "cli/words.h"
#include "x86/cpu.h"

#include <string.h>

/* Bash breaks words at '=', so a value's word does not hold its name. */
static const char head[] =
	"# Completion of duet's command line for bash.\n"
	"_duet_words() { mapfile -t COMPREPLY < <(compgen -W \"$1\" -P \"$2\" -- \"$3\"); }\n"
	"# A list with commas: what is behind the last one, with or without a hyphen. $2: alone.\n"
	"_duet_list()\n"
	"{\n"
	"\tlocal words=$1 last=${3##*,} sign=\n"
	"\tcase $last in -*) sign=- ;; esac\n"
	"\tcase $3 in -* | *,*) ;; *) words=\"$words $2\" ;; esac\n"
	"\tcompopt -o nospace\n"
	"\t_duet_words \"$words\" \"${3%\"$last\"}$sign\" \"${last#-}\"\n"
	"}\n"
	"_duet_files() { compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- \"$1\"); }\n"
	"_duet_value()\n"
	"{\n"
	"\tcase $1 in\n";

static const char middle[] = "\t*) COMPREPLY=() ;;\n"
			     "\tesac\n"
			     "}\n"
			     "_duet_parts()\n"
			     "{\n"
			     "\tcase $1 in\n";

static const char tail[] =
	"_duet()\n"
	"{\n"
	"\tlocal word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}\n"
	"\tlocal at=$COMP_CWORD option= first=\n"
	"\tif [ \"$COMP_CWORD\" -eq 1 ]; then\n"
	"\t\t_duet_words \"run check ctl snapshot doctor help version\" \"\" \"$word\"\n"
	"\t\treturn\n"
	"\tfi\n"
	"\tif [ \"${COMP_WORDS[1]}\" = help ]; then\n"
	"\t\t_duet_words \"run check ctl snapshot doctor\" \"\" \"$word\"\n"
	"\t\treturn\n"
	"\tfi\n"
	"\tif [ \"${COMP_WORDS[1]}\" = doctor ]; then\n"
	"\t\t_duet_words \"--json --help\" \"\" \"$word\"\n"
	"\t\treturn\n"
	"\tfi\n"
	"\tif [ \"${COMP_WORDS[1]}\" = check ]; then\n"
	"\t\t_duet_files \"$word\"\n"
	"\t\treturn\n"
	"\tfi\n"
	"\tcase ${COMP_WORDS[1]}:$COMP_CWORD in\n"
	"\tsnapshot:2) _duet_words \"merge check\" \"\" \"$word\" ;;\n"
	"\tsnapshot:*) _duet_files \"$word\" ;;\n"
	"\tctl:2) _duet_files \"$word\" ;;\n"
	"\tctl:3) _duet_words \"status alive pause resume stats metrics hints sharing balloon "
	"snapshot "
	"devices jobs cancel limit policy unplug migrate get put patch post delete\" \"\" "
	"\"$word\" ;;\n"
	"\tctl:4) case ${COMP_WORDS[3]} in\n"
	"\t\tsharing) _duet_words \"off hinted blind\" \"\" \"$word\" ;;\n"
	"\t\thints) _duet_words \"share locality\" \"\" \"$word\" ;;\n"
	"\t\talive | snapshot) _duet_files \"$word\" ;; esac ;;\n"
	"\tctl:*) case ${COMP_WORDS[3]}:${COMP_WORDS[COMP_CWORD - 1]} in\n"
	"\t\tsnapshot:*) _duet_words --diff \"\" \"$word\" ;;\n"
	"\t\tpolicy:*) compopt -o nospace\n"
	"\t\t\t_duet_words \"mac-check= ip= rules= rules-default=\" \"\" \"$word\" ;;\n"
	"\t\tmigrate:--cert | migrate:--key | migrate:--ca) _duet_files \"$word\" ;;\n"
	"\t\tmigrate:*) _duet_words \"--downtime --streams --compress --force --post-copy --wait "
	"--unplug --plain --cert --key --ca\" "
	"\"\" \"$word\" ;; esac ;;\n"
	"\tesac\n"
	"\t[ \"${COMP_WORDS[1]}\" = run ] || return 0\n"
	"\twhile [ \"$at\" -gt 2 ] && [ -z \"$option\" ]; do\n"
	"\t\tat=$((at - 1))\n"
	"\t\tcase ${COMP_WORDS[at]} in --*) option=${COMP_WORDS[at]} ;; esac\n"
	"\tdone\n"
	"\tif [ \"$word\" = = ]; then before='='; word=; fi\n"
	"\tcase $word:$option:$before in\n"
	"\t*:--pv:--pv | *:--pv:=) _duet_value --pv \"$word\" ;;\n"
	"\t-*:* | *:*:--print-config | *:*:--help) _duet_words \"$_duet_options\" \"\" \"$word\" "
	";;\n"
	"\t*:*:--net | *:*:--device) first=.first ;;&\n"
	"\t*,*:--disk:* | *,*:--net:* | *,*:--device:* | *,*:--balloon:* | *,*:--vsock:* | "
	"*,*:--coop:* | *:*:--disk | *:*:--net | *:*:--device | *:*:--balloon | *:*:--vsock | "
	"*:*:--coop)\n"
	"\t\tlocal done=${word%\"${word##*,}\"}\n"
	"\t\t[ -n \"$done\" ] && first=\n"
	"\t\tcompopt -o nospace\n"
	"\t\t_duet_words \"$(_duet_parts \"$option$first\")\" \"$done\" \"${word##*,}\" ;;\n"
	"\t*:--disk:= | *:--net:= | *:--device:= | *:--balloon:= | *:--vsock:= | "
	"*:--coop:=)\n"
	"\t\tat=${COMP_WORDS[COMP_CWORD - 1]}\n"
	"\t\t[ \"$at\" = = ] && at=${COMP_WORDS[COMP_CWORD - 2]}\n"
	"\t\t_duet_value \"$option.${at##*,}\" \"$word\" ;;\n"
	"\t*:*:\"$option\" | *:*:=) _duet_value \"$option\" \"$word\" ;;\n"
	"\t*) _duet_words \"$_duet_options\" \"\" \"$word\" ;;\n"
	"\tesac\n"
	"}\n"
	"complete -F _duet duet\n";

static void put_list(FILE *file)
{
	char names[80];

	pv_format(PV_ALL, names, sizeof(names));
	for (char *at = names; *at; at++)
		if (*at == ',')
			*at = ' ';
	fprintf(file, "\t--pv) _duet_list \"%s\" none \"$2\" ;;\n", names);
}

static void put_value(FILE *file, const char *option, const char *dot, const struct field *field)
{
	bool rules = field->kind == FIELD_RULES;
	bool named = rules || (field->kind == FIELD_TEXT && field->value);

	if (field->kind == FIELD_PV)
		put_list(file);
	if (field->kind != FIELD_WORD && field->kind != FIELD_SWITCH && !named)
		return;
	if (named && !rules && strcmp(field->value, "FILE") != 0 &&
		strcmp(field->value, "PROGRAM") != 0 && strcmp(field->value, "PATH") != 0 &&
		strncmp(field->value, "DIR", 3) != 0)
		return;
	fprintf(file, "\t%s%s%s) ", option, dot, field->name);
	if (named) {
		fputs("_duet_files \"$2\" ;;\n", file);
		return;
	}
	fputs("_duet_words \"", file);
	if (field->kind == FIELD_SWITCH)
		fputs("on off", file);
	for (unsigned i = 0; field->kind == FIELD_WORD && field->words[i]; i++)
		fprintf(file, "%s%s", i ? " " : "", field->words[i]);
	fputs("\" \"\" \"$2\" ;;\n", file);
}

/* "--device vfio" completes as --device. */
static void put_option_of(const struct device_type_info *type, char option[16])
{
	snprintf(option, 16, "%.*s", (int)strcspn(type->option, " "), type->option);
}

static void put_values(FILE *file)
{
	char option[16];

	for (unsigned i = 0; i < machine_fields.count; i++)
		put_value(file, "--", "", &machine_fields.fields[i]);
	for (unsigned i = 0; i < run_fields.count; i++)
		put_value(file, "--", "", &run_fields.fields[i]);
	for (unsigned i = 0; i < DEVICE_TYPES; i++) {
		if (device_types[i].automatic)
			continue;
		put_option_of(&device_types[i], option);
		for (unsigned k = 0; k < device_types[i].fields.count; k++)
			put_value(file, option, ".", &device_types[i].fields.fields[k]);
	}
}

/* What stands before the first comma and has no name. */
static void put_first(FILE *file, const struct device_type_info *type)
{
	char option[16];

	put_option_of(type, option);
	fprintf(file, "\t%s.first) echo \"", option);
	if (strchr(type->option, ' '))
		fprintf(file, "%s,", type->name);
	for (unsigned i = 0; type->first_word && type->fields.fields[0].words[i]; i++)
		fprintf(file, "%s%s,", i ? " " : "", type->fields.fields[0].words[i]);
	fputs("\" ;;&\n", file);
}

static void put_parts(FILE *file, const struct device_type_info *type)
{
	const struct field_set *set = &type->fields;
	char option[16];

	put_option_of(type, option);
	if (type->first_word || strchr(type->option, ' '))
		put_first(file, type);
	fprintf(file, "\t%s) echo \"", option);
	for (unsigned i = type->first_word; i < set->count; i++)
		fprintf(file, "%s= ", set->fields[i].name);
	for (unsigned i = 0; i < device_fields.count; i++)
		fprintf(file, "%s%s=", i ? " " : "", device_fields.fields[i].name);
	fputs("\" ;;&\n", file);
}

static void put_names(FILE *file, const struct field_set *set)
{
	for (unsigned i = 0; i < set->count; i++)
		fprintf(file, " --%s", set->fields[i].name);
}

void completion_write(FILE *file)
{
	fputs(head, file);
	put_values(file);
	fputs(middle, file);
	for (unsigned i = 0; i < DEVICE_TYPES; i++)
		if (!device_types[i].automatic)
			put_parts(file, &device_types[i]);
	fputs("\tesac\n}\n_duet_options=\"--help --print-config --disk --net --device --balloon "
	      "--vsock --coop",
		file);
	put_names(file, &machine_fields);
	put_names(file, &run_fields);
	fputs("\"\n", file);
	fputs(tail, file);
}
