/* SPDX-License-Identifier: Apache-2.0 */
/* Bus-master DMA: honest tables, hostile ones, and engines stopped at the wrong time. */
#include "ide_rig.h"

#include "base/bytes.h"
#include "base/checked.h"
#include "base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define SECTOR    512U
#define SECTORS   40000U
#define GSI       14
#define P         IDE_PRIMARY
#define BMIS      (rig.master + 2U)
#define ACTIVE    1
#define BM_ERROR  2
#define INTERRUPT 4

static const uint32_t one_disk[IDE_DRIVES_MAX] = {SECTORS};

static void setup(struct ide_rig *rig)
{
	log_set_level(LOG_LEVEL_ERROR);
	assert_true(ide_rig_init(rig, one_disk, false));
}

static void command(struct ide_rig *rig, uint8_t code)
{
	ide_out(rig, P + R_STATUS, 1, code);
}

static void assert_sectors(struct ide_rig *rig, uint64_t at, uint32_t first, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		const uint8_t *data = rig->machine.ram + at + (size_t)i * SECTOR;

		assert_int_equal(load_le32(data), first + i);
		assert_int_equal(load_le32(data + SECTOR - 4), ~(first + i));
	}
}

static void reads_into_memory(void **state)
{
	struct ide_rig rig;

	(void)state;
	setup(&rig);
	assert_int_equal(memory_dirty_start(&rig.machine.memory), 0);
	/* Pieces that are no sectors, in any order; a length of 0 is 64 KiB. */
	ide_prd(&rig, 0, IDE_RIG_DATA, 0, false);
	ide_prd(&rig, 1, IDE_RIG_DATA + 0x10000, 100, false);
	ide_prd(&rig, 2, IDE_RIG_DATA + 0x10064, 0x1000 - 100, true);
	ide_aim(&rig, P, 0, 100, 136, false);
	command(&rig, 0xc8);
	assert_int_equal(ide_in(&rig, P + R_CONTROL, 1), BSY);
	ide_engine(&rig, P, true);
	assert_int_equal(ide_await(&rig, P), IDLE);
	assert_int_equal(ide_in(&rig, BMIS, 1), INTERRUPT);
	assert_true(fake_host_line(&rig.machine.host, GSI));
	assert_sectors(&rig, IDE_RIG_DATA, 100, 136);
	assert_int_equal(load_le32(rig.machine.ram + IDE_RIG_DATA + 136 * SECTOR), 0);
	/* The pages that were written, and no other: 17 from page 256 on. */
	assert_int_equal(memory_dirty_take(&rig.machine.memory, 4), 0x1ffff);
	assert_int_equal(memory_dirty_take(&rig.machine.memory, 0), 0);
	ide_out(&rig, BMIS, 1, INTERRUPT);
	assert_int_equal(ide_in(&rig, BMIS, 1), 0);
	ide_rig_free(&rig);
}

static void writes_from_memory(void **state)
{
	static uint8_t back[64 * SECTOR];
	uint8_t *data;
	struct ide_rig rig;

	(void)state;
	setup(&rig);
	data = rig.machine.ram + IDE_RIG_DATA;
	for (unsigned i = 0; i < sizeof(back); i++)
		data[i] = (uint8_t)(i * 3 + i / SECTOR);
	for (unsigned i = 0; i < 64; i++)
		ide_prd(&rig, i, (uint32_t)(IDE_RIG_DATA + i * SECTOR), SECTOR, i == 63);
	/* The engine first, then the command. */
	ide_engine(&rig, P, false);
	ide_aim(&rig, P, 0, 3000, 64, true);
	command(&rig, 0x35);
	assert_int_equal(ide_await(&rig, P), IDLE);
	assert_int_equal(ide_in(&rig, BMIS, 1), INTERRUPT);
	assert_int_equal(pread(rig.fds[0], back, sizeof(back), 3000 * SECTOR), sizeof(back));
	assert_memory_equal(back, data, sizeof(back));
	ide_rig_free(&rig);
}

