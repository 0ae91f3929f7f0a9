/* SPDX-License-Identifier: Apache-2.0 */
/* The table of regions: mapping, removing, giving pages back. */
#include "memory/late_private.h"

#include "base/checked.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* #syscalls main vcpu io: fallocate */

void memory_init(struct memory *memory)
{
	memset(memory, 0, sizeof(*memory));
}

static void release(struct memory_region *region)
{
	if (region->kind == MEMORY_BORROWED)
		return;
	munmap(region->mapped_at, region->size);
	if (region->fd >= 0)
		close(region->fd);
}

void memory_free(struct memory *memory)
{
	memory_dirty_stop(memory);
	for (unsigned i = 0; i < memory->count; i++)
		release(&memory->regions[i]);
	memory->count = 0;
}

/* The table of regions stays as it is. */
static bool is_fixed(const struct memory *memory)
{
	return memory->pins || memory_is_logged(memory) || memory_arriving(memory);
}

static int check_new_region(const struct memory *memory, gpa_t base, uint64_t size)
{
	uint64_t end;

	if (size == 0 || size % MEMORY_PAGE || base.value % MEMORY_PAGE ||
		add_overflows(base.value, size, &end))
		return -EINVAL;
	if (is_fixed(memory))
		return -EBUSY;
	if (memory->count == MEMORY_MAX_REGIONS)
		return -ENOSPC;
	return memory_overlaps(memory, base, size) ? -EEXIST : 0;
}

/* Whole words of the dirty bitmap for each, so that two regions never share one. */
static void number_pages(struct memory *memory)
{
	memory->pages = 0;
	for (unsigned i = 0; i < memory->count; i++) {
		memory->regions[i].first_page = memory->pages;
		memory->pages += align_up(memory->regions[i].size / MEMORY_PAGE, 64);
	}
	memory->generation++;
}

static void append(struct memory *memory, struct memory_region region)
{
	/* Out of core dumps, and a mapping of its own: the kernel would merge it with a neighbour
	 * that looks the same, and nobody could tell the guest's memory from ours. */
	if (region.kind != MEMORY_BORROWED)
		madvise(region.mapped_at, region.size, MADV_DONTDUMP);
	memory->regions[memory->count++] = region;
	number_pages(memory);
}

static int refused(int code, gpa_t base, uint64_t size, struct error *err)
{
	return error_errno(err, -code, "guest memory at 0x%llx, 0x%llx bytes",
		(unsigned long long)base.value, (unsigned long long)size);
}

static int open_memfd(uint64_t size, struct error *err)
{
	int fd = memfd_create("duet-guest-ram", MFD_CLOEXEC);
	int code = errno;

	if (fd >= 0 && ftruncate(fd, (off_t)size) == 0)
		return fd;
	if (fd >= 0) {
		code = errno;
		close(fd);
	}
	return error_errno(
		err, code, "guest memory: memfd of 0x%llx bytes", (unsigned long long)size);
}

int memory_add(struct memory *memory, gpa_t base, uint64_t size, enum memory_kind kind,
	const char *name, struct error *err)
{
	struct memory_region region = {
		.base = base, .size = size, .kind = kind, .fd = -1, .name = name};
	int flags =
		MAP_NORESERVE | (kind == MEMORY_SHARED ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS);
	int ret = check_new_region(memory, base, size);

	if (ret < 0)
		return refused(ret, base, size, err);
	if (kind == MEMORY_SHARED) {
		region.fd = open_memfd(size, err);
		if (region.fd < 0)
			return region.fd;
	}
	region.mapped_at = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, region.fd, 0);
	if (region.mapped_at == MAP_FAILED) {
		ret = errno;
		if (region.fd >= 0)
			close(region.fd);
		return error_errno(err, ret,
			"--memory: the host does not give 0x%llx bytes; ask for less or free some",
			(unsigned long long)size);
	}
	append(memory, region);
	return 0;
}

int memory_add_file(struct memory *memory, gpa_t base, uint64_t size, int fd, uint64_t offset,
	const char *name, struct error *err)
{
	struct memory_region region = {
		.base = base, .size = size, .kind = MEMORY_FILE, .fd = -1, .name = name};
	int ret = check_new_region(memory, base, size);

	if (ret == 0 && offset % MEMORY_PAGE)
		ret = -EINVAL;
	if (ret < 0)
		return refused(ret, base, size, err);
	region.mapped_at = mmap(
		NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd, (off_t)offset);
	if (region.mapped_at == MAP_FAILED)
		return refused(-errno, base, size, err);
	append(memory, region);
	return 0;
}

