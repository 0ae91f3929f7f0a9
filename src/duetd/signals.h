/* SPDX-License-Identifier: Apache-2.0 */
/* SIGTERM and SIGINT, by which a loop ends, and its end. Main thread. */
#ifndef DUET_DUETD_SIGNALS_H
#define DUET_DUETD_SIGNALS_H

#include "base/error.h"
#include "base/loop.h"

struct signals {
	struct loop_watch watch; /* the loop's to its end */
	struct loop *loop;
	const char *words; /* told with the signal's number; a constant */
	int fd;            /* -1: not open */
};

/* Blocks both, and ignores SIGPIPE. */
int signals_open(struct signals *signals, struct loop *loop, const char *words, struct error *err);
void signals_close(struct signals *signals);
/* One round more of a loop that has ended, in which it gives back what it holds. */
void signals_settle(struct loop *loop);

#endif