/* More descriptors than one request has segments, the largest command there is. */
static void long_tables_take_several_requests(void **state)
{
	const unsigned count = 20000, piece = 2048;
	const uint32_t at = 0x400000;
	struct ide_rig rig;

	(void)state;
	setup(&rig);
	for (unsigned i = 0; i < count * SECTOR / piece; i++)
		ide_prd(&rig, i, at + i * piece, (uint16_t)piece, i == count * SECTOR / piece - 1);
	ide_aim(&rig, P, 0, 11, count, true);
	command(&rig, 0x25);
	ide_engine(&rig, P, true);
	assert_int_equal(ide_await(&rig, P), IDLE);
	assert_int_equal(ide_in(&rig, BMIS, 1), INTERRUPT);
	assert_sectors(&rig, at, 11, count);
	ide_rig_free(&rig);
}

static void more_room_than_data_leaves_the_engine_active(void **state)
{
	struct ide_rig rig;

	(void)state;
	setup(&rig);
	ide_prd(&rig, 0, IDE_RIG_DATA, 0, true);
	ide_aim(&rig, P, 0, 9, 1, false);
	command(&rig, 0xc8);
	ide_engine(&rig, P, true);
	assert_int_equal(ide_await(&rig, P), IDLE);
	assert_int_equal(ide_in(&rig, BMIS, 1), INTERRUPT | ACTIVE);
	assert_int_equal(load_le32(rig.machine.ram + IDE_RIG_DATA + SECTOR), 0);
	ide_out(&rig, rig.master, 1, 0);
	assert_int_equal(ide_in(&rig, BMIS, 1), INTERRUPT);
	ide_rig_free(&rig);
}

struct hostile {
	uint32_t address;
	uint16_t length;
	bool error; /* the bus master's; else the table was only too short */
};

static void hostile_tables_end_the_command(void **state)
{
	static const struct hostile cases[] = {
		{FAKE_RAM_SIZE, 512, true},
		{FAKE_RAM_SIZE - 256, 512, true},
		{0xfffffffe, 0, true},
		{FAKE_MMIO32, 4096, true},
		{FAKE_ECAM, 4096, true},
		{0xc000, 16, false}, /* the BAR's number is a port's: as memory it is RAM */
		{IDE_RIG_DATA, 2, false},
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(cases) * 2; i++) {
		const struct hostile *hostile = &cases[i / 2];
		const bool to_memory = i & 1;
		struct ide_rig rig;

		setup(&rig);
		ide_prd(&rig, 0, hostile->address, hostile->length, true);
		ide_aim(&rig, P, 0, 200, 2, false);
		command(&rig, to_memory ? 0xc8 : 0xca);
		ide_engine(&rig, P, to_memory);
		assert_int_equal(ide_await(&rig, P), IDLE | ERR);
		assert_int_equal(ide_in(&rig, P + R_ERROR, 1), 4);
		assert_int_equal(
			ide_in(&rig, BMIS, 1), INTERRUPT | (hostile->error ? BM_ERROR : 0));
		assert_true(fake_host_line(&rig.machine.host, GSI));
		assert_int_equal(ide_in(&rig, P + R_LOW, 1), 200);
		ide_rig_free(&rig);
	}
}

static void tables_outside_memory(void **state)
{
	static const uint32_t tables[] = {FAKE_RAM_SIZE, FAKE_RAM_SIZE - 4, 0xfffffffc, FAKE_ECAM};
	struct ide_rig rig;

	(void)state;
	setup(&rig);
	for (unsigned i = 0; i < ARRAY_SIZE(tables); i++) {
		ide_aim(&rig, P, 0, 0, 1, false);
		command(&rig, 0xc8);
		ide_out(&rig, rig.master, 1, 8);
		ide_out(&rig, BMIS, 1, 6);
		ide_out(&rig, rig.master + 4, 4, tables[i]);
		assert_int_equal(ide_in(&rig, rig.master + 4, 4), tables[i]);
		ide_out(&rig, rig.master, 1, 9);
		assert_int_equal(ide_await(&rig, P), IDLE | ERR);
		assert_int_equal(ide_in(&rig, BMIS, 1) & BM_ERROR, BM_ERROR);
		ide_out(&rig, rig.master, 1, 0);
	}
	ide_rig_free(&rig);
}

