/* SPDX-License-Identifier: Apache-2.0 */
/* The block back end on real files: what it refuses, and what every kind of request leaves. */
#include "backend/block_private.h"
#include "base/checked.h"
#include "base/loop_private.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define SIZE (4U << 20)

/* A disk image in a directory of its own. */
struct rig {
	char directory[64];
	char path[96];
	struct loop *loop;
	struct block *block;
};

struct waiter {
	struct block_request request;
	struct loop *loop;
	bool submitting;
	unsigned calls;
	int result;
};

static void done(struct block_request *request, int result)
{
	struct waiter *waiter = container_of(request, struct waiter, request);

	assert_false(waiter->submitting);
	waiter->calls++;
	waiter->result = result;
	loop_stop(waiter->loop);
}

static int run(struct rig *rig, struct block_request request)
{
	struct waiter waiter = {.request = request, .loop = rig->loop, .submitting = true};

	waiter.request.done = done;
	block_submit(rig->block, &waiter.request);
	waiter.submitting = false;
	assert_int_equal(block_in_flight(rig->block), 1);
	assert_int_equal(loop_run(rig->loop), 0);
	assert_int_equal(waiter.calls, 1);
	assert_int_equal(block_in_flight(rig->block), 0);
	return waiter.result;
}

static int move(struct rig *rig, enum block_op kind, uint64_t offset, struct iovec *segments,
	unsigned count)
{
	uint64_t length = 0;

	for (unsigned i = 0; i < count; i++)
		length += segments[i].iov_len;
	return run(rig, (struct block_request){.kind = kind,
				.offset = offset,
				.length = length,
				.segments = segments,
				.count = count});
}

static int range(struct rig *rig, enum block_op kind, uint64_t offset, uint64_t length, bool unmap)
{
	return run(rig, (struct block_request){
				.kind = kind, .offset = offset, .length = length, .unmap = unmap});
}

static void make_file(const char *path, off_t size)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	close(fd);
}

static void rig_files(struct rig *rig, const char *where)
{
	memset(rig, 0, sizeof(*rig));
	snprintf(rig->directory, sizeof(rig->directory), "%s/duet-block-XXXXXX", where);
	assert_non_null(mkdtemp(rig->directory));
	snprintf(rig->path, sizeof(rig->path), "%s/disk", rig->directory);
	make_file(rig->path, SIZE);
}

static void rig_open_block(struct rig *rig, bool readonly, enum block_cache cache)
{
	struct block_options options = {
		.path = rig->path, .readonly = readonly, .cache = cache, .lock = true};
	struct error err = {0};

	assert_int_equal(loop_new(&rig->loop, 16, NULL), 0);
	if (block_open(&rig->block, &options, &err) < 0)
		fail_msg("%s", err.text);
	block_attach(rig->block, rig->loop);
}

static void rig_open(struct rig *rig, const char *where, bool readonly, enum block_cache cache)
{
	rig_files(rig, where);
	rig_open_block(rig, readonly, cache);
	assert_int_equal(block_size(rig->block), SIZE);
}

static void rig_close(struct rig *rig)
{
	block_close(rig->block);
	loop_free(rig->loop);
	unlink(rig->path);
	rmdir(rig->directory);
}

static void refused(const struct block_options *options, int code, const char *word)
{
	struct block *block = NULL;
	struct error err = {0};

	assert_int_equal(block_open(&block, options, &err), -code);
	assert_null(block);
	assert_non_null(strstr(err.text, "--disk path="));
	assert_non_null(strstr(err.text, options->path));
	if (!strstr(err.text, word))
		fail_msg("no \"%s\" in: %s", word, err.text);
	assert_null(strchr(err.text, '\n'));
}

