/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's end of a process in a guest: what we read goes to it, what it says is written, signals
 * and the size of a terminal are passed on, until it has ended. Main thread.
 */
#ifndef DUET_OCI_PUMP_H
#define DUET_OCI_PUMP_H

#include "base/error.h"
#include "oci/frame.h"

#include <stdbool.h>

struct pump {
	int fd;                    /* the connection */
	struct frame_input *input; /* what has come of it */
	int in, out, err;
	bool terminal; /* in is one, raw, and out another descriptor of it */
	/* Another descriptor that is read meanwhile; -1: none. False: its end. */
	int side;
	bool (*take_side)(void *opaque);
	void *opaque;
	/* private */
	int signals;
	uint32_t room;
	bool input_over;
};

/* From now on the signals that are passed on wait for pump_run(), in this process and its children.
 * Negative errno. */
int pump_prepare(struct pump *pump);
/* @status: as a shell has it. -ECONNRESET: the connection has ended before the process; -EPROTO:
 * what came was no answer. */
int pump_run(struct pump *pump, uint32_t *status);

/* Terminals: all bytes pass as they are. @before is what it was. Negative errno. */
struct termios;
int terminal_make_raw(int fd, struct termios *before);

#endif
