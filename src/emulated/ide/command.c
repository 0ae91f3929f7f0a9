/* SPDX-License-Identifier: Apache-2.0 */
/* Commands (ATA/ATAPI-6, 8; those of older standards that systems still send, too). */
#include "base/checked.h"
#include "emulated/ide/private.h"

#include <string.h>

struct command {
	void (*run)(struct ide_channel *channel, struct ide_drive *drive,
		const struct command *command);
	enum ide_kind kind;
	bool ext;      /* 48-bit form */
	bool multiple; /* several sectors for one interrupt */
	bool durable;  /* past all caches (FUA) */
};

static void end_locked(struct ide_channel *channel, uint8_t error)
{
	struct ide_drive *drive = ide_active(channel);

	channel->transfer.kind = IDE_NONE;
	drive->error = error;
	drive->status = IDE_STATUS_IDLE | (error ? IDE_STATUS_ERR : 0);
	ide_interrupt_locked(channel, drive);
}

void ide_complete_locked(struct ide_channel *channel)
{
	end_locked(channel, 0);
}

void ide_fail_locked(struct ide_channel *channel, uint8_t error)
{
	end_locked(channel, error);
}

void ide_fail_there_locked(struct ide_channel *channel, uint8_t error)
{
	const struct ide_transfer *transfer = &channel->transfer;

	ide_put_address_locked(
		channel, transfer->offset / IDE_SECTOR, transfer->ext, transfer->chs);
	end_locked(channel, error);
}

static void run_abort(
	struct ide_channel *channel, struct ide_drive *drive, const struct command *command)
{
	(void)drive;
	(void)command;
	ide_fail_locked(channel, IDE_ERROR_ABRT);
}

static void run_nothing(
	struct ide_channel *channel, struct ide_drive *drive, const struct command *command)
{
	(void)drive;
	(void)command;
	ide_complete_locked(channel);
}

/* Whether @drive can do it at all; else the bits of the error register. */
static uint8_t refusal(const struct ide_channel *channel, const struct ide_drive *drive,
	const struct command *command)
{
	const bool writes = command->kind == IDE_PIO_OUT || command->kind == IDE_DMA_OUT;

	if ((command->multiple && drive->multiple == 0) ||
		(writes && block_readonly(drive->block)) ||
		(command->ext && !(channel->device & IDE_DEVICE_LBA)))
		return IDE_ERROR_ABRT;
	return 0;
}

/* Fills in the transfer from the registers; false: the disk has no such sectors. */
static bool aim(
	struct ide_channel *channel, const struct ide_drive *drive, const struct command *command)
{
	struct ide_transfer *transfer = &channel->transfer;
	const uint32_t count = ide_get_count_locked(channel, command->ext);
	uint64_t lba = 0;

	transfer->ext = command->ext;
	transfer->chs = !(channel->device & IDE_DEVICE_LBA);
	if (!ide_get_address_locked(channel, drive, command->ext, &lba))
		return false;
	if (!range_within(lba, count, drive->sectors))
		return false;
	transfer->offset = lba * IDE_SECTOR;
	transfer->left = (uint64_t)count * IDE_SECTOR;
	transfer->block = (command->multiple ? drive->multiple : 1) * IDE_SECTOR;
	transfer->durable = command->durable || !drive->write_cache;
	return true;
}

static void run_transfer(
	struct ide_channel *channel, struct ide_drive *drive, const struct command *command)
{
	const uint8_t error = refusal(channel, drive, command);

	if (error) {
		ide_fail_locked(channel, error);
		return;
	}
	if (!aim(channel, drive, command)) {
		ide_fail_locked(channel, IDE_ERROR_IDNF);
		return;
	}
	channel->transfer.kind = command->kind;
	switch (command->kind) {
	case IDE_PIO_OUT:
		ide_ask_locked(channel);
		break;
	case IDE_DMA_IN:
	case IDE_DMA_OUT:
		drive->status = IDE_STATUS_BSY;
		ide_dma_start_locked(channel);
		break;
	default:
		ide_submit_locked(channel);
		break;
	}
}

