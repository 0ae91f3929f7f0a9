/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-block (virtio 1.2, 5.2): configuration, features, life. */
#include "virtio/devices/block_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEVICE_BLOCK 2
#define CLASS_DISK   0x018000 /* mass storage, other */
#define SECTOR       512U     /* the configuration's unit */

/* Offsets in struct virtio_blk_config (5.2.4). */
#define CONFIG_CAPACITY           0
#define CONFIG_SEG_MAX            12
#define CONFIG_BLK_SIZE           20
#define CONFIG_PHYSICAL_BLOCK_EXP 24
#define CONFIG_ALIGNMENT_OFFSET   25
#define CONFIG_MIN_IO_SIZE        26
#define CONFIG_WRITEBACK          32
#define CONFIG_NUM_QUEUES         34
#define CONFIG_DISCARD_SECTORS    36
#define CONFIG_DISCARD_SEG        40
#define CONFIG_DISCARD_ALIGNMENT  44
#define CONFIG_ZEROES_SECTORS     48
#define CONFIG_ZEROES_SEG         52
#define CONFIG_ZEROES_MAY_UNMAP   56

static struct disk *disk_of(struct virtio_device *device)
{
	return container_of(device, struct disk, virtio);
}

static uint64_t features(struct virtio_device *device)
{
	const struct disk *disk = disk_of(device);
	uint64_t bits = VIRTIO_FEATURE(VIRTIO_BLK_F_SEG_MAX) |
			VIRTIO_FEATURE(VIRTIO_BLK_F_BLK_SIZE) | VIRTIO_FEATURE(VIRTIO_BLK_F_FLUSH) |
			VIRTIO_FEATURE(VIRTIO_BLK_F_TOPOLOGY);

	if (device->queue_count > 1)
		bits |= VIRTIO_FEATURE(VIRTIO_BLK_F_MQ);
	if (block_readonly(disk->block))
		return bits | VIRTIO_FEATURE(VIRTIO_BLK_F_RO);
	bits |= VIRTIO_FEATURE(VIRTIO_BLK_F_CONFIG_WCE) | VIRTIO_FEATURE(VIRTIO_BLK_F_WRITE_ZEROES);
	if (block_can_discard(disk->block))
		bits |= VIRTIO_FEATURE(VIRTIO_BLK_F_DISCARD);
	return bits;
}

/* All but the exponent in logical blocks. */
static void fill_topology(struct disk *disk)
{
	unsigned logical = block_logical_size(disk->block);
	unsigned blocks = block_physical_size(disk->block) / logical;
	unsigned offset = block_physical_offset(disk->block) / logical;

	disk->config[CONFIG_PHYSICAL_BLOCK_EXP] = (uint8_t)__builtin_ctz(blocks);
	if (offset <= UINT8_MAX)
		disk->config[CONFIG_ALIGNMENT_OFFSET] = (uint8_t)offset;
	store_le16(disk->config + CONFIG_MIN_IO_SIZE, (uint16_t)blocks);
}

static void fill_config(struct disk *disk)
{
	uint8_t *config = disk->config;

	store_le32(config + CONFIG_SEG_MAX, DISK_SEGMENTS - 2);
	store_le32(config + CONFIG_BLK_SIZE, block_logical_size(disk->block));
	fill_topology(disk);
	store_le16(config + CONFIG_NUM_QUEUES, (uint16_t)disk->virtio.queue_count);
	store_le32(config + CONFIG_DISCARD_SECTORS, DISK_DISCARD_LIMIT);
	store_le32(config + CONFIG_DISCARD_SEG, 1);
	store_le32(config + CONFIG_DISCARD_ALIGNMENT, block_discard_size(disk->block) / SECTOR);
	store_le32(config + CONFIG_ZEROES_SECTORS, DISK_DISCARD_LIMIT);
	store_le32(config + CONFIG_ZEROES_SEG, 1);
	config[CONFIG_ZEROES_MAY_UNMAP] = 1;
}

