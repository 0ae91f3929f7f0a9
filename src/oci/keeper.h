/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The container's process as the engine knows it: a child of `duet-oci create` that goes on when
 * that has ended, and ends with the status of the container's process in the guest. It holds the
 * network namespace, has the machine as its child, and passes input, output, signals and the
 * terminal's size on. Killed, it takes the machine along.
 */
#ifndef DUET_OCI_KEEPER_H
#define DUET_OCI_KEEPER_H

#include "oci/bundle.h"
#include "oci/container.h"
#include "oci/settings.h"

#define KEEPER_JOINED "joined" /* in the folder: the network has to be parted (oci/net.h) */

struct keeper {
	const struct settings *settings;
	struct container *container;
	struct bundle *bundle;
	const char *kit, *image;
	int terminal; /* the engine's socket for it; -1: none */
	int line;     /* to who makes it */
};

/* Never returns. On the line, which keeps messages apart: "", the namespaces are there; then it
 * waits for one; then "+PID" of the machine, whose container waits to be started, or "-" and what
 * went wrong. */
void keeper_run(struct keeper *keeper) __attribute__((noreturn));

#endif
