/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saved state: configuration space, then each channel: its drives, its registers, the bus master,
 * the command under way and, for PIO, what of the buffer is the guest's. No request is under way.
 */
#include "base/checked.h"
#include "emulated/ide/private.h"

#include <errno.h>

static void save_drive(const struct ide_drive *drive, struct state_writer *writer)
{
	state_put_u64(writer, drive->sectors);
	state_put_u16(writer, drive->heads);
	state_put_u16(writer, drive->track);
	state_put_u8(writer, drive->multiple);
	state_put_u8(writer, drive->mode);
	state_put_bool(writer, drive->write_cache);
	state_put_u8(writer, drive->status);
	state_put_u8(writer, drive->error);
}

static void save_transfer(const struct ide_transfer *transfer, struct state_writer *writer)
{
	state_put_u8(writer, (uint8_t)transfer->kind);
	state_put_u8(writer, transfer->drive);
	state_put_bool(writer, transfer->ext);
	state_put_bool(writer, transfer->chs);
	state_put_bool(writer, transfer->durable);
	state_put_u32(writer, transfer->block);
	state_put_u64(writer, transfer->offset);
	state_put_u64(writer, transfer->left);
	state_put_u32(writer, transfer->at);
	state_put_u32(writer, transfer->end);
	state_put_u32(writer, transfer->filled);
}

static void save_channel(const struct ide_channel *channel, struct state_writer *writer)
{
	const struct ide_bus_master *master = &channel->master;

	for (unsigned i = 0; i < ARRAY_SIZE(channel->drives); i++)
		save_drive(&channel->drives[i], writer);
	state_put_bytes(writer, channel->current, sizeof(channel->current));
	state_put_bytes(writer, channel->previous, sizeof(channel->previous));
	state_put_u8(writer, channel->device);
	state_put_u8(writer, channel->control);
	state_put_bool(writer, channel->pending);
	state_put_bool(writer, channel->line);
	state_put_bool(writer, channel->resetting);
	state_put_u8(writer, master->command);
	state_put_u8(writer, master->status);
	state_put_u32(writer, master->table);
	state_put_u32(writer, master->next);
	state_put_u32(writer, master->address);
	state_put_u32(writer, master->left);
	state_put_bool(writer, master->last);
	save_transfer(&channel->transfer, writer);
	state_put_bytes(writer, channel->buffer, channel->transfer.filled);
}

void ide_save(struct device *device, struct state_writer *writer)
{
	const struct ide *ide = container_of(device, struct ide, function.device);

	pci_save(&ide->function, writer);
	for (unsigned i = 0; i < IDE_CHANNELS; i++)
		save_channel(&ide->channels[i], writer);
}

static int restore_drive(struct ide_drive *drive, struct state_reader *reader)
{
	const uint64_t sectors = state_get_u64(reader);
	const unsigned heads = state_get_u16(reader), track = state_get_u16(reader);

	drive->multiple = state_get_u8(reader);
	drive->mode = state_get_u8(reader);
	drive->write_cache = state_get_bool(reader);
	drive->status = state_get_u8(reader);
	drive->error = state_get_u8(reader);
	if (reader->failed || !ide_set_geometry(drive, heads, track) ||
		drive->multiple > IDE_MULTIPLE_MAX || drive->mode > 0x22 ||
		(drive->mode && drive->mode < 0x20) ||
		(drive->multiple && !is_power_of_two(drive->multiple)))
		return -EINVAL;
	/* The default translation is not what INITIALIZE DEVICE PARAMETERS makes of its numbers. */
	if (heads == 16 && track == 63)
		ide_default_geometry(drive);
	return sectors == drive->sectors ? 0 : -ENXIO;
}

