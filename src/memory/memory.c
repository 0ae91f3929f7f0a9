/* SPDX-License-Identifier: Apache-2.0 */
#include "memory/memory.h"

#include "base/checked.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void memory_init(struct memory *memory)
{
	memset(memory, 0, sizeof(*memory));
}

void memory_free(struct memory *memory)
{
	memory_dirty_stop(memory);
	for (unsigned i = 0; i < memory->count; i++) {
		struct memory_region *region = &memory->regions[i];

		if (!region->name) /* memory_add_fixed: the caller's */
			continue;
		munmap(region->host, region->size);
		if (region->fd >= 0)
			close(region->fd);
	}
	memory->count = 0;
}

static int check_new_region(const struct memory *memory, gpa_t base, uint64_t size)
{
	uint64_t end;

	if (size == 0 || size % MEMORY_PAGE || base.value % MEMORY_PAGE ||
		add_overflows(base.value, size, &end))
		return -EINVAL;
	if (memory->count == MEMORY_MAX_REGIONS)
		return -ENOSPC;
	return memory_overlaps(memory, base, size) ? -EEXIST : 0;
}

static void append(struct memory *memory, struct memory_region region)
{
	region.first_page = memory->pages;
	/* Whole words of the dirty bitmap, so that two regions never share one. */
	memory->pages += align_up(region.size / MEMORY_PAGE, 64);
	memory->regions[memory->count++] = region;
}

int memory_add(struct memory *memory, gpa_t base, uint64_t size, enum memory_kind kind,
	const char *name, struct error *err)
{
	int flags =
		MAP_NORESERVE | (kind == MEMORY_SHARED ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS);
	int ret = check_new_region(memory, base, size);
	int fd = -1;
	void *host;

	if (ret < 0)
		return error_errno(err, -ret, "guest memory at 0x%llx, 0x%llx bytes",
			(unsigned long long)base.value, (unsigned long long)size);
	if (kind == MEMORY_SHARED) {
		fd = memfd_create("duet-guest-ram", MFD_CLOEXEC);
		if (fd < 0 || ftruncate(fd, (off_t)size) < 0) {
			ret = errno;
			if (fd >= 0)
				close(fd);
			return error_errno(err, ret, "guest memory: memfd of 0x%llx bytes",
				(unsigned long long)size);
		}
	}
	host = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, 0);
	if (host == MAP_FAILED) {
		ret = errno;
		if (fd >= 0)
			close(fd);
		return error_errno(err, ret,
			"--memory: the host does not give 0x%llx bytes; ask for less or free some",
			(unsigned long long)size);
	}
	/* Out of core dumps, and a mapping of its own: the kernel would merge it with a neighbour
	 * that looks the same, and nobody could tell the guest's memory from ours. */
	madvise(host, size, MADV_DONTDUMP);
	append(memory, (struct memory_region){
			       .base = base, .size = size, .host = host, .fd = fd, .name = name});
	return 0;
}

int memory_add_fixed(struct memory *memory, gpa_t base, uint64_t size, void *host)
{
	int ret = check_new_region(memory, base, size);

	if (ret < 0)
		return ret;
	append(memory, (struct memory_region){.base = base, .size = size, .host = host, .fd = -1});
	return 0;
}

static const struct memory_region *find(const struct memory *memory, gpa_t gpa)
{
	for (unsigned i = 0; i < memory->count; i++) {
		const struct memory_region *region = &memory->regions[i];

		if (gpa.value - region->base.value < region->size)
			return region;
	}
	return NULL;
}

void *memory_at(const struct memory *memory, gpa_t gpa, uint64_t length)
{
	const struct memory_region *region = find(memory, gpa);
	uint64_t offset;

	if (!region)
		return NULL;
	offset = gpa.value - region->base.value;
	if (!range_within(offset, length, region->size))
		return NULL;
	return region->host + offset;
}

bool memory_overlaps(const struct memory *memory, gpa_t gpa, uint64_t length)
{
	uint64_t last;

	if (length == 0)
		return false;
	if (add_overflows(gpa.value, length - 1, &last))
		last = UINT64_MAX;
	for (unsigned i = 0; i < memory->count; i++) {
		const struct memory_region *region = &memory->regions[i];

		if (gpa.value < region->base.value + region->size && last >= region->base.value)
			return true;
	}
	return false;
}

