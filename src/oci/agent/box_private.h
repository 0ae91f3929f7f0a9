/* SPDX-License-Identifier: Apache-2.0 */
/* Between the agent and a process that is about to become one of the container's: a line of
 * messages, and who is at its other end. */
#ifndef DUET_OCI_AGENT_BOX_PRIVATE_H
#define DUET_OCI_AGENT_BOX_PRIVATE_H

#include "oci/agent/box.h"
#include "oci/agent/inside.h"

#define BOX_CGROUP "/sys/fs/cgroup/container"

enum line_type {
	LINE_END,    /* the line is closed: another program runs */
	LINE_GO,     /* go on */
	LINE_READY,  /* all is made; perhaps with a terminal's descriptor */
	LINE_PID,    /* the process's number */
	LINE_FAILED, /* what went wrong, in words */
};

struct line_message {
	enum line_type type;
	uint32_t number;
	int fd; /* -1: none */
};

/* @fd: -1, or goes along. Negative errno. */
int line_tell(int line, enum line_type type, const void *payload, size_t length, int fd);
/* Waits for it, with the patience of the socket. Words of a failure become @err, and an error. */
int line_hear(int line, struct line_message *message, struct error *err);

/* The child's side of both kinds of process; @ends are its input, output and errors, or -1 with a
 * terminal. */
void box_first(const struct setup *setup, const int ends[3], int line) __attribute__((noreturn));
void box_second(int init_fd, const struct process *process, const int ends[3], int line)
	__attribute__((noreturn));

void box_signal_all(int signal);

#endif
