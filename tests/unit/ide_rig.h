/* SPDX-License-Identifier: Apache-2.0 */
/* The IDE controller on the fake machine, its disks files in memory, and a guest's driver. */
#ifndef DUET_TESTS_IDE_RIG_H
#define DUET_TESTS_IDE_RIG_H

#include "emulated/ide/ide.h"
#include "fake_host.h"

#define IDE_RIG_SLOT 1
#define IDE_RIG_PRDS 0x10000ULL
#define IDE_RIG_DATA 0x100000ULL

/* Ports of a channel: add the register's number. */
#define IDE_PRIMARY   0x1f0U
#define IDE_SECONDARY 0x170U

enum {
	R_DATA,
	R_ERROR,
	R_COUNT,
	R_LOW,
	R_MID,
	R_HIGH,
	R_DEVICE,
	R_STATUS,
	R_CONTROL = 0x206,
};
#define BSY  0x80
#define DRQ  0x08
#define ERR  0x01
#define IDLE 0x50

struct ide_rig {
	struct fake_machine machine;
	struct device *device;
	int fds[IDE_DRIVES_MAX];
	uint16_t master; /* the BAR */
};

/* @sectors: of each drive, 0 for none. A disk's sector N begins with N as 32 bits, and its last
 * word is ~N. */
bool ide_rig_init(struct ide_rig *rig, const uint32_t sectors[IDE_DRIVES_MAX], bool readonly);
/* Disks that begin @iops requests a second at most. */
bool ide_rig_init_slow(struct ide_rig *rig, const uint32_t sectors[IDE_DRIVES_MAX], unsigned iops);
void ide_rig_free(struct ide_rig *rig);
uint32_t ide_in(struct ide_rig *rig, unsigned port, unsigned size);
void ide_out(struct ide_rig *rig, unsigned port, unsigned size, uint32_t value);
/* Device, count and address into the registers: 48 bits when @ext. */
void ide_aim(struct ide_rig *rig, unsigned base, unsigned device, uint64_t lba, unsigned count,
	bool ext);
/* The status once the drive is not busy; alternate, so that the interrupt stays. 0xff: never. */
uint8_t ide_await(struct ide_rig *rig, unsigned base);
/* Puts one descriptor of a table. */
void ide_prd(struct ide_rig *rig, unsigned index, uint32_t address, uint16_t length, bool last);
/* Points the engine of a channel at the table and starts it. */
void ide_engine(struct ide_rig *rig, unsigned base, bool to_memory);
/* The I/O loop does nothing until it is let go. */
struct ide_hold {
	struct loop_task task;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool holding, released;
};
void ide_hold(struct ide_rig *rig, struct ide_hold *hold);
void ide_let_go(struct ide_hold *hold);
/* What was posted to the loop before has been done. */
void ide_settle(struct ide_rig *rig);

#endif
