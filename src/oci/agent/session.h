/* SPDX-License-Identifier: Apache-2.0 */
/* One connection of the server's. */
#ifndef DUET_OCI_AGENT_SESSION_H
#define DUET_OCI_AGENT_SESSION_H

#include "oci/agent/server.h"

#include <poll.h>

/* With more than so much queued nothing is read: who asks is to take the answers too. */
#define SESSION_QUEUE_MAX (2 * FRAME_DATA_MAX)

struct session {
	int fd;       /* -1: none */
	bool control; /* the container's own */
	bool process; /* it is a process's, from now on */
	bool ended;   /* FRAME_EXIT is under way */
	struct frame_input input;
	struct child child;
	bool exited;
	uint32_t status;
	uint8_t *held; /* input that the process has not read; FRAME_INPUT_ROOM */
	uint32_t held_length;
	bool input_ended;
	uint8_t *queue; /* frames that the connection has not taken */
	size_t queue_at, queue_length;
};

void session_begin(struct session *session, int fd, bool control);
/* The process's ends too; the process is hung up on if it goes on. */
void session_end(struct session *session);

/* Behind what is queued already. -ENOMEM. */
int session_queue(struct session *session, uint32_t type, const void *payload, uint32_t length);
int session_queue_numbers(struct session *session, uint32_t type, uint32_t first, uint32_t second);

/* Its process has ended, as waitpid() has it; for one that has none nothing is changed. */
void session_exited(struct session *session, int status);
/* A process that has ended is told of in turns, each of which may leave something to be sent: there
 * is a turn to be had at once. */
bool session_has_more(const struct session *session);

/* What it waits for: its connection and its process's ends, SESSION_POLLS of them. */
#define SESSION_POLLS 4
void session_polls(const struct session *session, struct pollfd *items);
/* Input, output and end of the process, and what is queued. Negative: the connection is over. */
int session_go_on(struct session *session, const struct pollfd *items);

/* Of the frames that are a process's: FRAME_INPUT, FRAME_RESIZE, FRAME_SIGNAL. Negative: it is
 * nothing that may come now. */
int session_take(struct session *session, const struct frame *frame);

#endif
