/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lines to a file whose reader may be slow (a FIFO), without ever waiting for him and without
 * cutting one: what he has not taken of a line is tried again in a while, and until he has it all
 * those that come are left out. Main thread.
 */
#ifndef DUET_CLI_SLOW_FILE_H
#define DUET_CLI_SLOW_FILE_H

#include "base/error.h"
#include "base/loop.h"

struct slow_file {
	struct loop *loop;
	struct loop_timer again;
	int fd;               /* non-blocking; -1: none */
	char *line;           /* what he takes now; null: nothing waits */
	size_t length, taken; /* of it, bytes */
	unsigned pause_ms;    /* before it is tried again */
	uint64_t left_out;    /* since the last that was written */
};

/* To be closed in any case. */
void slow_file_init(struct slow_file *file, struct loop *loop);
/* @fd is the file's to close, as the one before it is now. What waited for that one's reader is
 * lost. */
void slow_file_set(struct slow_file *file, int fd);
/* One line, a newline at its end. It is written, waits, or is left out: all of that is 0. */
int slow_file_write(struct slow_file *file, const char *line, struct error *err);
void slow_file_close(struct slow_file *file);

#endif
