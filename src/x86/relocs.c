/* SPDX-License-Identifier: Apache-2.0 */
#include "x86/relocs.h"

#include "base/bytes.h"
#include "base/checked.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define KERNEL_MAP 0xffffffff80000000ULL /* __START_KERNEL_map: virtual address of physical 0 */
#define WORD       sizeof(uint32_t)
#define CHUNK      16384 /* words read from the cache at a time */

static const unsigned reloc_width[RELOC_KINDS] = {
	[RELOC_64] = 8, [RELOC_INVERSE_32] = 4, [RELOC_32] = 4};

/* Counts the words of each kind; false when the bytes are no table. */
static bool count_words(const uint8_t *table, size_t words, uint32_t count[RELOC_KINDS])
{
	uint32_t run[RELOC_KINDS] = {0};
	unsigned runs = 0;

	if (words == 0 || load_le32(table) != 0)
		return false;
	for (size_t i = 0; i < words; i++) {
		if (load_le32(table + i * WORD) != 0)
			run[runs - 1]++;
		else if (++runs > RELOC_KINDS)
			return false;
	}
	if (runs < 2)
		return false;
	count[RELOC_64] = run[0];
	count[RELOC_INVERSE_32] = runs == 3 ? run[1] : 0;
	count[RELOC_32] = run[runs - 1];
	return true;
}

/* Turns the virtual addresses of one kind into checked offsets. */
static int convert(const struct kernel_plan *plan, const uint8_t *words, uint32_t count,
	enum kernel_reloc kind, uint32_t *out)
{
	for (uint32_t i = 0; i < count; i++) {
		uint64_t virtual = (uint64_t)(int64_t)(int32_t)load_le32(words + i * WORD);
		uint64_t offset = virtual - KERNEL_MAP - plan->base;

		if (!range_within(offset, reloc_width[kind], plan->size))
			return -EINVAL;
		out[i] = (uint32_t)offset;
	}
	return 0;
}

int relocs_parse(struct kernel_image *image, const uint8_t *file, size_t size, uint64_t elf_end,
	struct error *err)
{
	uint32_t *count = image->plan.reloc_count;
	size_t words = (size - elf_end) / WORD, total;
	const uint8_t *table = file + size - words * WORD; /* it is aligned to the end */
	uint32_t *out;
	int ret = 0;

	if (!count_words(table, words, count))
		return 0;
	total = (size_t)count[RELOC_64] + count[RELOC_INVERSE_32] + count[RELOC_32];
	out = image->relocs = malloc(total * WORD + 1);
	if (!out)
		return error_errno(err, ENOMEM, "the kernel's relocation table");
	for (unsigned kind = 0; kind < RELOC_KINDS && ret == 0; kind++) {
		/* Each list has a 0 in front; the middle list, when absent, has none. */
		if (kind != RELOC_INVERSE_32 || words - total == RELOC_KINDS)
			table += WORD;
		ret = convert(&image->plan, table, count[kind], kind, out);
		table += count[kind] * WORD;
		out += count[kind];
	}
	if (ret < 0)
		return error_set(err, -ret,
			"its relocation table points outside the kernel; the file is corrupt, get "
			"it again");
	return 0;
}

/* Bounds are checked again: the words may come from a file. */
static int apply_words(const struct kernel_image *image, uint8_t *host, uint64_t delta,
	enum kernel_reloc kind, const uint32_t *words, uint32_t count)
{
	uint64_t limit = image->plan.size - reloc_width[kind];

	if (kind == RELOC_INVERSE_32)
		delta = -delta;
	for (uint32_t i = 0; i < count; i++) {
		uint8_t *place = host + words[i];

		if (words[i] > limit)
			return -EINVAL;
		if (kind == RELOC_64)
			store_le64(place, load_le64(place) + delta);
		else
			store_le32(place, load_le32(place) + (uint32_t)delta);
	}
	return 0;
}

/* @buffer of CHUNK words keeps the table out of this process's memory. */
static int apply_from_file(const struct kernel_image *image, uint8_t *host, uint64_t delta,
	enum kernel_reloc kind, uint64_t offset, uint32_t *buffer)
{
	uint32_t left = image->plan.reloc_count[kind];

	while (left) {
		uint32_t part = left < CHUNK ? left : CHUNK;
		ssize_t got = pread(image->fd, buffer, part * WORD, (off_t)offset);
		int ret;

		if (got != (ssize_t)(part * WORD))
			return got < 0 ? -errno : -EIO;
		ret = apply_words(image, host, delta, kind, buffer, part);
		if (ret < 0)
			return ret;
		offset += part * WORD;
		left -= part;
	}
	return 0;
}

int relocs_apply(const struct kernel_image *image, uint8_t *host, uint64_t delta)
{
	uint64_t at = 0;
	uint32_t *buffer = image->fd >= 0 ? malloc(CHUNK * WORD) : NULL;
	int ret = image->fd >= 0 && !buffer ? -ENOMEM : 0;

	for (unsigned kind = 0; kind < RELOC_KINDS && ret == 0; kind++) {
		uint32_t count = image->plan.reloc_count[kind];

		if (count && image->plan.size < reloc_width[kind])
			ret = -EINVAL;
		else if (image->fd >= 0)
			ret = apply_from_file(
				image, host, delta, kind, image->plan.relocs + at * WORD, buffer);
		else
			ret = apply_words(image, host, delta, kind, image->relocs + at, count);
		at += count;
	}
	free(buffer);
	return ret;
}
