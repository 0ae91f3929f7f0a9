/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The IDE function of Intel's 82371SB (PIIX3): two channels at the legacy ports with two drives
 * each, bus-master DMA (ATA/ATAPI-6 for the drives, the PIIX3 datasheet for the controller).
 */
#ifndef DUET_EMULATED_IDE_IDE_H
#define DUET_EMULATED_IDE_IDE_H

#include "backend/block.h"
#include "bus/device.h"

#define IDE_DRIVES_MAX 4 /* primary master, primary slave, secondary master, secondary slave */

struct ide_options {
	struct {
		struct block *block; /* null: no drive; belongs to the device, even on failure */
		char name[65]; /* "disk0": the group of its statistics, and its serial number */
	} drives[IDE_DRIVES_MAX];
};

/* Makes the device, not yet realized, named @name. */
int ide_new(struct device **device, const char *name, const struct ide_options *options,
	struct error *err);

#endif