/* Whether the driver is known to be without flushes: its cache is write-through then, and says so
 * (5.2.5.2), whatever the driver sets it to. */
static bool cannot_flush(const struct virtio_device *device)
{
	return device->negotiated && !virtio_has(device, VIRTIO_BLK_F_FLUSH);
}

static uint64_t config_read(struct virtio_device *device, unsigned offset, unsigned size)
{
	const struct disk *disk = disk_of(device);
	uint8_t capacity[8];

	if (offset < CONFIG_CAPACITY + sizeof(capacity)) {
		store_le64(capacity, atomic_load(&disk->capacity));
		return config_load(capacity, sizeof(capacity), offset, size);
	}
	if (offset == CONFIG_WRITEBACK && size == 1)
		return !cannot_flush(device) &&
		       atomic_load_explicit(&disk->writeback, memory_order_relaxed);
	return config_load(disk->config, sizeof(disk->config), offset, size);
}

static void config_write(
	struct virtio_device *device, unsigned offset, unsigned size, uint64_t value)
{
	if (offset == CONFIG_WRITEBACK && size == 1)
		atomic_store_explicit(
			&disk_of(device)->writeback, (value & 1) != 0, memory_order_relaxed);
}

/* A driver that reads half of the old number and half of the new one sees it by the generation. */
static void resized(void *opaque, uint64_t size)
{
	struct disk *disk = opaque;

	atomic_store(&disk->capacity, size / SECTOR);
	virtio_config_changed(&disk->virtio);
}

static void release(struct disk *disk)
{
	for (unsigned i = 0; i < disk->virtio.queue_count; i++)
		disk_queue_release(&disk->queues[i]);
}

static void reset(struct virtio_device *device)
{
	atomic_store_explicit(&disk_of(device)->writeback, true, memory_order_relaxed);
	release(disk_of(device));
}

/* Once per round: one index update and one interrupt for all completions of the round. */
static void round_done(struct loop_hook *hook)
{
	struct disk *disk = container_of(hook, struct disk, hook);

	for (unsigned i = 0; i < disk->virtio.queue_count; i++) {
		struct disk_queue *queue = &disk->queues[i];

		if (!queue->pushed)
			continue;
		queue->pushed = false;
		virtio_look(&disk->virtio, queue->queue);
		virtio_interrupt(&disk->virtio, queue->queue);
	}
}

static int activate(struct virtio_device *device)
{
	struct disk *disk = disk_of(device);

	release(disk);
	block_attach(disk->block, device->io);
	for (unsigned i = 0; i < device->queue_count; i++) {
		int ret = 0;

		disk->queues[i].queue = &device->queues[i];
		if (device->queues[i].enabled)
			ret = disk_queue_prepare(&disk->queues[i]);
		/* Saved state of earlier versions may say that they are off. */
		virtqueue_kicks_on(&device->queues[i]);
		if (ret < 0) {
			release(disk);
			return ret;
		}
	}
	disk->hook.run = round_done;
	loop_add_hook(device->io, &disk->hook);
	return 0;
}

static enum virtio_progress kick(struct virtio_device *device, struct virtqueue *queue)
{
	return disk_queue_process(&disk_of(device)->queues[queue->index]);
}

static void quiesce(struct virtio_device *device)
{
	struct disk *disk = disk_of(device);

	loop_remove_hook(device->io, &disk->hook);
	if (device->dropping)
		block_drop(disk->block);
	else
		block_hurry(disk->block);
}

static void hurry(struct virtio_device *device)
{
	block_cancel(disk_of(device)->block);
}

static void save(struct virtio_device *device, struct state_writer *writer)
{
	const struct disk *disk = disk_of(device);

	state_put_u64(writer, block_size(disk->block));
	state_put_bool(writer, atomic_load_explicit(&disk->writeback, memory_order_relaxed));
}

