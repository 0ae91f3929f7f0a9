/* SPDX-License-Identifier: Apache-2.0 */
/* Reads and writes of the block back end on real files: through the cache and past it, out of
 * bounds, and where the disk ends. */
#include "block_rig.h"

#include "base/checked.h"
#include "base/loop_private.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cmocka.h>

/* What the back end has handed to the ring last; and a kernel that refuses what goes to @refusing.
 */
static struct io_uring_sqe queued;
static int refusing = -1;
static unsigned refused;
static struct loop_op refusal, *refused_op;

void __real_loop_submit(struct loop *loop, struct io_uring_sqe *sqe, struct loop_op *op);
void __wrap_loop_submit(struct loop *loop, struct io_uring_sqe *sqe, struct loop_op *op);

static void refuse(struct loop_op *op, int32_t res, uint32_t flags)
{
	assert_ptr_equal(op, &refusal);
	assert_int_equal(res, 0);
	refused++;
	refused_op->done(refused_op, -EINVAL, flags);
}

void __wrap_loop_submit(struct loop *loop, struct io_uring_sqe *sqe, struct loop_op *op)
{
	queued = *sqe;
	if (refusing >= 0 && sqe->fd == refusing && sqe->opcode != IORING_OP_FSYNC) {
		refused_op = op;
		refusal.done = refuse;
		io_uring_prep_nop(sqe);
		op = &refusal;
	}
	__real_loop_submit(loop, sqe, op);
}

static void fill_pattern(uint8_t *bytes, size_t length, unsigned seed)
{
	for (size_t i = 0; i < length; i++)
		bytes[i] = (uint8_t)(i * 31 + i / 256 + seed);
}

/* Data through three segments, the file's bytes being what counts. */
static void write_and_read(struct block_rig *rig, size_t skew)
{
	enum {
		LENGTH = 24 * 1024
	};
	uint8_t *memory = aligned_alloc(4096, LENGTH + 8192), *other = calloc(1, LENGTH);
	uint8_t *data = memory + skew;
	struct iovec out[] = {{data, 512}, {data + 512, 8192}, {data + 8704, LENGTH - 8704}};
	struct iovec in[] = {{data, 4096}, {data + 4096, LENGTH - 4096}};
	int fd = open(rig->path, O_RDONLY | O_CLOEXEC);

	fill_pattern(data, LENGTH, 7);
	assert_int_equal(block_rig_move(rig, BLOCK_WRITE, 3 * 4096, out, 3), 0);
	assert_int_equal(block_rig_move(rig, BLOCK_WRITE, BLOCK_RIG_SIZE - 512, out, 1), 0);
	assert_int_equal(block_rig_run(rig, (struct block_request){.kind = BLOCK_FLUSH}), 0);
	assert_int_equal(pread(fd, other, LENGTH, 3 * 4096), LENGTH);
	assert_memory_equal(other, data, LENGTH);
	assert_int_equal(pread(fd, other, 512, BLOCK_RIG_SIZE - 512), 512);
	assert_memory_equal(other, data, 512);
	memset(data, 0, LENGTH);
	assert_int_equal(block_rig_move(rig, BLOCK_READ, 3 * 4096, in, 2), 0);
	fill_pattern(other, LENGTH, 7);
	assert_memory_equal(other, data, LENGTH);
	close(fd);
	free(memory);
	free(other);
}

static void test_moves_data(void **state)
{
	static const char *const places[] = {"/tmp", "/dev/shm"};

	for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
		struct block_rig rig;

		block_rig_open(&rig, places[i], false, BLOCK_CACHE_WRITEBACK);
		write_and_read(&rig, 0);
		write_and_read(&rig, 3);
		block_rig_close(&rig);
	}
}