static void test_refuses(void **state)
{
	struct rig rig;
	struct block_options options = {.path = rig.path, .lock = true};
	char text[160];

	rig_files(&rig, "/tmp");
	snprintf(text, sizeof(text), "`truncate -s 1536 %s`", rig.path);
	make_file(rig.path, 1025);
	refused(&options, EINVAL, text);
	make_file(rig.path, 0);
	refused(&options, EINVAL, "is empty");
	unlink(rig.path);
	refused(&options, ENOENT, "no such file; create it with");
	assert_int_equal(mkfifo(rig.path, 0600), 0);
	refused(&options, EINVAL, "neither a regular file nor a block device");
	unlink(rig.path);
	options.path = rig.directory;
	refused(&options, EISDIR, "is a directory");
	options.readonly = true;
	refused(&options, EISDIR, "is a directory");
	options.path = "/dev/null";
	refused(&options, EINVAL, "neither");
	rmdir(rig.directory);
}

/* A file of whatever size can be read, as far as it has whole sectors. */
static void test_readonly_odd_size(void **state)
{
	struct block_options options = {.readonly = true, .lock = true};
	uint8_t byte[512] = {0};
	struct iovec segment = {byte, sizeof(byte)};
	struct rig rig;

	(void)state;
	rig_files(&rig, "/tmp");
	options.path = rig.path;
	make_file(rig.path, 511);
	refused(&options, EINVAL, "is smaller than one sector");
	make_file(rig.path, 1000001);
	for (unsigned i = 0; i < 2; i++) {
		rig_open_block(&rig, true, i ? BLOCK_CACHE_DIRECT : BLOCK_CACHE_WRITEBACK);
		assert_int_equal(block_size(rig.block), 1953 * 512);
		byte[0] = 1;
		assert_int_equal(move(&rig, BLOCK_READ, 1952 * 512, &segment, 1), 0);
		assert_int_equal(byte[0], 0);
		assert_int_equal(move(&rig, BLOCK_READ, 1953 * 512, &segment, 1), -EINVAL);
		block_close(rig.block);
		loop_free(rig.loop);
	}
	unlink(rig.path);
	rmdir(rig.directory);
}

static void test_locks(void **state)
{
	struct rig rig;
	struct block *second;
	struct block_options options = {.path = rig.path, .lock = true};

	rig_open(&rig, "/tmp", false, BLOCK_CACHE_WRITEBACK);
	refused(&options, EBUSY, "busy: another process has it open");
	options.readonly = true;
	refused(&options, EBUSY, "busy");
	options.lock = false;
	assert_int_equal(block_open(&second, &options, NULL), 0);
	block_close(second);
	block_close(rig.block);
	/* Readers among themselves. */
	options.lock = true;
	assert_int_equal(block_open(&rig.block, &options, NULL), 0);
	assert_int_equal(block_open(&second, &options, NULL), 0);
	options.readonly = false;
	refused(&options, EBUSY, "readonly=on");
	block_close(second);
	rig_close(&rig);
}

static void fill_pattern(uint8_t *bytes, size_t length, unsigned seed)
{
	for (size_t i = 0; i < length; i++)
		bytes[i] = (uint8_t)(i * 31 + i / 256 + seed);
}

/* Data through three segments, the file's bytes being what counts. */
static void write_and_read(struct rig *rig, size_t skew)
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
	assert_int_equal(move(rig, BLOCK_WRITE, 3 * 4096, out, 3), 0);
	assert_int_equal(move(rig, BLOCK_WRITE, SIZE - 512, out, 1), 0);
	assert_int_equal(run(rig, (struct block_request){.kind = BLOCK_FLUSH}), 0);
	assert_int_equal(pread(fd, other, LENGTH, 3 * 4096), LENGTH);
	assert_memory_equal(other, data, LENGTH);
	assert_int_equal(pread(fd, other, 512, SIZE - 512), 512);
	assert_memory_equal(other, data, 512);
	memset(data, 0, LENGTH);
	assert_int_equal(move(rig, BLOCK_READ, 3 * 4096, in, 2), 0);
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
		struct rig rig;

		rig_open(&rig, places[i], false, BLOCK_CACHE_WRITEBACK);
		write_and_read(&rig, 0);
		write_and_read(&rig, 3);
		rig_close(&rig);
	}
}

