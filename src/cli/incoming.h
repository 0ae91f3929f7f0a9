/* SPDX-License-Identifier: Apache-2.0 */
/* duet run --incoming: waits for a machine that comes from another process, and runs it. Main
 * thread. */
#ifndef DUET_CLI_INCOMING_H
#define DUET_CLI_INCOMING_H

#include "cli/api_session.h"
#include "cli/options.h"
#include "cli/session.h"

struct incoming;

/* Listens, with @session open, and waits on a thread of its own. What the options say of devices is
 * where they are on this host. To be closed in any case. */
int incoming_open(struct incoming **incoming, struct session *session, struct api_session *api,
	struct run_options *options, struct error *err);
/* Behind session_run(): 0 when a machine came, else why none did. */
int incoming_result(const struct incoming *incoming, struct error *err);
/* Before the API and the session are closed. Null is allowed. */
void incoming_close(struct incoming *incoming);

#endif
