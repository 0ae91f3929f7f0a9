/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile guest at a real device model through its real transport: requests of any shape,
 * buffers and rings that change while the device works, configuration writes, resets and stops at
 * any moment, and saved state that was damaged where no checksum tells. Afterwards the device must
 * reset, in bounded time, and serve an honest driver.
 */
#ifndef DUET_FUZZ_DEVICE_FUZZ_H
#define DUET_FUZZ_DEVICE_FUZZ_H

#include "input.h"
#include "virtio_rig.h"

#define FUZZ_QUEUES 4
#define FUZZ_DATA   0x80000ULL /* buffers; what a test writes to lies here */
#define FUZZ_ROOM   0x20000ULL

struct device_fuzz;

struct device_fuzz_target {
	unsigned queues;
	/* Makes device->device; called once. */
	int (*create)(struct device_fuzz *fuzz, struct error *err);
	/* Features to negotiate, from those of the device. */
	uint64_t features;
	/* Writes a request's head to @at in guest memory (@head_size bytes of room; 0: 16): what
	 * the device reads first. May be null. */
	unsigned head_size;
	void (*head)(struct device_fuzz *fuzz, struct input *input, uint8_t *at);
	/* Something happens at the back end. May be null. */
	void (*outside)(struct device_fuzz *fuzz, struct input *input);
	/* An honest request on the device that was just brought up; false: no answer. */
	bool (*honest)(struct device_fuzz *fuzz);
};

struct device_fuzz {
	const struct device_fuzz_target *target;
	struct fake_machine machine;
	struct device *device;
	struct virtio_driver driver;
	struct ring_driver rings[FUZZ_QUEUES];
	uint64_t offered;
	bool displaced; /* restored from damaged state: its BARs may be anywhere */
	int fds[4];     /* the target's own */
};

void device_fuzz_one(struct device_fuzz *fuzz, const struct device_fuzz_target *target,
	const uint8_t *data, size_t size);
/* For honest(): one chain, its answer awaited. */
bool device_fuzz_request(struct device_fuzz *fuzz, unsigned queue,
	const struct ring_buffer *buffers, unsigned count, uint32_t *written);
void device_fuzz_must(bool good, const char *what);

#endif
