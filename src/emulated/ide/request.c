/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests at the back end, on the I/O loop. A command is as many of them, one after the other, as
 * its buffer or its PRD table asks for.
 */
#include "base/checked.h"
#include "base/iov.h"
#include "emulated/ide/private.h"

static void ended_locked(struct ide_channel *channel)
{
	channel->in_flight = false;
	ide_settle_reset_locked(channel);
}

static enum block_op operation(enum ide_kind kind)
{
	if (kind == IDE_FLUSH)
		return BLOCK_FLUSH;
	return kind == IDE_PIO_OUT || kind == IDE_DMA_OUT ? BLOCK_WRITE : BLOCK_READ;
}

static bool is_dma(enum ide_kind kind)
{
	return kind == IDE_DMA_IN || kind == IDE_DMA_OUT;
}

/* 1: the piece is filled in; 0: the engine was stopped, the drive waits for it; negative: the
 * command has failed.
 *
 * Data go through the buffer: a guest that stops the engine may use its memory for something else
 * at once, and neither waits for a request that is under way nor meets its data. */
static int prepare_dma_locked(struct ide_channel *channel)
{
	int64_t bytes;

	if (!ide_dma_running(channel))
		return 0;
	bytes = ide_dma_gather_locked(channel);
	if (bytes > 0) {
		channel->piece.iov_len = (size_t)bytes;
		if (channel->transfer.kind == IDE_DMA_OUT)
			iov_copy_from(channel->segments, channel->segment_count, 0, channel->buffer,
				(size_t)bytes);
		return 1;
	}
	if (bytes < 0)
		ide_dma_error_locked(channel);
	else
		ide_dma_done_locked(channel);
	ide_fail_there_locked(channel, IDE_ERROR_ABRT);
	return -1;
}

static void done(struct block_request *request, int result);

void ide_hasten_locked(struct ide_channel *channel)
{
	if (channel->hurried)
		block_hurry(ide_active(channel)->block);
	if (channel->dropping)
		block_drop(ide_active(channel)->block);
}

/* False: there is nothing to wait for. */
static bool issue_locked(struct ide_channel *channel)
{
	struct ide_transfer *transfer = &channel->transfer;
	struct block_request *request = &channel->request;

	if (channel->resetting)
		return false;
	*request = (struct block_request){.kind = operation(transfer->kind),
		.durable = transfer->durable,
		.offset = transfer->offset,
		.segments = &channel->piece,
		.count = 1,
		.done = done};
	channel->piece = (struct iovec){channel->buffer, 0};
	if (is_dma(transfer->kind)) {
		if (prepare_dma_locked(channel) <= 0)
			return false;
	} else if (transfer->kind != IDE_FLUSH) {
		/* A write's bytes were counted when the guest was asked for them: the same. */
		transfer->filled = ide_chunk(transfer);
		channel->piece.iov_len = transfer->filled;
	}
	request->length = channel->piece.iov_len;
	block_submit(ide_active(channel)->block, request);
	ide_hasten_locked(channel);
	return true;
}

static void deliver_locked(struct ide_channel *channel)
{
	struct memory *memory = channel->ide->place->memory;
	const struct iovec *segments = channel->segments;

	iov_copy_to(segments, channel->segment_count, 0, channel->buffer, channel->piece.iov_len);
	for (unsigned i = 0; i < channel->segment_count; i++)
		memory_end(memory, segments[i].iov_base, segments[i].iov_len);
}

static void count_locked(struct ide_channel *channel, int result)
{
	static const struct {
		enum ide_count requests, bytes;
	} names[] = {
		[BLOCK_READ] = {IDE_READS, IDE_BYTES_READ},
		[BLOCK_WRITE] = {IDE_WRITES, IDE_BYTES_WRITTEN},
		[BLOCK_FLUSH] = {IDE_FLUSHES, IDE_FLUSHES},
	};
	const struct block_request *request = &channel->request;
	struct ide_drive *drive = ide_active(channel);

	ide_count(&drive->counts[names[request->kind].requests], 1);
	if (result < 0)
		ide_count(&drive->counts[IDE_ERRORS], 1);
	else if (request->kind != BLOCK_FLUSH)
		ide_count(&drive->counts[names[request->kind].bytes], request->length);
}

/* True: the command goes on with another request at once. */
static bool go_on_locked(struct ide_channel *channel)
{
	struct ide_transfer *transfer = &channel->transfer;

	if (transfer->kind == IDE_DMA_IN)
		deliver_locked(channel);
	transfer->offset += channel->request.length;
	transfer->left -= channel->request.length;
	if (transfer->kind == IDE_PIO_IN) {
		ide_offer_locked(channel);
		return false;
	}
	if (transfer->left == 0) {
		if (is_dma(transfer->kind))
			ide_dma_done_locked(channel);
		ide_complete_locked(channel);
		return false;
	}
	if (transfer->kind == IDE_PIO_OUT) {
		ide_ask_locked(channel);
		ide_interrupt_locked(channel, ide_active(channel));
		return false;
	}
	return true;
}

static void done(struct block_request *request, int result)
{
	struct ide_channel *channel = container_of(request, struct ide_channel, request);
	bool more = false;

	pthread_mutex_lock(&channel->lock);
	count_locked(channel, result);
	if (channel->resetting) {
		/* The guest has given the command up; its end is nobody's. */
	} else if (is_dma(channel->transfer.kind) && !ide_dma_same_run_locked(channel)) {
		/* The engine was stopped. Started again it has another table, for the same data. */
		more = issue_locked(channel);
	} else if (result < 0) {
		if (is_dma(channel->transfer.kind))
			ide_dma_done_locked(channel);
		ide_fail_there_locked(
			channel, request->kind == BLOCK_READ ? IDE_ERROR_UNC : IDE_ERROR_ABRT);
	} else {
		more = go_on_locked(channel) && issue_locked(channel);
	}
	if (!more)
		ended_locked(channel);
	pthread_mutex_unlock(&channel->lock);
	if (!more)
		ide_settle_rest(channel->ide);
}

static void start(struct loop_task *task)
{
	struct ide_channel *channel = container_of(task, struct ide_channel, task);
	bool ended;

	pthread_mutex_lock(&channel->lock);
	ended = !issue_locked(channel);
	if (ended)
		ended_locked(channel);
	pthread_mutex_unlock(&channel->lock);
	if (ended)
		ide_settle_rest(channel->ide);
}

void ide_submit_locked(struct ide_channel *channel)
{
	ide_active(channel)->status = IDE_STATUS_BSY;
	channel->in_flight = true;
	channel->task.run = start;
	loop_post(channel->ide->place->io, &channel->task);
}
