/* SPDX-License-Identifier: Apache-2.0 */
/* A machine with a device of each kind but the host's own functions. One at a time, for its disks
 * are locked and its vsock has one path. */
#ifndef DUET_TESTS_EVERYTHING_H
#define DUET_TESTS_EVERYTHING_H

#include "machine/machine.h"

/* Makes the files and, in a network namespace of this process's own, the taps. Without root or
 * /dev/net/tun the machines have no network, and it is said. */
void everything_open(void);
void everything_close(void);

/* The devices and what they need, added to @config. */
void everything_add(struct machine_config *config);
/* How many devices of these have a virtio interface. */
unsigned everything_virtio(void);

#endif
