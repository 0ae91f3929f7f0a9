/* SPDX-License-Identifier: Apache-2.0 */
/* A machine of a snapshot on a terminal (duet run --restore). Main thread. */
#ifndef DUET_CLI_RESTORE_H
#define DUET_CLI_RESTORE_H

#include "cli/options.h"
#include "cli/session.h"
#include "snapshot/read.h"

/* Opens what --restore names; the configuration becomes its, but for --stats and --restore-taps.
 * @snapshot is to be closed in any case. */
int restore_open(struct snapshot *snapshot, struct run_options *options, struct error *err);
/* As session_machine() and machine_build(). */
int restore_machine(struct session *session, const struct machine_config *config,
	const struct snapshot *snapshot, struct error *err);

#endif
