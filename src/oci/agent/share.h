/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A directory (or file) of the host's in the container: FUSE, whose requests go to the host over a
 * connection of their own, and whose answers come back. This end understands none of them: two
 * processes of the agent's copy, one each way so that neither waits for the other, until the mount
 * or the host's end is gone.
 */
#ifndef DUET_OCI_AGENT_SHARE_H
#define DUET_OCI_AGENT_SHARE_H

#include "base/error.h"
#include "oci/setup.h"

/* In the agent, before the container's first process is made: each MOUNT_SHARE of @setup gets a
 * descriptor of /dev/fuse and its copiers. */
int shares_open(struct setup *setup, struct error *err);
/* And after that. */
void shares_close(struct setup *setup);

/* In the container's first process. Negative errno. */
int share_mount(const struct mount *mount, const char *at);

#endif
