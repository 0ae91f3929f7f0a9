/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program that is run and waited for on the loop: its end by a pidfd, what it says by a pipe.
 * Nothing here waits. Main thread.
 */
#ifndef DUET_DUETD_CHILD_H
#define DUET_DUETD_CHILD_H

#include "base/error.h"
#include "base/loop.h"

#include <stddef.h>

struct child;

struct child_options {
	/* Looked for on PATH; ended by null. Its environment is PATH and words that ask for plain
	 * English, its standard input empty, its signals as they are by default. */
	const char *const *argv;
	size_t output_max; /* bytes of what it says that are kept; the rest is read and dropped */
	unsigned patience_ms; /* then it is killed */
	/* It has ended, or was killed, status as waitpid's, and -1 when it is not known; @output,
	 * of standard output and error alike, is null-terminated and the child's. It is freed
	 * after this. */
	void (*done)(void *opaque, int status, const char *output);
	void *opaque;
};

/* -ENOENT: no such program. */
int child_start(struct child **child, struct loop *loop, const struct child_options *options,
	struct error *err);
/* Kills it; @done is not called. The loop gives its memory back in its next round. */
void child_drop(struct child *child);

#endif