static void test_direct(void **state)
{
	struct block_options options = {.cache = BLOCK_CACHE_DIRECT, .lock = true};
	struct block *probe;
	struct rig rig;

	rig_files(&rig, "/tmp");
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
	rig_open(&rig, "/tmp", false, BLOCK_CACHE_DIRECT);
	write_and_read(&rig, 0);
	write_and_read(&rig, 3); /* no alignment that O_DIRECT would take */
	rig_close(&rig);
}

/* A loop device of 4096-byte sectors on @image, which goes with its last user; -1: cannot be. */
static int loop_device(const char *image, char path[32])
{
	struct loop_config config = {
		.block_size = 4096, .info.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO};
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), device = -1, number = -1;
	int file = open(image, O_RDWR | O_CLOEXEC);

	if (control >= 0)
		number = ioctl(control, LOOP_CTL_GET_FREE);
	snprintf(path, 32, "/dev/loop%d", number);
	if (number >= 0)
		device = open(path, O_RDWR | O_CLOEXEC);
	config.fd = (unsigned)file;
	if (device >= 0 && ioctl(device, LOOP_CONFIGURE, &config) < 0) {
		close(device);
		device = -1;
	}
	if (file >= 0)
		close(file);
	if (control >= 0)
		close(control);
	return device;
}

/* A file system of 4096-byte sectors on /mnt. */
static bool mount_large_sectors(struct rig *image)
{
	char device[32], command[64];
	bool mounted = false;
	int fd = -1;

	rig_files(image, "/tmp");
	make_file(image->path, 16 << 20);
	if (unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0)
		fd = loop_device(image->path, device);
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
	struct rig image, rig;

	(void)state;
	if (!mount_large_sectors(&image)) {
		print_message("skipped: a loop device needs root, and mkfs.ext4\n");
		skip();
	}
	rig_open(&rig, "/mnt", false, BLOCK_CACHE_DIRECT);
	assert_int_equal(block_logical_size(rig.block), 512);
	assert_int_equal(block_physical_size(rig.block), 4096);
	assert_int_equal(block_physical_offset(rig.block), 0);
	write_and_read(&rig, 0);
	write_and_read(&rig, 3);
	/* As before Linux 6.1, which tells nothing: a refusal does. */
	rig.block->file.direct_offset = 512;
	write_and_read(&rig, 0);
	assert_int_equal(rig.block->file.direct_offset, 4096);
	rig_close(&rig);
	rig_open(&rig, "/mnt", false, BLOCK_CACHE_WRITEBACK);
	assert_int_equal(block_logical_size(rig.block), 512);
	assert_int_equal(block_physical_size(rig.block), 4096);
	rig_close(&rig);
	umount("/mnt");
}

static void test_durable(void **state)
{
	uint8_t byte[512] = {1};
	struct iovec segment = {byte, sizeof(byte)};
	struct rig rig;

	rig_open(&rig, "/tmp", false, BLOCK_CACHE_WRITEBACK);
	assert_int_equal(run(&rig, (struct block_request){.kind = BLOCK_WRITE,
					   .length = 512,
					   .segments = &segment,
					   .count = 1,
					   .durable = true}),
		0);
	assert_int_equal(run(&rig, (struct block_request){.kind = BLOCK_WRITE_ZEROES,
					   .length = 512,
					   .durable = true}),
		0);
	rig_close(&rig);
}

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
	static uint8_t bytes[SIZE];

	memset(bytes, 0xa5, sizeof(bytes));
	assert_int_equal(pwrite(fd, bytes, sizeof(bytes), 0), SIZE);
}

/* Ranges that are not whole pages, in both ways, leave zeroes there and nothing elsewhere. */
static void zero_ranges(struct rig *rig, enum block_op kind, bool unmap)
{
	static const struct {
		uint64_t offset, length;
	} ranges[] = {{0, 512}, {1536, 1024}, {4096, 65536}, {512, 2 << 20}, {0, SIZE}};
	int fd = open(rig->path, O_RDWR | O_CLOEXEC);

	for (unsigned i = 0; i < ARRAY_SIZE(ranges); i++) {
		uint64_t end = ranges[i].offset + ranges[i].length;

		fill_file(fd);
		assert_int_equal(range(rig, kind, ranges[i].offset, ranges[i].length, unmap), 0);
		assert_true(all_bytes(fd, 0, ranges[i].offset, 0xa5));
		assert_true(all_bytes(fd, (off_t)ranges[i].offset, ranges[i].length, 0));
		assert_true(all_bytes(fd, (off_t)end, SIZE - end, 0xa5));
	}
	assert_int_equal(lseek(fd, 0, SEEK_END), SIZE);
	close(fd);
}

