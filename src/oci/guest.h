/* SPDX-License-Identifier: Apache-2.0 */
/* Questions to the agent of a container that runs, and the connection of a process in it. All wait,
 * but none for ever. Main thread. */
#ifndef DUET_OCI_GUEST_H
#define DUET_OCI_GUEST_H

#include "oci/container.h"
#include "oci/frame.h"
#include "oci/setup.h"

#define GUEST_SOCKET "vsock" /* in the container's folder */

/* A socket that connects to, or @listens at, @name in the folder @dir, whose path may be longer
 * than a socket's may. Negative errno. */
int guest_socket(int dir, const char *name, bool listens);

/* A connection to the agent. -ESRCH: there is no machine that listens. */
int guest_connect(const struct container *container, struct error *err);
/* What is @ended by FRAME_OK or FRAME_FAILED, which becomes @err; the answer is @input's. Below 0
 * for @patience_ms: for ever. */
int guest_answer(
	int fd, struct frame_input *input, int patience_ms, struct frame *frame, struct error *err);

int guest_start(const struct container *container, struct error *err);
int guest_kill(const struct container *container, int signal, bool all, struct error *err);
int guest_list(const struct container *container, struct listing *listing, struct error *err);
int guest_usage(const struct container *container, struct usage *usage, struct error *err);

#endif
