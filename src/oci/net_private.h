/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DUET_OCI_NET_PRIVATE_H
#define DUET_OCI_NET_PRIVATE_H

#include "oci/setup.h"

/* What is there; @indices: of @setup's links. */
int net_look(int fd, struct setup *setup, int indices[SETUP_LINKS_MAX]);

#endif