static void test_direct(void **state)
{
	struct block_options options = {.cache = BLOCK_CACHE_DIRECT, .lock = true};
	struct block *probe;
	struct block_rig rig;

	block_rig_files(&rig, "/tmp");
	options.path = rig.path;
	if (block_open(&probe, &options, NULL) < 0) {
		print_message("skipped: /tmp has no direct I/O\n");
		unlink(rig.path);
		rmdir(rig.directory);
		skip();
	}
	block_close(probe);
	unlink(rig.path);
	rmdir(rig.directory);
	block_rig_open(&rig, "/tmp", false, BLOCK_CACHE_DIRECT);
	write_and_read(&rig, 0);
	write_and_read(&rig, 3); /* no alignment that O_DIRECT would take */
	block_rig_close(&rig);
}

/* A file system of 4096-byte sectors on /mnt. */
static bool mount_large_sectors(struct block_rig *image)
{
	char device[32], command[64];
	bool mounted = false;
	int fd = -1;

	block_rig_files(image, "/tmp");
	block_rig_make_file(image->path, 16 << 20);
	if (unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0)
		fd = block_rig_loop_device(image->path, device);
	unlink(image->path);
	rmdir(image->directory);
	if (fd < 0)
		return false;
	snprintf(command, sizeof(command), "mkfs.ext4 -q %s >/dev/null 2>&1", device);
	if (system(command) == 0)
		mounted = mount(device, "/mnt", "ext4", 0, NULL) == 0;
	close(fd);
	return mounted;
}

/* Direct I/O there wants 4096 bytes at a time; the guest goes on with 512. */
static void test_direct_on_large_sectors(void **state)
{
	struct block_rig image, rig;

	(void)state;
	if (!mount_large_sectors(&image)) {
		print_message("skipped: a loop device needs root, and mkfs.ext4\n");
		skip();
	}
	block_rig_open(&rig, "/mnt", false, BLOCK_CACHE_DIRECT);
	assert_int_equal(block_logical_size(rig.block), 512);
	assert_int_equal(block_physical_size(rig.block), 4096);
	assert_int_equal(block_physical_offset(rig.block), 0);
	write_and_read(&rig, 0);
	write_and_read(&rig, 3);
	/* As before Linux 6.1, by a refusal of the kernel's own. */
	rig.block->file.direct_offset = 512;
	write_and_read(&rig, 0);
	assert_int_equal(rig.block->file.direct_offset, 4096);
	block_rig_close(&rig);
	block_rig_open(&rig, "/mnt", false, BLOCK_CACHE_WRITEBACK);
	assert_int_equal(block_logical_size(rig.block), 512);
	assert_int_equal(block_physical_size(rig.block), 4096);
	block_rig_close(&rig);
	umount("/mnt");
}

/* A kernel before 6.1 does not tell what direct I/O asks for: its refusal does, and what was
 * refused goes through the cache. One refusal is enough. */
static void test_direct_refused_before_6_1(void **state)
{
	uint8_t *sector = aligned_alloc(4096, 4096);
	struct iovec segment = {sector, 512};
	struct block_rig rig;

	(void)state;
	block_rig_open(&rig, "/tmp", false, BLOCK_CACHE_WRITEBACK);
	/* Two descriptors of one file, as cache=direct has them. */
	rig.block->file.buffered_fd = open(rig.path, O_RDWR | O_CLOEXEC);
	rig.block->file.direct_offset = rig.block->file.direct_memory = 512;
	refusing = rig.block->file.fd;
	refused = 0;
	memset(sector, 0x5a, 512);
	assert_int_equal(block_rig_move(&rig, BLOCK_WRITE, 512, &segment, 1), 0);
	assert_int_equal(refused, 1);
	assert_int_equal(queued.fd, rig.block->file.buffered_fd);
	assert_int_equal(rig.block->file.direct_offset, 4096);
	memset(sector, 0, 512);
	assert_int_equal(block_rig_move(&rig, BLOCK_READ, 512, &segment, 1), 0);
	assert_int_equal(refused, 1);
	for (unsigned i = 0; i < 512; i++)
		assert_int_equal(sector[i], 0x5a);
	/* What the cache refuses as well is a fault. */
	refusing = rig.block->file.buffered_fd;
	assert_int_equal(block_rig_move(&rig, BLOCK_READ, 512, &segment, 1), -EINVAL);
	refusing = -1;
	block_rig_close(&rig);
	free(sector);
}