/* What the code that moves data relies on. */
static bool transfer_holds(const struct ide_transfer *transfer, const struct ide_channel *channel)
{
	const struct ide_drive *drive = &channel->drives[transfer->drive & 1];
	const uint64_t size = drive->sectors * IDE_SECTOR;

	if (transfer->drive > 1 || transfer->kind >= IDE_KINDS || transfer->filled > IDE_BUFFER)
		return false;
	if (transfer->kind == IDE_NONE)
		return true;
	/* Verifying and flushing never wait for the guest: they are never saved. */
	if (!drive->block || transfer->kind == IDE_VERIFY || transfer->kind == IDE_FLUSH ||
		!range_within(transfer->offset, transfer->left, size))
		return false;
	if (transfer->kind == IDE_DMA_IN || transfer->kind == IDE_DMA_OUT)
		return transfer->left > 0;
	return transfer->block >= IDE_SECTOR && transfer->block <= IDE_MULTIPLE_MAX * IDE_SECTOR &&
	       transfer->at < transfer->end && transfer->end <= transfer->filled &&
	       (transfer->kind == IDE_PIO_IN || transfer->filled == ide_chunk(transfer));
}

/* Without a request under way a drive is busy only while the guest holds it in reset, or while a
 * DMA command waits for the engine: any other would be busy for ever. */
static bool rest_holds(const struct ide_channel *channel)
{
	const enum ide_kind kind = channel->transfer.kind;
	const bool dma = (kind == IDE_DMA_IN || kind == IDE_DMA_OUT) && !ide_dma_running(channel);

	if (channel->resetting != ((channel->control & IDE_CONTROL_SRST) != 0))
		return false;
	for (unsigned i = 0; i < ARRAY_SIZE(channel->drives); i++)
		if ((channel->drives[i].status & IDE_STATUS_BSY) && !channel->resetting &&
			!(dma && channel->transfer.drive == i))
			return false;
	return true;
}

static void restore_transfer(struct ide_transfer *transfer, struct state_reader *reader)
{
	transfer->kind = (enum ide_kind)state_get_u8(reader);
	transfer->drive = state_get_u8(reader);
	transfer->ext = state_get_bool(reader);
	transfer->chs = state_get_bool(reader);
	transfer->durable = state_get_bool(reader);
	transfer->block = state_get_u32(reader);
	transfer->offset = state_get_u64(reader);
	transfer->left = state_get_u64(reader);
	transfer->at = state_get_u32(reader);
	transfer->end = state_get_u32(reader);
	transfer->filled = state_get_u32(reader);
}

static int restore_channel(struct ide_channel *channel, struct state_reader *reader)
{
	struct ide_bus_master *master = &channel->master;
	struct ide_transfer transfer;
	int ret = 0;

	for (unsigned i = 0; ret == 0 && i < ARRAY_SIZE(channel->drives); i++)
		ret = restore_drive(&channel->drives[i], reader);
	if (ret < 0)
		return ret;
	state_get_bytes(reader, channel->current, sizeof(channel->current));
	state_get_bytes(reader, channel->previous, sizeof(channel->previous));
	channel->device = state_get_u8(reader);
	channel->control = state_get_u8(reader);
	channel->pending = state_get_bool(reader);
	/* The interrupt controller restores its own view of the line. */
	channel->line = state_get_bool(reader);
	channel->resetting = state_get_bool(reader);
	master->command = state_get_u8(reader);
	master->status = state_get_u8(reader);
	master->table = state_get_u32(reader) & ~3U;
	master->next = state_get_u32(reader);
	master->address = state_get_u32(reader);
	master->left = state_get_u32(reader);
	master->last = state_get_bool(reader);
	restore_transfer(&transfer, reader);
	if (reader->failed || !transfer_holds(&transfer, channel))
		return -EINVAL;
	channel->transfer = transfer;
	if (!rest_holds(channel))
		return -EINVAL;
	state_get_bytes(reader, channel->buffer, transfer.filled);
	return reader->failed ? -EINVAL : 0;
}

int ide_restore(struct device *device, struct state_reader *reader, struct error *err)
{
	struct ide *ide = container_of(device, struct ide, function.device);
	int ret = pci_restore(&ide->function, reader, err);

	for (unsigned i = 0; ret == 0 && i < IDE_CHANNELS; i++) {
		ret = restore_channel(&ide->channels[i], reader);
		if (ret == -ENXIO)
			return error_set(err, EINVAL,
				"%s: was saved with disks of other sizes; give the same --disk "
				"options",
				device->name);
		if (ret < 0)
			return error_set(err, EINVAL, "%s: saved state is broken", device->name);
	}
	if (ret == 0)
		ide_follow_config(ide);
	return ret;
}
