/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest at the IDE controller's registers, ports and configuration space alike, with memory that
 * changes while the engines run and saved state that was tampered with, on files in memory behind
 * the real io_uring. Afterwards a software reset must end in bounded time and an honest read must
 * work.
 */
#include "ide_rig.h"
#include "input.h"

#include "base/bytes.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define STEPS   200
#define SECTOR  512U
#define SECTORS 600U
#define BURST   300

static const uint32_t disks[IDE_DRIVES_MAX] = {SECTORS, SECTORS / 2, 64, 0};

static void must(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "fuzz: %s\n", what);
	abort();
}

static unsigned port_of(const struct ide_rig *rig, uint8_t what)
{
	const unsigned base = what & 0x10 ? IDE_SECONDARY : IDE_PRIMARY;

	if (what & 8)
		return rig->master + (what & 0x17 & 7) + (what & 0x10 ? 8 : 0);
	return base + (what & 7);
}

static unsigned size_of_access(uint8_t what)
{
	return 1U << (what >> 5) % 3;
}

/* Commands that do something, and now and then any. */
static uint8_t code_of(uint8_t byte)
{
	static const uint8_t codes[] = {0x20, 0x24, 0x25, 0x27, 0x29, 0x30, 0x34, 0x35, 0x39, 0x3d,
		0x40, 0x42, 0x90, 0x91, 0xc4, 0xc5, 0xc6, 0xc8, 0xca, 0xce, 0xe7, 0xec, 0xef, 0xf8};

	return byte < 0xc0 ? codes[byte % sizeof(codes)] : byte;
}

static void issue(struct ide_rig *rig, struct input *input)
{
	const uint8_t what = (uint8_t)input_number(input, 1);
	const unsigned base = what & 1 ? IDE_SECONDARY : IDE_PRIMARY;

	if (what & 2)
		ide_aim(rig, base, what >> 2 & 1, input_number(input, 2) % (SECTORS + 8),
			(unsigned)input_number(input, 2) % (what & 8 ? 0x10000 : 40), what & 16);
	ide_out(rig, base + R_STATUS, 1, code_of((uint8_t)input_number(input, 1)));
	if (what & 32)
		ide_engine(rig, base, what & 64);
}

/* Many words at the data port. */
static void burst(struct ide_rig *rig, struct input *input)
{
	const uint8_t what = (uint8_t)input_number(input, 1);
	const unsigned base = what & 1 ? IDE_SECONDARY : IDE_PRIMARY;
	const unsigned size = size_of_access(what);

	for (unsigned i = (unsigned)input_number(input, 2) % BURST; i; i--) {
		if (what & 2)
			ide_out(rig, base, size, i * 0x01010101U);
		else
			ide_in(rig, base, size);
	}
}

static void scribble(struct ide_rig *rig, struct input *input)
{
	const uint8_t what = (uint8_t)input_number(input, 1);

	if (what & 0x80)
		ide_prd(rig, what & 0x3f,
			(uint32_t)input_number(input, 4) & (what & 1 ? UINT32_MAX : 0x1ffffff),
			(uint16_t)input_number(input, 2), what & 0x40);
	else
		ide_prd(rig, what & 0x3f, (uint32_t)(IDE_RIG_DATA + input_number(input, 2)),
			(uint16_t)input_number(input, 2), what & 0x40);
}

static void configure(struct ide_rig *rig, struct input *input)
{
	const uint8_t what = (uint8_t)input_number(input, 1);
	const unsigned at = what & 0x80 ? 0x40 : 0x04;

	fake_guest_config_write(
		&rig->machine, IDE_RIG_SLOT, at + (what & 6), 2, (uint32_t)input_number(input, 2));
}

