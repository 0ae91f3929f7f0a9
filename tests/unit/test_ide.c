/* SPDX-License-Identifier: Apache-2.0 */
/* IDE as a driver sees it through its registers: drives, commands, PIO, errors, resets. */
#include "device_stats.h"
#include "ide_rig.h"

#include "backend/block_private.h"
#include "base/bytes.h"
#include "base/checked.h"
#include "board_fixture.h"
#include "emulated/ide/private.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define SECTOR  512U
#define SECTORS 4096U
#define GSI     14
#define P       IDE_PRIMARY

static const uint32_t one_disk[IDE_DRIVES_MAX] = {SECTORS};

static void setup(struct ide_rig *rig)
{
	assert_true(ide_rig_init(rig, one_disk, false));
}

static void command(struct ide_rig *rig, unsigned base, uint8_t code)
{
	ide_out(rig, base + R_STATUS, 1, code);
}

static unsigned raised(struct ide_rig *rig, unsigned gsi)
{
	unsigned count;

	pthread_mutex_lock(&rig->machine.host.lock);
	count = rig->machine.host.raised[gsi];
	pthread_mutex_unlock(&rig->machine.host.lock);
	return count;
}

/* One block as libata takes it: awaits it, reads the status, then the data. */
static void take_block(struct ide_rig *rig, unsigned base, uint8_t *to, unsigned bytes)
{
	assert_int_equal(ide_await(rig, base), IDLE | DRQ);
	ide_in(rig, base + R_STATUS, 1);
	for (unsigned i = 0; i < bytes; i += 4)
		store_le32(to + i, ide_in(rig, base, 4));
}

static void give_block(struct ide_rig *rig, unsigned base, const uint8_t *from, unsigned bytes)
{
	assert_int_equal(ide_await(rig, base), IDLE | DRQ);
	ide_in(rig, base + R_STATUS, 1);
	for (unsigned i = 0; i < bytes; i += 2)
		ide_out(rig, base, 2, load_le16(from + i));
}

static void assert_sector(const uint8_t *data, uint32_t number)
{
	static const uint8_t zeroes[SECTOR - 8];

	assert_int_equal(load_le32(data), number);
	assert_memory_equal(data + 4, zeroes, sizeof(zeroes));
	assert_int_equal(load_le32(data + SECTOR - 4), ~number);
}

static void identify(struct ide_rig *rig, unsigned base, unsigned device, uint8_t *data)
{
	ide_out(rig, base + R_DEVICE, 1, 0xa0 | device << 4);
	command(rig, base, 0xec);
	take_block(rig, base, data, SECTOR);
}

static void identifies_itself(void **state)
{
	struct ide_rig rig;
	uint8_t data[SECTOR], sum = 0;

	(void)state;
	setup(&rig);
	ide_out(&rig, P + R_DEVICE, 1, 0xa0);
	command(&rig, P, 0xec);
	assert_true(fake_host_line(&rig.machine.host, GSI));
	take_block(&rig, P, data, SECTOR);
	assert_false(fake_host_line(&rig.machine.host, GSI));
	assert_int_equal(raised(&rig, GSI), 1);
	assert_int_equal(ide_in(&rig, P + R_STATUS, 1), IDLE);
	assert_int_equal(load_le16(data), 0x40);
	assert_int_equal(load_le32(data + 2 * 60), SECTORS);
	assert_int_equal(load_le64(data + 2 * 100), SECTORS);
	assert_int_equal(load_le16(data + 2 * 1), SECTORS / (16 * 63));
	assert_int_equal(load_le16(data + 2 * 83) & 0x7400, 0x7400);
	assert_int_equal(load_le16(data + 2 * 63), 7);
	assert_memory_equal(data + 2 * 27, "udteI EDd si k", 14);
	assert_memory_equal(data + 2 * 10, "udted-si0k", 10);
	assert_int_equal(load_le16(data + 2 * 106), 0x6003); /* eight in a physical one, */
	assert_int_equal(load_le16(data + 2 * 209), 0x4000); /* and the first is its first */
	for (unsigned i = 0; i < SECTOR; i++)
		sum += data[i];
	assert_int_equal(sum, 0);
	/* Nothing is left at the port. */
	assert_int_equal(ide_in(&rig, P, 2), 0xffff);
	ide_rig_free(&rig);
}

