/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames on a stream between duet-oci and the guest's agent: a type, a length, and so many bytes,
 * little-endian. Neither side trusts the other: a frame is refused by its head, before there is
 * room for it, when its receiver takes none of the type or none of the length.
 */
#ifndef DUET_OCI_FRAME_H
#define DUET_OCI_FRAME_H

#include <stddef.h>
#include <stdint.h>

/*
 * The agent connects to AGENT_CALLS_PORT of the host once, when it is up: that is the container's
 * own connection. Whoever wants something later connects to AGENT_PORT of the guest; a connection
 * serves one question, or one process that FRAME_EXEC began.
 */
#define AGENT_CALLS_PORT 1024
#define AGENT_PORT       1025

#define FRAME_HEAD      8
#define FRAME_DATA_MAX  (32U << 10) /* of input and output */
#define FRAME_TEXT_MAX  (4U << 10)  /* of an error, or a number or two */
#define FRAME_SETUP_MAX (64U << 20)
#define FRAME_LIST_MAX  (1U << 20)
/* Input that the agent holds for a process which does not read. */
#define FRAME_INPUT_ROOM (128U << 10)

enum frame_type {
	/* to the agent */
	FRAME_SETUP = 1, /* struct setup: the container, which is made and waits */
	FRAME_START,     /* it runs */
	FRAME_EXEC,      /* struct process: another one in it */
	FRAME_KILL,      /* a signal, and whether it is for all of its processes */
	FRAME_LIST,      /* its processes */
	FRAME_USAGE,     /* what it has used */
	FRAME_INPUT,     /* for the process of this connection; empty: the end */
	FRAME_RESIZE,    /* rows, columns */
	FRAME_SIGNAL,    /* for the process of this connection */
	/* from it */
	FRAME_OK,     /* done; the answer's value */
	FRAME_FAILED, /* what went wrong, in words */
	FRAME_OUTPUT,
	FRAME_ERRORS,
	FRAME_TAKEN, /* so many bytes of input went to the process: there is room for them again */
	FRAME_EXIT,  /* the process has ended, and all of its output came before: status as a
			shell has it */
	FRAME_TYPES,
};

struct frame {
	uint32_t type, length;
	const uint8_t *payload;
};

/* Most bytes of a frame of @type; 0 of one that the side does not take, or that is none. */
typedef uint32_t (*frame_limit)(uint32_t type);
uint32_t frame_agent_takes(uint32_t type);
uint32_t frame_host_takes(uint32_t type);

/* What has come of a stream so far. Zero-initialise but for @limit. */
struct frame_input {
	frame_limit limit;
	uint8_t head[FRAME_HEAD];
	uint8_t *payload;
	size_t filled; /* of head and payload */
};

/* Reads what is there of the socket @fd, without waiting, up to the end of one frame, and no
 * byte further. 1: @frame, whose payload stays until the next call; 0: it is not whole; -EPIPE: the
 * end, before a frame begins; -ECONNRESET: the end inside one; -EBADMSG: no frame that may come;
 * -ENOMEM. After an error nothing else is to be read. */
int frame_take(struct frame_input *input, int fd, struct frame *frame);
/* The same, and waits for a whole frame, @patience_ms at most (-ETIMEDOUT; below 0: for ever). */
int frame_wait(struct frame_input *input, int fd, int patience_ms, struct frame *frame);
void frame_input_free(struct frame_input *input);

/* Writes all of it, whatever the descriptor's mode. Negative errno. */
int frame_send(int fd, uint32_t type, const void *payload, uint32_t length);

/* A frame whose payload is up to two numbers; 0 of those that are not there. */
int frame_send_numbers(int fd, uint32_t type, uint32_t first, uint32_t second);
int frame_numbers(const struct frame *frame, uint32_t *first, uint32_t *second);

#endif