/* Calls for each part of the range that lies in one region; -EFAULT at the first hole. */
static int check_range(const struct memory *memory, gpa_t gpa, size_t length)
{
	while (length) {
		const struct memory_region *region = find(memory, gpa);
		uint64_t left;

		if (!region)
			return -EFAULT;
		left = region->size - (gpa.value - region->base.value);
		if (left >= length)
			return 0;
		length -= left;
		gpa = gpa_add(gpa, left);
	}
	return 0;
}

static size_t part_at(const struct memory *memory, gpa_t gpa, size_t length, uint8_t **host)
{
	const struct memory_region *region = find(memory, gpa);
	uint64_t offset = gpa.value - region->base.value;

	*host = region->host + offset;
	return min_u64(length, region->size - offset);
}

int memory_read(const struct memory *memory, gpa_t gpa, void *to, size_t length)
{
	uint8_t *out = to;
	int ret = check_range(memory, gpa, length);

	while (ret == 0 && length) {
		uint8_t *host;
		size_t part = part_at(memory, gpa, length, &host);

		memcpy(out, host, part);
		out += part;
		length -= part;
		gpa = gpa_add(gpa, part);
	}
	return ret;
}

int memory_write(struct memory *memory, gpa_t gpa, const void *from, size_t length)
{
	const uint8_t *in = from;
	int ret = check_range(memory, gpa, length);

	while (ret == 0 && length) {
		uint8_t *host;
		size_t part = part_at(memory, gpa, length, &host);

		memcpy(host, in, part);
		memory_mark_dirty(memory, gpa, part);
		in += part;
		length -= part;
		gpa = gpa_add(gpa, part);
	}
	return ret;
}

uint64_t memory_size(const struct memory *memory)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < memory->count; i++)
		sum += memory->regions[i].size;
	return sum;
}

void memory_mark_dirty_slow(struct memory *memory, gpa_t gpa, uint64_t length)
{
	_Atomic uint64_t *dirty = atomic_load_explicit(&memory->dirty, memory_order_acquire);
	const struct memory_region *region = find(memory, gpa);
	uint64_t offset, first, last;

	if (!dirty || !region || length == 0)
		return;
	offset = gpa.value - region->base.value;
	length = min_u64(length, region->size - offset);
	first = region->first_page + offset / MEMORY_PAGE;
	last = region->first_page + (offset + length - 1) / MEMORY_PAGE;
	for (uint64_t page = first; page <= last; page++)
		/* Release: whoever takes the bit sees the bytes written before it was set. */
		atomic_fetch_or_explicit(
			&dirty[page / 64], 1ULL << (page % 64), memory_order_release);
}

void memory_mark_dirty_host_slow(struct memory *memory, const void *host, uint64_t length)
{
	for (unsigned i = 0; i < memory->count; i++) {
		const struct memory_region *region = &memory->regions[i];
		uint64_t offset = (uint64_t)((uintptr_t)host - (uintptr_t)region->host);

		if (offset < region->size) {
			memory_mark_dirty_slow(memory, gpa_add(region->base, offset), length);
			return;
		}
	}
}

int memory_dirty_start(struct memory *memory)
{
	_Atomic uint64_t *dirty;

	if (atomic_load(&memory->dirty))
		return 0;
	dirty = calloc(memory->pages / 64 + 1, sizeof(*dirty));
	if (!dirty)
		return -ENOMEM;
	atomic_store(&memory->dirty, dirty);
	return 0;
}

/* The I/O threads must be at rest: one of them might still hold the bitmap. */
void memory_dirty_stop(struct memory *memory)
{
	free((void *)atomic_exchange(&memory->dirty, NULL));
}

uint64_t memory_dirty_take(struct memory *memory, uint64_t word)
{
	_Atomic uint64_t *dirty = atomic_load_explicit(&memory->dirty, memory_order_acquire);

	if (!dirty || word >= memory->pages / 64)
		return 0;
	return atomic_exchange_explicit(&dirty[word], 0, memory_order_acquire);
}