/* The disk begins with the last sector of a physical block of 8 KiB. */
static void tells_how_blocks_lie(void **state)
{
	struct block block = {.file = {.physical_size = 8192, .physical_offset = 512}};
	const struct ide_drive drive = {.block = &block, .sectors = SECTORS, .name = "disk0"};
	uint8_t data[SECTOR];

	(void)state;
	ide_identify(&drive, data);
	assert_int_equal(load_le16(data + 2 * 106), 0x6004);
	assert_int_equal(load_le16(data + 2 * 209), 0x4000 | 15);
}

struct form {
	uint8_t read, write;
	bool ext;
	unsigned block; /* sectors for one interrupt */
};

static const struct form forms[] = {
	{0x20, 0x30, false, 1},
	{0x24, 0x34, true, 1},
	{0xc4, 0xc5, false, 16},
	{0x29, 0x39, true, 16},
	{0x21, 0xce, false, 1},
};

static void read_sectors(
	struct ide_rig *rig, const struct form *form, uint32_t lba, unsigned count, uint8_t *to)
{
	ide_aim(rig, P, 0, lba, count, form->ext);
	command(rig, P, form->read);
	for (unsigned done = 0; done < count; done += form->block)
		take_block(rig, P, to + done * SECTOR,
			(unsigned)min_u64(form->block, count - done) * SECTOR);
	assert_int_equal(ide_in(rig, P + R_STATUS, 1), IDLE);
}

static void moves_sectors_by_pio(void **state)
{
	static uint8_t data[300 * SECTOR], back[300 * SECTOR];

	(void)state;
	for (unsigned f = 0; f < 4; f++) {
		const struct form *form = &forms[f];
		/* More than the buffer holds, and no multiple of a block. */
		const unsigned count = form->ext ? 300 : 255;
		struct ide_rig rig;

		setup(&rig);
		read_sectors(&rig, form, 7, count, back);
		for (unsigned i = 0; i < count; i++)
			assert_sector(back + i * SECTOR, 7 + i);
		assert_int_equal(raised(&rig, GSI), (count + form->block - 1) / form->block);
		for (unsigned i = 0; i < count * SECTOR; i++)
			data[i] = (uint8_t)(i * 7 + i / SECTOR);
		ide_aim(&rig, P, 0, 1000, count, form->ext);
		command(&rig, P, form->write);
		for (unsigned done = 0; done < count; done += form->block)
			give_block(&rig, P, data + done * SECTOR,
				(unsigned)min_u64(form->block, count - done) * SECTOR);
		assert_int_equal(ide_await(&rig, P), IDLE);
		/* One at the end in place of the one at the beginning. */
		assert_int_equal(raised(&rig, GSI), 2 * ((count + form->block - 1) / form->block));
		assert_int_equal(
			pread(rig.fds[0], back, count * SECTOR, 1000 * SECTOR), count * SECTOR);
		assert_memory_equal(back, data, count * SECTOR);
		assert_int_equal(pread(rig.fds[0], back, SECTOR, (1000 + count) * SECTOR), SECTOR);
		assert_sector(back, 1000 + count);
		ide_rig_free(&rig);
	}
}

static void count_zero_is_256(void **state)
{
	static uint8_t back[256 * SECTOR];
	struct ide_rig rig;

	(void)state;
	setup(&rig);
	ide_aim(&rig, P, 0, 0, 0, false);
	command(&rig, P, 0x20);
	for (unsigned i = 0; i < 256; i++)
		take_block(&rig, P, back + i * SECTOR, SECTOR);
	assert_int_equal(ide_in(&rig, P + R_STATUS, 1), IDLE);
	assert_sector(back + 255 * SECTOR, 255);
	ide_rig_free(&rig);
}

