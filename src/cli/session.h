/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine on a terminal: the process's loop, its signals and its terminal around one machine,
 * from the first instruction to the end. Main thread.
 */
#ifndef DUET_CLI_SESSION_H
#define DUET_CLI_SESSION_H

#include "cli/confine.h"
#include "cli/signals.h"
#include "cli/terminal.h"
#include "cli/vigil.h"
#include "machine/machine.h"

struct session {
	struct loop *loop;
	struct machine *machine; /* null: none yet */
	struct signals signals;
	struct vigil vigil;
	struct terminal terminal;
	struct confine confine;
	unsigned asked_to_end; /* signals that asked the guest to power off */
	int maps;              /* footprint_open() */
	int output;            /* where the guest's console goes */
	bool typing;           /* the machine was started: the terminal is the guest's */
	bool at_once;          /* the first signal that asks for the end ends it */
	int ended_by;          /* that signal's number; 0: none */
	bool ending;           /* the vigil is kept for its end at once */
	uint64_t killed;       /* clock_ns() of the signal that ended it at once; 0: none */
};

/* What log_set_patience() is to be before and after: at most this for each line. None while the
 * machine runs. */
#define SESSION_LOG_PATIENCE_MS 250

/* Makes the loop, and is busy. signals_block() was called. To be closed in any case. */
int session_open(struct session *session, struct error *err);
/* Makes the machine, which is configured then. */
int session_machine(
	struct session *session, const struct machine_config *config, struct error *err);
/* The loop will not take signals for a while: a machine is built. The first that asks for the end
 * ends the process, whatever that waits in; with @spare the second, and the first is taken later.
 * Until session_listens(), session_start(), or session_run(). */
int session_busy(struct session *session, bool spare, struct error *err);
void session_listens(struct session *session);
/* From the loop: this thread @begins to wait for storage, or has done so. The first signal
 * meanwhile is for it to take later; so is the second, if that is soon. */
void session_waits(struct session *session, bool begins);
/* The machine is built: confines the process, as session->confine says, and starts it, on this
 * terminal. From the loop, or by session_run(). */
int session_start(struct session *session, struct error *err);
/* Its two halves, for who has something to say in between: session_settle(), this thread's own
 * confinement and memory, follows in the same callback. */
int session_go(struct session *session, struct error *err);
void session_settle(struct session *session);
/* After a failure, before the machine was started: as if there had been none. */
void session_forget(struct session *session);
/* From the loop: as machine_starve(), and the process ends even if this thread waits in it. */
void session_starve(struct session *session, const char *why);
/* Starts the machine, when there is one that session_start() has not, and runs the loop until it
 * has ended, or until loop_stop(). */
int session_run(struct session *session, struct error *err);
void session_close(struct session *session);

/* The process's exit status for how the machine ended; what there is to say goes to @err. */
int session_status(const struct session *session, struct error *err);

#endif