/* Write-through: the kernel is told with the write itself, with each piece of one that it cut. */
static void test_durable(void **state)
{
	uint8_t bytes[1024] = {1};
	struct iovec segments[] = {{bytes, 512}, {bytes + 512, 512}};
	struct block_rig rig;

	(void)state;
	block_rig_open(&rig, "/tmp", false, BLOCK_CACHE_WRITEBACK);
	for (unsigned durable = 0; durable < 2; durable++)
		for (unsigned count = 1; count <= 2; count++) {
			const struct block_request write = {.kind = BLOCK_WRITE,
				.length = 512ULL * count,
				.segments = segments,
				.count = count,
				.durable = durable};

			assert_int_equal(block_rig_run(&rig, write), 0);
			assert_int_equal(
				queued.opcode, count == 1 ? IORING_OP_WRITE : IORING_OP_WRITEV);
			assert_int_equal(queued.rw_flags, durable ? RWF_DSYNC : 0);
		}
	/* No flag says it of zeroes: a flush follows them. */
	for (unsigned durable = 0; durable < 2; durable++) {
		const struct block_request zeroes = {
			.kind = BLOCK_WRITE_ZEROES, .length = 512, .durable = durable};

		assert_int_equal(block_rig_run(&rig, zeroes), 0);
		assert_int_equal(queued.opcode == IORING_OP_FSYNC, durable);
	}
	block_rig_close(&rig);
}

static void test_bounds(void **state)
{
	uint8_t bytes[1024];
	struct iovec segment = {bytes, sizeof(bytes)};
	struct block_rig rig;

	block_rig_open(&rig, "/tmp", false, BLOCK_CACHE_WRITEBACK);
	assert_int_equal(
		block_rig_move(&rig, BLOCK_READ, BLOCK_RIG_SIZE - 512, &segment, 1), -EINVAL);
	assert_int_equal(block_rig_move(&rig, BLOCK_WRITE, UINT64_MAX - 511, &segment, 1), -EINVAL);
	assert_int_equal(block_rig_range(&rig, BLOCK_DISCARD, 512, BLOCK_RIG_SIZE, false), -EINVAL);
	assert_int_equal(block_rig_range(&rig, BLOCK_WRITE_ZEROES, UINT64_MAX, 2, false), -EINVAL);
	assert_int_equal(block_rig_range(&rig, BLOCK_WRITE_ZEROES, 0, 0, false), -EINVAL);
	assert_int_equal(block_rig_run(&rig, (struct block_request){.kind = BLOCK_READ,
						     .length = 512,
						     .segments = &segment,
						     .count = 1}),
		-EINVAL);
	block_rig_close(&rig);
	block_rig_open(&rig, "/tmp", true, BLOCK_CACHE_WRITEBACK);
	assert_true(block_readonly(rig.block));
	assert_false(block_can_discard(rig.block));
	assert_int_equal(block_rig_move(&rig, BLOCK_WRITE, 0, &segment, 1), -EROFS);
	assert_int_equal(block_rig_move(&rig, BLOCK_READ, 0, &segment, 1), 0);
	block_rig_close(&rig);
}

/* Copies count for the loop's turn, but for one that would take all of it: a thread of the kernel's
 * does that. @skew: of the data in memory. */