static void run_flush(
	struct ide_channel *channel, struct ide_drive *drive, const struct command *command)
{
	(void)drive;
	(void)command;
	channel->transfer.kind = IDE_FLUSH;
	ide_submit_locked(channel);
}

static void run_identify(
	struct ide_channel *channel, struct ide_drive *drive, const struct command *command)
{
	(void)command;
	ide_identify(drive, channel->buffer);
	channel->transfer.kind = IDE_PIO_IN;
	channel->transfer.block = channel->transfer.filled = IDE_SECTOR;
	ide_offer_locked(channel);
}

static void run_set_multiple(
	struct ide_channel *channel, struct ide_drive *drive, const struct command *command)
{
	const uint8_t sectors = channel->current[IDE_COUNT];

	(void)command;
	if (sectors && (sectors > IDE_MULTIPLE_MAX || !is_power_of_two(sectors))) {
		drive->multiple = 0;
		ide_fail_locked(channel, IDE_ERROR_ABRT);
		return;
	}
	drive->multiple = sectors;
	ide_complete_locked(channel);
}

static void run_initialize_parameters(
	struct ide_channel *channel, struct ide_drive *drive, const struct command *command)
{
	const unsigned heads = (channel->device & IDE_DEVICE_HEAD) + 1U;

	(void)command;
	if (ide_set_geometry(drive, heads, channel->current[IDE_COUNT]))
		ide_complete_locked(channel);
	else
		ide_fail_locked(channel, IDE_ERROR_ABRT);
}

static void run_native_max(
	struct ide_channel *channel, struct ide_drive *drive, const struct command *command)
{
	const uint64_t last = drive->sectors - 1;

	if (!(channel->device & IDE_DEVICE_LBA)) {
		ide_fail_locked(channel, IDE_ERROR_ABRT);
		return;
	}
	ide_put_address_locked(
		channel, command->ext ? last : min_u64(last, 0xfffffff), command->ext, false);
	ide_complete_locked(channel);
}

static void run_check_power(
	struct ide_channel *channel, struct ide_drive *drive, const struct command *command)
{
	(void)drive;
	(void)command;
	channel->current[IDE_COUNT] = 0xff; /* active or idle */
	ide_complete_locked(channel);
}

/* PIO 0 to 4 with and without IORDY, multiword DMA 0 to 2: what the controller has. */
static bool knows_mode(uint8_t mode)
{
	return mode <= 0x01 || (mode >= 0x08 && mode <= 0x0c) || (mode >= 0x20 && mode <= 0x22);
}

#define FEATURE_CACHE_ON      0x02
#define FEATURE_MODE          0x03
#define FEATURE_LOOK_AHEAD    0xaa
#define FEATURE_NO_LOOK_AHEAD 0x55
#define FEATURE_CACHE_OFF     0x82
#define FEATURE_KEEP          0x66 /* settings survive a software reset, as they do anyway */
#define FEATURE_REVERT        0xcc

static void run_set_features(
	struct ide_channel *channel, struct ide_drive *drive, const struct command *command)
{
	switch (channel->current[IDE_ERROR]) {
	case FEATURE_MODE:
		if (!knows_mode(channel->current[IDE_COUNT]))
			break;
		/* Multiword DMA is remembered: IDENTIFY shows it. */
		if (channel->current[IDE_COUNT] >= 0x20)
			drive->mode = channel->current[IDE_COUNT];
		ide_complete_locked(channel);
		return;
	case FEATURE_CACHE_ON:
		drive->write_cache = true;
		ide_complete_locked(channel);
		return;
	case FEATURE_CACHE_OFF:
		drive->write_cache = false;
		run_flush(channel, drive, command);
		return;
	case FEATURE_LOOK_AHEAD:
	case FEATURE_NO_LOOK_AHEAD:
	case FEATURE_KEEP:
	case FEATURE_REVERT:
		ide_complete_locked(channel);
		return;
	default:
		break;
	}
	ide_fail_locked(channel, IDE_ERROR_ABRT);
}

