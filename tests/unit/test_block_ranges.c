/* SPDX-License-Identifier: Apache-2.0 */
/* Ranges that the block back end fills with zeroes or discards: what they leave, that they hold up
 * nobody, and how they are given up. */
#include "block_rig.h"

#include "base/checked.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static bool all_bytes(int fd, off_t offset, size_t length, uint8_t value)
{
	uint8_t *bytes = malloc(length);
	bool same = pread(fd, bytes, length, offset) == (ssize_t)length;

	for (size_t i = 0; same && i < length; i++)
		same = bytes[i] == value;
	free(bytes);
	return same;
}

static void fill_file(int fd)
{
	static uint8_t bytes[BLOCK_RIG_SIZE];

	memset(bytes, 0xa5, sizeof(bytes));
	assert_int_equal(pwrite(fd, bytes, sizeof(bytes), 0), BLOCK_RIG_SIZE);
}

/* Ranges that are not whole pages, in both ways, leave zeroes there and nothing elsewhere. */
static void zero_ranges(struct block_rig *rig, enum block_op kind, bool unmap)
{
	static const struct {
		uint64_t offset, length;
	} ranges[] = {{0, 512}, {1536, 1024}, {4096, 65536}, {512, 2 << 20}, {0, BLOCK_RIG_SIZE}};
	int fd = open(rig->path, O_RDWR | O_CLOEXEC);

	for (unsigned i = 0; i < ARRAY_SIZE(ranges); i++) {
		uint64_t end = ranges[i].offset + ranges[i].length;

		fill_file(fd);
		assert_int_equal(
			block_rig_range(rig, kind, ranges[i].offset, ranges[i].length, unmap), 0);
		assert_true(all_bytes(fd, 0, ranges[i].offset, 0xa5));
		assert_true(all_bytes(fd, (off_t)ranges[i].offset, ranges[i].length, 0));
		assert_true(all_bytes(fd, (off_t)end, BLOCK_RIG_SIZE - end, 0xa5));
	}
	assert_int_equal(lseek(fd, 0, SEEK_END), BLOCK_RIG_SIZE);
	close(fd);
}

static void test_zeroes(void **state)
{
	/* tmpfs punches holes and knows no zero range: there zeroes are written. */
	static const char *const places[] = {"/tmp", "/dev/shm"};

	for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
		struct block_rig rig;

		block_rig_open(&rig, places[i], false, BLOCK_CACHE_WRITEBACK);
		zero_ranges(&rig, BLOCK_WRITE_ZEROES, false);
		zero_ranges(&rig, BLOCK_WRITE_ZEROES, true);
		if (block_can_discard(rig.block))
			zero_ranges(&rig, BLOCK_DISCARD, false);
		block_rig_close(&rig);
	}
}

static void test_unmap_frees(void **state)
{
	struct block_rig rig;
	struct stat st;
	int fd;

	block_rig_open(&rig, "/dev/shm", false, BLOCK_CACHE_WRITEBACK);
	fd = open(rig.path, O_RDWR | O_CLOEXEC);
	fill_file(fd);
	assert_true(block_can_discard(rig.block));
	assert_int_equal(block_rig_range(&rig, BLOCK_DISCARD, 0, BLOCK_RIG_SIZE, false), 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_blocks, 0);
	/* Without unmap the space stays taken. */
	fill_file(fd);
	assert_int_equal(block_rig_range(&rig, BLOCK_WRITE_ZEROES, 0, BLOCK_RIG_SIZE, false), 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_blocks, BLOCK_RIG_SIZE / 512);
	close(fd);
	block_rig_close(&rig);
}

/* A device that takes its time over a discard. */
static struct {
	pthread_mutex_t lock;
	uint64_t offset, length;
	unsigned calls;
	int result;
} slow = {.lock = PTHREAD_MUTEX_INITIALIZER};

static int discard_slowly(int fd, uint64_t offset, uint64_t length)
{
	(void)fd;
	pthread_mutex_lock(&slow.lock);
	slow.offset = offset;
	slow.length = length;
	slow.calls++;
	pthread_mutex_unlock(&slow.lock);
	return slow.result;
}

