/* SPDX-License-Identifier: Apache-2.0 */
/* The servers of a container's volumes (oci/share.h): a process each, children of the keeper, which
 * listen for the guest's agent. Main thread. */
#ifndef DUET_OCI_SHARES_H
#define DUET_OCI_SHARES_H

#include "base/error.h"
#include "oci/setup.h"

struct shares;

/* For each MOUNT_SHARE of @setup, whose sockets are in the folder @dir. */
int share_servers_begin(
	struct shares **shares, const struct setup *setup, int dir, struct error *err);
/* All of them, at once; null is allowed. */
void share_servers_end(struct shares *shares);

/* One connection to its end: messages are read, and answered, one after the other. */
struct share_server;
void share_serve(struct share_server *server, int fd);

#endif
