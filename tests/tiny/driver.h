/* SPDX-License-Identifier: Apache-2.0 */
/* The drivers of a whole machine's virtio devices, played by this thread as a vCPU would: so that
 * saved state has features that were agreed upon and queues that work. */
#ifndef DUET_TESTS_TINY_DRIVER_H
#define DUET_TESTS_TINY_DRIVER_H

#include "machine/machine.h"

/* Of a machine that runs: all its virtio devices, with all that they offer and all their queues,
 * whose rings are empty and lie from DRIVER_RINGS on. */
#define DRIVER_RINGS 0x400000U
void driver_bring_up(struct machine *machine);
/* How many devices have their first queue at work; a moment ago, while the machine runs. */
unsigned driver_count_up(const struct machine *machine);

#endif
