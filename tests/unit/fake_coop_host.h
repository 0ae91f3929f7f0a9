/* SPDX-License-Identifier: Apache-2.0 */
/* What the cooperation device asks its host for, in memory; for tests and fuzz targets. */
#ifndef DUET_TESTS_FAKE_COOP_HOST_H
#define DUET_TESTS_FAKE_COOP_HOST_H

#include "virtio/devices.h"

#define FAKE_COOP_VCPUS    3
#define FAKE_COOP_COUNTERS (FAKE_COOP_VCPUS * 16) /* that the device may have open */

/* @current is the vCPU whose thread calls. */
struct fake_coop_host {
	struct virtio_coop_host host;
	unsigned current;
	uint64_t last[3];      /* waiter, holder and patience of the last yield */
	unsigned open, opened; /* counters */
	uint64_t count;        /* that each of them shows, and its name on top */
	int fails;             /* what all functions return, if not 0 */
	const char *broken;    /* the first promise that the device did not keep; null: none */
};

void fake_coop_host_init(struct fake_coop_host *fake);

#endif
