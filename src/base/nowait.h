/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A descriptor that is shared with other programs (standard output, standard error), written to
 * without ever waiting for who reads it.
 *
 * O_NONBLOCK belongs to the open file, which a terminal or a pipe shares with the shell and its
 * children: so those are opened a second time, and the descriptor that was given stays as it is.
 *
 * Threads: any, but for open and close, which are for when nobody writes.
 */
#ifndef DUET_BASE_NOWAIT_H
#define DUET_BASE_NOWAIT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum nowait_kind {
	NOWAIT_OWN,      /* the descriptor is our own non-blocking one */
	NOWAIT_SOCKET,   /* each write asks not to wait */
	NOWAIT_FILE,     /* never waits for a reader */
	NOWAIT_TERMINAL, /* one that may not be opened again: asked before each byte */
	NOWAIT_POLLED,   /* anything else: asked before each write */
};

struct nowait {
	int fd;
	enum nowait_kind kind;
};

/* @fd stays the caller's, and open until nowait_close(). */
void nowait_open(struct nowait *to, int fd);
void nowait_close(struct nowait *to);
/* How many bytes were taken, or a negative errno; -EAGAIN: it takes nothing now. */
ssize_t nowait_write(const struct nowait *to, const void *bytes, size_t length);
/* Whether there is room within @milliseconds. This waits, and: */
bool nowait_room(const struct nowait *to, int milliseconds);
/* For last words: as much as is taken, with so much patience, in milliseconds, @each time that
 * nothing is, and for @all of it. Returns how many bytes that was. */
size_t nowait_last(const struct nowait *to, const void *bytes, size_t length, int each, int all);
#define NOWAIT_LAST_MS  2000 /* @all, */
#define NOWAIT_HURRY_MS 50   /* and both, of a machine that was told to end at once */

#endif