/* Saves, changes some bytes and restores; a stream that is refused ends in a reset. */
static void restore_changed(struct ide_rig *rig, struct input *input)
{
	struct device *device = rig->device;
	struct state_writer writer;
	struct state_reader reader;
	struct error err;

	fake_stop(device);
	state_writer_init(&writer);
	state_section_begin(&writer, "ide", 1);
	device->ops->save(device, &writer);
	state_section_close(&writer);
	must(state_writer_finish(&writer) == 0, "save");
	must(state_reader_init(&reader, writer.bytes, writer.length, &err) == 0, "read");
	must(state_section_next(&reader, &err) == 1, "section");
	for (unsigned i = (unsigned)input_number(input, 1) & 7; i; i--) {
		size_t at = input_number(input, 2) % (reader.section_end - reader.at);

		writer.bytes[reader.at + at] = (uint8_t)input_number(input, 1);
	}
	if (device->ops->restore(device, &reader, &err) < 0)
		device->ops->reset(device);
	state_writer_free(&writer);
}

static void outside(struct ide_rig *rig, struct input *input)
{
	const uint8_t what = (uint8_t)input_number(input, 1);
	struct error err;

	if (what & 1) {
		must(ftruncate(rig->fds[0], (off_t)((what & 2 ? SECTORS : what) * SECTOR)) == 0,
			"truncate");
	} else if (what & 2) {
		fake_stop(rig->device);
		if (rig->device->ops->start)
			rig->device->ops->start(rig->device, &err);
	} else if (what & 4) {
		rig->device->ops->reset(rig->device);
	} else if (what & 8) {
		restore_changed(rig, input);
	} else {
		ide_settle(rig);
	}
}

static void step(struct ide_rig *rig, struct input *input)
{
	const uint8_t kind = (uint8_t)input_number(input, 1);
	uint8_t what;

	switch (kind & 15) {
	case 0 ... 3:
		issue(rig, input);
		break;
	case 4 ... 6:
		burst(rig, input);
		break;
	case 7 ... 8:
		scribble(rig, input);
		break;
	case 9:
		configure(rig, input);
		break;
	case 10:
		outside(rig, input);
		break;
	case 11:
		ide_out(rig, (kind & 0x10 ? IDE_SECONDARY : IDE_PRIMARY) + R_CONTROL, 1,
			(uint32_t)input_number(input, 1));
		break;
	case 12:
		what = (uint8_t)input_number(input, 1);
		ide_in(rig, port_of(rig, what), size_of_access(what));
		break;
	default:
		what = (uint8_t)input_number(input, 1);
		ide_out(rig, port_of(rig, what), size_of_access(what),
			(uint32_t)input_number(input, size_of_access(what)));
		break;
	}
}

static void honest_read(struct ide_rig *rig, unsigned base)
{
	must(ftruncate(rig->fds[0], SECTORS * SECTOR) == 0, "truncate");
	fake_guest_config_write(&rig->machine, IDE_RIG_SLOT, 4, 2, 5);
	fake_guest_config_write(&rig->machine, IDE_RIG_SLOT, 0x40, 4, 0x80008000);
	ide_out(rig, base + R_CONTROL, 1, 4);
	ide_out(rig, base + R_CONTROL, 1, 0);
	must(ide_await(rig, base) == IDLE, "a reset does not end");
	ide_aim(rig, base, 0, 3, 1, false);
	ide_out(rig, base + R_STATUS, 1, 0x20);
	must(ide_await(rig, base) == (IDLE | DRQ), "an honest read fails");
	for (unsigned i = 0; i < SECTOR; i += 4)
		ide_in(rig, base, 4);
	must(ide_await(rig, base) == IDLE, "an honest read does not end");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct ide_rig rig;
	struct input input = {data, size};

	if (!rig.device) {
		log_set_level(LOG_LEVEL_ERROR);
		must(ide_rig_init(&rig, disks, false), "create");
	}
	rig.device->ops->reset(rig.device);
	fake_guest_config_write(&rig.machine, IDE_RIG_SLOT, 4, 2, 5);
	for (unsigned i = 0; input.left && i < STEPS; i++)
		step(&rig, &input);
	honest_read(&rig, IDE_PRIMARY);
	honest_read(&rig, IDE_SECONDARY);
	rig.device->ops->reset(rig.device);
	madvise(rig.machine.ram, FAKE_RAM_SIZE, MADV_DONTNEED);
	return 0;
}
