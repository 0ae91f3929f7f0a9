/* SPDX-License-Identifier: Apache-2.0 */
#include "ide_rig.h"

#include "base/bytes.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define SECTOR      512U
#define WAIT_LIMIT  20000000U /* looks; each gives the processor away */
#define CONFIG_BAR4 0x20
#define CONFIG_CMD  0x04
#define CMD_IO_BM   0x0005
#define MASTER_SPAN 8U

static bool fill(int fd, uint32_t sectors)
{
	uint8_t sector[SECTOR] = {0};

	for (uint32_t i = 0; i < sectors; i++) {
		store_le32(sector, i);
		store_le32(sector + SECTOR - 4, ~i);
		if (pwrite(fd, sector, SECTOR, (off_t)i * SECTOR) != SECTOR)
			return false;
	}
	return true;
}

static bool open_drive(struct ide_rig *rig, struct ide_options *options, unsigned index,
	uint32_t sectors, struct block_options file)
{
	char path[64];
	struct error err;

	rig->fds[index] = memfd_create("ide", MFD_CLOEXEC);
	if (rig->fds[index] < 0 || !fill(rig->fds[index], sectors))
		return false;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", rig->fds[index]);
	snprintf(options->drives[index].name, sizeof(options->drives[index].name), "disk%u", index);
	file.path = path;
	return block_open(&options->drives[index].block, &file, &err) == 0;
}

static bool init(struct ide_rig *rig, const uint32_t sectors[IDE_DRIVES_MAX],
	const struct block_options *file)
{
	struct ide_options options = {0};
	struct error err;

	memset(rig, 0, sizeof(*rig));
	fake_machine_init(&rig->machine);
	for (unsigned i = 0; i < IDE_DRIVES_MAX; i++) {
		rig->fds[i] = -1;
		if (sectors[i] && !open_drive(rig, &options, i, sectors[i], *file))
			return false;
	}
	if (ide_new(&rig->device, "ide0", &options, &err) < 0 ||
		rig->device->ops->realize(rig->device, &rig->machine.place, &err) < 0)
		return false;
	rig->device->ops->reset(rig->device);
	fake_guest_config_write(&rig->machine, IDE_RIG_SLOT, CONFIG_CMD, 2, CMD_IO_BM);
	rig->master =
		(uint16_t)(fake_guest_config_read(&rig->machine, IDE_RIG_SLOT, CONFIG_BAR4, 4) &
			   ~3U);
	return true;
}

bool ide_rig_init(struct ide_rig *rig, const uint32_t sectors[IDE_DRIVES_MAX], bool readonly)
{
	return init(rig, sectors, &(struct block_options){.readonly = readonly});
}

bool ide_rig_init_slow(struct ide_rig *rig, const uint32_t sectors[IDE_DRIVES_MAX], unsigned iops)
{
	return init(rig, sectors, &(struct block_options){.limits.operations.amount = iops});
}

void ide_rig_free(struct ide_rig *rig)
{
	fake_machine_end_device(&rig->machine, rig->device);
	fake_machine_free(&rig->machine);
	for (unsigned i = 0; i < IDE_DRIVES_MAX; i++)
		if (rig->fds[i] >= 0)
			close(rig->fds[i]);
}

uint32_t ide_in(struct ide_rig *rig, unsigned port, unsigned size)
{
	uint64_t value;

	bus_read(rig->machine.place.ports, port, size, &value);
	return (uint32_t)value;
}

void ide_out(struct ide_rig *rig, unsigned port, unsigned size, uint32_t value)
{
	bus_write(rig->machine.place.ports, port, size, value);
}

void ide_aim(
	struct ide_rig *rig, unsigned base, unsigned device, uint64_t lba, unsigned count, bool ext)
{
	if (ext) {
		ide_out(rig, base + R_COUNT, 1, count >> 8 & 0xff);
		for (unsigned i = 0; i < 3; i++)
			ide_out(rig, base + R_LOW + i, 1, (uint8_t)(lba >> (24 + 8 * i)));
	}
	ide_out(rig, base + R_COUNT, 1, count & 0xff);
	for (unsigned i = 0; i < 3; i++)
		ide_out(rig, base + R_LOW + i, 1, (uint8_t)(lba >> 8 * i));
	ide_out(rig, base + R_DEVICE, 1,
		0xe0 | device << 4 | (ext ? 0 : (unsigned)(lba >> 24) & 0xf));
}

uint8_t ide_await(struct ide_rig *rig, unsigned base)
{
	for (unsigned looks = 0; looks < WAIT_LIMIT; looks++) {
		uint32_t status = ide_in(rig, base + R_CONTROL, 1);

		if (!(status & BSY))
			return (uint8_t)status;
		sched_yield();
	}
	return 0xff;
}

void ide_prd(struct ide_rig *rig, unsigned index, uint32_t address, uint16_t length, bool last)
{
	uint8_t *entry = rig->machine.ram + IDE_RIG_PRDS + 8UL * index;

	store_le32(entry, address);
	store_le32(entry + 4, length | (last ? 0x80000000U : 0));
}

void ide_engine(struct ide_rig *rig, unsigned base, bool to_memory)
{
	unsigned master = rig->master + (base == IDE_SECONDARY ? MASTER_SPAN : 0);

	ide_out(rig, master, 1, to_memory ? 8 : 0);
	ide_out(rig, master + 2, 1, 6);
	ide_out(rig, master + 4, 4, IDE_RIG_PRDS);
	ide_out(rig, master, 1, to_memory ? 9 : 1);
}

static void wait_released(struct loop_task *task)
{
	struct ide_hold *hold = (struct ide_hold *)task;

	pthread_mutex_lock(&hold->lock);
	hold->holding = true;
	pthread_cond_broadcast(&hold->changed);
	while (!hold->released)
		pthread_cond_wait(&hold->changed, &hold->lock);
	hold->holding = false;
	pthread_cond_broadcast(&hold->changed);
	pthread_mutex_unlock(&hold->lock);
}

void ide_hold(struct ide_rig *rig, struct ide_hold *hold)
{
	*hold = (struct ide_hold){.task.run = wait_released};
	pthread_mutex_init(&hold->lock, NULL);
	pthread_cond_init(&hold->changed, NULL);
	loop_post(rig->machine.place.io, &hold->task);
	pthread_mutex_lock(&hold->lock);
	while (!hold->holding)
		pthread_cond_wait(&hold->changed, &hold->lock);
	pthread_mutex_unlock(&hold->lock);
}

void ide_let_go(struct ide_hold *hold)
{
	pthread_mutex_lock(&hold->lock);
	hold->released = true;
	pthread_cond_broadcast(&hold->changed);
	while (hold->holding)
		pthread_cond_wait(&hold->changed, &hold->lock);
	pthread_mutex_unlock(&hold->lock);
}

static void nothing(struct loop_task *task)
{
	(void)task;
}

void ide_settle(struct ide_rig *rig)
{
	struct loop_task barrier = {.run = nothing};

	loop_call(rig->machine.place.io, &barrier);
}
