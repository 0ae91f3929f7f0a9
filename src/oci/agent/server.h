/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's side of all connections: questions are answered, and the input and output of
 * processes passed on. It never waits for one connection or one process: what a process says is
 * read when its connection has taken what it said before, what it is told is held up to
 * FRAME_INPUT_ROOM, and more than that was not to come.
 *
 * What is done is behind a table, so that tests run it without a guest. One thread.
 */
#ifndef DUET_OCI_AGENT_SERVER_H
#define DUET_OCI_AGENT_SERVER_H

#include "base/error.h"
#include "oci/frame.h"
#include "oci/setup.h"

#include <stdbool.h>
#include <sys/types.h>

#define SERVER_SESSIONS 128

/* A process's ends that are ours; with a terminal @in and @out are two descriptors of it, and @err
 * is -1. They do not block. */
struct child {
	pid_t pid; /* 0: none yet */
	int in, out, err;
};

struct server_ops {
	/* Makes the container of @setup, whose process waits. */
	int (*setup)(void *opaque, struct setup *setup, struct child *child, struct error *err);
	int (*start)(void *opaque, struct error *err);
	int (*exec)(void *opaque, struct process *process, struct child *child, struct error *err);
	int (*kill)(void *opaque, int signal, bool all, struct error *err);
	int (*list)(void *opaque, struct listing *listing, struct error *err);
	int (*usage)(void *opaque, struct usage *usage, struct error *err);
	/* Whether who connected may ask. */
	bool (*trusts)(void *opaque, int fd);
};

/* Until the container's process has ended and its connection @control too, or that connection is
 * gone before. @listener: of who asks. SIGCHLD is blocked by the caller. Closes both. */
int server_run(const struct server_ops *ops, void *opaque, int control, int listener);

#endif
