/* SPDX-License-Identifier: Apache-2.0 */
/* The IDE function of the 82371SB: configuration space, ports, life. */
#include "base/bytes.h"
#include "base/checked.h"
#include "emulated/ide/private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define VENDOR_INTEL   0x8086
#define DEVICE_82371SB 0x7010
#define CLASS_IDE      0x010180 /* bus master; both channels fixed at the legacy ports */
#define BAR_BMIBA      4
#define REG_COMMAND    0x04
#define COMMAND_IO     0x0001
#define COMMAND_MASTER 0x0004
#define REG_IDETIM     0x40 /* 16 bits per channel */
#define IDETIM_DECODE  0x8000
#define REG_SIDETIM    0x44
#define CONTROL_PORTS  1

static const struct {
	uint16_t command_block, control_block;
	unsigned gsi;
	const char *name, *registers;
} places[IDE_CHANNELS] = {
	{0x1f0, 0x3f6, 14, "ide0 primary", "primary"},
	{0x170, 0x376, 15, "ide0 secondary", "secondary"},
};

static struct ide *ide_of(struct device *device)
{
	return container_of(device, struct ide, function.device);
}

void ide_follow_config(struct ide *ide)
{
	const uint8_t *config = ide->function.config;
	const uint16_t command = load_le16(config + REG_COMMAND);

	atomic_store_explicit(
		&ide->bus_master, (command & COMMAND_MASTER) != 0, memory_order_relaxed);
	for (unsigned i = 0; i < IDE_CHANNELS; i++)
		atomic_store_explicit(&ide->channels[i].decoded,
			(command & COMMAND_IO) &&
				(load_le16(config + REG_IDETIM + 2UL * i) & IDETIM_DECODE),
			memory_order_relaxed);
}

static void config_written(struct pci_function *function, unsigned offset, unsigned size)
{
	(void)offset;
	(void)size;
	ide_follow_config(container_of(function, struct ide, function));
}

static const struct pci_function_ops ide_pci_ops = {.config_written = config_written};

/* A BIOS enables the channels that have drives: Linux leaves the other alone. */
static void describe(struct ide *ide)
{
	const struct pci_ids ids = {
		.vendor = VENDOR_INTEL, .device = DEVICE_82371SB, .class_code = CLASS_IDE};
	struct pci_function *function = &ide->function;

	function->pci_ops = &ide_pci_ops;
	pci_init(function, &ids);
	for (unsigned i = 0; i < IDE_CHANNELS; i++) {
		if (ide->channels[i].drives[0].block)
			store_le16(function->config + REG_IDETIM + 2UL * i, IDETIM_DECODE);
		store_le16(function->writable + REG_IDETIM + 2UL * i, 0xffff);
	}
	function->writable[REG_SIDETIM] = 0xff;
	pci_describe_bar(
		function, BAR_BMIBA, PCI_BAR_PORT, 16, &ide_bus_master_ops, ide, "ide0 bus master");
}

static int map_channel(struct ide *ide, unsigned index)
{
	struct ide_channel *channel = &ide->channels[index];
	struct bus *ports = ide->place->ports;
	int ret = bus_map(ports, &channel->command_block, places[index].command_block, 8);

	if (ret == 0)
		ret = bus_map(
			ports, &channel->control_block, places[index].control_block, CONTROL_PORTS);
	return ret;
}

static int realize(struct device *device, const struct device_place *place, struct error *err)
{
	struct ide *ide = ide_of(device);
	int ret = 0;

	ide->place = place;
	if (!place->pci)
		return error_set(err, EINVAL, "%s: --disk model=ide needs a PCI bus", device->name);
	for (unsigned i = 0; ret == 0 && i < IDE_CHANNELS; i++) {
		for (unsigned j = 0; j < 2; j++)
			if (ide->channels[i].drives[j].block)
				block_attach(ide->channels[i].drives[j].block, place->io);
		ret = map_channel(ide, i);
		ide_power_on_locked(&ide->channels[i]);
	}
	if (ret < 0)
		return error_errno(err, -ret, "%s: its ports", device->name);
	return pci_add(place->pci, &ide->function, err);
}

static void reset(struct device *device)
{
	struct ide *ide = ide_of(device);

	pci_reset(&ide->function);
	ide_follow_config(ide);
	for (unsigned i = 0; i < IDE_CHANNELS; i++) {
		pthread_mutex_lock(&ide->channels[i].lock);
		ide_power_on_locked(&ide->channels[i]);
		pthread_mutex_unlock(&ide->channels[i].lock);
	}
}

