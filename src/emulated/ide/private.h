/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IDE: what its parts share.
 *
 * ide.c          the PCI function and the device's life
 * channel.c  registers of a channel, drive select, interrupts, reset
 * address.c  addresses in the registers
 * command.c  commands; identify.c what a drive says of itself
 * pio.c      the data port
 * request.c  requests at the back end, and what follows each
 * bus_master.c  BAR 4 and PRD tables
 * save.c     saved state
 *
 * Threads: registers are written on vCPU threads, requests begin and end on the I/O loop. All of a
 * channel, its drives included, is under the channel's lock, but for counters. Functions named
 * ..._locked are called with it. At most one request per channel is under way: from
 * ide_submit_locked() to the end of its last part, in_flight says so, the drive is busy, and
 * buffer and segments belong to the I/O loop. Guest memory is touched under the lock alone.
 */
#ifndef DUET_EMULATED_IDE_PRIVATE_H
#define DUET_EMULATED_IDE_PRIVATE_H

#include "base/log.h"
#include "emulated/ide/ide.h"
#include "pci/pci.h"

#define IDE_CHANNELS     2
#define IDE_SECTOR       512U
#define IDE_BUFFER       65536U  /* what PIO moves between two requests at the back end, at most */
#define IDE_MULTIPLE_MAX 16U     /* sectors */
#define IDE_SEGMENTS     256U    /* of one request at the back end, in DMA */
#define IDE_DMA_MOST     262144U /* what one moves */

/* Command block (ATA/ATAPI-6, 7): offsets from 0x1f0. */
enum ide_register {
	IDE_DATA,
	IDE_ERROR, /* read; written: features */
	IDE_COUNT,
	IDE_LBA_LOW,
	IDE_LBA_MID,
	IDE_LBA_HIGH,
	IDE_DEVICE,
	IDE_STATUS, /* read; written: command */
	/* For statistics, beyond the command block. */
	IDE_CONTROL, /* written; read: alternate status */
	IDE_BMIC,
	IDE_BMIS,
	IDE_BMIDTP,
	IDE_REGISTERS,
};

#define IDE_STATUS_BSY  0x80
#define IDE_STATUS_DRDY 0x40
#define IDE_STATUS_DSC  0x10
#define IDE_STATUS_DRQ  0x08
#define IDE_STATUS_ERR  0x01
#define IDE_STATUS_IDLE (IDE_STATUS_DRDY | IDE_STATUS_DSC)

#define IDE_ERROR_UNC         0x40
#define IDE_ERROR_IDNF        0x10
#define IDE_ERROR_ABRT        0x04
#define IDE_DIAGNOSTIC_PASSED 0x01

#define IDE_DEVICE_LBA   0x40
#define IDE_DEVICE_DEV   0x10
#define IDE_DEVICE_HEAD  0x0f
#define IDE_CONTROL_HOB  0x80
#define IDE_CONTROL_SRST 0x04
#define IDE_CONTROL_NIEN 0x02

/* What a command does to the disk. */
enum ide_kind {
	IDE_NONE,
	IDE_PIO_IN,
	IDE_PIO_OUT,
	IDE_DMA_IN,
	IDE_DMA_OUT,
	IDE_VERIFY,
	IDE_FLUSH,
	IDE_KINDS,
};

enum ide_count {
	IDE_READS,
	IDE_WRITES,
	IDE_FLUSHES,
	IDE_BYTES_READ,
	IDE_BYTES_WRITTEN,
	IDE_ERRORS,
	IDE_PIO_ACCESSES,
	IDE_DMA_TRANSFERS,
	IDE_INTERRUPTS,
	IDE_COUNTS,
};

struct ide_drive {
	struct block *block; /* null: absent */
	char name[65];
	uint64_t sectors;
	/* The CHS translation in use. */
	uint32_t cylinders;
	uint16_t heads, track; /* sectors per track */
	uint8_t multiple;      /* sectors per block of READ and WRITE MULTIPLE; 0: off */
	uint8_t mode;          /* transfer mode as set by SET FEATURES; 0: none so far */
	bool write_cache;
	uint8_t status, error;
	_Atomic uint64_t counts[IDE_COUNTS];
};

/* A command that is being carried out. */
struct ide_transfer {
	enum ide_kind kind;
	uint8_t drive;   /* on its channel */
	bool ext, chs;   /* form of the address, for a failure's */
	bool durable;    /* written past all caches */
	uint32_t block;  /* PIO: bytes between two interrupts */
	uint64_t offset; /* bytes; on the disk, of what the back end moves next */
	uint64_t left;   /* bytes that the back end has yet to move */
	/* PIO: @filled bytes of the buffer are those of this request; the port is at @at of a block
	 * that ends at @end. */
	uint32_t at, end, filled;
};

struct ide_bus_master {
	uint8_t command, status;
	uint32_t table; /* BMIDTP */
	/* The engine: next entry, and what is left of the one that was read. */
	uint32_t next, address, left;
	bool last;
	unsigned runs; /* how often it was started */
};

struct ide;