static void addresses_by_cylinder(void **state)
{
	struct ide_rig rig;
	uint8_t data[SECTOR];

	(void)state;
	setup(&rig);
	/* Cylinder 1, head 2, sector 3 of 16 heads and 63 sectors. */
	ide_out(&rig, P + R_COUNT, 1, 1);
	ide_out(&rig, P + R_LOW, 1, 3);
	ide_out(&rig, P + R_MID, 1, 1);
	ide_out(&rig, P + R_DEVICE, 1, 0xa2);
	command(&rig, P, 0x20);
	take_block(&rig, P, data, SECTOR);
	assert_sector(data, (1 * 16 + 2) * 63 + 2);
	/* Of 4 heads and 8 sectors. */
	ide_out(&rig, P + R_COUNT, 1, 8);
	ide_out(&rig, P + R_DEVICE, 1, 0xa3);
	command(&rig, P, 0x91);
	assert_int_equal(ide_await(&rig, P), IDLE);
	ide_out(&rig, P + R_COUNT, 1, 1);
	ide_out(&rig, P + R_DEVICE, 1, 0xa2);
	command(&rig, P, 0x20);
	take_block(&rig, P, data, SECTOR);
	assert_sector(data, (1 * 4 + 2) * 8 + 2);
	/* There is no sector 9 there, nor 0, nor head 5. */
	for (unsigned i = 0; i < 3; i++) {
		ide_out(&rig, P + R_LOW, 1, i == 0 ? 9 : i == 1 ? 0 : 1);
		ide_out(&rig, P + R_DEVICE, 1, i == 2 ? 0xa5 : 0xa0);
		command(&rig, P, 0x20);
		assert_int_equal(ide_await(&rig, P), IDLE | ERR);
		assert_int_equal(ide_in(&rig, P + R_ERROR, 1), 0x10);
	}
	ide_rig_free(&rig);
}

static void refuses_what_is_not_there(void **state)
{
	static const struct {
		uint64_t lba;
		unsigned count;
		bool ext;
		uint8_t code;
	} cases[] = {
		{SECTORS, 1, false, 0x20},
		{SECTORS - 1, 2, false, 0x20},
		{0xfffffff, 1, false, 0x30},
		{0xffffffffffff, 1, true, 0x24},
		{0xffffffffffff, 0, true, 0x35},
		{0, 0, true, 0x25},
		{SECTORS - 1, 2, true, 0x42},
	};
	struct ide_rig rig;

	(void)state;
	setup(&rig);
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		ide_aim(&rig, P, 0, cases[i].lba, cases[i].count, cases[i].ext);
		command(&rig, P, cases[i].code);
		assert_int_equal(ide_await(&rig, P), IDLE | ERR);
		assert_int_equal(ide_in(&rig, P + R_ERROR, 1), 0x10);
		assert_true(fake_host_line(&rig.machine.host, GSI));
		ide_in(&rig, P + R_STATUS, 1);
	}
	ide_rig_free(&rig);
}

static void aborts_unknown_commands(void **state)
{
	/* NOP, DEVICE RESET, PACKET, IDENTIFY PACKET, DATA SET MANAGEMENT, SMART, ... */
	static const uint8_t codes[] = {0x00, 0x08, 0xa0, 0xa1, 0x06, 0xb0, 0xf1, 0x22, 0x60, 0xff};
	struct ide_rig rig;

	(void)state;
	setup(&rig);
	ide_out(&rig, P + R_DEVICE, 1, 0xe0);
	for (unsigned i = 0; i < ARRAY_SIZE(codes); i++) {
		command(&rig, P, codes[i]);
		assert_int_equal(ide_await(&rig, P), IDLE | ERR);
		assert_int_equal(ide_in(&rig, P + R_ERROR, 1), 4);
	}
	/* 48-bit forms know no cylinders. */
	ide_out(&rig, P + R_DEVICE, 1, 0xa0);
	command(&rig, P, 0x24);
	assert_int_equal(ide_await(&rig, P), IDLE | ERR);
	ide_rig_free(&rig);
}

static void sets_features(void **state)
{
	static const struct {
		uint8_t feature, count, status;
	} cases[] = {
		{0x03, 0x22, IDLE}, /* MWDMA 2 */
		{0x03, 0x0c, IDLE}, /* PIO 4 */
		{0x03, 0x42, IDLE | ERR},
		{0x03, 0x0d, IDLE | ERR},
		{0xaa, 0, IDLE},
		{0x02, 0, IDLE},
		{0x82, 0, IDLE},
		{0x99, 0, IDLE | ERR},
	};
	struct ide_rig rig;
	uint8_t data[SECTOR];

	(void)state;
	setup(&rig);
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		ide_out(&rig, P + R_ERROR, 1, cases[i].feature);
		ide_out(&rig, P + R_COUNT, 1, cases[i].count);
		command(&rig, P, 0xef);
		assert_int_equal(ide_await(&rig, P), cases[i].status);
	}
	identify(&rig, P, 0, data);
	assert_int_equal(load_le16(data + 2 * 63), 0x0407);
	assert_int_equal(load_le16(data + 2 * 82) & 0x20, 0x20);
	assert_int_equal(load_le16(data + 2 * 85) & 0x20, 0);
	/* What was in the cache went to the disk when it was turned off. */
	assert_int_equal(device_stat(rig.device, "disk0", "flushes"), 1);
	ide_out(&rig, P + R_COUNT, 1, 3);
	command(&rig, P, 0xc6);
	assert_int_equal(ide_await(&rig, P), IDLE | ERR);
	ide_aim(&rig, P, 0, 0, 1, false);
	command(&rig, P, 0xc4);
	assert_int_equal(ide_await(&rig, P), IDLE | ERR);
	ide_rig_free(&rig);
}

