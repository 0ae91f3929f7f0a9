/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bus-master DMA (82371SB data sheet, bus master IDE): eight bytes of registers per channel, and a
 * table of physical region descriptors in guest memory. Each descriptor is read once; its copy is
 * checked and used.
 */
#include "base/bytes.h"
#include "base/checked.h"
#include "emulated/ide/private.h"

#include <errno.h>

#define BM_SPAN   8 /* ports per channel */
#define BM_BMIC   0
#define BM_BMIS   2
#define BM_BMIDTP 4

#define BMIC_START          0x01
#define BMIC_TO_MEMORY      0x08
#define BMIS_ACTIVE         0x01
#define BMIS_ERROR          0x02
#define BMIS_INTERRUPT      0x04
#define BMIS_WRITE_1_CLEAR  (BMIS_ERROR | BMIS_INTERRUPT)
#define BMIS_CAPABLE        0x60 /* for the guest's own use */
#define PRD_SIZE            8U
#define PRD_LAST            0x80000000U
#define PRD_LENGTH(control) ((((control)&0xfffe) ? ((control)&0xfffe) : 0x10000U))

bool ide_dma_running(const struct ide_channel *channel)
{
	return channel->master.command & BMIC_START;
}

bool ide_dma_same_run_locked(const struct ide_channel *channel)
{
	return ide_dma_running(channel) && channel->run == channel->master.runs;
}

/* The next descriptor. */
static int fetch_locked(struct ide_channel *channel)
{
	struct ide_bus_master *master = &channel->master;
	uint8_t entry[PRD_SIZE];
	uint32_t control;

	if (memory_read(channel->ide->place->memory, GPA(master->next), entry, sizeof(entry)) < 0)
		return -EFAULT;
	control = load_le32(entry + 4);
	master->next += PRD_SIZE;
	master->address = load_le32(entry) & ~1U;
	master->left = PRD_LENGTH(control);
	master->last = control & PRD_LAST;
	return 0;
}

static int take_segment_locked(struct ide_channel *channel, uint64_t wanted, struct iovec *segment)
{
	struct ide_bus_master *master = &channel->master;
	int ret = master->left == 0 ? fetch_locked(channel) : 0;
	const uint32_t length = (uint32_t)min_u64(master->left, wanted);

	if (ret < 0)
		return ret;
	segment->iov_base = memory_begin(channel->ide->place->memory, GPA(master->address), length);
	segment->iov_len = length;
	if (!segment->iov_base)
		return -EFAULT;
	master->address += length;
	master->left -= length;
	return 0;
}

int64_t ide_dma_gather_locked(struct ide_channel *channel)
{
	struct ide_bus_master *master = &channel->master;
	const bool to_memory = channel->transfer.kind == IDE_DMA_IN;
	const uint64_t wanted = min_u64(channel->transfer.left, IDE_DMA_MOST);
	uint64_t bytes = 0;
	unsigned used = 0;

	if (to_memory != ((master->command & BMIC_TO_MEMORY) != 0) ||
		!atomic_load_explicit(&channel->ide->bus_master, memory_order_relaxed))
		return -EINVAL;
	while (bytes < wanted && used < IDE_SEGMENTS && !(master->left == 0 && master->last)) {
		int ret = take_segment_locked(channel, wanted - bytes, &channel->segments[used]);

		if (ret < 0)
			return ret;
		bytes += channel->segments[used++].iov_len;
	}
	channel->segment_count = used;
	channel->run = master->runs;
	return (int64_t)bytes;
}

/* A table with more room than the drive has bytes leaves the engine active. */
void ide_dma_done_locked(struct ide_channel *channel)
{
	if (channel->master.left == 0 && channel->master.last)
		channel->master.status &= (uint8_t)~BMIS_ACTIVE;
}

void ide_dma_error_locked(struct ide_channel *channel)
{
	struct ide *ide = channel->ide;

	channel->master.status = (uint8_t)((channel->master.status & ~BMIS_ACTIVE) | BMIS_ERROR);
	log_guest(&ide->log, ide->function.device.name,
		"the PRD table at 0x%x cannot be followed: it names what is not memory, or bus "
		"mastering is off or the wrong way round",
		channel->master.table);
}

