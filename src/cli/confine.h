/* SPDX-License-Identifier: Apache-2.0 */
/* What a machine's process gives up when the machine starts (--sandbox): which files it needs later
 * on, by its configuration. Main thread. */
#ifndef DUET_CLI_CONFINE_H
#define DUET_CLI_CONFINE_H

#include "machine/config.h"

enum confine_choice {
	CONFINE_OFF,
	CONFINE_TRY, /* what this host can */
	CONFINE_ON,  /* all of it, or no machine */
};

struct confine {
	enum confine_choice choice;
	bool files;           /* no others than the configuration names; a client may name some */
	const char *allow;    /* directories by commas, and "tcp"; null: nothing */
	const char *api_sock; /* null: none */
	const char *incoming; /* a unix socket that the rest of memory may come by; null: none */
	const char *user;     /* UID[:GID] that the process becomes; null: nobody else */
	bool done;
};

/* Whether what was chosen makes sense. */
int confine_check(const struct confine *confine, struct error *err);
/* Whether it may call other hosts (--allow tcp, or no sandbox). */
bool confine_calls(const struct confine *confine);
/* Before the machine starts: all that its configuration names is open. Once, however often it is
 * called. */
int confine_process(
	struct confine *confine, const struct machine_config *config, struct error *err);
/* After it has started: this thread's system calls. */
void confine_main_thread(const struct confine *confine);

#endif
