/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The data port. A request at the back end fills or empties the channel's buffer, as a drive's own
 * cache would; the guest takes or gives it in blocks of one sector or, in the MULTIPLE forms, of
 * several, with an interrupt for each.
 */
#include "base/bytes.h"
#include "base/checked.h"
#include "emulated/ide/private.h"

uint32_t ide_chunk(const struct ide_transfer *transfer)
{
	return (uint32_t)min_u64(transfer->left, IDE_BUFFER);
}

static void begin_block_locked(struct ide_channel *channel)
{
	struct ide_transfer *transfer = &channel->transfer;

	transfer->end = (uint32_t)min_u64(transfer->at + transfer->block, transfer->filled);
	ide_active(channel)->status = IDE_STATUS_IDLE | IDE_STATUS_DRQ;
}

void ide_offer_locked(struct ide_channel *channel)
{
	channel->transfer.at = 0;
	begin_block_locked(channel);
	ide_interrupt_locked(channel, ide_active(channel));
}

/* For a command's first block there is no interrupt: the guest polls (9.6). */
void ide_ask_locked(struct ide_channel *channel)
{
	channel->transfer.at = 0;
	channel->transfer.filled = ide_chunk(&channel->transfer);
	begin_block_locked(channel);
}

static void block_taken_locked(struct ide_channel *channel)
{
	struct ide_transfer *transfer = &channel->transfer;

	if (transfer->at < transfer->filled) {
		begin_block_locked(channel);
		ide_interrupt_locked(channel, ide_active(channel));
	} else if (transfer->left) {
		ide_submit_locked(channel);
	} else {
		/* The last block's interrupt has been: the end has none of its own. */
		ide_active(channel)->status = IDE_STATUS_IDLE;
		transfer->kind = IDE_NONE;
	}
}

static void block_given_locked(struct ide_channel *channel)
{
	struct ide_transfer *transfer = &channel->transfer;

	if (transfer->at == transfer->filled) {
		ide_submit_locked(channel);
		return;
	}
	begin_block_locked(channel);
	ide_interrupt_locked(channel, ide_active(channel));
}

/* The bytes at the port, of @size at most; 0: it is not open in this direction. */
static uint32_t open_bytes(struct ide_channel *channel, enum ide_kind kind, unsigned size)
{
	const struct ide_transfer *transfer = &channel->transfer;

	if (transfer->kind != kind || ide_selected(channel) != ide_active(channel) ||
		!(ide_active(channel)->status & IDE_STATUS_DRQ))
		return 0;
	return (uint32_t)min_u64(size, transfer->end - transfer->at);
}

uint64_t ide_data_read_locked(struct ide_channel *channel, unsigned size)
{
	struct ide_transfer *transfer = &channel->transfer;
	const uint32_t bytes = open_bytes(channel, IDE_PIO_IN, size);
	uint64_t value = 0;

	if (bytes == 0)
		return UINT64_MAX;
	ide_count(&ide_active(channel)->counts[IDE_PIO_ACCESSES], 1);
	if (bytes == size)
		value = load_le(channel->buffer + transfer->at, size);
	else
		for (unsigned i = 0; i < bytes; i++)
			value |= (uint64_t)channel->buffer[transfer->at + i] << 8 * i;
	transfer->at += bytes;
	if (transfer->at == transfer->end)
		block_taken_locked(channel);
	return value;
}

void ide_data_write_locked(struct ide_channel *channel, unsigned size, uint64_t value)
{
	struct ide_transfer *transfer = &channel->transfer;
	const uint32_t bytes = open_bytes(channel, IDE_PIO_OUT, size);

	if (bytes == 0)
		return;
	ide_count(&ide_active(channel)->counts[IDE_PIO_ACCESSES], 1);
	if (bytes == size)
		store_le(channel->buffer + transfer->at, size, value);
	else
		for (unsigned i = 0; i < bytes; i++)
			channel->buffer[transfer->at + i] = (uint8_t)(value >> 8 * i);
	transfer->at += bytes;
	if (transfer->at == transfer->end)
		block_given_locked(channel);
}