void ide_dma_start_locked(struct ide_channel *channel)
{
	const enum ide_kind kind = channel->transfer.kind;

	if ((kind != IDE_DMA_IN && kind != IDE_DMA_OUT) || channel->in_flight ||
		channel->resetting || !ide_dma_running(channel))
		return;
	ide_count(&ide_active(channel)->counts[IDE_DMA_TRANSFERS], 1);
	ide_submit_locked(channel);
}

static void engine_on_locked(struct ide_channel *channel)
{
	struct ide_bus_master *master = &channel->master;

	master->next = master->table;
	master->left = 0;
	master->last = false;
	master->status |= BMIS_ACTIVE;
	master->runs++;
	ide_dma_start_locked(channel);
}

static void write_bmic_locked(struct ide_channel *channel, uint8_t value)
{
	struct ide_bus_master *master = &channel->master;
	const bool was = ide_dma_running(channel);

	/* The direction stays while the engine runs. */
	if (was)
		value = (uint8_t)((value & ~BMIC_TO_MEMORY) | (master->command & BMIC_TO_MEMORY));
	master->command = value & (BMIC_START | BMIC_TO_MEMORY);
	if (!was && (value & BMIC_START))
		engine_on_locked(channel);
	if (was && !(value & BMIC_START))
		master->status &= (uint8_t)~BMIS_ACTIVE;
}

static void write_bmidtp_locked(struct ide_channel *channel, unsigned byte, uint8_t value)
{
	const unsigned shift = 8 * byte;
	uint32_t table = channel->master.table;

	table = (table & ~(0xffU << shift)) | (uint32_t)value << shift;
	channel->master.table = table & ~3U;
}

static void write_byte_locked(struct ide_channel *channel, unsigned offset, uint8_t value)
{
	struct ide_bus_master *master = &channel->master;

	if (offset == BM_BMIC)
		write_bmic_locked(channel, value);
	else if (offset == BM_BMIS)
		master->status =
			(uint8_t)((value & BMIS_CAPABLE) |
				  (master->status & ~BMIS_CAPABLE & ~(value & BMIS_WRITE_1_CLEAR)));
	else if (offset >= BM_BMIDTP)
		write_bmidtp_locked(channel, offset - BM_BMIDTP, value);
}

static uint8_t read_byte_locked(const struct ide_channel *channel, unsigned offset)
{
	const struct ide_bus_master *master = &channel->master;

	if (offset == BM_BMIC)
		return master->command;
	if (offset == BM_BMIS)
		return master->status;
	return offset >= BM_BMIDTP ? (uint8_t)(master->table >> 8 * (offset - BM_BMIDTP)) : 0;
}

/* Under which name an access is counted: by its first byte. */
static enum ide_register name_of(unsigned offset)
{
	if (offset >= BM_BMIDTP)
		return IDE_BMIDTP;
	return offset >= BM_BMIS ? IDE_BMIS : IDE_BMIC;
}

/* @size is at most 4 and the access does not leave its channel: ports are accessed so. */
static uint64_t read_ports(void *opaque, uint64_t offset, unsigned size)
{
	struct ide *ide = opaque;
	struct ide_channel *channel = &ide->channels[offset / BM_SPAN % IDE_CHANNELS];
	const unsigned at = (unsigned)offset % BM_SPAN;
	uint64_t value = 0;

	pthread_mutex_lock(&channel->lock);
	ide_count(&channel->register_reads[name_of(at)], 1);
	for (unsigned i = 0; i < size && at + i < BM_SPAN; i++)
		value |= (uint64_t)read_byte_locked(channel, at + i) << 8 * i;
	pthread_mutex_unlock(&channel->lock);
	return value;
}

static void write_ports(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct ide *ide = opaque;
	struct ide_channel *channel = &ide->channels[offset / BM_SPAN % IDE_CHANNELS];
	const unsigned at = (unsigned)offset % BM_SPAN;

	pthread_mutex_lock(&channel->lock);
	ide_count(&channel->register_writes[name_of(at)], 1);
	for (unsigned i = 0; i < size && at + i < BM_SPAN; i++)
		write_byte_locked(channel, at + i, (uint8_t)(value >> 8 * i));
	pthread_mutex_unlock(&channel->lock);
}

const struct bus_ops ide_bus_master_ops = {.read = read_ports, .write = write_ports};
