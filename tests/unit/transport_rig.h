/* SPDX-License-Identifier: Apache-2.0 */
/* virtio_rig's own model on the fake machine, started, and its driver at the PCI transport. What
 * cannot be fails the test. */
#ifndef DUET_TESTS_TRANSPORT_RIG_H
#define DUET_TESTS_TRANSPORT_RIG_H

#include "virtio_rig.h"

#define FEATURE_PACKED VIRTIO_FEATURE(VIRTIO_F_RING_PACKED)
/* All that the model has, but for FEATURE_PACKED. */
#define FEATURES_ALL                                                                               \
	(1 | VIRTIO_FEATURE(VIRTIO_F_INDIRECT_DESC) | VIRTIO_FEATURE(VIRTIO_F_EVENT_IDX) |         \
		VIRTIO_FEATURE(VIRTIO_F_VERSION_1))
#define STATUS_NEEDS_RESET 64

#define TRANSPORT_SLOT  1
#define TRANSPORT_RINGS 0x100000ULL /* guest addresses */
#define TRANSPORT_DATA  0x800000ULL

struct transport_rig {
	struct fake_machine machine;
	struct device *device;
	struct rig_model *model;
	struct virtio_driver driver;
	struct ring_driver rings[RIG_QUEUES];
};

void transport_rig_init(struct transport_rig *rig);
/* Stops and frees device and machine; nothing may be left attached. */
void transport_rig_free(struct transport_rig *rig);
/* Reset and bring up with these features and the first @queues queues; vectors from 0, that of the
 * configuration first, or none. */
void transport_up(struct transport_rig *rig, uint64_t features, unsigned queues, bool msix);
void transport_move_bar(struct transport_rig *rig, unsigned bar, uint32_t address);
void transport_pause(void); /* a millisecond */
void transport_await_doorbells(struct transport_rig *rig, unsigned count);
void transport_await_status(struct transport_rig *rig, uint8_t bits);
/* Offers one chain and kicks, if the device wants it. */
void transport_request(struct transport_rig *rig, unsigned queue);
/* Waits for the answer to transport_request(), which is the right one. */
void transport_expect_answer(struct transport_rig *rig, unsigned queue);

#endif