static void engine_must_be_allowed_and_the_right_way_round(void **state)
{
	struct ide_rig rig;

	(void)state;
	setup(&rig);
	ide_prd(&rig, 0, IDE_RIG_DATA, 512, true);
	memset(rig.machine.ram + IDE_RIG_DATA, 0xaa, 512);
	for (unsigned i = 0; i < 2; i++) {
		if (i == 1)
			fake_guest_config_write(&rig.machine, IDE_RIG_SLOT, 4, 2, 1);
		ide_aim(&rig, P, 0, 0, 1, false);
		command(&rig, 0xc8);
		ide_engine(&rig, P, i == 1);
		assert_int_equal(ide_await(&rig, P), IDLE | ERR);
		assert_int_equal(ide_in(&rig, BMIS, 1) & BM_ERROR, BM_ERROR);
		ide_out(&rig, rig.master, 1, 0);
	}
	assert_int_equal(rig.machine.ram[IDE_RIG_DATA], 0xaa);
	/* Without a command an engine has nothing to do. */
	fake_guest_config_write(&rig.machine, IDE_RIG_SLOT, 4, 2, 5);
	ide_engine(&rig, P, true);
	ide_settle(&rig);
	assert_int_equal(ide_in(&rig, BMIS, 1), ACTIVE);
	assert_int_equal(rig.machine.ram[IDE_RIG_DATA], 0xaa);
	ide_rig_free(&rig);
}

/* The transfer is on its way to the loop when the engine stops: it never reaches memory. Started
 * again it begins at the table's beginning. */
static void stopped_engine_leaves_memory_alone(void **state)
{
	struct ide_hold hold;
	struct ide_rig rig;

	(void)state;
	setup(&rig);
	ide_prd(&rig, 0, IDE_RIG_DATA, 512, true);
	memset(rig.machine.ram + IDE_RIG_DATA, 0xaa, 512);
	ide_hold(&rig, &hold);
	ide_aim(&rig, P, 0, 77, 1, false);
	command(&rig, 0xc8);
	ide_engine(&rig, P, true);
	ide_out(&rig, rig.master, 1, 8);
	ide_let_go(&hold);
	ide_settle(&rig);
	assert_int_equal(ide_in(&rig, BMIS, 1), 0);
	assert_int_equal(ide_in(&rig, P + R_CONTROL, 1), BSY);
	assert_int_equal(rig.machine.ram[IDE_RIG_DATA], 0xaa);
	assert_false(fake_host_line(&rig.machine.host, GSI));
	ide_engine(&rig, P, true);
	assert_int_equal(ide_await(&rig, P), IDLE);
	assert_sectors(&rig, IDE_RIG_DATA, 77, 1);
	ide_rig_free(&rig);
}

/* A request is at the back end, where it waits for its turn: stopping does not wait with it, and
 * what it brings goes nowhere. The next start has another table. */
static void engine_stops_at_once(void **state)
{
	const uint32_t other = IDE_RIG_DATA + 0x1000;
	struct ide_rig rig;

	(void)state;
	assert_true(ide_rig_init_slow(&rig, one_disk, 1));
	memset(rig.machine.ram + IDE_RIG_DATA, 0xaa, 0x2000);
	for (unsigned i = 0; i < 2; i++) {
		ide_prd(&rig, 0, IDE_RIG_DATA + i * SECTOR, SECTOR, true);
		ide_aim(&rig, P, 0, 77, 1, false);
		command(&rig, 0xc8);
		ide_engine(&rig, P, true);
		if (i == 0)
			assert_int_equal(ide_await(&rig, P), IDLE);
		ide_settle(&rig);
		ide_out(&rig, rig.master, 1, 8);
	}
	assert_int_equal(ide_in(&rig, P + R_CONTROL, 1), BSY);
	assert_int_equal(ide_in(&rig, BMIS, 1) & ACTIVE, 0);
	ide_prd(&rig, 0, other, SECTOR, true);
	ide_engine(&rig, P, true);
	assert_int_equal(ide_await(&rig, P), IDLE);
	assert_sectors(&rig, IDE_RIG_DATA, 77, 1);
	assert_sectors(&rig, other, 77, 1);
	assert_int_equal(rig.machine.ram[IDE_RIG_DATA + SECTOR], 0xaa);
	ide_rig_free(&rig);
}