struct ide_channel {
	struct ide *ide;
	unsigned gsi;
	struct bus_range command_block, control_block;
	_Atomic bool decoded; /* the guest turned the ports on */
	pthread_mutex_t lock;
	struct ide_drive drives[2];
	/* The last value written to each register and the one before it: 48 bits need both. */
	uint8_t current[IDE_DEVICE], previous[IDE_DEVICE];
	uint8_t device, control;
	bool pending;   /* INTRQ, seen or not */
	bool line;      /* as the interrupt controller sees it */
	bool resetting; /* software reset is asked for or not yet done */
	bool in_flight;
	/* The device comes to rest: requests do not wait for their turn (iops), or, before a
	 * reset, are given up when they would. */
	bool hurried, dropping;
	unsigned run; /* the engine's when the request began */
	struct ide_transfer transfer;
	struct ide_bus_master master;
	struct loop_task task;
	struct block_request request;
	struct iovec segments[IDE_SEGMENTS]; /* DMA: of guest memory */
	unsigned segment_count;
	struct iovec piece; /* of the buffer, what the request moves */
	uint8_t *buffer;    /* IDE_DMA_MOST bytes, whole pages */
	_Atomic uint64_t register_reads[IDE_REGISTERS], register_writes[IDE_REGISTERS];
	_Atomic uint64_t interrupts;
};

struct ide {
	struct pci_function function; /* first */
	const struct device_place *place;
	struct ide_channel channels[IDE_CHANNELS];
	_Atomic bool bus_master; /* the command register lets the function reach memory */
	struct loop_task life;   /* to rest: posted by quiesce() */
	struct loop_task cancel; /* posted by hurry() */
	_Atomic unsigned asking; /* the machine waits for device_at_rest(); 0: it does not */
	_Atomic bool drop;       /* a reset follows */
	_Atomic bool following, cancelling; /* the tasks are posted */
	struct log_guest_limit log;
};

/* One writer at a time, whoever holds the channel's lock. */
static inline void ide_count(_Atomic uint64_t *counter, uint64_t by)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + by,
		memory_order_relaxed);
}

static inline struct ide_drive *ide_selected(struct ide_channel *channel)
{
	return &channel->drives[(channel->device & IDE_DEVICE_DEV) != 0];
}

static inline struct ide_drive *ide_active(struct ide_channel *channel)
{
	return &channel->drives[channel->transfer.drive];
}

/* channel.c */
extern const struct bus_ops ide_command_block_ops, ide_control_block_ops;
/* The drive asks for attention. */
void ide_interrupt_locked(struct ide_channel *channel, struct ide_drive *drive);
/* INTRQ falls: the status was read, or a command written. */
void ide_quiet_locked(struct ide_channel *channel);
/* After power-on, a reset or a diagnostic: registers tell the kind of drive (9.12). */
void ide_signature_locked(struct ide_channel *channel);
/* Ends a software reset when it can: the guest has released it and no request is under way. */
void ide_settle_reset_locked(struct ide_channel *channel);
void ide_power_on_locked(struct ide_channel *channel);

/* command.c */
void ide_command_locked(struct ide_channel *channel, uint8_t code);
/* The command has ended: well, or with @error (bits of the error register). Both interrupt. */
void ide_complete_locked(struct ide_channel *channel);
void ide_fail_locked(struct ide_channel *channel, uint8_t error);
/* As above, at transfer.offset, which the guest is told. */
void ide_fail_there_locked(struct ide_channel *channel, uint8_t error);

/* address.c */
/* False: there is no such sector (by cylinder, head and sector; others are not checked). */
bool ide_get_address_locked(
	struct ide_channel *channel, const struct ide_drive *drive, bool ext, uint64_t *lba);
/* For the selected drive. */
void ide_put_address_locked(struct ide_channel *channel, uint64_t lba, bool ext, bool chs);
uint32_t ide_get_count_locked(const struct ide_channel *channel, bool ext);

/* identify.c */
void ide_identify(const struct ide_drive *drive, uint8_t data[IDE_SECTOR]);
/* The translation of a drive that nobody has set otherwise. */
void ide_default_geometry(struct ide_drive *drive);
bool ide_set_geometry(struct ide_drive *drive, unsigned heads, unsigned track);

/* pio.c */
uint64_t ide_data_read_locked(struct ide_channel *channel, unsigned size);
void ide_data_write_locked(struct ide_channel *channel, unsigned size, uint64_t value);
/* The first transfer.filled bytes of the buffer are the guest's to read. */
void ide_offer_locked(struct ide_channel *channel);
/* Asks the guest for the bytes of the next request. */
void ide_ask_locked(struct ide_channel *channel);
/* How much the next request of a PIO command moves. */
uint32_t ide_chunk(const struct ide_transfer *transfer);

/* request.c */
/* The drive is busy until the loop has done what channel->transfer says. */
void ide_submit_locked(struct ide_channel *channel);
/* I/O loop: what waits for its turn does as the device's coming to rest asks. */
void ide_hasten_locked(struct ide_channel *channel);

/* bus_master.c */
extern const struct bus_ops ide_bus_master_ops;
/* Starts a DMA command when both sides are ready: the drive and the engine. */
void ide_dma_start_locked(struct ide_channel *channel);
/* I/O loop: fills in segments, for IDE_DMA_MOST bytes at most. Bytes; 0: the table is too short;
 * -EFAULT: it, or what it describes, is not in memory; -EINVAL: the engine does not run, or the
 * other way round. */
int64_t ide_dma_gather_locked(struct ide_channel *channel);
void ide_dma_done_locked(struct ide_channel *channel);
void ide_dma_error_locked(struct ide_channel *channel);
bool ide_dma_running(const struct ide_channel *channel);
/* Whether it still runs as it did when the request began. */
bool ide_dma_same_run_locked(const struct ide_channel *channel);

/* save.c */
void ide_save(struct device *device, struct state_writer *writer);
int ide_restore(struct device *device, struct state_reader *reader, struct error *err);

/* ide.c */
/* I/O loop, no lock held: a request has ended, perhaps the last that the machine waits for. */
void ide_settle_rest(struct ide *ide);
/* Follows the command register and IDETIM. */
void ide_follow_config(struct ide *ide);

#endif