static void test_zeroes(void **state)
{
	/* tmpfs punches holes and knows no zero range: there zeroes are written. */
	static const char *const places[] = {"/tmp", "/dev/shm"};

	for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
		struct rig rig;

		rig_open(&rig, places[i], false, BLOCK_CACHE_WRITEBACK);
		zero_ranges(&rig, BLOCK_WRITE_ZEROES, false);
		zero_ranges(&rig, BLOCK_WRITE_ZEROES, true);
		if (block_can_discard(rig.block))
			zero_ranges(&rig, BLOCK_DISCARD, false);
		rig_close(&rig);
	}
}

static void test_unmap_frees(void **state)
{
	struct rig rig;
	struct stat st;
	int fd;

	rig_open(&rig, "/dev/shm", false, BLOCK_CACHE_WRITEBACK);
	fd = open(rig.path, O_RDWR | O_CLOEXEC);
	fill_file(fd);
	assert_true(block_can_discard(rig.block));
	assert_int_equal(range(&rig, BLOCK_DISCARD, 0, SIZE, false), 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_blocks, 0);
	/* Without unmap the space stays taken. */
	fill_file(fd);
	assert_int_equal(range(&rig, BLOCK_WRITE_ZEROES, 0, SIZE, false), 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_blocks, SIZE / 512);
	close(fd);
	rig_close(&rig);
}

static void test_bounds(void **state)
{
	uint8_t bytes[1024];
	struct iovec segment = {bytes, sizeof(bytes)};
	struct rig rig;

	rig_open(&rig, "/tmp", false, BLOCK_CACHE_WRITEBACK);
	assert_int_equal(move(&rig, BLOCK_READ, SIZE - 512, &segment, 1), -EINVAL);
	assert_int_equal(move(&rig, BLOCK_WRITE, UINT64_MAX - 511, &segment, 1), -EINVAL);
	assert_int_equal(range(&rig, BLOCK_DISCARD, 512, SIZE, false), -EINVAL);
	assert_int_equal(range(&rig, BLOCK_WRITE_ZEROES, UINT64_MAX, 2, false), -EINVAL);
	assert_int_equal(range(&rig, BLOCK_WRITE_ZEROES, 0, 0, false), -EINVAL);
	assert_int_equal(run(&rig, (struct block_request){.kind = BLOCK_READ,
					   .length = 512,
					   .segments = &segment,
					   .count = 1}),
		-EINVAL);
	rig_close(&rig);
	rig_open(&rig, "/tmp", true, BLOCK_CACHE_WRITEBACK);
	assert_true(block_readonly(rig.block));
	assert_false(block_can_discard(rig.block));
	assert_int_equal(move(&rig, BLOCK_WRITE, 0, &segment, 1), -EROFS);
	assert_int_equal(move(&rig, BLOCK_READ, 0, &segment, 1), 0);
	rig_close(&rig);
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
	struct waiter waiters[1 + COUNT];
	const bool copied = !direct || skew;
	struct rig rig;

	rig_files(&rig, "/tmp");
	make_file(rig.path, LARGE);
	rig_open_block(&rig, true, BLOCK_CACHE_WRITEBACK);
	if (direct) {
		rig.block->file.direct_memory = 512;
		rig.block->file.buffered_fd = dup(rig.block->file.fd);
	}
	for (unsigned i = 0; i < 1 + COUNT; i++) {
		const struct iovec *segment = i ? &part : &whole;

		waiters[i] = (struct waiter){.loop = rig.loop};
		waiters[i].request = (struct block_request){.kind = BLOCK_READ,
			.length = segment->iov_len,
			.segments = segment,
			.count = 1,
			.done = done};
		block_submit(rig.block, &waiters[i].request);
		/* A copy of 8 bytes is thought to take a nanosecond. */
		assert_int_equal(rig.loop->turn_added, copied ? i * part.iov_len / 8 : 0);
	}
	while (block_in_flight(rig.block))
		assert_int_equal(loop_run(rig.loop), 0);
	for (unsigned i = 0; i < 1 + COUNT; i++)
		assert_int_equal(waiters[i].result, 0);
	rig_close(&rig);
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
	struct rig rig;

	rig_open(&rig, "/tmp", false, BLOCK_CACHE_WRITEBACK);
	assert_int_equal(truncate(rig.path, 2048), 0);
	assert_int_equal(move(&rig, BLOCK_READ, 0, segments, 2), -EIO);
	assert_int_equal(move(&rig, BLOCK_READ, 1 << 20, segments, 2), -EIO);
	rig_close(&rig);
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
	struct rig rig;

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		mount("none", "/mnt", "tmpfs", 0, "size=64k,mode=700") < 0) {
		print_message("skipped: mounting a small file system needs root\n");
		free(data);
		free(back);
		skip();
	}
	fill_pattern(data, LENGTH, 1);
	rig_open(&rig, "/mnt", false, BLOCK_CACHE_WRITEBACK);
	assert_int_equal(move(&rig, BLOCK_WRITE, 0, segments, 2), -ENOSPC);
	/* What was there before is still readable, and space that is freed can be written. */
	segments[0] = (struct iovec){back, 4096};
	assert_int_equal(move(&rig, BLOCK_READ, 4096, segments, 1), 0);
	assert_memory_equal(back, data + 4096, 4096);
	assert_int_equal(range(&rig, BLOCK_WRITE_ZEROES, 0, LENGTH, false), -ENOSPC);
	assert_int_equal(range(&rig, BLOCK_DISCARD, 0, SIZE, false), 0);
	assert_int_equal(move(&rig, BLOCK_WRITE, 8192, segments, 1), 0);
	rig_close(&rig);
	umount("/mnt");
	free(data);
	free(back);
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