static void answers_small_commands(void **state)
{
	static const uint8_t good[] = {0x10, 0x70, 0xe0, 0xe1, 0xe2, 0xe3, 0xe6, 0xe7, 0xea, 0x40};
	struct ide_rig rig;

	(void)state;
	setup(&rig);
	for (unsigned i = 0; i < ARRAY_SIZE(good); i++) {
		ide_aim(&rig, P, 0, 1, 200, false);
		command(&rig, P, good[i]);
		assert_int_equal(ide_await(&rig, P), IDLE);
		assert_true(fake_host_line(&rig.machine.host, GSI));
		ide_in(&rig, P + R_STATUS, 1);
	}
	command(&rig, P, 0xe5);
	assert_int_equal(ide_in(&rig, P + R_COUNT, 1), 0xff);
	command(&rig, P, 0xf8);
	assert_int_equal(ide_in(&rig, P + R_LOW, 1) | ide_in(&rig, P + R_MID, 1) << 8, SECTORS - 1);
	command(&rig, P, 0x27);
	assert_int_equal(ide_in(&rig, P + R_MID, 1), (SECTORS - 1) >> 8);
	ide_out(&rig, P + R_CONTROL, 1, 0x80);
	assert_int_equal(ide_in(&rig, P + R_MID, 1), 0);
	assert_int_equal(device_stat(rig.device, "disk0", "flushes"), 2);
	/* Verified means read. */
	assert_int_equal(device_stat(rig.device, "disk0", "bytes_read"), 200 * SECTOR);
	ide_rig_free(&rig);
}

static void absent_drives_stay_silent(void **state)
{
	struct ide_rig rig;

	(void)state;
	setup(&rig);
	ide_out(&rig, P + R_DEVICE, 1, 0xb0);
	for (unsigned i = R_ERROR; i <= R_STATUS; i++)
		assert_int_equal(ide_in(&rig, P + i, 1), 0);
	command(&rig, P, 0xec);
	assert_int_equal(ide_in(&rig, P + R_STATUS, 1), 0);
	assert_int_equal(ide_in(&rig, P, 2), 0xffff);
	assert_int_equal(raised(&rig, GSI), 0);
	/* The channel without drives is turned off; turned on, nobody drives its lines. */
	assert_int_equal(fake_guest_config_read(&rig.machine, IDE_RIG_SLOT, 0x40, 4), 0x8000);
	assert_int_equal(ide_in(&rig, IDE_SECONDARY + R_STATUS, 1), 0xff);
	fake_guest_config_write(&rig.machine, IDE_RIG_SLOT, 0x42, 2, 0x8000);
	assert_int_equal(ide_in(&rig, IDE_SECONDARY + R_STATUS, 1), 0xff);
	command(&rig, IDE_SECONDARY, 0x90);
	command(&rig, IDE_SECONDARY, 0xec);
	assert_int_equal(raised(&rig, 15), 0);
	ide_rig_free(&rig);
}