static void rig_open_device(struct block_rig *rig)
{
	block_rig_open(rig, "/tmp", false, BLOCK_CACHE_WRITEBACK);
	assert_int_equal(block_discard_new(rig->block), 0);
	rig->block->file.discard_device = discard_slowly;
	rig->block->file.logical_size = 4096;
	slow.calls = 0;
}

/* Whether holes can be punched in it does not matter; whole sectors are given back. */
static void test_discards_a_device(void **state)
{
	struct block_rig rig;

	(void)state;
	rig_open_device(&rig);
	rig.block->file.no_punch = true;
	assert_int_equal(block_rig_range(&rig, BLOCK_DISCARD, 512, 65536, false), 0);
	assert_int_equal(slow.offset, 4096);
	assert_int_equal(slow.length, 61440);
	assert_int_equal(block_rig_range(&rig, BLOCK_DISCARD, 512, 4096, false), 0);
	assert_int_equal(slow.calls, 1);
	slow.result = -EIO;
	assert_int_equal(block_rig_range(&rig, BLOCK_DISCARD, 0, BLOCK_RIG_SIZE, false), -EIO);
	slow.result = -EOPNOTSUPP;
	assert_int_equal(
		block_rig_range(&rig, BLOCK_DISCARD, 0, BLOCK_RIG_SIZE, false), -EOPNOTSUPP);
	slow.result = 0;
	/* The next one is asked all the same, and what is to be durable is. */
	assert_int_equal(block_rig_run(&rig, (struct block_request){.kind = BLOCK_DISCARD,
						     .length = BLOCK_RIG_SIZE,
						     .durable = true}),
		0);
	assert_int_equal(slow.calls, 4);
	block_rig_close(&rig);
}

/* Two; the first is under way until slow.lock is let go of. */
static void submit_slow_discards(struct block_rig *rig, struct block_waiter *waiters)
{
	pthread_mutex_lock(&slow.lock);
	for (unsigned i = 0; i < 2; i++) {
		waiters[i] = (struct block_waiter){.loop = rig->loop, .result = 1};
		waiters[i].request = (struct block_request){
			.kind = BLOCK_DISCARD, .length = BLOCK_RIG_SIZE, .done = block_rig_done};
		block_submit(rig->block, &waiters[i].request);
	}
}

/* Reads go on beside it; those behind it are given up at the machine's end. */
static void test_discard_does_not_hold_the_loop(void **state)
{
	struct block_waiter waiters[3];
	uint8_t bytes[512];
	struct iovec segment = {bytes, sizeof(bytes)};
	struct block_rig rig;

	(void)state;
	rig_open_device(&rig);
	submit_slow_discards(&rig, waiters);
	waiters[2] = (struct block_waiter){.loop = rig.loop, .result = 1};
	waiters[2].request = (struct block_request){.kind = BLOCK_READ,
		.length = 512,
		.segments = &segment,
		.count = 1,
		.done = block_rig_done};
	block_submit(rig.block, &waiters[2].request);
	assert_int_equal(loop_run(rig.loop), 0);
	assert_int_equal(waiters[2].result, 0);
	assert_int_equal(waiters[0].result, 1);
	block_cancel(rig.block);
	assert_int_equal(loop_run(rig.loop), 0);
	assert_int_equal(waiters[1].result, -ECANCELED);
	assert_int_equal(waiters[0].result, 1);
	pthread_mutex_unlock(&slow.lock);
	assert_int_equal(loop_run(rig.loop), 0);
	assert_int_equal(waiters[0].result, 0);
	assert_int_equal(slow.calls, 1);
	assert_int_equal(block_in_flight(rig.block), 0);
	block_rig_close(&rig);
}

