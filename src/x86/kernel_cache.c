/* SPDX-License-Identifier: Apache-2.0 */
#include "x86/kernel_cache.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <zlib.h>

/*
 * #syscalls main: mkdir openat newfstatat fstat geteuid pread64 pwrite64 ftruncate fdatasync
 * #syscalls main: getrandom renameat symlinkat unlinkat
 */

#define MAGIC        "duetkrnl"
#define VERSION      1
#define NAME_SIZE    160
#define RECENT       2 /* seconds; longer than the coarsest time stamp */
#define BYTES_OFFSET MEMORY_PAGE

struct entry_header {
	char magic[8];
	uint32_t version;
	uint32_t checksum; /* CRC-32 of what follows */
	uint64_t file_size;
	struct kernel_plan plan;
};
_Static_assert(sizeof(struct entry_header) <= BYTES_OFFSET, "the bytes start behind the header");

static uint32_t checksum(const struct entry_header *header)
{
	size_t start = offsetof(struct entry_header, file_size);

	return (uint32_t)crc32(0, (const uint8_t *)header + start, sizeof(*header) - start);
}

static void make_parents(const char *path)
{
	char part[4096];

	for (const char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		if ((size_t)(slash - path) >= sizeof(part))
			return;
		memcpy(part, path, (size_t)(slash - path));
		part[slash - path] = '\0';
		mkdir(part, 0777);
	}
}

int kernel_cache_open(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat status;

	if (fd < 0 && errno == ENOENT && *path) {
		make_parents(path);
		mkdir(path, 0700);
		fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	if (fd < 0) {
		log_info("kernel cache %s: %s; going on without it", path, strerror(errno));
		return -1;
	}
	if (fstat(fd, &status) < 0 || status.st_uid != geteuid() || status.st_mode & 022) {
		log_info("kernel cache %s: others could write there; going on without it", path);
		close(fd);
		return -1;
	}
	return fd;
}

static void digest_name(const uint8_t digest[SHA256_SIZE], char name[NAME_SIZE])
{
	char text[SHA256_TEXT_SIZE];

	sha256_text(digest, text);
	snprintf(name, NAME_SIZE, "v%u-%s", VERSION, text);
}

static void file_name(const struct stat *file, char name[NAME_SIZE])
{
	snprintf(name, NAME_SIZE, "v%u-%llx-%llx-%llx-%llx.%lx-%llx.%lx", VERSION,
		(unsigned long long)file->st_dev, (unsigned long long)file->st_ino,
		(unsigned long long)file->st_size, (unsigned long long)file->st_mtim.tv_sec,
		(unsigned long)file->st_mtim.tv_nsec, (unsigned long long)file->st_ctim.tv_sec,
		(unsigned long)file->st_ctim.tv_nsec);
}

static bool header_valid(const struct entry_header *header, uint64_t file_size)
{
	return !memcmp(header->magic, MAGIC, sizeof(header->magic)) && header->version == VERSION &&
	       header->file_size == file_size && header->checksum == checksum(header) &&
	       kernel_plan_valid(&header->plan, file_size);
}

static bool find(int cache, const char *name, struct kernel_image *image)
{
	_cleanup_close_ int fd = openat(cache, name, O_RDONLY | O_CLOEXEC);
	struct entry_header header;
	struct stat status;

	if (fd < 0)
		return false;
	if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode) || status.st_uid != geteuid() ||
		pread(fd, &header, sizeof(header), 0) != (ssize_t)sizeof(header) ||
		!header_valid(&header, (uint64_t)status.st_size)) {
		log_info("kernel cache: entry %s is damaged; making it again", name);
		return false;
	}
	*image = (struct kernel_image){.plan = header.plan, .fd = steal_fd(&fd)};
	return true;
}

bool kernel_cache_find_file(int cache, const struct stat *file, struct kernel_image *image)
{
	char name[NAME_SIZE];

	file_name(file, name);
	return find(cache, name, image);
}

bool kernel_cache_find_digest(
	int cache, const uint8_t digest[SHA256_SIZE], struct kernel_image *image)
{
	char name[NAME_SIZE];

	digest_name(digest, name);
	return find(cache, name, image);
}

static void temporary_name(char name[NAME_SIZE])
{
	uint64_t random = 0;

	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) < 0)
		random = (uint64_t)getpid();
	snprintf(name, NAME_SIZE, "tmp-%016llx", (unsigned long long)random);
}

static int write_fully(int fd, const void *from, size_t length, uint64_t offset)
{
	const uint8_t *bytes = from;

	while (length) {
		ssize_t done = pwrite(fd, bytes, length, (off_t)offset);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return done < 0 ? -errno : -ENOSPC;
		bytes += done;
		offset += (uint64_t)done;
		length -= (size_t)done;
	}
	return 0;
}

/* Writes the extents one behind the other, page-aligned, then the relocations, and says in
 * @header where they are. */
static int write_bytes(int fd, const struct kernel_image *image, struct entry_header *header)
{
	struct kernel_plan *plan = &header->plan;
	uint64_t at = BYTES_OFFSET, relocs = 0;
	int ret = 0;

	for (unsigned i = 0; i < plan->extent_count && ret == 0; i++) {
		struct kernel_extent *extent = &plan->extents[i];

		ret = write_fully(fd, image->bytes + extent->source, extent->length, at);
		extent->source = at;
		at = align_up(at + extent->length, MEMORY_PAGE);
	}
	for (unsigned kind = 0; kind < RELOC_KINDS; kind++)
		relocs += plan->reloc_count[kind];
	plan->relocs = at;
	header->file_size = at + relocs * sizeof(uint32_t);
	if (ret == 0)
		ret = write_fully(fd, image->relocs, relocs * sizeof(uint32_t), at);
	if (ret == 0 && ftruncate(fd, (off_t)header->file_size) < 0)
		ret = -errno;
	return ret;
}

static int write_entry(int fd, const struct kernel_image *image)
{
	struct entry_header header = {.version = VERSION, .plan = image->plan};
	int ret = write_bytes(fd, image, &header);

	/* Once per kernel, so that a power failure cannot leave a sound header before lost bytes.
	 */
	if (ret == 0 && fdatasync(fd) < 0)
		ret = -errno;
	if (ret < 0)
		return ret;
	memcpy(header.magic, MAGIC, sizeof(header.magic));
	header.checksum = checksum(&header);
	return write_fully(fd, &header, sizeof(header), 0);
}

int kernel_cache_store(
	int cache, const uint8_t digest[SHA256_SIZE], const struct kernel_image *image)
{
	char name[NAME_SIZE], temporary[NAME_SIZE];
	_cleanup_close_ int fd = -1;
	int ret;

	temporary_name(temporary);
	digest_name(digest, name);
	fd = openat(cache, temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	ret = write_entry(fd, image);
	if (ret == 0 && renameat(cache, temporary, cache, name) < 0)
		ret = -errno;
	if (ret < 0)
		unlinkat(cache, temporary, 0);
	return ret;
}

void kernel_cache_link(int cache, const struct stat *file, const uint8_t digest[SHA256_SIZE])
{
	char name[NAME_SIZE], target[NAME_SIZE], temporary[NAME_SIZE];
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	if (now.tv_sec < file->st_ctim.tv_sec + RECENT)
		return;
	temporary_name(temporary);
	file_name(file, name);
	digest_name(digest, target);
	if (symlinkat(target, cache, temporary) < 0)
		return;
	if (renameat(cache, temporary, cache, name) < 0)
		unlinkat(cache, temporary, 0);
}
