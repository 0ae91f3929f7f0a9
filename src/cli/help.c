/* SPDX-License-Identifier: Apache-2.0 */
/* duet run --help */
#include "cli/options.h"
#include "cli/words.h"

#include <string.h>

#define COLUMN 24
#define WIDTH  80

static const char head[] = "Usage: duet run --kernel FILE [OPTION]...\n"
			   "       duet run --config FILE [OPTION]...\n"
			   "       duet run --restore DIR [OPTION]...\n"
			   "       duet run --incoming ADDRESS [OPTION]...\n"
			   "Runs one virtual machine on this terminal. Ctrl-A x ends it.\n";

static const char tail[] =
	"\n"
	"Exit status: 0 the guest powered off or was moved; 1 it could not be run;\n"
	"2 wrong command line or configuration; 3 the guest panicked or a vCPU shut\n"
	"down; 4 ended from outside.\n"
	"SIGTERM asks the guest to power off, a second one ends it.\n"
	"\n"
	"Examples\n"
	"  duet run --kernel /boot/vmlinuz --initrd /boot/initrd.img \\\n"
	"           --disk path=disk.img --net user --cmdline root=/dev/vda\n"
	"  duet run --kernel vmlinux --cpus 4 --memory 2G --net tap,ifname=tap0 \\\n"
	"           --disk path=disk.img,queues=4 --stats stats.json\n"
	"  duet run --kernel vmlinuz --pv -steal,-asyncpf\n"
	"  duet run --kernel vmlinuz --net tap,ifname=tap0,model=e1000 \\\n"
	"           --disk path=disk.img,model=ide --device vfio,host=0000:01:10.0\n"
	"  duet run --kernel vmlinuz --coop --pmu pv --api-sock vm.sock\n"
	"  duet run --kernel vmlinuz --net user --print-config >vm.json\n"
	"  duet run --config vm.json\n"
	"  duet run --restore monday --api-sock clone.sock\n"
	"  duet run --incoming unix:/tmp/move\n";

/* Words that follow each other in a column. */
struct column {
	FILE *file;
	unsigned at;
};

static void new_line(struct column *column)
{
	fprintf(column->file, "\n%*s", COLUMN, "");
	column->at = COLUMN;
}

static void put_words(struct column *column, const char *text)
{
	while (*text) {
		size_t length = strcspn(text, " \n");

		if (column->at > COLUMN && column->at + 1 + length >= WIDTH)
			new_line(column);
		if (column->at > COLUMN)
			column->at += (unsigned)fprintf(column->file, " ");
		column->at += (unsigned)fprintf(column->file, "%.*s", (int)length, text);
		text += length;
		if (*text == '\n')
			new_line(column);
		text += *text != 0;
	}
}

/* Not broken where it need not be. */
static void put_whole(struct column *column, const char *text)
{
	if (column->at > COLUMN && column->at + 1 + strlen(text) >= WIDTH)
		new_line(column);
	put_words(column, text);
}

static void put_field(FILE *file, const char *label, const struct field *field)
{
	struct column column = {.file = file};
	char buffer[WORDS_SIZE];

	column.at = (unsigned)fprintf(file, "%s%s", label, words_value(field, buffer));
	if (column.at > COLUMN - 2)
		new_line(&column);
	else
		column.at += (unsigned)fprintf(file, "%*s", (int)(COLUMN - column.at), "");
	put_words(&column, field->help);
	put_whole(&column, words_default(field, buffer));
	fputc('\n', file);
}

static void put_options(FILE *file, const struct field_set *set)
{
	char label[48];

	for (unsigned i = 0; i < set->count; i++) {
		if (set->fields[i].section)
			fprintf(file, "\n%s\n", set->fields[i].section);
		snprintf(label, sizeof(label), "  --%s ", set->fields[i].name);
		put_field(file, label, &set->fields[i]);
	}
}

static void put_parts(FILE *file, const struct field_set *set, bool first_word)
{
	char label[48];

	for (unsigned i = 0; i < set->count; i++) {
		snprintf(label, sizeof(label), "      %s=", set->fields[i].name);
		put_field(file, i == 0 && first_word ? "      " : label, &set->fields[i]);
	}
}

static void put_device(FILE *file, const struct device_type_info *type)
{
	fprintf(file, "\n  %s   %s%s\n", type->usage, type->help, type->most == 1 ? " (once)" : "");
	put_parts(file, &type->fields, type->first_word);
}

static void put_help(FILE *file)
{
	fputs(head, file);
	put_options(file, &machine_fields);
	fputs("\nEach of these may be given several times\n", file);
	for (unsigned i = 0; i < DEVICE_TYPES; i++)
		if (!device_types[i].automatic)
			put_device(file, &device_types[i]);
	fputs("\n  and in each of them\n", file);
	put_parts(file, &device_fields, false);
	put_options(file, &run_fields);
	fputs("  --print-config        print the configuration as JSON instead of running it\n",
		file);
	fputs(tail, file);
}

char *run_help(void)
{
	char *text = NULL;
	size_t length;
	FILE *file = open_memstream(&text, &length);

	if (!file)
		return NULL;
	put_help(file);
	fclose(file);
	return text;
}
