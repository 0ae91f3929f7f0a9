/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by passt.c (the stream) and passt_process.c (the process at its other end). */
#ifndef DUET_BACKEND_PASST_PRIVATE_H
#define DUET_BACKEND_PASST_PRIVATE_H

#include "backend/net_private.h"
#include "base/leftover.h"

#include <sys/types.h>
#include <unistd.h>

/* Bytes [start, end) wait. It begins anew at 0 whenever it is empty, so that light traffic touches
 * few pages of it. Large enough for a frame of the greatest length. */
struct passt_buffer {
	size_t start, end;
	uint8_t bytes[128 << 10];
};

struct passt {
	struct net net;
	pid_t pid;                /* -1: none, or waited for */
	int pid_fd;               /* the same, to end it by: no other process can be */
	int words_fd;             /* what it writes to standard error; -1: none */
	struct leftover leftover; /* the process */
	struct passt_buffer in, out;
};

int passt_new(struct passt **passt, struct error *err);
int passt_ready(struct net *net, struct error *err);
/* Ends the process and waits for it. */
void passt_end(struct passt *passt);
/* One line about a passt whose end of the stream is closed, with its own last words if any. */
void passt_last_words(struct passt *passt, char *line, size_t size);

#endif
