/* SPDX-License-Identifier: Apache-2.0 */
#include "device_fuzz.h"

#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define SLOT       1
#define RING_BASE  0x10000ULL
#define RING_ROOM  0x8000ULL
#define RINGS_SIZE (FUZZ_QUEUES * RING_ROOM)
#define BUFFERS    12
#define STEPS      256

void device_fuzz_must(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "fuzz: %s\n", what);
	abort();
}

static void reset_machine(struct device_fuzz *fuzz)
{
	struct error err;

	fake_machine_stop(&fuzz->machine, fuzz->device);
	fuzz->device->ops->reset(fuzz->device);
	fuzz->device->ops->start(fuzz->device, &err);
	driver_probe(&fuzz->driver, &fuzz->machine, SLOT);
	fuzz->displaced = false;
}

/* @kind: 0 to 2 the rings, 3 to 4 their size, 5 all features or some. */
static void bring_up(struct device_fuzz *fuzz, uint8_t kind, uint64_t mask)
{
	struct virtqueue_setup setup = {.size = (uint16_t)(8U << (kind >> 3 & 3)),
		.packed = kind & 1,
		.event_idx = kind & 2,
		.indirect = kind & 4};
	uint64_t features = fuzz->offered & fuzz->target->features & mask;

	features |= VIRTIO_FEATURE(VIRTIO_F_VERSION_1);
	features |= setup.packed ? VIRTIO_FEATURE(VIRTIO_F_RING_PACKED) : 0;
	features |= setup.event_idx ? VIRTIO_FEATURE(VIRTIO_F_EVENT_IDX) : 0;
	features |= setup.indirect ? VIRTIO_FEATURE(VIRTIO_F_INDIRECT_DESC) : 0;
	if (fuzz->displaced)
		reset_machine(fuzz);
	device_fuzz_must(driver_reset(&fuzz->driver), "the device does not reset");
	device_fuzz_must(driver_negotiate(&fuzz->driver, features), "features refused");
	driver_msix(&fuzz->driver, fuzz->target->queues + 1);
	for (unsigned i = 0; i < fuzz->target->queues; i++)
		driver_queue(&fuzz->driver, i, &fuzz->rings[i], RING_BASE + RING_ROOM * i, &setup,
			(uint16_t)(i + 1));
	driver_ok(&fuzz->driver);
}

static uint64_t buffer_address(struct input *input, uint8_t shape)
{
	/* Now and then outside memory, at its end, or on the rings. */
	if (shape < 4)
		return FAKE_RAM_SIZE - 64 + input_number(input, 1);
	if (shape < 8)
		return RING_BASE + input_number(input, 2);
	return FUZZ_DATA + input_number(input, 2) % FUZZ_ROOM;
}

static uint32_t buffer_length(struct input *input, uint8_t shape)
{
	static const uint32_t usual[] = {1, 4, 12, 16, 20, 512, 1024, 1526, 4096, 65536};

	if (shape & 1)
		return (uint32_t)input_number(input, 2);
	if (shape == 2)
		return (uint32_t)input_number(input, 4);
	return usual[(shape >> 1) % ARRAY_SIZE(usual)];
}

static void offer(struct device_fuzz *fuzz, struct input *input)
{
	unsigned queue = (unsigned)input_number(input, 1) % fuzz->target->queues;
	uint8_t shape = (uint8_t)input_number(input, 1);
	unsigned count = shape % BUFFERS + 1, readable = (shape >> 4) % (count + 1);
	bool indirect = fuzz->rings[queue].setup.indirect && (shape & 8);
	struct ring_buffer buffers[BUFFERS];

	for (unsigned i = 0; i < count; i++) {
		uint8_t kind = (uint8_t)input_number(input, 1);

		buffers[i] = (struct ring_buffer){buffer_address(input, kind),
			buffer_length(input, kind >> 3), i >= readable};
	}
	/* Most requests begin as they should. */
	if (readable && !(shape & 0x80) && fuzz->target->head) {
		buffers[0] = (struct ring_buffer){
			FUZZ_DATA, fuzz->target->head_size ? fuzz->target->head_size : 16, false};
		fuzz->target->head(fuzz, input, fuzz->machine.ram + FUZZ_DATA);
	}
	ring_driver_offer(&fuzz->rings[queue], buffers, count, indirect, 1);
	if (shape & 0x40)
		driver_kick(&fuzz->driver, queue);
}

static void scribble(struct device_fuzz *fuzz, struct input *input, uint8_t what)
{
	uint64_t base = what & 0x80 ? RING_BASE : FUZZ_DATA;
	uint64_t room = what & 0x80 ? RINGS_SIZE : FUZZ_ROOM;
	uint64_t at = base + input_number(input, 3) % room;

	input_bytes(input, fuzz->machine.ram + at, 1 + (what >> 3 & 7));
}

static void stop_and_go(struct device_fuzz *fuzz)
{
	struct error err;

	fake_machine_stop(&fuzz->machine, fuzz->device);
	fuzz->device->ops->start(fuzz->device, &err);
}

/* ---- saved state ---- */

static void save(struct device_fuzz *fuzz, struct state_writer *writer, bool whole)
{
	struct virtio_device *model = virtio_pci_model(fuzz->device);

	state_writer_init(writer);
	state_section_begin(writer, "device", 1);
	if (whole)
		fuzz->device->ops->save(fuzz->device, writer);
	else if (model->ops->save)
		model->ops->save(model, writer);
	state_section_close(writer);
	device_fuzz_must(state_writer_finish(writer) == 0, "saved state");
}