void ide_settle_rest(struct ide *ide)
{
	bool busy = atomic_load(&ide->following);
	unsigned asking = atomic_load(&ide->asking);

	if (!asking)
		return;
	for (unsigned i = 0; i < IDE_CHANNELS; i++) {
		pthread_mutex_lock(&ide->channels[i].lock);
		busy |= ide->channels[i].in_flight;
		pthread_mutex_unlock(&ide->channels[i].lock);
	}
	if (!busy && atomic_compare_exchange_strong(&ide->asking, &asking, 0))
		device_at_rest(&ide->function.device, asking);
}

/* No request waits for its turn (iops) while the device comes to rest, or they do again. */
static void set_resting(struct ide *ide, bool resting)
{
	bool drop = atomic_load(&ide->drop);

	for (unsigned i = 0; i < IDE_CHANNELS; i++) {
		struct ide_channel *channel = &ide->channels[i];

		pthread_mutex_lock(&channel->lock);
		channel->hurried = resting && !drop;
		channel->dropping = resting && drop;
		if (channel->in_flight)
			ide_hasten_locked(channel);
		pthread_mutex_unlock(&channel->lock);
	}
}

/* I/O loop. */
static void follow(struct loop_task *task)
{
	struct ide *ide = container_of(task, struct ide, life);

	atomic_store(&ide->following, false);
	set_resting(ide, atomic_load(&ide->asking) != 0);
	ide_settle_rest(ide);
}

static void post_follow(struct ide *ide)
{
	if (!atomic_exchange(&ide->following, true))
		loop_post(ide->place->io, &ide->life);
}

static int start(struct device *device, struct error *err)
{
	struct ide *ide = ide_of(device);

	(void)err;
	atomic_store(&ide->asking, 0);
	post_follow(ide);
	return 0;
}

/* No vCPU runs: nothing new begins. */
static void quiesce(struct device *device, unsigned asking, bool drop)
{
	struct ide *ide = ide_of(device);

	atomic_store(&ide->drop, drop);
	atomic_store(&ide->asking, asking);
	post_follow(ide);
}

/* I/O loop. */
static void cancel(struct loop_task *task)
{
	struct ide *ide = container_of(task, struct ide, cancel);

	atomic_store(&ide->cancelling, false);
	for (unsigned i = 0; i < IDE_CHANNELS; i++)
		for (unsigned j = 0; j < 2; j++)
			if (ide->channels[i].drives[j].block)
				block_cancel(ide->channels[i].drives[j].block);
}

static void hurry(struct device *device)
{
	struct ide *ide = ide_of(device);

	if (!atomic_exchange(&ide->cancelling, true))
		loop_post(ide->place->io, &ide->cancel);
}

static const char *const count_names[IDE_COUNTS] = {
	[IDE_READS] = "reads",
	[IDE_WRITES] = "writes",
	[IDE_FLUSHES] = "flushes",
	[IDE_BYTES_READ] = "bytes_read",
	[IDE_BYTES_WRITTEN] = "bytes_written",
	[IDE_ERRORS] = "errors",
	[IDE_PIO_ACCESSES] = "pio_accesses",
	[IDE_DMA_TRANSFERS] = "dma_transfers",
	[IDE_INTERRUPTS] = "interrupts",
};

static const char *const read_names[IDE_REGISTERS] = {
	[IDE_DATA] = "data read",
	[IDE_ERROR] = "error read",
	[IDE_COUNT] = "count read",
	[IDE_LBA_LOW] = "lba low read",
	[IDE_LBA_MID] = "lba mid read",
	[IDE_LBA_HIGH] = "lba high read",
	[IDE_DEVICE] = "device read",
	[IDE_STATUS] = "status read",
	[IDE_CONTROL] = "alternate status read",
	[IDE_BMIC] = "bmic read",
	[IDE_BMIS] = "bmis read",
	[IDE_BMIDTP] = "bmidtp read",
};

static const char *const write_names[IDE_REGISTERS] = {
	[IDE_DATA] = "data write",
	[IDE_ERROR] = "features write",
	[IDE_COUNT] = "count write",
	[IDE_LBA_LOW] = "lba low write",
	[IDE_LBA_MID] = "lba mid write",
	[IDE_LBA_HIGH] = "lba high write",
	[IDE_DEVICE] = "device write",
	[IDE_STATUS] = "command write",
	[IDE_CONTROL] = "control write",
	[IDE_BMIC] = "bmic write",
	[IDE_BMIS] = "bmis write",
	[IDE_BMIDTP] = "bmidtp write",
};