/* Both drives do it, whichever is selected; the first reports. */
static void diagnose_locked(struct ide_channel *channel)
{
	channel->transfer = (struct ide_transfer){.kind = IDE_NONE};
	ide_signature_locked(channel);
	ide_interrupt_locked(channel, &channel->drives[0]);
}

#define DIAGNOSTIC 0x90

static const struct command commands[256] = {
	[0x10 ... 0x1f] = {.run = run_nothing}, /* RECALIBRATE */
	[0x20 ... 0x21] = {.run = run_transfer, .kind = IDE_PIO_IN},
	[0x24] = {.run = run_transfer, .kind = IDE_PIO_IN, .ext = true},
	[0x25] = {.run = run_transfer, .kind = IDE_DMA_IN, .ext = true},
	[0x27] = {.run = run_native_max, .ext = true},
	[0x29] = {.run = run_transfer, .kind = IDE_PIO_IN, .ext = true, .multiple = true},
	[0x30 ... 0x31] = {.run = run_transfer, .kind = IDE_PIO_OUT},
	[0x34] = {.run = run_transfer, .kind = IDE_PIO_OUT, .ext = true},
	[0x35] = {.run = run_transfer, .kind = IDE_DMA_OUT, .ext = true},
	[0x39] = {.run = run_transfer, .kind = IDE_PIO_OUT, .ext = true, .multiple = true},
	[0x3d] = {.run = run_transfer, .kind = IDE_DMA_OUT, .ext = true, .durable = true},
	[0x40 ... 0x41] = {.run = run_transfer, .kind = IDE_VERIFY},
	[0x42] = {.run = run_transfer, .kind = IDE_VERIFY, .ext = true},
	[0x70 ... 0x7f] = {.run = run_nothing}, /* SEEK */
	[0x91] = {.run = run_initialize_parameters},
	[0xc4] = {.run = run_transfer, .kind = IDE_PIO_IN, .multiple = true},
	[0xc5] = {.run = run_transfer, .kind = IDE_PIO_OUT, .multiple = true},
	[0xc6] = {.run = run_set_multiple},
	[0xc8 ... 0xc9] = {.run = run_transfer, .kind = IDE_DMA_IN},
	[0xca ... 0xcb] = {.run = run_transfer, .kind = IDE_DMA_OUT},
	[0xce] = {.run = run_transfer,
		.kind = IDE_PIO_OUT,
		.ext = true,
		.multiple = true,
		.durable = true},
	[0xe0 ... 0xe3] = {.run = run_nothing}, /* STANDBY and IDLE, each also IMMEDIATE */
	[0xe5] = {.run = run_check_power},
	[0xe6] = {.run = run_nothing}, /* SLEEP */
	[0xe7] = {.run = run_flush},
	[0xea] = {.run = run_flush},
	[0xec] = {.run = run_identify},
	[0xef] = {.run = run_set_features},
	[0xf8] = {.run = run_native_max},
};

void ide_command_locked(struct ide_channel *channel, uint8_t code)
{
	struct ide_drive *drive = ide_selected(channel);
	const struct command *command = &commands[code];

	if (code == DIAGNOSTIC && channel->drives[0].block) {
		ide_quiet_locked(channel);
		diagnose_locked(channel);
		return;
	}
	if (!drive->block)
		return;
	ide_quiet_locked(channel);
	/* What an earlier command still had at the data port is given up. */
	if (channel->transfer.kind != IDE_NONE)
		ide_active(channel)->status = IDE_STATUS_IDLE;
	channel->transfer =
		(struct ide_transfer){.kind = IDE_NONE, .drive = drive != &channel->drives[0]};
	drive->error = 0;
	drive->status = IDE_STATUS_IDLE;
	(command->run ? command->run : run_abort)(channel, drive, command);
}