/* Behind the checksum's back. Whether it is another one now. */
static bool damage(struct state_writer *writer, struct state_reader *reader, struct input *input)
{
	uint8_t how = (uint8_t)input_number(input, 1);
	size_t length = reader->section_end - reader->at;
	bool other = false;

	for (unsigned i = 0; i < (how & 7U) && length; i++) {
		size_t at = reader->at + input_number(input, 2) % length;
		uint8_t change = (uint8_t)input_number(input, 1);

		writer->bytes[at] ^= change;
		other |= change != 0;
	}
	if (how & 0x80 && length) {
		reader->section_end -= 1 + input_number(input, 2) % length;
		other = true;
	}
	return other;
}

static int restore(struct device_fuzz *fuzz, struct state_reader *reader, bool whole)
{
	struct virtio_device *model = virtio_pci_model(fuzz->device);
	struct error err = {0};
	int ret = 0;

	if (whole)
		ret = fuzz->device->ops->restore(fuzz->device, reader, &err);
	else if (model->ops->restore)
		ret = model->ops->restore(model, reader, &err);
	device_fuzz_must(ret >= 0 || err.text[0], "refused without a word");
	return reader->failed ? -EINVAL : ret;
}

/* @whole: the transport's part, too, which may have its BARs elsewhere afterwards. What is refused
 * is reset here; a machine would not run with it. */
static void save_and_restore(struct device_fuzz *fuzz, struct input *input, bool whole)
{
	struct state_writer writer;
	struct state_reader reader;
	struct error err;
	bool other;

	fake_machine_stop(&fuzz->machine, fuzz->device);
	save(fuzz, &writer, whole);
	device_fuzz_must(state_reader_init(&reader, writer.bytes, writer.length, &err) == 0 &&
				 state_section_next(&reader, &err) == 1,
		"saved state");
	other = damage(&writer, &reader, input);
	if (restore(fuzz, &reader, whole) < 0) {
		device_fuzz_must(other, "its own state is refused");
		fuzz->device->ops->reset(fuzz->device);
	}
	state_writer_free(&writer);
	fuzz->displaced |= whole && other;
	driver_probe(&fuzz->driver, &fuzz->machine, SLOT);
	fuzz->device->ops->start(fuzz->device, &err);
}

static void step(struct device_fuzz *fuzz, struct input *input)
{
	uint8_t what = (uint8_t)input_number(input, 1);
	uint64_t at;

	switch (what & 7) {
	case 0:
	case 1:
	case 2:
		offer(fuzz, input);
		break;
	case 3:
		driver_kick(&fuzz->driver, (unsigned)input_number(input, 1) % fuzz->target->queues);
		break;
	case 4:
		scribble(fuzz, input, what);
		break;
	case 5:
		at = fuzz->driver.config + (input_number(input, 1) & 0x7f);
		if (what & 0x80)
			fake_guest_write(
				&fuzz->machine, at, input_size(input), input_number(input, 4));
		else
			fake_guest_read(&fuzz->machine, at, input_size(input));
		break;
	case 6:
		if (fuzz->target->outside)
			fuzz->target->outside(fuzz, input);
		break;
	default:
		if (what & 0x80)
			bring_up(fuzz, (uint8_t)input_number(input, 1), input_number(input, 8));
		else if ((what & 0x60) == 0x60)
			save_and_restore(fuzz, input, what & 0x10);
		else if (what & 0x40)
			stop_and_go(fuzz);
		else
			fake_machine_round(&fuzz->machine);
		break;
	}
}

static void create(struct device_fuzz *fuzz)
{
	struct error err;

	log_set_level(LOG_LEVEL_ERROR);
	fake_machine_init_here(&fuzz->machine);
	device_fuzz_must(fuzz->target->create(fuzz, &err) == 0, "create");
	device_fuzz_must(fuzz->device->ops->realize(fuzz->device, &fuzz->machine.place, &err) == 0,
		"realize");
	fuzz->device->ops->start(fuzz->device, &err);
	driver_probe(&fuzz->driver, &fuzz->machine, SLOT);
	fuzz->offered = driver_features(&fuzz->driver);
}

bool device_fuzz_request(struct device_fuzz *fuzz, unsigned queue,
	const struct ring_buffer *buffers, unsigned count, uint32_t *written)
{
	uint64_t token;

	if (!ring_driver_offer(&fuzz->rings[queue], buffers, count, false, 5))
		return false;
	driver_kick(&fuzz->driver, queue);
	return driver_await(&fuzz->rings[queue], &token, written) && token == 5;
}

void device_fuzz_one(struct device_fuzz *fuzz, const struct device_fuzz_target *target,
	const uint8_t *data, size_t size)
{
	struct input input = {data, size};

	fuzz->target = target;
	if (!fuzz->device)
		create(fuzz);
	bring_up(fuzz, (uint8_t)input_number(&input, 1), UINT64_MAX);
	for (unsigned i = 0; input.left && i < STEPS; i++)
		step(fuzz, &input);
	bring_up(fuzz, 8, UINT64_MAX);
	device_fuzz_must(target->honest(fuzz), "an honest driver gets no answer");
	device_fuzz_must(driver_reset(&fuzz->driver), "the device does not reset");
	madvise(fuzz->machine.ram, FAKE_RAM_SIZE, MADV_DONTNEED);
}
