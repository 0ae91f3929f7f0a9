/* SPDX-License-Identifier: Apache-2.0 */
/* A real virtio device on the fake machine, with a guest's driver that sends it requests. */
#ifndef DUET_TESTS_DEVICE_RIG_H
#define DUET_TESTS_DEVICE_RIG_H

#include "virtio_rig.h"

#define DEVICE_RIG_QUEUES   VIRTIO_QUEUES_MAX
#define DEVICE_RIG_DATA     0x800000ULL /* free memory for buffers, to the end of RAM */
#define DEVICE_RIG_FEATURES (VIRTIO_FEATURE(VIRTIO_F_VERSION_1))

struct device_rig {
	struct fake_machine machine;
	struct device *device;
	struct virtio_driver driver;
	struct ring_driver rings[DEVICE_RIG_QUEUES];
};

/* fake_machine_init() was called on rig->machine, rig->device was created. */
void device_rig_start(struct device_rig *rig);
/* Reset and bring up with these features (VERSION_1 is added) and the first @queues queues. */
void device_rig_up(struct device_rig *rig, uint64_t features, unsigned queues);
/* Stops and frees device and machine; nothing may be left attached. */
void device_rig_free(struct device_rig *rig);
uint8_t *device_rig_at(struct device_rig *rig, uint64_t gpa);
/* Offers one chain, kicks, waits for it; the used length. */
uint32_t device_rig_request(struct device_rig *rig, unsigned queue,
	const struct ring_buffer *buffers, unsigned count, bool indirect);
/* Waits for DEVICE_NEEDS_RESET. False after FAKE_PATIENCE_MS. */
bool device_rig_needs_reset(struct device_rig *rig);

#endif
