/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses and counts in the registers: 28 and 48 bits, cylinders (ATA/ATAPI-6, 6.2). */
#include "base/checked.h"
#include "emulated/ide/private.h"

static uint8_t *register_pair(struct ide_channel *channel, bool previous)
{
	return previous ? channel->previous : channel->current;
}

static void put_lba28(struct ide_channel *channel, uint64_t lba)
{
	for (unsigned i = 0; i < 3; i++)
		channel->current[IDE_LBA_LOW + i] = (uint8_t)(lba >> 8 * i);
	channel->device =
		(uint8_t)((channel->device & ~IDE_DEVICE_HEAD) | (lba >> 24 & IDE_DEVICE_HEAD));
}

static void put_lba48(struct ide_channel *channel, uint64_t lba)
{
	for (unsigned i = 0; i < 6; i++)
		register_pair(channel, i >= 3)[IDE_LBA_LOW + i % 3] = (uint8_t)(lba >> 8 * i);
}

static void put_chs(struct ide_channel *channel, const struct ide_drive *drive, uint64_t lba)
{
	const uint64_t row = lba / drive->track;

	channel->current[IDE_LBA_LOW] = (uint8_t)(lba % drive->track + 1);
	channel->current[IDE_LBA_MID] = (uint8_t)(row / drive->heads);
	channel->current[IDE_LBA_HIGH] = (uint8_t)(row / drive->heads >> 8);
	channel->device = (uint8_t)((channel->device & ~IDE_DEVICE_HEAD) | row % drive->heads);
}

static uint64_t get_lba(struct ide_channel *channel, bool ext)
{
	uint64_t lba = 0;

	for (unsigned i = 0; i < (ext ? 6 : 3); i++)
		lba |= (uint64_t)register_pair(channel, i >= 3)[IDE_LBA_LOW + i % 3] << 8 * i;
	return ext ? lba : lba | (uint64_t)(channel->device & IDE_DEVICE_HEAD) << 24;
}

static bool get_chs(const struct ide_channel *channel, const struct ide_drive *drive, uint64_t *lba)
{
	const unsigned sector = channel->current[IDE_LBA_LOW];
	const unsigned head = channel->device & IDE_DEVICE_HEAD;
	const uint64_t cylinder =
		channel->current[IDE_LBA_MID] | (uint64_t)channel->current[IDE_LBA_HIGH] << 8;

	if (sector == 0 || sector > drive->track || head >= drive->heads ||
		cylinder >= drive->cylinders)
		return false;
	*lba = (cylinder * drive->heads + head) * drive->track + sector - 1;
	return true;
}

uint32_t ide_get_count_locked(const struct ide_channel *channel, bool ext)
{
	const uint32_t low = channel->current[IDE_COUNT];
	const uint32_t count = ext ? low | (uint32_t)channel->previous[IDE_COUNT] << 8 : low;

	if (count)
		return count;
	return ext ? 0x10000 : 0x100;
}

bool ide_get_address_locked(
	struct ide_channel *channel, const struct ide_drive *drive, bool ext, uint64_t *lba)
{
	if (!(channel->device & IDE_DEVICE_LBA))
		return get_chs(channel, drive, lba);
	*lba = get_lba(channel, ext);
	return true;
}

void ide_put_address_locked(struct ide_channel *channel, uint64_t lba, bool ext, bool chs)
{
	if (ext)
		put_lba48(channel, lba);
	else if (chs)
		put_chs(channel, ide_selected(channel), lba);
	else
		put_lba28(channel, lba);
}
