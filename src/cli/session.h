/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine on a terminal: the process's loop, its signals and its terminal around one machine,
 * from the first instruction to the end. Main thread.
 */
#ifndef DUET_CLI_SESSION_H
#define DUET_CLI_SESSION_H

#include "cli/signals.h"
#include "cli/terminal.h"
#include "machine/machine.h"

struct session {
	struct loop *loop;
	struct machine *machine;
	struct signals signals;
	struct terminal terminal;
	unsigned asked_to_end; /* signals that asked the guest to power off */
	bool typing;           /* the terminal is the guest's */
};

/* What log_set_patience() is to be before and after: at most this for each line. None while the
 * machine runs. */
#define SESSION_LOG_PATIENCE_MS 250

/* Makes the loop and the machine, which is configured then. signals_block() was called. To be
 * closed in any case. */
int session_open(struct session *session, const struct machine_config *config, struct error *err);
/* Runs the machine, which is built, until it has ended, or until loop_stop(). */
int session_run(struct session *session, struct error *err);
void session_close(struct session *session);

/* The process's exit status for how the machine ended; what there is to say goes to @err. */
int session_status(const struct session *session, struct error *err);

#endif
