/* SPDX-License-Identifier: Apache-2.0 */
/* The process's signals, through the main loop. Main thread. */
#ifndef DUET_CLI_SIGNALS_H
#define DUET_CLI_SIGNALS_H

#include "base/loop.h"

#include <stdbool.h>

struct signals {
	struct loop_watch watch;
	int fd; /* -1: not watched */
	void (*taken)(void *opaque, int number);
	void *opaque;
};

/* SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGWINCH and SIGCONT come only by signals_watch() from now on,
 * in this thread and those that it starts; those that were ignored when the process was started
 * stay so. Writing where nobody reads is an error, not a signal. */
void signals_block(void);
/* A descriptor to read them from, without waiting; @only_ending: those that ask for the end. The
 * caller's. Negative errno. */
int signals_descriptor(bool only_ending);
/* @number, in the calling thread, does again what it does to a process that knows nothing of it. */
void signals_default(int number);
/* Those that ask for the end, and were not ignored when the process was started. */
void signals_default_ending(void);
/* @taken is called on the loop for each signal. */
int signals_watch(struct signals *signals, struct loop *loop,
	void (*taken)(void *opaque, int number), void *opaque, struct error *err);
/* Safe to call twice and without a watch (fd -1). */
void signals_unwatch(struct signals *signals);

#endif
