/* SPDX-License-Identifier: Apache-2.0 */
#include "device_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <time.h>

#include <cmocka.h>

#define SLOT      1
#define RING_BASE 0x100000ULL
#define RING_ROOM 0x10000ULL
#define RING_SIZE 64

void device_rig_start(struct device_rig *rig)
{
	struct error err = {0};

	assert_int_equal(rig->device->ops->realize(rig->device, &rig->machine.place, &err), 0);
	assert_int_equal(rig->device->ops->start(rig->device, &err), 0);
	driver_probe(&rig->driver, &rig->machine, SLOT);
}

void device_rig_up(struct device_rig *rig, uint64_t features, unsigned queues)
{
	struct virtqueue_setup setup = {.size = RING_SIZE,
		.packed = features & VIRTIO_FEATURE(VIRTIO_F_RING_PACKED),
		.event_idx = features & VIRTIO_FEATURE(VIRTIO_F_EVENT_IDX),
		.indirect = features & VIRTIO_FEATURE(VIRTIO_F_INDIRECT_DESC)};

	assert_true(driver_reset(&rig->driver));
	assert_true(driver_negotiate(&rig->driver, features | DEVICE_RIG_FEATURES));
	driver_msix(&rig->driver, queues + 1);
	driver_write(&rig->driver, COMMON_CONFIG_VECTOR, 2, 0);
	for (unsigned i = 0; i < queues; i++)
		driver_queue(&rig->driver, i, &rig->rings[i], RING_BASE + RING_ROOM * i, &setup,
			(uint16_t)(i + 1));
	driver_ok(&rig->driver);
}

void device_rig_free(struct device_rig *rig)
{
	fake_machine_end_device(&rig->machine, rig->device);
	assert_int_equal(fake_host_doorbells(&rig->machine.host), 0);
	assert_int_equal(fake_host_routes(&rig->machine.host), 0);
	fake_machine_free(&rig->machine);
}

uint8_t *device_rig_at(struct device_rig *rig, uint64_t gpa)
{
	return rig->machine.ram + gpa;
}

uint32_t device_rig_request(struct device_rig *rig, unsigned queue,
	const struct ring_buffer *buffers, unsigned count, bool indirect)
{
	uint64_t token;
	uint32_t written;

	assert_true(ring_driver_offer(&rig->rings[queue], buffers, count, indirect, 77));
	driver_kick(&rig->driver, queue);
	assert_true(driver_await(&rig->rings[queue], &token, &written));
	assert_int_equal(token, 77);
	return written;
}

bool device_rig_needs_reset(struct device_rig *rig)
{
	const struct timespec step = {.tv_nsec = 1000000};

	for (unsigned i = 0; i < FAKE_PATIENCE_MS; i++) {
		if (driver_read(&rig->driver, COMMON_STATUS, 1) & 64)
			return true;
		nanosleep(&step, NULL);
	}
	return false;
}
