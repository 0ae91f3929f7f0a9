/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of `duet run`, by the table of a machine's fields (machine/fields.h). */
#ifndef DUET_CLI_OPTIONS_H
#define DUET_CLI_OPTIONS_H

#include "base/log.h"
#include "cli/confine.h"
#include "machine/fields.h"

#include <stdbool.h>

struct run_options {
	/* Complete; with @restore only its @stats, with @incoming what it says of places. */
	struct machine_config config;
	enum log_level log;
	char *from;         /* --config */
	char *api_sock;     /* null: no API */
	char *restore;      /* a snapshot's directory; null: it starts */
	char *restore_taps; /* "net0=tap7,..." */
	bool track_dirty;
	char *incoming;        /* the address where a machine comes; null: it is made here */
	char *cert, *key, *ca; /* of TLS, for what comes */
	bool plain;            /* it may come from another host without TLS */
	enum confine_choice sandbox;
	char *allow;       /* with the sandbox: what a client may name besides */
	char *user;        /* null: who started it */
	bool print_config; /* ... as JSON instead of running it */
	bool help;
};

/* Those that are no part of a machine, in struct run_options. */
extern const struct field_set run_fields;

/* @args: after "run", @count of them. -EINVAL with one line that names the option and the remedy;
 * *@options is to be freed all the same. */
int run_options_parse(
	struct run_options *options, unsigned count, const char *const *args, struct error *err);
void run_options_free(struct run_options *options);

/* What one reads with --help. Null: no memory; the caller's. */
char *run_help(void);

#endif
