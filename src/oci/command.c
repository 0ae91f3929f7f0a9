/* SPDX-License-Identifier: Apache-2.0 */
/* What commands have in common. */
#include "oci/commands.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>

int next_option(
	int argc, char **argv, const char *letters, const struct option *known, struct error *err)
{
	int option;

	opterr = 0;
	option = getopt_long(argc, argv, letters, known, NULL);
	if (option == '?')
		error_set(err, EINVAL,
			"%s: unknown option, or one without its value; see duet-oci --help",
			argv[optind - 1]);
	return option;
}

const char *take_id(int argc, char **argv, int most, struct error *err)
{
	if (optind < argc && argc - optind <= most)
		return argv[optind];
	error_set(err, EINVAL, "%s: %s; see duet-oci --help", argv[0],
		optind < argc ? "too many arguments" : "name a container");
	return NULL;
}

int write_pid(const char *path, pid_t pid, struct error *err)
{
	char fresh[4096];
	FILE *file;
	bool bad;

	/* Whoever waits for it must not read half of it. */
	if (snprintf(fresh, sizeof(fresh), "%s.new", path) >= (int)sizeof(fresh))
		return error_set(err, ENAMETOOLONG, "--pid-file %s", path);
	file = fopen(fresh, "we");
	if (!file)
		return error_errno(err, errno, "--pid-file %s", path);
	fprintf(file, "%d", (int)pid);
	bad = fclose(file) != 0 || rename(fresh, path) < 0;
	return bad ? error_errno(err, errno, "--pid-file %s", path) : 0;
}
