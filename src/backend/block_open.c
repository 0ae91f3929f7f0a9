/* SPDX-License-Identifier: Apache-2.0 */
/* Opening a disk image: what kind of file it is, who else has it, what it can do. */
#include "backend/block_private.h"
#include "base/checked.h"
#include "base/cleanup.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/*
 * #syscalls main: openat newfstatat fstat lseek fallocate read
 * #syscalls main: statx epoll_create1 epoll_ctl close
 * #syscalls main: fcntl(1 = F_GETFL) fcntl(1 = F_SETFL, 2 & O_ASYNC = 0) fcntl(1 = F_OFD_SETLK)
 * #syscalls main: ioctl(BLKGETSIZE64) ioctl(BLKPBSZGET) ioctl(BLKALIGNOFF) ioctl(BLKSSZGET)
 */

/* Of the page cache and of most file systems; and a limit for what a device says. */
#define PHYSICAL_LEAST   4096U
#define PHYSICAL_MAX     (1U << 20)
#define DISCARD_SIZE_MAX (1U << 30)

static int open_failed(const struct block_options *options, int code, struct error *err)
{
	const char *path = options->path;

	switch (code) {
	case ENOENT:
		return error_set(err, code,
			"--disk path=%s: no such file; create it with `truncate -s 1G %s`", path,
			path);
	case EACCES:
	case EPERM:
		return error_set(err, code, "--disk path=%s: no permission to %s it; %s", path,
			options->readonly ? "read" : "write to",
			options->readonly ? "change its owner or mode with chown or chmod"
					  : "chown or chmod it, or add readonly=on");
	case EROFS:
		return error_set(err, code,
			"--disk path=%s: on a read-only file system or medium; add readonly=on",
			path);
	case EISDIR:
		return error_set(err, code,
			"--disk path=%s: is a directory; name a raw image or a block device", path);
	case EINVAL:
		return error_set(err, code,
			"--disk path=%s: its file system knows no direct I/O; use cache=writeback",
			path);
	case EBUSY:
		return error_set(err, code,
			"--disk path=%s: busy: the device is in use; unmount it first", path);
	case ETXTBSY:
		return error_set(err, code,
			"--disk path=%s: busy: it is a running program or swap space", path);
	default:
		return error_errno(err, code, "--disk path=%s", path);
	}
}

