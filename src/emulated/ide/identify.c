/* SPDX-License-Identifier: Apache-2.0 */
/* IDENTIFY DEVICE (ATA/ATAPI-6, 8.15) and the CHS translation (annex B of ATA-5). */
#include "base/bytes.h"
#include "base/checked.h"
#include "emulated/ide/private.h"

#include <stdio.h>
#include <string.h>

#define HEADS         16U
#define TRACK         63U
#define CYLINDERS_MAX 16383U
#define LBA28_MAX     0xfffffffULL
#define LBA48_MAX     0xffffffffffffULL
#define MODE_MWDMA0   0x20
#define CACHE_BIT     0x0020

bool ide_set_geometry(struct ide_drive *drive, unsigned heads, unsigned track)
{
	if (heads == 0 || heads > HEADS || track == 0 || track > 255)
		return false;
	drive->heads = (uint16_t)heads;
	drive->track = (uint16_t)track;
	drive->cylinders =
		(uint32_t)min_u64(drive->sectors / ((uint64_t)heads * track), UINT16_MAX);
	return true;
}

static uint32_t default_cylinders(const struct ide_drive *drive)
{
	return (uint32_t)min_u64(drive->sectors / (HEADS * TRACK), CYLINDERS_MAX);
}

void ide_default_geometry(struct ide_drive *drive)
{
	drive->heads = HEADS;
	drive->track = TRACK;
	drive->cylinders = default_cylinders(drive);
}

static void put(uint8_t *data, unsigned word, uint64_t value)
{
	store_le16(data + 2UL * word, (uint16_t)value);
}

/* Strings have the first of two characters in the high byte and end with blanks. */
static void put_text(uint8_t *data, unsigned word, unsigned words, const char *text)
{
	const size_t length = strlen(text);

	for (size_t i = 0; i < 2UL * words; i++)
		data[2UL * word + (i ^ 1)] = i < length ? (uint8_t)text[i] : ' ';
}

static void put_addressing(const struct ide_drive *drive, uint8_t *data)
{
	const uint64_t lba28 = min_u64(drive->sectors, LBA28_MAX);
	const uint64_t lba48 = min_u64(drive->sectors, LBA48_MAX);
	const uint64_t chs = (uint64_t)drive->cylinders * drive->heads * drive->track;

	put(data, 1, default_cylinders(drive));
	put(data, 3, HEADS);
	put(data, 6, TRACK);
	put(data, 54, drive->cylinders);
	put(data, 55, drive->heads);
	put(data, 56, drive->track);
	put(data, 57, chs);
	put(data, 58, chs >> 16);
	put(data, 60, lba28);
	put(data, 61, lba28 >> 16);
	for (unsigned i = 0; i < 4; i++)
		put(data, 100 + i, lba48 >> 16 * i);
}

/* How many logical sectors are in a physical one, and which of them the first is (ATA8-ACS, words
 * 106 and 209). */
static void put_physical(const struct ide_drive *drive, uint8_t *data)
{
	const unsigned sectors = block_physical_size(drive->block) / IDE_SECTOR;
	const unsigned whole = block_physical_offset(drive->block) / IDE_SECTOR;

	put(data, 106, 0x6000U | (unsigned)__builtin_ctz(sectors));
	put(data, 209, 0x4000U | (sectors - whole) % sectors);
}

static void put_modes(const struct ide_drive *drive, uint8_t *data)
{
	const unsigned mwdma =
		drive->mode >= MODE_MWDMA0 ? 0x100U << (drive->mode - MODE_MWDMA0) : 0;

	put(data, 47, 0x8000 | IDE_MULTIPLE_MAX);
	put(data, 49, 0x2f00); /* standby timers as in the standard, IORDY, LBA, DMA */
	put(data, 50, 0x4000);
	put(data, 51, 0x0200);
	put(data, 53, 0x0003); /* words 54 to 58 and 64 to 70 count */
	put(data, 59, drive->multiple ? 0x100 | drive->multiple : 0);
	put(data, 63, 0x0007 | mwdma);
	put(data, 64, 0x0003); /* PIO 3 and 4 */
	for (unsigned word = 65; word <= 68; word++)
		put(data, word, 120); /* ns, the fastest cycles of these modes */
}

static void put_features(const struct ide_drive *drive, uint8_t *data)
{
	put(data, 80, 0x007e);             /* ATA-1 to ATA/ATAPI-6 */
	put(data, 82, 0x0048 | CACHE_BIT); /* power management, look-ahead */
	put(data, 83, 0x7400);             /* FLUSH CACHE, FLUSH CACHE EXT, 48 bits */
	put(data, 84, 0x4040);             /* the FUA commands */
	put(data, 85, 0x0048 | (drive->write_cache ? CACHE_BIT : 0));
	put(data, 86, 0x3400);
	put(data, 87, 0x4040);
}

/* All bytes together make zero (word 255). */
static void put_checksum(uint8_t *data)
{
	uint8_t sum = 0;

	data[510] = 0xa5;
	for (unsigned i = 0; i < 511; i++)
		sum += data[i];
	data[511] = (uint8_t)-sum;
}

void ide_identify(const struct ide_drive *drive, uint8_t data[IDE_SECTOR])
{
	char serial[21];

	memset(data, 0, IDE_SECTOR);
	put(data, 0, 0x0040); /* an ATA drive that is not removable */
	snprintf(serial, sizeof(serial), "duet-%.15s", drive->name);
	put_text(data, 10, 10, serial);
	put_text(data, 23, 4, "1");
	put_text(data, 27, 20, "duet IDE disk");
	put_addressing(drive, data);
	put_physical(drive, data);
	put_modes(drive, data);
	put_features(drive, data);
	put_checksum(data);
}