static void four_drives_are_four(void **state)
{
	static const uint32_t sectors[IDE_DRIVES_MAX] = {100, 200, 300, 400};
	struct ide_rig rig;
	uint8_t data[SECTOR];

	(void)state;
	assert_true(ide_rig_init(&rig, sectors, false));
	for (unsigned i = 0; i < 4; i++) {
		identify(&rig, i < 2 ? IDE_PRIMARY : IDE_SECONDARY, i & 1, data);
		assert_int_equal(load_le32(data + 2 * 60), sectors[i]);
	}
	assert_int_equal(raised(&rig, 14), 2);
	assert_int_equal(raised(&rig, 15), 2);
	/* The data of one are not at the port while the other is selected. */
	ide_aim(&rig, P, 0, 5, 1, false);
	command(&rig, P, 0x20);
	assert_int_equal(ide_await(&rig, P), IDLE | DRQ);
	ide_out(&rig, P + R_DEVICE, 1, 0xf0);
	assert_int_equal(ide_in(&rig, P + R_CONTROL, 1), IDLE);
	assert_int_equal(ide_in(&rig, P, 4), UINT32_MAX);
	ide_out(&rig, P + R_DEVICE, 1, 0xe0);
	take_block(&rig, P, data, SECTOR);
	assert_sector(data, 5);
	ide_rig_free(&rig);
}

static void ports_follow_the_command_register(void **state)
{
	struct ide_rig rig;

	(void)state;
	setup(&rig);
	assert_int_equal(ide_in(&rig, P + R_STATUS, 1), IDLE);
	fake_guest_config_write(&rig.machine, IDE_RIG_SLOT, 4, 2, 0);
	assert_int_equal(ide_in(&rig, P + R_STATUS, 1), 0xff);
	command(&rig, P, 0xec);
	fake_guest_config_write(&rig.machine, IDE_RIG_SLOT, 4, 2, 1);
	assert_int_equal(ide_in(&rig, P + R_STATUS, 1), IDLE);
	fake_guest_config_write(&rig.machine, IDE_RIG_SLOT, 0x40, 2, 0);
	assert_int_equal(ide_in(&rig, P + R_CONTROL, 1), 0xff);
	assert_int_equal(fake_guest_config_read(&rig.machine, IDE_RIG_SLOT, 0, 4), 0x70108086);
	assert_int_equal(fake_guest_config_read(&rig.machine, IDE_RIG_SLOT, 8, 4), 0x01018000);
	ide_rig_free(&rig);
}

static void interrupts_can_be_held_back(void **state)
{
	struct ide_rig rig;

	(void)state;
	setup(&rig);
	ide_out(&rig, P + R_CONTROL, 1, 2);
	command(&rig, P, 0xe1);
	assert_int_equal(raised(&rig, GSI), 0);
	assert_int_equal(ide_in(&rig, rig.master + 2, 1) & 4, 0);
	ide_out(&rig, P + R_CONTROL, 1, 0);
	assert_int_equal(raised(&rig, GSI), 1);
	assert_int_equal(ide_in(&rig, rig.master + 2, 1) & 4, 4);
	/* The alternate status leaves it. */
	ide_in(&rig, P + R_CONTROL, 1);
	assert_true(fake_host_line(&rig.machine.host, GSI));
	ide_in(&rig, P + R_STATUS, 1);
	assert_false(fake_host_line(&rig.machine.host, GSI));
	ide_rig_free(&rig);
}

static void assert_signature(struct ide_rig *rig)
{
	assert_int_equal(ide_in(rig, P + R_ERROR, 1), 1);
	assert_int_equal(ide_in(rig, P + R_COUNT, 1), 1);
	assert_int_equal(ide_in(rig, P + R_LOW, 1), 1);
	assert_int_equal(ide_in(rig, P + R_MID, 1), 0);
	assert_int_equal(ide_in(rig, P + R_HIGH, 1), 0);
}

static void software_reset_gives_the_signature(void **state)
{
	struct ide_rig rig;

	(void)state;
	setup(&rig);
	ide_aim(&rig, P, 0, 5, 9, true);
	command(&rig, P, 0x24);
	assert_int_equal(ide_await(&rig, P), IDLE | DRQ);
	ide_out(&rig, P + R_CONTROL, 1, 4);
	assert_int_equal(ide_in(&rig, P + R_CONTROL, 1), BSY);
	assert_false(fake_host_line(&rig.machine.host, GSI));
	assert_int_equal(ide_in(&rig, P, 4), UINT32_MAX);
	ide_out(&rig, P + R_CONTROL, 1, 0);
	assert_int_equal(ide_in(&rig, P + R_CONTROL, 1), IDLE);
	assert_signature(&rig);
	assert_int_equal(ide_in(&rig, P, 4), UINT32_MAX);
	ide_out(&rig, P + R_DEVICE, 1, 0xb0);
	command(&rig, P, 0x90);
	assert_signature(&rig);
	assert_int_equal(raised(&rig, GSI), 2);
	ide_rig_free(&rig);
}

