/* SPDX-License-Identifier: Apache-2.0 */
/* Checked access, and the log of the monitor's own writes. */
#include "memory/memory.h"

#include "base/checked.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const struct memory_region *memory_region_at(
	const struct memory *memory, gpa_t gpa, unsigned *index)
{
	for (unsigned i = 0; i < memory->count; i++) {
		const struct memory_region *region = &memory->regions[i];

		if (gpa.value - region->base.value >= region->size)
			continue;
		if (index)
			*index = i;
		return region;
	}
	return NULL;
}

void *memory_begin(const struct memory *memory, gpa_t gpa, uint64_t length)
{
	const struct memory_region *region = memory_region_at(memory, gpa, NULL);
	uint64_t offset;

	if (!region)
		return NULL;
	offset = gpa.value - region->base.value;
	if (!range_within(offset, length, region->size))
		return NULL;
	return region->mapped_at + offset;
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
		const struct memory_region *region = memory_region_at(memory, gpa, NULL);
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
	const struct memory_region *region = memory_region_at(memory, gpa, NULL);
	uint64_t offset = gpa.value - region->base.value;

	*host = region->mapped_at + offset;
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
		memory_wrote(memory, gpa, part);
		in += part;
		length -= part;
		gpa = gpa_add(gpa, part);
	}
	return ret;
}

void memory_wrote_slow(struct memory *memory, gpa_t gpa, uint64_t length)
{
	_Atomic uint64_t *dirty = atomic_load_explicit(&memory->dirty, memory_order_acquire);
	const struct memory_region *region = memory_region_at(memory, gpa, NULL);
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

bool memory_locate(const struct memory *memory, const void *host, gpa_t *gpa)
{
	for (unsigned i = 0; i < memory->count; i++) {
		const struct memory_region *region = &memory->regions[i];
		uint64_t offset = (uint64_t)((uintptr_t)host - (uintptr_t)region->mapped_at);

		if (offset < region->size) {
			*gpa = gpa_add(region->base, offset);
			return true;
		}
	}
	return false;
}

void memory_end_slow(struct memory *memory, const void *host, uint64_t written)
{
	gpa_t gpa;

	if (memory_locate(memory, host, &gpa))
		memory_wrote_slow(memory, gpa, written);
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
