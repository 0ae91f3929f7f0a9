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
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

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

/* A lock of the open file description: it goes away with the last descriptor, also by SIGKILL. */
static int lock_file(const struct block *block, struct error *err)
{
	struct flock lock = {
		.l_type = block->readonly ? F_RDLCK : F_WRLCK,
		.l_whence = SEEK_SET,
	};

	if (fcntl(block->fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	if (errno == EAGAIN || errno == EACCES)
		return error_set(err, EBUSY,
			"--disk path=%s: busy: another process has it open; end that VM, use a "
			"copy, or give both VMs readonly=on",
			block->path);
	log_info("--disk path=%s: its file system has no locks, going on without", block->path);
	return 0;
}

/* Whether holes can be punched: asked of the page after the end, where there is nothing. */
static bool file_can_punch(const struct block *block)
{
	off_t end = (off_t)align_up(block->size, 1 << 20);

	return fallocate(block->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, end, 4096) == 0 ||
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

	block->can_discard = !block->readonly && queue_limit(device, "discard_max_bytes") > 0;
	if (size > block->physical_size && size <= DISCARD_SIZE_MAX && size % 512 == 0)
		block->discard_size = (unsigned)size;
	return block->can_discard ? block_discard_new(block) : 0;
}

/* A device of large physical blocks may begin in the midst of one. */
static void find_physical(struct block *block)
{
	unsigned physical = 0;
	int offset = 0;

	if (ioctl(block->fd, BLKPBSZGET, &physical) < 0 || physical <= block->physical_size ||
		physical > PHYSICAL_MAX || !is_power_of_two(physical))
		physical = block->physical_size;
	block->physical_size = physical;
	/* -1: what it is made of does not fit together. */
	if (ioctl(block->fd, BLKALIGNOFF, &offset) == 0 && offset > 0 &&
		(unsigned)offset % block->logical_size == 0)
		block->physical_offset = (unsigned)offset % physical;
}

static int measure_device(struct block *block, const struct stat *st, struct error *err)
{
	int logical = 512;

	block->device = true;
	if (ioctl(block->fd, BLKGETSIZE64, &block->size) < 0)
		return error_errno(err, errno, "--disk path=%s: its size", block->path);
	if (ioctl(block->fd, BLKSSZGET, &logical) == 0 && logical >= 512 && logical <= 65536 &&
		is_power_of_two((unsigned)logical))
		block->logical_size = block->direct_offset = (unsigned)logical;
	if (block->physical_size < block->logical_size)
		block->physical_size = block->logical_size;
	find_physical(block);
	if (find_discard(block, st->st_rdev) < 0)
		return error_errno(err, ENOMEM, "--disk path=%s", block->path);
	return 0;
}

/* What no sector holds could be read but never written. */
static int whole_sectors(struct block *block, struct error *err)
{
	uint64_t rest = block->size % 512;

	if (rest && !block->readonly)
		return error_set(err, EINVAL,
			"--disk path=%s: its size of %llu bytes is not a multiple of 512; "
			"enlarge it with `truncate -s %llu %s`",
			block->path, (unsigned long long)block->size,
			(unsigned long long)(block->size - rest + 512), block->path);
	if (rest)
		log_warning("--disk path=%s: its size of %llu bytes is not a multiple of 512; the "
			    "guest does not see the last %llu",
			block->path, (unsigned long long)block->size, (unsigned long long)rest);
	block->size -= rest;
	return 0;
}

static int measure_file(struct block *block, const struct stat *st, struct error *err)
{
	int ret;

	block->size = (uint64_t)st->st_size;
	ret = whole_sectors(block, err);
	if (ret < 0)
		return ret;
	block->can_discard = !block->readonly && file_can_punch(block);
	return 0;
}

static int measure(struct block *block, struct error *err)
{
	struct stat st;
	int ret;

	if (fstat(block->fd, &st) < 0)
		return error_errno(err, errno, "--disk path=%s", block->path);
	if (S_ISDIR(st.st_mode))
		return error_set(err, EISDIR,
			"--disk path=%s: is a directory; name a raw image or a block device",
			block->path);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return error_set(err, EINVAL,
			"--disk path=%s: neither a regular file nor a block device; name a raw "
			"image or a block device",
			block->path);
	ret = S_ISBLK(st.st_mode) ? measure_device(block, &st, err) : measure_file(block, &st, err);
	if (ret < 0)
		return ret;
	if (block->size == 0 && st.st_size > 0)
		return error_set(err, EINVAL,
			"--disk path=%s: is smaller than one sector of 512 bytes; name a disk "
			"image",
			block->path);
	if (block->size == 0)
		return error_set(err, EINVAL,
			"--disk path=%s: is empty; give it a size with `truncate -s 1G %s`",
			block->path, block->path);
	return 0;
}

/* What direct I/O asks of offsets and of addresses. Linux 6.1 tells; before, a page is safe for
 * memory, and whether a sector is for offsets shows the first refusal. */
static void find_alignment(struct block *block)
{
	block->direct_memory = BLOCK_DIRECT_SAFE;
#ifdef STATX_DIOALIGN
	struct statx sx;

	if (statx(block->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) == 0 &&
		(sx.stx_mask & STATX_DIOALIGN) && sx.stx_dio_mem_align) {
		block->direct_memory = sx.stx_dio_mem_align;
		if (sx.stx_dio_offset_align > block->direct_offset)
			block->direct_offset = sx.stx_dio_offset_align;
		if (block->physical_size < block->direct_offset)
			block->physical_size = block->direct_offset;
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

static int open_direct(struct block *block, const struct block_options *options, struct error *err)
{
	/* The locked one stays open and becomes the way through the page cache. */
	block->buffered_fd = block->fd;
	block->fd = open_file(options, O_DIRECT, err);
	if (block->fd < 0)
		return block->fd;
	if (!same_file(block->fd, block->buffered_fd))
		return error_set(err, EAGAIN,
			"--disk path=%s: was replaced while it was opened; start again",
			block->path);
	find_alignment(block);
	return 0;
}

static int fill(struct block *block, const struct block_options *options, struct error *err)
{
	int ret;

	block->path = strdup(options->path);
	if (!block->path)
		return error_errno(err, ENOMEM, "--disk path=%s", options->path);
	block->fd = open_file(options, 0, err);
	if (block->fd < 0)
		return block->fd;
	ret = measure(block, err);
	if (ret == 0 && options->lock)
		ret = lock_file(block, err);
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
	block->fd = -1;
	block->buffered_fd = -1;
	block->readonly = options->readonly;
	block->logical_size = block->direct_offset = 512;
	block->physical_size = PHYSICAL_LEAST;
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
	/* Its thread uses the descriptor. */
	block_discard_free(block->discard);
	if (block->fd >= 0)
		close(block->fd);
	if (block->buffered_fd >= 0)
		close(block->buffered_fd);
	if (block->zeroes)
		munmap(block->zeroes, BLOCK_ZEROES);
	block_throttle_free(block->kept);
	free(block->path);
	free(block);
}

uint64_t block_size(const struct block *block)
{
	return block->size;
}

unsigned block_logical_size(const struct block *block)
{
	return block->logical_size;
}

unsigned block_physical_size(const struct block *block)
{
	return block->physical_size;
}

unsigned block_physical_offset(const struct block *block)
{
	return block->physical_offset;
}

bool block_readonly(const struct block *block)
{
	return block->readonly;
}

bool block_can_discard(const struct block *block)
{
	return block->can_discard;
}

unsigned block_discard_size(const struct block *block)
{
	return block->discard_size ? block->discard_size : block->physical_size;
}

unsigned block_in_flight(const struct block *block)
{
	return block->in_flight;
}

void block_attach(struct block *block, struct loop *loop)
{
	block->loop = loop;
}
