/* SPDX-License-Identifier: Apache-2.0 */
/* The virtio device models. Each function makes a struct device (virtio-pci around the model), not
 * yet realized, named @name. Back ends handed in belong to the device, even when it fails. */
#ifndef DUET_VIRTIO_DEVICES_H
#define DUET_VIRTIO_DEVICES_H

#include "backend/block.h"
#include "backend/net.h"
#include "bus/device.h"

struct virtio_block_options {
	struct block *block;
	unsigned queues; /* 1 to 64 */
	bool packed;     /* offer packed rings */
	bool poll;       /* look at the rings instead of waiting for kicks */
	char serial[21]; /* GET_ID, null-terminated */
};
int virtio_block_new(struct device **device, const char *name,
	const struct virtio_block_options *options, struct error *err);

struct virtio_net_options {
	struct net *net;
	uint8_t mac[6];
	uint16_t mtu; /* 0: not offered */
	unsigned queue_pairs;
	bool packed;
	bool offloads;
	bool poll;  /* look at the rings instead of waiting for kicks */
	bool vhost; /* the host kernel's vhost-net serves the rings (tap, split rings) */
};
int virtio_net_new(struct device **device, const char *name,
	const struct virtio_net_options *options, struct error *err);

/* A console port on two descriptors: @input may be -1. The device does not own them. */
struct virtio_console_options {
	int input, output;
	bool packed;
};
int virtio_console_new(struct device **device, const char *name,
	const struct virtio_console_options *options, struct error *err);
/* Main thread: the terminal's size changed (SIGWINCH). */
void virtio_console_resize(struct device *device, uint16_t columns, uint16_t rows);
/* Main thread, at rest, before the end: output that waits in the device is written out, with a
 * little patience. */
void virtio_console_flush(struct device *device);
/* Main thread: bytes for the guest; returns how many were taken. */
size_t virtio_console_input(struct device *device, const void *bytes, size_t length);

/* Entropy from getrandom(2), never blocking the guest's other devices. */
int virtio_entropy_new(struct device **device, const char *name, bool packed, struct error *err);

#endif