static void rig_open_device(struct rig *rig)
{
	rig_open(rig, "/tmp", false, BLOCK_CACHE_WRITEBACK);
	assert_int_equal(block_discard_new(rig->block), 0);
	rig->block->file.discard_device = discard_slowly;
	rig->block->file.logical_size = 4096;
	slow.calls = 0;
}

/* Whether holes can be punched in it does not matter; whole sectors are given back. */
static void test_discards_a_device(void **state)
{
	struct rig rig;

	(void)state;
	rig_open_device(&rig);
	rig.block->file.no_punch = true;
	assert_int_equal(range(&rig, BLOCK_DISCARD, 512, 65536, false), 0);
	assert_int_equal(slow.offset, 4096);
	assert_int_equal(slow.length, 61440);
	assert_int_equal(range(&rig, BLOCK_DISCARD, 512, 4096, false), 0);
	assert_int_equal(slow.calls, 1);
	slow.result = -EIO;
	assert_int_equal(range(&rig, BLOCK_DISCARD, 0, SIZE, false), -EIO);
	slow.result = -EOPNOTSUPP;
	assert_int_equal(range(&rig, BLOCK_DISCARD, 0, SIZE, false), -EOPNOTSUPP);
	slow.result = 0;
	/* The next one is asked all the same, and what is to be durable is. */
	assert_int_equal(run(&rig,
				 (struct block_request){
					 .kind = BLOCK_DISCARD, .length = SIZE, .durable = true}),
		0);
	assert_int_equal(slow.calls, 4);
	rig_close(&rig);
}

/* Two; the first is under way until slow.lock is let go of. */
static void submit_slow_discards(struct rig *rig, struct waiter *waiters)
{
	pthread_mutex_lock(&slow.lock);
	for (unsigned i = 0; i < 2; i++) {
		waiters[i] = (struct waiter){.loop = rig->loop, .result = 1};
		waiters[i].request =
			(struct block_request){.kind = BLOCK_DISCARD, .length = SIZE, .done = done};
		block_submit(rig->block, &waiters[i].request);
	}
}

