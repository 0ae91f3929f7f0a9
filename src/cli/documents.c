/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program of the build's: writes what is made of the table of options.
 *
 *   documents man duet.1.in    the manual page, the options put in at the line @OPTIONS@
 *   documents bash             the completion
 */
#include "cli/words.h"

#include <stdlib.h>
#include <string.h>

static int write_man(const char *path)
{
	FILE *file = fopen(path, "r");
	char line[1024];

	if (!file) {
		perror(path);
		return 1;
	}
	while (fgets(line, sizeof(line), file)) {
		if (strcmp(line, "@OPTIONS@\n") == 0)
			man_write(stdout);
		else
			fputs(line, stdout);
	}
	fclose(file);
	return 0;
}

static int write_one(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "man") == 0)
		return write_man(argv[2]);
	if (argc != 2 || strcmp(argv[1], "bash") != 0)
		return 2;
	completion_write(stdout);
	return 0;
}

int main(int argc, char **argv)
{
	int status = write_one(argc, argv);

	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	perror("standard output");
	return 1;
}
