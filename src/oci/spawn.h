/* SPDX-License-Identifier: Apache-2.0 */
/* A program that is run to its end: a maker of images, a hook. Main thread. */
#ifndef DUET_OCI_SPAWN_H
#define DUET_OCI_SPAWN_H

#include "base/error.h"

#include <stddef.h>
#include <sys/types.h>

struct spawn {
	const char *path;        /* looked for on PATH if it has no slash */
	const char *const *argv; /* ended by null */
	const char *const *env;  /* likewise; null: our own */
	const char *input;       /* its standard input; null: empty */
	unsigned timeout;        /* seconds, then it is killed; 0: none */
	char *output;            /* the end of what it says; null-terminated, one line */
	size_t output_room;
};

/* 0: it ended with status 0; else @err has its words. -ENOENT: there is no such program. */
int spawn_run(const struct spawn *spawn, struct error *err);

/* fork(), whose child has the signals as they are by default, and ends if its parent does. */
pid_t spawn_fork(void);
/* In the child: @path runs in its place, or it ends with status 127, the errno in @report (a pipe
 * that is closed otherwise). */
void spawn_exec(const char *path, const char *const *argv, const char *const *env, int report)
	__attribute__((noreturn));

#endif