static uint64_t get(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

static void drive_stats(const struct ide_drive *drive, struct stats_sink *sink)
{
	for (unsigned i = 0; drive->block && i < IDE_COUNTS; i++)
		sink->count(sink, drive->name, count_names[i], get(&drive->counts[i]));
}

/* "registers": of both channels; "primary", "secondary": of one. */
static void register_stats(const struct ide *ide, struct stats_sink *sink)
{
	const struct ide_channel *channels = ide->channels;

	for (unsigned i = 0; i < IDE_REGISTERS; i++) {
		uint64_t reads = 0, writes = 0;

		for (unsigned j = 0; j < IDE_CHANNELS; j++) {
			const char *group = places[j].registers;

			reads += get(&channels[j].register_reads[i]);
			writes += get(&channels[j].register_writes[i]);
			if (!channels[j].drives[0].block)
				continue;
			sink->count(
				sink, group, read_names[i], get(&channels[j].register_reads[i]));
			sink->count(
				sink, group, write_names[i], get(&channels[j].register_writes[i]));
		}
		sink->count(sink, "registers", read_names[i], reads);
		sink->count(sink, "registers", write_names[i], writes);
	}
}

static void stats(struct device *device, struct stats_sink *sink)
{
	const struct ide *ide = ide_of(device);
	uint64_t interrupts = 0;

	for (unsigned i = 0; i < IDE_CHANNELS; i++) {
		interrupts += get(&ide->channels[i].interrupts);
		for (unsigned j = 0; j < 2; j++)
			drive_stats(&ide->channels[i].drives[j], sink);
	}
	sink->count(sink, NULL, "interrupts", interrupts);
	register_stats(ide, sink);
}

static void leave(struct bus *ports, struct bus_range *range)
{
	if (!range->mapped)
		return;
	bus_unmap(ports, range);
	bus_wait_unused(ports, range);
}

static void ide_free(struct device *device)
{
	struct ide *ide = ide_of(device);

	if (ide->function.bus)
		pci_remove(&ide->function);
	for (unsigned i = 0; i < IDE_CHANNELS; i++) {
		struct ide_channel *channel = &ide->channels[i];

		if (ide->place) {
			leave(ide->place->ports, &channel->command_block);
			leave(ide->place->ports, &channel->control_block);
		}
		for (unsigned j = 0; j < 2; j++)
			block_close(channel->drives[j].block);
		pthread_mutex_destroy(&channel->lock);
		if (channel->buffer)
			munmap(channel->buffer, IDE_DMA_MOST);
	}
	free(ide);
}

static const struct device_ops ide_ops = {
	.type = "ide",
	.realize = realize,
	.reset = reset,
	.start = start,
	.quiesce = quiesce,
	.hurry = hurry,
	.state_version = 1,
	.save = ide_save,
	.restore = ide_restore,
	.stats = stats,
	.free = ide_free,
};

static void prepare_channel(struct ide *ide, unsigned index)
{
	struct ide_channel *channel = &ide->channels[index];

	channel->ide = ide;
	channel->gsi = places[index].gsi;
	channel->command_block = (struct bus_range){
		.name = places[index].name, .ops = &ide_command_block_ops, .device = channel};
	channel->control_block = (struct bus_range){
		.name = places[index].name, .ops = &ide_control_block_ops, .device = channel};
	pthread_mutex_init(&channel->lock, NULL);
	/* Pages that no command needs are never there. */
	channel->buffer = mmap(NULL, IDE_DMA_MOST, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (channel->buffer == MAP_FAILED)
		channel->buffer = NULL;
}

static void take_drive(struct ide *ide, unsigned index, const struct ide_options *options)
{
	struct ide_drive *drive = &ide->channels[index / 2].drives[index % 2];

	drive->block = options->drives[index].block;
	snprintf(drive->name, sizeof(drive->name), "%s", options->drives[index].name);
	drive->sectors = drive->block ? block_size(drive->block) / IDE_SECTOR : 0;
}

int ide_new(struct device **device, const char *name, const struct ide_options *options,
	struct error *err)
{
	struct ide *ide = calloc(1, sizeof(*ide));

	if (!ide) {
		for (unsigned i = 0; i < IDE_DRIVES_MAX; i++)
			block_close(options->drives[i].block);
		return error_errno(err, ENOMEM, "--disk model=ide");
	}
	ide->function.device.ops = &ide_ops;
	snprintf(ide->function.device.name, sizeof(ide->function.device.name), "%s", name);
	for (unsigned i = 0; i < IDE_DRIVES_MAX; i++)
		take_drive(ide, i, options);
	for (unsigned i = 0; i < IDE_CHANNELS; i++)
		prepare_channel(ide, i);
	if (!ide->channels[0].buffer || !ide->channels[1].buffer) {
		ide_free(&ide->function.device);
		return error_errno(err, ENOMEM, "--disk model=ide");
	}
	ide->life.run = follow;
	ide->cancel.run = cancel;
	describe(ide);
	*device = &ide->function.device;
	return 0;
}