/* A reset does not wait for those that have not begun. */
static void test_reset_drops_discards(void **state)
{
	struct block_waiter waiters[2];
	struct block_rig rig;

	(void)state;
	rig_open_device(&rig);
	submit_slow_discards(&rig, waiters);
	block_drop(rig.block);
	assert_int_equal(waiters[1].result, 1);
	assert_int_equal(block_in_flight(rig.block), 2);
	pthread_mutex_unlock(&slow.lock);
	while (block_in_flight(rig.block))
		assert_int_equal(loop_run(rig.loop), 0);
	assert_int_equal(waiters[0].result, 0);
	assert_int_equal(waiters[1].result, -ECANCELED);
	assert_int_equal(slow.calls, 1);
	/* What comes later is done. */
	assert_int_equal(block_rig_range(&rig, BLOCK_DISCARD, 0, BLOCK_RIG_SIZE, false), 0);
	assert_int_equal(slow.calls, 2);
	block_rig_close(&rig);
}

/* The kernel's own word, on a loop device, whose discards punch holes in its file. */
static void test_discards_a_loop_device(void **state)
{
	struct block_rig rig;
	struct stat before, after;
	char device[32];
	int fd, image;

	(void)state;
	block_rig_files(&rig, "/tmp");
	image = open(rig.path, O_RDWR | O_CLOEXEC);
	fill_file(image);
	assert_int_equal(fstat(image, &before), 0);
	fd = block_rig_loop_device(rig.path, device);
	unlink(rig.path);
	if (fd < 0) {
		print_message("skipped: a loop device needs root\n");
		close(image);
		rmdir(rig.directory);
		skip();
	}
	snprintf(rig.path, sizeof(rig.path), "%s", device);
	block_rig_open_block(&rig, false, BLOCK_CACHE_WRITEBACK);
	assert_int_equal(block_logical_size(rig.block), 4096);
	assert_true(block_can_discard(rig.block));
	assert_non_null(rig.block->file.discard);
	assert_int_equal(
		block_rig_range(&rig, BLOCK_DISCARD, BLOCK_RIG_SIZE / 2, BLOCK_RIG_SIZE / 2, false),
		0);
	assert_int_equal(fstat(image, &after), 0);
	assert_true(after.st_blocks <= before.st_blocks - (BLOCK_RIG_SIZE / 2 - 65536) / 512);
	close(fd);
	block_close(rig.block);
	loop_free(rig.loop);
	rmdir(rig.directory);
	close(image);
}

#define HOURS_OF_ZEROES 256

static unsigned zeroes_left;

static void zeroes_done(struct block_request *request, int result)
{
	struct block_waiter *waiter = container_of(request, struct block_waiter, request);

	waiter->result = result;
	if (--zeroes_left == 0)
		loop_stop(waiter->loop);
}

/* As a guest may queue them: at the machine's end none of them is awaited. */
static void test_cancel(void **state)
{
	static struct block_waiter waiters[HOURS_OF_ZEROES];
	struct block_rig rig;
	struct stat file;

	(void)state;
	block_rig_files(&rig, "/dev/shm");
	block_rig_make_file(rig.path, (off_t)HOURS_OF_ZEROES << 31);
	block_rig_open_block(&rig, false, BLOCK_CACHE_WRITEBACK);
	zeroes_left = HOURS_OF_ZEROES;
	for (unsigned i = 0; i < HOURS_OF_ZEROES; i++) {
		waiters[i] = (struct block_waiter){.loop = rig.loop, .result = 1};
		waiters[i].request = (struct block_request){.kind = BLOCK_WRITE_ZEROES,
			.offset = (uint64_t)i << 31,
			.length = 1ULL << 31,
			.done = zeroes_done};
		block_submit(rig.block, &waiters[i].request);
	}
	block_cancel(rig.block);
	assert_int_equal(loop_run(rig.loop), 0);
	for (unsigned i = 0; i < HOURS_OF_ZEROES; i++)
		assert_int_equal(waiters[i].result, -ECANCELED);
	assert_int_equal(block_in_flight(rig.block), 0);
	assert_int_equal(stat(rig.path, &file), 0);
	assert_true(file.st_blocks < (64 << 20) / 512);
	block_rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_zeroes),
		cmocka_unit_test(test_unmap_frees),
		cmocka_unit_test(test_discards_a_device),
		cmocka_unit_test(test_discard_does_not_hold_the_loop),
		cmocka_unit_test(test_reset_drops_discards),
		cmocka_unit_test(test_discards_a_loop_device),
		cmocka_unit_test(test_cancel),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
