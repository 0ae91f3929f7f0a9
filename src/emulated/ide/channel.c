/* SPDX-License-Identifier: Apache-2.0 */
/* A channel's registers (ATA/ATAPI-6, 7), its interrupt and its software reset. */
#include "base/checked.h"
#include "emulated/ide/private.h"

#include <string.h>

#define DEVICE_OBSOLETE 0xa0 /* bits that read as ones */

static void set_line_locked(struct ide_channel *channel)
{
	struct bus_host *host = channel->ide->place->host;
	bool level = channel->pending && !(channel->control & IDE_CONTROL_NIEN);

	if (level == channel->line)
		return;
	channel->line = level;
	if (level)
		channel->master.status |= 0x04; /* BMIS: INTRQ rose */
	host->ops->set_line(host, channel->gsi, level);
}

void ide_interrupt_locked(struct ide_channel *channel, struct ide_drive *drive)
{
	ide_count(&drive->counts[IDE_INTERRUPTS], 1);
	ide_count(&channel->interrupts, 1);
	channel->pending = true;
	set_line_locked(channel);
}

void ide_quiet_locked(struct ide_channel *channel)
{
	channel->pending = false;
	set_line_locked(channel);
}

void ide_signature_locked(struct ide_channel *channel)
{
	memset(channel->current, 0, sizeof(channel->current));
	memset(channel->previous, 0, sizeof(channel->previous));
	channel->current[IDE_COUNT] = channel->current[IDE_LBA_LOW] = 1;
	channel->device = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(channel->drives); i++) {
		channel->drives[i].status = IDE_STATUS_IDLE;
		channel->drives[i].error = IDE_DIAGNOSTIC_PASSED;
	}
}

void ide_settle_reset_locked(struct ide_channel *channel)
{
	if (!channel->resetting || channel->in_flight)
		return;
	channel->transfer = (struct ide_transfer){.kind = IDE_NONE};
	if (channel->control & IDE_CONTROL_SRST)
		return;
	channel->resetting = false;
	ide_signature_locked(channel);
}

static void begin_reset_locked(struct ide_channel *channel)
{
	channel->resetting = true;
	for (unsigned i = 0; i < ARRAY_SIZE(channel->drives); i++)
		channel->drives[i].status = IDE_STATUS_BSY;
	ide_quiet_locked(channel);
	ide_settle_reset_locked(channel);
}

/* What SRST leaves: settings made by SET FEATURES and SET MULTIPLE, and the translation. */
void ide_power_on_locked(struct ide_channel *channel)
{
	for (unsigned i = 0; i < ARRAY_SIZE(channel->drives); i++) {
		struct ide_drive *drive = &channel->drives[i];

		ide_default_geometry(drive);
		/* As a BIOS leaves it for the operating system, and there is none here. */
		drive->multiple = IDE_MULTIPLE_MAX;
		drive->mode = 0;
		drive->write_cache = true;
	}
	channel->transfer = (struct ide_transfer){.kind = IDE_NONE};
	channel->master = (struct ide_bus_master){.command = 0};
	channel->resetting = false;
	channel->control = 0;
	ide_signature_locked(channel);
	ide_quiet_locked(channel);
}

static void write_control_locked(struct ide_channel *channel, uint8_t value)
{
	uint8_t before = channel->control;

	channel->control = value;
	if ((value & IDE_CONTROL_SRST) && !(before & IDE_CONTROL_SRST))
		begin_reset_locked(channel);
	else
		ide_settle_reset_locked(channel);
	set_line_locked(channel);
}

/* No register but the control register listens while a drive works. */
static bool busy(const struct ide_channel *channel)
{
	return (channel->drives[0].status | channel->drives[1].status) & IDE_STATUS_BSY;
}

static void write_byte_locked(struct ide_channel *channel, unsigned number, uint8_t value)
{
	ide_count(&channel->register_writes[number], 1);
	channel->control &= (uint8_t)~IDE_CONTROL_HOB;
	if (busy(channel))
		return;
	if (number == IDE_STATUS) {
		ide_command_locked(channel, value);
	} else if (number == IDE_DEVICE) {
		channel->device = value;
	} else {
		channel->previous[number] = channel->current[number];
		channel->current[number] = value;
	}
}

static uint8_t read_byte_locked(struct ide_channel *channel, unsigned number)
{
	const struct ide_drive *drive = ide_selected(channel);
	const bool hob = channel->control & IDE_CONTROL_HOB;

	ide_count(&channel->register_reads[number], 1);
	/* Drive 0 answers for an absent drive 1 with zeros (9.16.1). Drive 0 is never the absent
	 * one of two. */
	if (!drive->block)
		return channel->drives[0].block ? 0 : 0xff;
	switch (number) {
	case IDE_STATUS:
		ide_quiet_locked(channel);
		return drive->status;
	case IDE_CONTROL:
		return drive->status;
	case IDE_DEVICE:
		return channel->device | DEVICE_OBSOLETE;
	case IDE_ERROR:
		return hob ? 0 : drive->error;
	default:
		return hob ? channel->previous[number] : channel->current[number];
	}
}

static uint64_t read_command_block(void *opaque, uint64_t offset, unsigned size)
{
	struct ide_channel *channel = opaque;
	uint64_t value = 0;

	if (!atomic_load_explicit(&channel->decoded, memory_order_relaxed))
		return UINT64_MAX;
	pthread_mutex_lock(&channel->lock);
	if (offset == IDE_DATA) {
		ide_count(&channel->register_reads[IDE_DATA], 1);
		value = ide_data_read_locked(channel, size);
	} else {
		/* The ISA bus makes bytes of it. */
		for (unsigned i = 0; i < size; i++)
			value |= (uint64_t)read_byte_locked(channel, (unsigned)offset + i) << 8 * i;
	}
	pthread_mutex_unlock(&channel->lock);
	return value;
}

static void write_command_block(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct ide_channel *channel = opaque;

	if (!atomic_load_explicit(&channel->decoded, memory_order_relaxed))
		return;
	pthread_mutex_lock(&channel->lock);
	if (offset == IDE_DATA) {
		ide_count(&channel->register_writes[IDE_DATA], 1);
		ide_data_write_locked(channel, size, value);
	} else {
		for (unsigned i = 0; i < size; i++)
			write_byte_locked(channel, (unsigned)offset + i, (uint8_t)(value >> 8 * i));
	}
	pthread_mutex_unlock(&channel->lock);
}

const struct bus_ops ide_command_block_ops = {
	.read = read_command_block, .write = write_command_block};

static uint64_t read_control_block(void *opaque, uint64_t offset, unsigned size)
{
	struct ide_channel *channel = opaque;
	uint64_t value;

	(void)offset;
	(void)size;
	if (!atomic_load_explicit(&channel->decoded, memory_order_relaxed))
		return UINT64_MAX;
	pthread_mutex_lock(&channel->lock);
	value = read_byte_locked(channel, IDE_CONTROL);
	pthread_mutex_unlock(&channel->lock);
	return value;
}

static void write_control_block(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct ide_channel *channel = opaque;

	(void)offset;
	(void)size;
	if (!atomic_load_explicit(&channel->decoded, memory_order_relaxed))
		return;
	pthread_mutex_lock(&channel->lock);
	ide_count(&channel->register_writes[IDE_CONTROL], 1);
	write_control_locked(channel, (uint8_t)value);
	pthread_mutex_unlock(&channel->lock);
}

const struct bus_ops ide_control_block_ops = {
	.read = read_control_block, .write = write_control_block};
