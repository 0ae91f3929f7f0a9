/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a bundle binds of the host's. A small file that the container may only read, and those by
 * which an engine tells a container its name and its network, go along as they are now. A folder,
 * and any other file, is shared while the container runs (oci/share.h). A socket, a device or a
 * pipe has its other end in the host's kernel, and is refused. Main thread.
 */
#ifndef DUET_OCI_VOLUMES_H
#define DUET_OCI_VOLUMES_H

#include "base/error.h"
#include "oci/setup.h"

/* Each bind mount of @setup becomes a MOUNT_FILE or a MOUNT_SHARE; @bundle: the folder that a
 * relative source is in. */
int volumes_prepare(struct setup *setup, const char *bundle, struct error *err);

#endif
