/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The user's terminal as the guest's console: raw mode while the machine runs, Ctrl-A as the escape
 * (x ends the machine, Ctrl-A sends itself, h tells). The escape works whatever the guest takes;
 * what is typed too far ahead of it at a terminal is lost, a pipe or a file waits. Main thread.
 */
#ifndef DUET_CLI_TERMINAL_H
#define DUET_CLI_TERMINAL_H

#include "base/loop.h"

#include <stdbool.h>
#include <stddef.h>
#include <termios.h>

struct terminal_events {
	/* Bytes typed; returns how many were taken. The rest is offered again by terminal_pump().
	 */
	size_t (*typed)(void *opaque, const void *bytes, size_t length);
	void (*end)(void *opaque); /* Ctrl-A x */
};

struct terminal {
	const struct terminal_events *events;
	void *opaque;
	struct loop *loop;
	struct loop_watch watch;
	int fd;
	bool tty, open; /* open: its end was not read yet */
	bool raw, escaped, watching;
	struct termios before;
	unsigned char pending[1024]; /* typed, not yet taken */
	size_t pending_length;
};

/* Puts @fd (standard input) into raw mode when it is a terminal, and reads it. */
void terminal_start(struct terminal *terminal, struct loop *loop, int fd,
	const struct terminal_events *events, void *opaque);
/* The process goes on (SIGCONT), perhaps in the foreground now: a terminal is used only there. */
void terminal_resume(struct terminal *terminal);
/* The guest has room again. */
void terminal_pump(struct terminal *terminal);
/* Restores the terminal. Safe to call twice and without a start. */
void terminal_stop(struct terminal *terminal);

#endif