static void reset_gives_up_what_is_under_way(void **state)
{
	static const uint8_t codes[] = {0x20, 0x40, 0xe7};
	struct ide_hold hold;
	struct ide_rig rig;

	(void)state;
	setup(&rig);
	for (unsigned i = 0; i < ARRAY_SIZE(codes); i++) {
		unsigned before = raised(&rig, GSI);

		ide_hold(&rig, &hold);
		ide_aim(&rig, P, 0, 5, 1, false);
		command(&rig, P, codes[i]);
		assert_int_equal(ide_in(&rig, P + R_CONTROL, 1), BSY);
		/* A busy drive hears nothing but the reset. */
		command(&rig, P, 0xec);
		ide_out(&rig, P + R_DEVICE, 1, 0xb0);
		ide_out(&rig, P + R_CONTROL, 1, 4);
		ide_out(&rig, P + R_CONTROL, 1, 0);
		assert_int_equal(ide_in(&rig, P + R_CONTROL, 1), BSY);
		ide_let_go(&hold);
		assert_int_equal(ide_await(&rig, P), IDLE);
		assert_signature(&rig);
		assert_int_equal(raised(&rig, GSI), before);
		assert_int_equal(ide_in(&rig, P, 2), 0xffff);
	}
	ide_rig_free(&rig);
}

static void back_end_errors_name_the_sector(void **state)
{
	struct ide_rig rig;
	uint8_t data[SECTOR];

	(void)state;
	setup(&rig);
	/* The image is cut short behind the guest's back: 128 sectors come, the rest do not. */
	assert_int_equal(ftruncate(rig.fds[0], 1128 * SECTOR), 0);
	ide_aim(&rig, P, 0, 1000, 300, true);
	command(&rig, P, 0x24);
	for (unsigned i = 0; i < 128; i++) {
		take_block(&rig, P, data, SECTOR);
		assert_sector(data, 1000 + i);
	}
	assert_int_equal(ide_await(&rig, P), IDLE | ERR);
	assert_true(fake_host_line(&rig.machine.host, GSI));
	assert_int_equal(ide_in(&rig, P + R_ERROR, 1), 0x40);
	assert_int_equal(ide_in(&rig, P + R_LOW, 1) | ide_in(&rig, P + R_MID, 1) << 8, 1128);
	assert_int_equal(ide_in(&rig, P, 4), UINT32_MAX);
	assert_int_equal(device_stat(rig.device, "disk0", "errors"), 1);
	ide_rig_free(&rig);
}

static void readonly_disks_refuse_writes(void **state)
{
	static const uint8_t codes[] = {0x30, 0x34, 0xc5, 0x39, 0xca, 0x35};
	struct ide_rig rig;

	(void)state;
	assert_true(ide_rig_init(&rig, one_disk, true));
	for (unsigned i = 0; i < ARRAY_SIZE(codes); i++) {
		ide_aim(&rig, P, 0, 5, 1, false);
		command(&rig, P, codes[i]);
		assert_int_equal(ide_await(&rig, P), IDLE | ERR);
		assert_int_equal(ide_in(&rig, P + R_ERROR, 1), 4);
	}
	ide_rig_free(&rig);
}

/* Half a sector is given, then another command comes: neither disk nor guest ever sees it. */
static void unfinished_writes_leave_nothing(void **state)
{
	struct ide_rig rig;
	uint8_t data[SECTOR], ours[SECTOR];

	(void)state;
	setup(&rig);
	memset(ours, 0xee, sizeof(ours));
	ide_aim(&rig, P, 0, 50, 2, false);
	command(&rig, P, 0x30);
	give_block(&rig, P, ours, SECTOR);
	give_block(&rig, P, ours, SECTOR / 2);
	ide_aim(&rig, P, 0, 60, 1, false);
	command(&rig, P, 0x20);
	take_block(&rig, P, data, SECTOR);
	assert_sector(data, 60);
	assert_int_equal(pread(rig.fds[0], data, SECTOR, 50 * SECTOR), SECTOR);
	assert_sector(data, 50);
	/* Odd accesses at a block's end neither read nor write past it. */
	identify(&rig, P, 0, data);
	command(&rig, P, 0xec);
	ide_in(&rig, P + R_STATUS, 1);
	ide_in(&rig, P, 1);
	for (unsigned i = 1; i + 4 <= SECTOR; i += 4)
		ide_in(&rig, P, 4);
	assert_int_equal(ide_in(&rig, P, 4) & 0xff000000, 0);
	assert_int_equal(ide_in(&rig, P + R_STATUS, 1), IDLE);
	ide_rig_free(&rig);
}