static int restore(struct virtio_device *device, struct state_reader *reader, struct error *err)
{
	struct disk *disk = disk_of(device);
	uint64_t size = state_get_u64(reader);

	atomic_store_explicit(&disk->writeback, state_get_bool(reader), memory_order_relaxed);
	if (!reader->failed && size != block_size(disk->block))
		return error_set(err, EINVAL,
			"%s: was saved with %llu bytes, its image now has %llu; give the same "
			"--disk path",
			device->name, (unsigned long long)size,
			(unsigned long long)block_size(disk->block));
	return 0;
}

static const char *const count_names[DISK_COUNTS] = {
	[DISK_READS] = "reads",
	[DISK_WRITES] = "writes",
	[DISK_FLUSHES] = "flushes",
	[DISK_DISCARDS] = "discards",
	[DISK_WRITE_ZEROES] = "write_zeroes",
	[DISK_BYTES_READ] = "bytes_read",
	[DISK_BYTES_WRITTEN] = "bytes_written",
	[DISK_ERRORS] = "errors",
};

static void stats(struct virtio_device *device, struct stats_sink *sink)
{
	const struct disk *disk = disk_of(device);

	for (unsigned i = 0; i < device->queue_count; i++) {
		char group[16];

		snprintf(group, sizeof(group), "queue%u", i);
		for (unsigned j = 0; j < DISK_COUNTS; j++)
			sink->count(sink, group, count_names[j],
				counter_read(&disk->queues[i].counts[j]));
	}
}

static void disk_free(struct virtio_device *device)
{
	struct disk *disk = disk_of(device);

	if (disk->queues)
		release(disk);
	block_close(disk->block);
	free(disk->queues);
	free(disk);
}

static const struct virtio_ops disk_ops = {
	.type = "virtio-block",
	.id = DEVICE_BLOCK,
	.class_code = CLASS_DISK,
	.features = features,
	.reset = reset,
	.activate = activate,
	.kick = kick,
	.quiesce = quiesce,
	.hurry = hurry,
	.config_read = config_read,
	.config_write = config_write,
	.save = save,
	.restore = restore,
	.stats = stats,
	.free = disk_free,
};

int virtio_block_new(struct device **device, const char *name,
	const struct virtio_block_options *options, struct error *err)
{
	struct disk *disk = calloc(1, sizeof(*disk));
	unsigned queues = options->queues ? options->queues : 1;

	if (disk)
		disk->queues = calloc(queues, sizeof(*disk->queues));
	if (!disk || !disk->queues || queues >= VIRTIO_QUEUES_MAX) {
		bool memory = disk && disk->queues;

		block_close(options->block);
		if (disk)
			free(disk->queues);
		free(disk);
		if (!memory)
			return error_errno(err, ENOMEM, "--disk");
		return error_set(err, EINVAL, "--disk: 1 to %d queues", VIRTIO_QUEUES_MAX - 1);
	}
	disk->block = options->block;
	memcpy(disk->serial, options->serial, sizeof(disk->serial));
	disk->virtio.ops = &disk_ops;
	disk->virtio.queue_count = queues;
	disk->virtio.queue_size_max = DISK_QUEUE_SIZE;
	disk->virtio.config_size = DISK_CONFIG_SIZE;
	disk->virtio.ring_features = options->packed ? VIRTIO_FEATURE(VIRTIO_F_RING_PACKED) : 0;
	disk->virtio.polls = options->poll;
	disk->virtio.lingers = true;
	for (unsigned i = 0; i < queues; i++)
		disk->queues[i].disk = disk;
	fill_config(disk);
	atomic_store(&disk->capacity, block_size(disk->block) / SECTOR);
	block_on_resize(disk->block, resized, disk);
	atomic_store(&disk->writeback, true);
	return virtio_pci_new(device, &disk->virtio, name, err);
}