int memory_add_fixed(struct memory *memory, gpa_t base, uint64_t size, void *host)
{
	int ret = check_new_region(memory, base, size);

	if (ret < 0)
		return ret;
	append(memory, (struct memory_region){.base = base,
			       .size = size,
			       .mapped_at = host,
			       .kind = MEMORY_BORROWED,
			       .fd = -1});
	return 0;
}

int memory_remove(struct memory *memory, gpa_t base)
{
	if (is_fixed(memory))
		return -EBUSY;
	for (unsigned i = 0; i < memory->count; i++) {
		if (memory->regions[i].base.value != base.value)
			continue;
		release(&memory->regions[i]);
		memory->count--;
		memmove(&memory->regions[i], &memory->regions[i + 1],
			(memory->count - i) * sizeof(memory->regions[0]));
		number_pages(memory);
		return 0;
	}
	return -ENOENT;
}

const struct memory_region *memory_region(const struct memory *memory, unsigned index)
{
	return index < memory->count ? &memory->regions[index] : NULL;
}

uint64_t memory_size(const struct memory *memory)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < memory->count; i++)
		sum += memory->regions[i].size;
	return sum;
}

void memory_pin(struct memory *memory, bool pinned)
{
	memory->pins += pinned ? 1 : -1U;
}

/* Each takes two of the mappings that the process may have, of which Linux allows 65,530: what is
 * left is for threads, files and much else. */
#define HOLES_MAX 16384U

/* What lies below a private mapping of a file would come back. */
static bool put_zeroes(uint8_t *host, uint64_t length)
{
	void *mapped = mmap(host, length, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);

	if (mapped == MAP_FAILED)
		return false;
	madvise(host, length, MADV_DONTDUMP);
	return true;
}

/* Where there is a hole already, its pages go; of the file a page of zeroes takes the place. */
static void fill_in_place(uint8_t *host, uint64_t length)
{
	madvise(host, length, MADV_DONTNEED);
	for (uint8_t *page = host; page < host + length; page += MEMORY_PAGE)
		if (!memory_page_is_zero(page))
			memset(page, 0, MEMORY_PAGE);
}

static void make_hole(struct memory *memory, uint8_t *host, uint64_t length)
{
	if (atomic_load_explicit(&memory->holes, memory_order_relaxed) >= HOLES_MAX ||
		!put_zeroes(host, length))
		fill_in_place(host, length);
	else
		atomic_fetch_add_explicit(&memory->holes, 1, memory_order_relaxed);
}

static int discard(
	struct memory *memory, const struct memory_region *region, uint64_t offset, uint64_t length)
{
	uint8_t *host = region->mapped_at + offset;

	memory_late_drop(memory, region, offset, length);
	switch (region->kind) {
	case MEMORY_FILE:
		make_hole(memory, host, length);
		return 0;
	case MEMORY_SHARED:
		return fallocate(region->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			       (off_t)offset, (off_t)length) < 0
			       ? -errno
			       : 0;
	default:
		return madvise(host, length, MADV_DONTNEED) < 0 ? -errno : 0;
	}
}

int memory_discard(struct memory *memory, gpa_t gpa, uint64_t length)
{
	if (gpa.value % MEMORY_PAGE || length % MEMORY_PAGE)
		return -EINVAL;
	if (memory->pins)
		return -EBUSY;
	for (unsigned i = 0; i < memory->count; i++) {
		const struct memory_region *region = &memory->regions[i];
		uint64_t offset = gpa.value - region->base.value;
		int ret;

		if (offset >= region->size)
			continue;
		if (!range_within(offset, length, region->size))
			return -EFAULT;
		ret = discard(memory, region, offset, length);
		if (ret == 0)
			memory_wrote(memory, gpa, length);
		return ret;
	}
	return -EFAULT;
}

/* Nothing is left of a file that a region has shown: one mapping takes the place of all its
 * pieces. */
static bool leave_file(struct memory *memory, struct memory_region *region)
{
	if (region->kind != MEMORY_FILE || !put_zeroes(region->mapped_at, region->size))
		return false;
	region->kind = MEMORY_ANONYMOUS;
	atomic_store_explicit(&memory->holes, 0, memory_order_relaxed);
	return true;
}

int memory_clear(struct memory *memory)
{
	int ret = 0;

	for (unsigned i = 0; ret == 0 && i < memory->count; i++) {
		struct memory_region *region = &memory->regions[i];

		if (memory->pins)
			memset(region->mapped_at, 0, region->size);
		else if (!leave_file(memory, region))
			ret = discard(memory, region, 0, region->size);
		memory_wrote(memory, region->base, region->size);
	}
	return ret;
}