static void moves_in_the_middle_of_a_transfer(void **state)
{
	struct ide_rig from, to, other;
	static const uint32_t smaller[IDE_DRIVES_MAX] = {SECTORS / 2};
	uint8_t data[SECTOR];

	(void)state;
	setup(&from);
	setup(&to);
	assert_true(ide_rig_init(&other, smaller, false));
	ide_aim(&from, P, 0, 70, 200, false);
	command(&from, P, 0x20);
	take_block(&from, P, data, SECTOR);
	take_block(&from, P, data, 100);
	fake_stop(from.device);
	assert_int_equal(fixture_move(from.device, to.device), 0);
	for (unsigned i = 100; i < SECTOR; i += 4)
		store_le32(data + i, ide_in(&to, P, 4));
	assert_sector(data, 71);
	for (unsigned i = 2; i < 200; i++) {
		take_block(&to, P, data, SECTOR);
		assert_sector(data, 70 + i);
	}
	assert_int_equal(ide_in(&to, P + R_STATUS, 1), IDLE);
	/* A disk of another size is another disk. */
	assert_true(fixture_move(from.device, other.device) < 0);
	ide_rig_free(&from);
	ide_rig_free(&to);
	ide_rig_free(&other);
}

/* Its drive would be busy for ever: a request that is under way is never saved. */
static void an_engine_that_runs_is_not_restored(void **state)
{
	struct ide_rig from, to;

	(void)state;
	setup(&from);
	setup(&to);
	ide_aim(&from, P, 0, 70, 8, false);
	command(&from, P, 0xc8);
	fake_stop(from.device);
	assert_int_equal(fixture_move(from.device, to.device), 0);
	assert_int_equal(ide_in(&to, P + R_CONTROL, 1), BSY);
	((struct ide *)from.device)->channels[0].master.command = 9;
	assert_true(fixture_move(from.device, to.device) < 0);
	ide_rig_free(&from);
	ide_rig_free(&to);
}

static void counts_each_register(void **state)
{
	struct ide_rig rig;
	uint8_t data[SECTOR];

	(void)state;
	setup(&rig);
	identify(&rig, P, 0, data);
	assert_int_equal(device_stat(rig.device, "registers", "data read"), 128);
	assert_int_equal(device_stat(rig.device, "primary", "data read"), 128);
	assert_int_equal(device_stat(rig.device, "disk0", "pio_accesses"), 128);
	assert_int_equal(device_stat(rig.device, "registers", "command write"), 1);
	assert_int_equal(device_stat(rig.device, "registers", "status read"), 1);
	assert_int_equal(device_stat(rig.device, "registers", "alternate status read"), 1);
	assert_int_equal(device_stat(rig.device, "disk0", "interrupts"), 1);
	ide_rig_free(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(identifies_itself),
		cmocka_unit_test(tells_how_blocks_lie),
		cmocka_unit_test(moves_sectors_by_pio),
		cmocka_unit_test(count_zero_is_256),
		cmocka_unit_test(addresses_by_cylinder),
		cmocka_unit_test(refuses_what_is_not_there),
		cmocka_unit_test(aborts_unknown_commands),
		cmocka_unit_test(sets_features),
		cmocka_unit_test(answers_small_commands),
		cmocka_unit_test(absent_drives_stay_silent),
		cmocka_unit_test(four_drives_are_four),
		cmocka_unit_test(ports_follow_the_command_register),
		cmocka_unit_test(interrupts_can_be_held_back),
		cmocka_unit_test(software_reset_gives_the_signature),
		cmocka_unit_test(reset_gives_up_what_is_under_way),
		cmocka_unit_test(back_end_errors_name_the_sector),
		cmocka_unit_test(readonly_disks_refuse_writes),
		cmocka_unit_test(unfinished_writes_leave_nothing),
		cmocka_unit_test(moves_in_the_middle_of_a_transfer),
		cmocka_unit_test(an_engine_that_runs_is_not_restored),
		cmocka_unit_test(counts_each_register),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
