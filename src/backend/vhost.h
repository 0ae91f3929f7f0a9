/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vhost-net: the host's kernel serves a pair of a network device's rings with a tap, on a thread of
 * its own. Split rings only. It reaches guest memory by the table it is given, and nothing else.
 *
 * Threads: open and close on the main thread; all else on one thread at a time, the I/O loop's.
 */
#ifndef DUET_BACKEND_VHOST_H
#define DUET_BACKEND_VHOST_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

#define VHOST_RINGS 2 /* 0: to the guest, 1: from the guest */

struct vhost;

/* A part of guest memory: where the guest has it and where this process has it; in pages. */
struct vhost_region {
	uint64_t guest, size;
	void *host;
};

/* Addresses are of this process, inside a region. */
struct vhost_ring {
	unsigned size;
	void *descriptors, *available, *used;
	uint16_t position; /* in the available ring; nothing is in flight */
	int kick;          /* eventfd the guest's doorbell signals */
	int call;          /* eventfd that interrupts the guest; -1: none */
	int fault; /* eventfd that is signalled when the kernel cannot go on with the ring */
};

/* Messages name --net and the remedy. */
int vhost_open(struct vhost **vhost, struct error *err);
void vhost_close(struct vhost *vhost);
/* Features of virtio that it can do, of those that concern it; others are not its business. */
uint64_t vhost_features(const struct vhost *vhost);
#define VHOST_FEATURES_CONCERNED                                                                   \
	(1ULL << 15 /* MRG_RXBUF */ | 1ULL << 28 /* INDIRECT_DESC */ |                             \
		1ULL << 29 /* EVENT_IDX */ | 1ULL << 32 /* VERSION_1 */)

int vhost_set_memory(struct vhost *vhost, const struct vhost_region *regions, unsigned count);
/* From now on the rings are the kernel's. @features: negotiated. Negative errno: nothing runs. */
int vhost_start(struct vhost *vhost, uint64_t features, const struct vhost_ring rings[VHOST_RINGS],
	int tap);
/* Returns when the kernel is done with them; @positions: where it stopped, the same for both
 * indices, as nothing is in flight. Negative errno: a position is not known. */
int vhost_stop(struct vhost *vhost, uint16_t positions[VHOST_RINGS]);
/* The eventfd of a running ring changes. */
int vhost_set_call(struct vhost *vhost, unsigned ring, int call);

#endif