/* Reads go on beside it; those behind it are given up at the machine's end. */
static void test_discard_does_not_hold_the_loop(void **state)
{
	struct waiter waiters[3];
	uint8_t bytes[512];
	struct iovec segment = {bytes, sizeof(bytes)};
	struct rig rig;

	(void)state;
	rig_open_device(&rig);
	submit_slow_discards(&rig, waiters);
	waiters[2] = (struct waiter){.loop = rig.loop, .result = 1};
	waiters[2].request = (struct block_request){
		.kind = BLOCK_READ, .length = 512, .segments = &segment, .count = 1, .done = done};
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
	rig_close(&rig);
}

/* A reset does not wait for those that have not begun. */
static void test_reset_drops_discards(void **state)
{
	struct waiter waiters[2];
	struct rig rig;

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
	assert_int_equal(range(&rig, BLOCK_DISCARD, 0, SIZE, false), 0);
	assert_int_equal(slow.calls, 2);
	rig_close(&rig);
}

/* The kernel's own word, on a loop device, whose discards punch holes in its file. */
static void test_discards_a_loop_device(void **state)
{
	struct rig rig;
	struct stat before, after;
	char device[32];
	int fd, image;

	(void)state;
	rig_files(&rig, "/tmp");
	image = open(rig.path, O_RDWR | O_CLOEXEC);
	fill_file(image);
	assert_int_equal(fstat(image, &before), 0);
	fd = loop_device(rig.path, device);
	unlink(rig.path);
	if (fd < 0) {
		print_message("skipped: a loop device needs root\n");
		close(image);
		rmdir(rig.directory);
		skip();
	}
	snprintf(rig.path, sizeof(rig.path), "%s", device);
	rig_open_block(&rig, false, BLOCK_CACHE_WRITEBACK);
	assert_int_equal(block_logical_size(rig.block), 4096);
	assert_true(block_can_discard(rig.block));
	assert_non_null(rig.block->file.discard);
	assert_int_equal(range(&rig, BLOCK_DISCARD, SIZE / 2, SIZE / 2, false), 0);
	assert_int_equal(fstat(image, &after), 0);
	assert_true(after.st_blocks <= before.st_blocks - (SIZE / 2 - 65536) / 512);
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
	struct waiter *waiter = container_of(request, struct waiter, request);

	waiter->result = result;
	if (--zeroes_left == 0)
		loop_stop(waiter->loop);
}

/* As a guest may queue them: at the machine's end none of them is awaited. */
static void test_cancel(void **state)
{
	static struct waiter waiters[HOURS_OF_ZEROES];
	struct rig rig;
	struct stat file;

	(void)state;
	rig_files(&rig, "/dev/shm");
	make_file(rig.path, (off_t)HOURS_OF_ZEROES << 31);
	rig_open_block(&rig, false, BLOCK_CACHE_WRITEBACK);
	zeroes_left = HOURS_OF_ZEROES;
	for (unsigned i = 0; i < HOURS_OF_ZEROES; i++) {
		waiters[i] = (struct waiter){.loop = rig.loop, .result = 1};
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
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refuses),
		cmocka_unit_test(test_readonly_odd_size),
		cmocka_unit_test(test_locks),
		cmocka_unit_test(test_moves_data),
		cmocka_unit_test(test_direct),
		cmocka_unit_test(test_direct_on_large_sectors),
		cmocka_unit_test(test_durable),
		cmocka_unit_test(test_zeroes),
		cmocka_unit_test(test_unmap_frees),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_turns),
		cmocka_unit_test(test_file_cut_short),
		cmocka_unit_test(test_disk_full),
		cmocka_unit_test(test_discards_a_device),
		cmocka_unit_test(test_discard_does_not_hold_the_loop),
		cmocka_unit_test(test_reset_drops_discards),
		cmocka_unit_test(test_discards_a_loop_device),
		cmocka_unit_test(test_cancel),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
