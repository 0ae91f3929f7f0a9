/* SPDX-License-Identifier: Apache-2.0 */
/* duetd at work, until a signal ends it. Main thread. */
#ifndef DUET_DUETD_SERVE_H
#define DUET_DUETD_SERVE_H

#include "duetd/manager.h"

struct serve_options {
	struct manager_options manager;
	const char *socket; /* of its own API */
};

/* Blocks SIGTERM and SIGINT, by which it ends, with all put back: 0. */
int serve(const struct serve_options *options, struct error *err);

#endif
