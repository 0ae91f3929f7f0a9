/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line of `duet run`. The strings in the configuration point into a copy of the
 * arguments that the struct run_options owns.
 */
#ifndef DUET_CLI_OPTIONS_H
#define DUET_CLI_OPTIONS_H

#include "base/log.h"
#include "machine/config.h"

#include <stdbool.h>

struct run_options {
	struct machine_config config;
	enum log_level log;
	bool help;
	char **copies; /* of the arguments with sub-options, cut up */
	unsigned copy_count;
};

/* @args: after "run", @count of them; @cache: the default of --cache, may be null. -EINVAL with one
 * line that names the option and the remedy. */
int run_options_parse(struct run_options *options, unsigned count, const char *const *args,
	const char *cache, struct error *err);
void run_options_free(struct run_options *options);

extern const char run_help[];

#endif