/* O_NONBLOCK only keeps open() from waiting for the other end of a FIFO. */
static int open_file(const struct block_options *options, int flags, struct error *err)
{
	int fd;

	flags |= (options->readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
	fd = open(options->path, flags);
	if (fd < 0)
		return open_failed(options, errno, err);
	if (fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0) {
		int code = errno;

		close(fd);
		return open_failed(options, code, err);
	}
	return fd;
}

/* Whether holes can be punched: asked of the page after the end, where there is nothing. */
static bool file_can_punch(const struct block *block)
{
	off_t end = (off_t)align_up(block->file.size, 1 << 20);

	return fallocate(block->file.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, end, 4096) ==
		       0 ||
	       (errno != EOPNOTSUPP && errno != ENOSYS);
}

/* A number that the kernel tells of the device's queue; 0: none. */
static uint64_t queue_limit(dev_t device, const char *name)
{
	/* A partition has no queue of its own: it is the parent directory's. */
	static const char *const parents[] = {"", "/.."};

	for (unsigned i = 0; i < ARRAY_SIZE(parents); i++) {
		_cleanup_fclose_ FILE *file = NULL;
		unsigned long long value = 0;
		char path[96];

		snprintf(path, sizeof(path), "/sys/dev/block/%u:%u%s/queue/%s", major(device),
			minor(device), parents[i], name);
		file = fopen(path, "re");
		if (file)
			return fscanf(file, "%llu", &value) == 1 ? value : 0;
	}
	return 0;
}

static int find_discard(struct block *block, dev_t device)
{
	uint64_t size = queue_limit(device, "discard_granularity");

	block->file.can_discard = !block->readonly && queue_limit(device, "discard_max_bytes") > 0;
	if (size > block->file.physical_size && size <= DISCARD_SIZE_MAX && size % 512 == 0)
		block->file.discard_size = (unsigned)size;
	return block->file.can_discard ? block_discard_new(block) : 0;
}

/* A device of large physical blocks may begin in the midst of one. */
static void find_physical(struct block *block)
{
	unsigned physical = 0;
	int offset = 0;

	if (ioctl(block->file.fd, BLKPBSZGET, &physical) < 0 ||
		physical <= block->file.physical_size || physical > PHYSICAL_MAX ||
		!is_power_of_two(physical))
		physical = block->file.physical_size;
	block->file.physical_size = physical;
	/* -1: what it is made of does not fit together. */
	if (ioctl(block->file.fd, BLKALIGNOFF, &offset) == 0 && offset > 0 &&
		(unsigned)offset % block->file.logical_size == 0)
		block->file.physical_offset = (unsigned)offset % physical;
}

static int measure_device(struct block *block, const struct stat *st, struct error *err)
{
	int logical = 512;

	block->file.device = true;
	if (ioctl(block->file.fd, BLKSSZGET, &logical) == 0 && logical >= 512 && logical <= 65536 &&
		is_power_of_two((unsigned)logical))
		block->file.logical_size = block->file.direct_offset = (unsigned)logical;
	if (block->file.physical_size < block->file.logical_size)
		block->file.physical_size = block->file.logical_size;
	find_physical(block);
	if (find_discard(block, st->st_rdev) < 0)
		return error_errno(err, ENOMEM, "--disk path=%s", block->file.path);
	return 0;
}

/* What no sector holds could be read but never written. */
static int whole_sectors(const struct block *block, uint64_t *size, struct error *err)
{
	uint64_t rest = *size % 512;

	if (rest && !block->readonly)
		return error_set(err, EINVAL,
			"--disk path=%s: its size of %llu bytes is not a multiple of 512; "
			"enlarge it with `truncate -s %llu %s`",
			block->file.path, (unsigned long long)*size,
			(unsigned long long)(*size - rest + 512), block->file.path);
	if (rest)
		log_warning("--disk path=%s: its size of %llu bytes is not a multiple of 512; the "
			    "guest does not see the last %llu",
			block->file.path, (unsigned long long)*size, (unsigned long long)rest);
	*size -= rest;
	return 0;
}

static int check_type(const struct block *block, const struct stat *st, struct error *err)
{
	if (S_ISDIR(st->st_mode))
		return error_set(err, EISDIR,
			"--disk path=%s: is a directory; name a raw image or a block device",
			block->file.path);
	if (!S_ISREG(st->st_mode) && !S_ISBLK(st->st_mode))
		return error_set(err, EINVAL,
			"--disk path=%s: neither a regular file nor a block device; name a raw "
			"image or a block device",
			block->file.path);
	return 0;
}

static int find_size(
	const struct block *block, const struct stat *st, uint64_t *size, struct error *err)
{
	int ret;

	*size = (uint64_t)st->st_size;
	if (S_ISBLK(st->st_mode) && ioctl(block->file.fd, BLKGETSIZE64, size) < 0)
		return error_errno(err, errno, "--disk path=%s: its size", block->file.path);
	ret = S_ISREG(st->st_mode) ? whole_sectors(block, size, err) : 0;
	if (ret < 0)
		return ret;
	if (*size == 0 && st->st_size > 0)
		return error_set(err, EINVAL,
			"--disk path=%s: is smaller than one sector of 512 bytes; name a disk "
			"image",
			block->file.path);
	if (*size == 0)
		return error_set(err, EINVAL,
			"--disk path=%s: is empty; give it a size with `truncate -s 1G %s`",
			block->file.path, block->file.path);
	return 0;
}

int block_find_size(const struct block *block, uint64_t *size, struct error *err)
{
	struct stat st;

	if (fstat(block->file.fd, &st) < 0)
		return error_errno(err, errno, "--disk path=%s", block->file.path);
	return find_size(block, &st, size, err);
}

/*
 * A file of a file system in user space can be polled, for what its program says, and io_uring
 * (Linux 6.9) takes that for a promise that it does not wait: it reads and writes on the thread
 * that asks, and if the program hangs, so do all devices.
 */
static void find_waits(struct block *block)
{
	struct epoll_event event = {.events = 0};
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	block->file.waits = epoll < 0 ||
			    epoll_ctl(epoll, EPOLL_CTL_ADD, block->file.fd, &event) == 0 ||
			    errno != EPERM;
	if (epoll >= 0)
		close(epoll);
}

static int measure(struct block *block, struct error *err)
{
	struct stat st;
	int ret;

	if (fstat(block->file.fd, &st) < 0)
		return error_errno(err, errno, "--disk path=%s", block->file.path);
	ret = check_type(block, &st, err);
	if (ret == 0)
		ret = find_size(block, &st, &block->file.size, err);
	if (ret < 0)
		return ret;
	if (S_ISBLK(st.st_mode))
		return measure_device(block, &st, err);
	find_waits(block);
	block->file.can_discard = !block->readonly && file_can_punch(block);
	return 0;
}

/* What direct I/O asks of offsets and of addresses. Linux 6.1 tells; before, a page is safe for
 * memory, and whether a sector is for offsets shows the first refusal. */
static void find_alignment(struct block *block)
{
	block->file.direct_memory = BLOCK_DIRECT_SAFE;
#ifdef STATX_DIOALIGN
	struct statx sx;

	if (statx(block->file.fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) == 0 &&
		(sx.stx_mask & STATX_DIOALIGN) && sx.stx_dio_mem_align) {
		block->file.direct_memory = sx.stx_dio_mem_align;
		if (sx.stx_dio_offset_align > block->file.direct_offset)
			block->file.direct_offset = sx.stx_dio_offset_align;
		if (block->file.physical_size < block->file.direct_offset)
			block->file.physical_size = block->file.direct_offset;
	}
#endif
}

/* The path is opened twice: both must be the file that was measured and locked. */
static bool same_file(int one, int other)
{
	struct stat a, b;

	return fstat(one, &a) == 0 && fstat(other, &b) == 0 && a.st_dev == b.st_dev &&
	       a.st_ino == b.st_ino && a.st_rdev == b.st_rdev;
}

bool block_is_file(const struct block *block, const char *path)
{
	struct stat at, open;

	if (stat(path, &at) < 0 || fstat(block->file.fd, &open) < 0)
		return false;
	/* A device has many names. */
	if (S_ISBLK(at.st_mode) && S_ISBLK(open.st_mode))
		return at.st_rdev == open.st_rdev;
	return at.st_dev == open.st_dev && at.st_ino == open.st_ino;
}

static int open_direct(struct block *block, const struct block_options *options, struct error *err)
{
	/* The locked one stays open and becomes the way through the page cache. */
	block->file.buffered_fd = block->file.fd;
	block->file.fd = open_file(options, O_DIRECT, err);
	if (block->file.fd < 0)
		return block->file.fd;
	if (!same_file(block->file.fd, block->file.buffered_fd))
		return error_set(err, EAGAIN,
			"--disk path=%s: was replaced while it was opened; start again",
			block->file.path);
	find_alignment(block);
	return 0;
}

static int fill(struct block *block, const struct block_options *options, struct error *err)
{
	int ret;

	block->file.path = strdup(options->path);
	if (!block->file.path)
		return error_errno(err, ENOMEM, "--disk path=%s", options->path);
	block->file.fd = open_file(options, 0, err);
	if (block->file.fd < 0)
		return block->file.fd;
	ret = measure(block, err);
	if (ret == 0 && options->lock)
		ret = block_claim(block, err);
	if (ret == 0 && options->cache == BLOCK_CACHE_DIRECT)
		ret = open_direct(block, options, err);
	if (ret < 0)
		return ret;
	block->zeroes = mmap(NULL, BLOCK_ZEROES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (block->zeroes == MAP_FAILED) {
		block->zeroes = NULL;
		return error_errno(err, errno, "--disk path=%s", options->path);
	}
	return 0;
}

int block_open(struct block **out, const struct block_options *options, struct error *err)
{
	struct block *block = calloc(1, sizeof(*block));
	int ret;

	if (!block)
		return error_errno(err, ENOMEM, "--disk path=%s", options->path);
	block->file.fd = -1;
	block->file.buffered_fd = -1;
	block->readonly = options->readonly;
	block->lock = options->lock;
	block->file.logical_size = block->file.direct_offset = 512;
	block->file.physical_size = PHYSICAL_LEAST;
	ret = fill(block, options, err);
	if (ret == 0 && bucket_limits_any(&options->limits)) {
		block->kept = block->throttle = block_throttle_new(block, &options->limits);
		if (!block->throttle)
			ret = error_errno(err, ENOMEM, "--disk path=%s", options->path);
	}
	if (ret < 0) {
		block_close(block);
		return ret;
	}
	*out = block;
	return 0;
}

void block_close(struct block *block)
{
	if (!block)
		return;
	block_refresh_free(block->refresh);
	/* Its thread uses the descriptor. */
	block_discard_free(block->file.discard);
	if (block->file.fd >= 0)
		close(block->file.fd);
	if (block->file.buffered_fd >= 0)
		close(block->file.buffered_fd);
	if (block->zeroes)
		munmap(block->zeroes, BLOCK_ZEROES);
	block_throttle_free(block->kept);
	free(block->file.path);
	free(block);
}

uint64_t block_size(const struct block *block)
{
	return block->file.size;
}

unsigned block_logical_size(const struct block *block)
{
	return block->file.logical_size;
}

unsigned block_physical_size(const struct block *block)
{
	return block->file.physical_size;
}

unsigned block_physical_offset(const struct block *block)
{
	return block->file.physical_offset;
}

bool block_readonly(const struct block *block)
{
	return block->readonly;
}

bool block_can_discard(const struct block *block)
{
	return block->file.can_discard;
}

unsigned block_discard_size(const struct block *block)
{
	return block->file.discard_size ? block->file.discard_size : block->file.physical_size;
}

unsigned block_in_flight(const struct block *block)
{
	return block->in_flight;
}

void block_attach(struct block *block, struct loop *loop)
{
	block->loop = loop;
}
