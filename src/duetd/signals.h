/* SPDX-License-Identifier: Apache-2.0 */
/* SIGTERM, SIGINT and SIGHUP, by which a loop ends, and its end. Main thread. */
#ifndef DUET_DUETD_SIGNALS_H
#define DUET_DUETD_SIGNALS_H

#include "base/error.h"
#include "base/loop.h"

/* What log_set_patience() is to be before and after signals_run(). */
#define SIGNALS_LOG_PATIENCE_MS 250

struct signals {
	struct loop_watch watch; /* the loop's to its end */
	struct loop *loop;
	const char *words; /* told with the signal's number; a constant */
	int fd;            /* -1: not open */
};

/* Blocks those that whoever started us has not had ignored, and ignores SIGPIPE. */
int signals_open(struct signals *signals, struct loop *loop, const char *words, struct error *err);
/* Runs the loop to its end. Meanwhile no line of the log waits for its reader. */
int signals_run(struct signals *signals, struct error *err);
void signals_close(struct signals *signals);
/* One round more of a loop that has ended, in which it gives back what it holds. */
void signals_settle(struct loop *loop);

#endif
