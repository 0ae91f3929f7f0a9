/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile guest at a virtio device: every register in every order, rings and buffers that change
 * while the device works, BARs that move, resets at any moment, saved state that was tampered with.
 * After each input the device must still reset and serve an honest driver.
 */
#include "virtio_rig.h"

#include "base/log.h"
#include "input.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define SLOT      1
#define RING_BASE 0x10000ULL

struct rig {
	struct fake_machine machine;
	struct device *device;
	struct rig_model *model;
	struct virtio_driver driver;
	struct ring_driver ring;
};

static void nothing(struct loop_task *task)
{
}

/* What was posted to the I/O loop has run. */
static void settle(struct rig *rig)
{
	struct loop_task barrier = {.run = nothing};

	loop_call(rig->machine.place.io, &barrier);
}

static void must(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "fuzz: %s\n", what);
	abort();
}

/* Brings the device as far as an honest driver would, so that the input need not find the way. */
static void bring_up(struct rig *rig, uint8_t kind)
{
	struct virtqueue_setup setup = {.size = (uint16_t)(4U << (kind & 3)),
		.packed = kind & 4,
		.event_idx = kind & 8,
		.indirect = kind & 16};
	uint64_t features = VIRTIO_FEATURE(VIRTIO_F_VERSION_1);

	features |= setup.packed ? VIRTIO_FEATURE(VIRTIO_F_RING_PACKED) : 0;
	features |= setup.event_idx ? VIRTIO_FEATURE(VIRTIO_F_EVENT_IDX) : 0;
	features |= setup.indirect ? VIRTIO_FEATURE(VIRTIO_F_INDIRECT_DESC) : 0;
	/* Its BAR may be elsewhere. */
	if (driver_read(&rig->driver, COMMON_STATUS, 1) == 0xff)
		driver_probe(&rig->driver, &rig->machine, SLOT);
	if (driver_read(&rig->driver, COMMON_STATUS, 1) == 0xff)
		return;
	must(driver_reset(&rig->driver), "the status never reads 0");
	driver_negotiate(&rig->driver, features);
	if (kind & 32)
		driver_msix(&rig->driver, RIG_QUEUES + 1);
	driver_queue(&rig->driver, 0, &rig->ring, RING_BASE, &setup, 1);
	driver_ok(&rig->driver);
}

static void tamper(struct rig *rig, struct input *input)
{
	struct state_writer saved, changed;
	struct state_reader reader;
	struct error err;
	size_t start, at;

	fake_stop(rig->device);
	state_writer_init(&saved);
	state_section_begin(&saved, "rig0", 1);
	rig->device->ops->save(rig->device, &saved);
	start = saved.section + 14;
	at = start + input_number(input, 2) % (saved.length - start);
	input_bytes(
		input, saved.bytes + at, min_u64(input_number(input, 1) % 9, saved.length - at));
	state_writer_init(&changed);
	state_section_begin(&changed, "rig0", 1);
	state_put_bytes(&changed, saved.bytes + start, saved.length - start);
	state_section_close(&changed);
	must(state_writer_finish(&changed) == 0, "writer");
	must(state_reader_init(&reader, changed.bytes, changed.length, &err) == 0, "reader");
	must(state_section_next(&reader, &err) == 1, "section");
	rig->device->ops->restore(rig->device, &reader, &err);
	rig->device->ops->start(rig->device, &err);
	state_writer_free(&saved);
	state_writer_free(&changed);
}

static void step(struct rig *rig, struct input *input)
{
	uint8_t what = (uint8_t)input_number(input, 1);
	uint64_t bar = rig->driver.common;
	struct error err;
	uint64_t at;

	switch (what % 12) {
	case 0:
	case 1: /* common registers */
		at = input_number(input, 1) & 0x3f;
		fake_guest_write(
			&rig->machine, bar + at, input_size(input), input_number(input, 4));
		break;
	case 2:
		at = input_number(input, 2) & 0x3fff;
		fake_guest_write(
			&rig->machine, bar + at, input_size(input), input_number(input, 8));
		break;
	case 3:
		fake_guest_read(
			&rig->machine, bar + (input_number(input, 2) & 0x3fff), input_size(input));
		break;
	case 4:
		fake_guest_config_write(&rig->machine, SLOT, input_number(input, 1) & 0xff,
			input_size(input), (uint32_t)input_number(input, 4));
		break;
	case 5:
		fake_guest_config_read(
			&rig->machine, SLOT, input_number(input, 1) & 0xff, input_size(input));
		break;
	case 6:
	case 7: /* rings and tables */
		at = RING_BASE + input_number(input, 2) % 0x800;
		input_bytes(input, rig->machine.ram + at, 1 + (what >> 4));
		break;
	case 8:
		driver_kick(&rig->driver, 0);
		break;
	case 9:
		bring_up(rig, (uint8_t)input_number(input, 1));
		break;
	case 10:
		tamper(rig, input);
		break;
	default:
		fake_stop(rig->device);
		if (what & 0x80)
			rig->device->ops->reset(rig->device);
		rig->device->ops->start(rig->device, &err);
		break;
	}
	if (what & 0x10)
		settle(rig);
}

static void check_honest(struct rig *rig)
{
	struct ring_buffer buffer = {0x80000, 32, true};
	uint32_t written;
	uint64_t token;

	rig->device->ops->reset(rig->device);
	must(fake_host_doorbells(&rig->machine.host) == 0, "doorbells left after a reset");
	must(fake_host_routes(&rig->machine.host) == 0, "routes left after a reset");
	driver_probe(&rig->driver, &rig->machine, SLOT);
	bring_up(rig, 0);
	must(ring_driver_offer(&rig->ring, &buffer, 1, false, 9), "no room in a new ring");
	driver_kick(&rig->driver, 0);
	must(driver_await(&rig->ring, &token, &written) && token == 9 && written == 32,
		"an honest driver gets no answer");
	rig->device->ops->reset(rig->device);
	driver_probe(&rig->driver, &rig->machine, SLOT);
}

static void create(struct rig *rig)
{
	struct error err;

	log_set_level(LOG_LEVEL_ERROR);
	fake_machine_init(&rig->machine);
	must(rig_model_new(&rig->device, &rig->model, RIG_QUEUES,
		     VIRTIO_FEATURE(VIRTIO_F_RING_PACKED), &err) == 0,
		"model");
	must(rig->device->ops->realize(rig->device, &rig->machine.place, &err) == 0, "realize");
	rig->device->ops->start(rig->device, &err);
	driver_probe(&rig->driver, &rig->machine, SLOT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct rig rig;
	struct input input = {data, size};

	if (!rig.device)
		create(&rig);
	while (input.left)
		step(&rig, &input);
	settle(&rig);
	check_honest(&rig);
	madvise(rig.machine.ram, FAKE_RAM_SIZE, MADV_DONTNEED);
	return 0;
}