static void read_in_turns(bool direct, size_t skew)
{
	enum {
		LARGE = 8U << 20,
		COUNT = 4
	};
	uint8_t *bytes = aligned_alloc(4096, LARGE + 4096);
	struct iovec whole = {bytes + skew, LARGE}, part = {bytes + skew, LARGE / COUNT / 2};
	struct block_waiter waiters[1 + COUNT];
	const bool copied = !direct || skew;
	struct block_rig rig;

	block_rig_files(&rig, "/tmp");
	block_rig_make_file(rig.path, LARGE);
	block_rig_open_block(&rig, true, BLOCK_CACHE_WRITEBACK);
	if (direct) {
		rig.block->file.direct_memory = 512;
		rig.block->file.buffered_fd = dup(rig.block->file.fd);
	}
	for (unsigned i = 0; i < 1 + COUNT; i++) {
		const struct iovec *segment = i ? &part : &whole;

		waiters[i] = (struct block_waiter){.loop = rig.loop};
		waiters[i].request = (struct block_request){.kind = BLOCK_READ,
			.length = segment->iov_len,
			.segments = segment,
			.count = 1,
			.done = block_rig_done};
		block_submit(rig.block, &waiters[i].request);
		/* A copy of 8 bytes is thought to take a nanosecond. */
		assert_int_equal(rig.loop->turn_added, copied ? i * part.iov_len / 8 : 0);
	}
	while (block_in_flight(rig.block))
		assert_int_equal(loop_run(rig.loop), 0);
	for (unsigned i = 0; i < 1 + COUNT; i++)
		assert_int_equal(waiters[i].result, 0);
	block_rig_close(&rig);
	free(bytes);
}

/* A guest that leaves its buffers unaligned has them copied though the cache is off. */
static void test_turns(void **state)
{
	(void)state;
	read_in_turns(false, 0);
	read_in_turns(true, 0);
	read_in_turns(true, 3);
}

static void test_file_cut_short(void **state)
{
	uint8_t bytes[4096];
	struct iovec segments[] = {{bytes, 1000}, {bytes + 1000, 3096}};
	struct block_rig rig;

	block_rig_open(&rig, "/tmp", false, BLOCK_CACHE_WRITEBACK);
	assert_int_equal(truncate(rig.path, 2048), 0);
	assert_int_equal(block_rig_move(&rig, BLOCK_READ, 0, segments, 2), -EIO);
	assert_int_equal(block_rig_move(&rig, BLOCK_READ, 1 << 20, segments, 2), -EIO);
	block_rig_close(&rig);
}

/* A file system of 64 KiB with a sparse image on it: the write that fills it is cut short, goes on
 * where it stopped, and fails with the right words. */
static void test_disk_full(void **state)
{
	enum {
		LENGTH = 256 * 1024
	};
	uint8_t *data = malloc(LENGTH), *back = malloc(4096);
	struct iovec segments[] = {{data, 5000}, {data + 5000, LENGTH - 5000}};
	struct block_rig rig;

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		mount("none", "/mnt", "tmpfs", 0, "size=64k,mode=700") < 0) {
		print_message("skipped: mounting a small file system needs root\n");
		free(data);
		free(back);
		skip();
	}
	fill_pattern(data, LENGTH, 1);
	block_rig_open(&rig, "/mnt", false, BLOCK_CACHE_WRITEBACK);
	assert_int_equal(block_rig_move(&rig, BLOCK_WRITE, 0, segments, 2), -ENOSPC);
	/* What was there before is still readable, and space that is freed can be written. */
	segments[0] = (struct iovec){back, 4096};
	assert_int_equal(block_rig_move(&rig, BLOCK_READ, 4096, segments, 1), 0);
	assert_memory_equal(back, data + 4096, 4096);
	assert_int_equal(block_rig_range(&rig, BLOCK_WRITE_ZEROES, 0, LENGTH, false), -ENOSPC);
	assert_int_equal(block_rig_range(&rig, BLOCK_DISCARD, 0, BLOCK_RIG_SIZE, false), 0);
	assert_int_equal(block_rig_move(&rig, BLOCK_WRITE, 8192, segments, 1), 0);
	block_rig_close(&rig);
	umount("/mnt");
	free(data);
	free(back);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_moves_data),
		cmocka_unit_test(test_direct),
		cmocka_unit_test(test_direct_on_large_sectors),
		cmocka_unit_test(test_direct_refused_before_6_1),
		cmocka_unit_test(test_durable),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_turns),
		cmocka_unit_test(test_file_cut_short),
		cmocka_unit_test(test_disk_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