static void reset_in_mid_transfer(void **state)
{
	struct ide_hold hold;
	struct ide_rig rig;

	(void)state;
	setup(&rig);
	ide_prd(&rig, 0, IDE_RIG_DATA, 512, true);
	memset(rig.machine.ram + IDE_RIG_DATA, 0xaa, 512);
	ide_hold(&rig, &hold);
	ide_aim(&rig, P, 0, 77, 1, false);
	command(&rig, 0xc8);
	ide_engine(&rig, P, true);
	ide_out(&rig, P + R_CONTROL, 1, 4);
	ide_out(&rig, P + R_CONTROL, 1, 0);
	assert_int_equal(ide_in(&rig, P + R_CONTROL, 1), BSY);
	ide_let_go(&hold);
	assert_int_equal(ide_await(&rig, P), IDLE);
	ide_settle(&rig);
	assert_int_equal(rig.machine.ram[IDE_RIG_DATA], 0xaa);
	assert_false(fake_host_line(&rig.machine.host, GSI));
	/* And the machine's own reset, which follows rest. */
	ide_out(&rig, rig.master, 1, 0);
	ide_aim(&rig, P, 0, 78, 1, false);
	command(&rig, 0xc8);
	ide_engine(&rig, P, true);
	fake_stop(rig.device);
	rig.device->ops->reset(rig.device);
	memset(rig.machine.ram + IDE_RIG_DATA, 0x55, 512);
	ide_settle(&rig);
	assert_int_equal(rig.machine.ram[IDE_RIG_DATA], 0x55);
	assert_false(fake_host_line(&rig.machine.host, GSI));
	assert_int_equal(ide_in(&rig, P + R_STATUS, 1), 0xff);
	ide_rig_free(&rig);
}

static void back_end_errors_reach_the_guest(void **state)
{
	struct ide_rig rig;

	(void)state;
	setup(&rig);
	assert_int_equal(ftruncate(rig.fds[0], 1000 * SECTOR), 0);
	ide_prd(&rig, 0, IDE_RIG_DATA, 0x2000, true);
	ide_aim(&rig, P, 0, 0x1000, 16, false);
	command(&rig, 0xc8);
	ide_engine(&rig, P, true);
	assert_int_equal(ide_await(&rig, P), IDLE | ERR);
	assert_int_equal(ide_in(&rig, P + R_ERROR, 1), 0x40);
	assert_int_equal(ide_in(&rig, P + R_MID, 1), 0x10);
	assert_int_equal(ide_in(&rig, BMIS, 1) & (INTERRUPT | BM_ERROR), INTERRUPT);
	ide_rig_free(&rig);
}

/* A command of many requests, each of which would wait for a second. */
static void slow_read(struct ide_rig *rig, uint32_t at, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		ide_prd(rig, i, at + i * SECTOR, SECTOR, i == count - 1);
	ide_aim(rig, P, 0, 7, count, true);
	command(rig, 0x25);
	ide_engine(rig, P, true);
}

/* Stopping ends the command, resetting gives it up, and neither waits for the limit. */
static void a_limit_does_not_hold_up_the_end(void **state)
{
	const uint32_t at = 0x400000, count = 20000;
	struct ide_rig rig;

	(void)state;
	log_set_level(LOG_LEVEL_ERROR);
	assert_true(ide_rig_init_slow(&rig, one_disk, 1));
	slow_read(&rig, at, count);
	fake_stop(rig.device);
	assert_int_equal(ide_in(&rig, P + R_CONTROL, 1), IDLE);
	assert_int_equal(ide_in(&rig, BMIS, 1), INTERRUPT);
	assert_sectors(&rig, at, 7, count);
	memset(rig.machine.ram + at, 0xaa, (size_t)count * SECTOR);
	ide_out(&rig, rig.master, 1, 0);
	slow_read(&rig, at, count);
	rig.device->ops->reset(rig.device);
	assert_int_equal(rig.machine.ram[at + (count - 1) * SECTOR], 0xaa);
	ide_rig_free(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_into_memory),
		cmocka_unit_test(writes_from_memory),
		cmocka_unit_test(long_tables_take_several_requests),
		cmocka_unit_test(more_room_than_data_leaves_the_engine_active),
		cmocka_unit_test(hostile_tables_end_the_command),
		cmocka_unit_test(tables_outside_memory),
		cmocka_unit_test(engine_must_be_allowed_and_the_right_way_round),
		cmocka_unit_test(stopped_engine_leaves_memory_alone),
		cmocka_unit_test(engine_stops_at_once),
		cmocka_unit_test(reset_in_mid_transfer),
		cmocka_unit_test(back_end_errors_reach_the_guest),
		cmocka_unit_test(a_limit_does_not_hold_up_the_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
