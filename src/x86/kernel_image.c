/* SPDX-License-Identifier: Apache-2.0 */
#include "x86/kernel_image.h"

#include "base/checked.h"
#include "x86/elf_image.h"
#include "x86/relocs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* A hole of fewer zero pages than this is copied along: an extent costs more. */
#define WORTHWHILE_HOLE (4 * MEMORY_PAGE)

static bool is_zero(const uint8_t *bytes, size_t length)
{
	return bytes[0] == 0 && !memcmp(bytes, bytes + 1, length - 1);
}

static int add_extent(struct kernel_plan *plan, struct kernel_extent extent)
{
	struct kernel_extent *last = plan->extents + plan->extent_count - 1;

	if (plan->extent_count && last->source + last->length == extent.source &&
		last->target + last->length == extent.target) {
		last->length += extent.length;
		return 0;
	}
	if (plan->extent_count == KERNEL_IMAGE_EXTENTS)
		return -E2BIG;
	plan->extents[plan->extent_count++] = extent;
	return 0;
}

/* Cuts a segment where at least WORTHWHILE_HOLE bytes are zero; blocks of that size are looked at,
 * aligned in guest memory, so that whole pages stay untouched. */
static int add_segment(
	struct kernel_plan *plan, const uint8_t *file, const struct elf_segment *segment)
{
	uint64_t target = segment->address - plan->base, done = 0;

	while (done < segment->file_size) {
		uint64_t at = target + done;
		uint64_t block = align_up(at + 1, WORTHWHILE_HOLE) - at;
		struct kernel_extent extent = {
			.source = segment->offset + done, .target = (uint32_t)at};

		block = min_u64(block, segment->file_size - done);
		extent.length = (uint32_t)block;
		done += block;
		if (is_zero(file + extent.source, block))
			continue;
		/* Out of extents: the last one grows over the hole (within one segment). */
		if (add_extent(plan, extent) < 0) {
			struct kernel_extent *last = plan->extents + plan->extent_count - 1;

			if (last->target < target)
				return -E2BIG;
			last->length = extent.target + extent.length - last->target;
		}
	}
	return 0;
}

int kernel_image_build(
	struct kernel_image *image, const uint8_t *file, size_t size, struct error *err)
{
	struct elf_image elf;
	int ret = elf_image_parse(&elf, file, size, err);

	*image = (struct kernel_image){.fd = -1, .bytes = file};
	if (ret < 0)
		return ret;
	if (elf.high - elf.low > KERNEL_IMAGE_MAX)
		return error_set(err, EFBIG,
			"a kernel of %llu MiB, more than x86-64 Linux can be; the file is corrupt",
			(unsigned long long)(elf.high - elf.low) >> 20);
	image->plan = (struct kernel_plan){.base = elf.low,
		.size = elf.high - elf.low,
		.entry = elf.entry == ELF_NO_ENTRY ? KERNEL_NO_ENTRY : elf.entry - elf.low,
		.pvh_entry = elf.pvh_entry};
	for (unsigned i = 0; i < elf.count && ret == 0; i++)
		ret = add_segment(&image->plan, file, &elf.segments[i]);
	if (ret < 0)
		return error_set(err, -ret, "too many segments with holes; the file is corrupt");
	return relocs_parse(image, file, size, elf.end, err);
}

void kernel_image_release(struct kernel_image *image)
{
	if (image->fd >= 0)
		close(image->fd);
	if (image->mapping)
		munmap(image->mapping, image->mapping_size);
	free(image->relocs);
	*image = (struct kernel_image){.fd = -1};
}

static bool entry_valid(const struct kernel_plan *plan)
{
	if (plan->entry == KERNEL_NO_ENTRY)
		return plan->pvh_entry != 0;
	return plan->entry < plan->size;
}

bool kernel_plan_valid(const struct kernel_plan *plan, uint64_t file_size)
{
	uint64_t relocs = 0;

	if (plan->size > KERNEL_IMAGE_MAX || plan->base > ELF_MAX_ADDRESS || !entry_valid(plan) ||
		plan->extent_count > KERNEL_IMAGE_EXTENTS)
		return false;
	for (unsigned kind = 0; kind < RELOC_KINDS; kind++)
		relocs += plan->reloc_count[kind];
	if (!range_within(plan->relocs, relocs * sizeof(uint32_t), file_size))
		return false;
	for (unsigned i = 0; i < plan->extent_count; i++) {
		const struct kernel_extent *extent = &plan->extents[i];

		if (!range_within(extent->source, extent->length, file_size) ||
			!range_within(extent->target, extent->length, plan->size))
			return false;
	}
	return true;
}

static int read_fully(int fd, uint8_t *to, size_t length, uint64_t offset)
{
	while (length) {
		ssize_t got = pread(fd, to, length, (off_t)offset);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? -errno : -EIO;
		to += got;
		offset += (uint64_t)got;
		length -= (size_t)got;
	}
	return 0;
}

static int copy_extents(const struct kernel_image *image, uint8_t *host)
{
	for (unsigned i = 0; i < image->plan.extent_count; i++) {
		const struct kernel_extent *extent = &image->plan.extents[i];
		int ret = 0;

		if (image->fd < 0)
			memcpy(host + extent->target, image->bytes + extent->source,
				extent->length);
		else
			ret = read_fully(
				image->fd, host + extent->target, extent->length, extent->source);
		if (ret < 0)
			return ret;
	}
	return 0;
}

int kernel_image_place(const struct kernel_image *image, struct memory *memory, gpa_t address,
	uint64_t delta, struct error *err)
{
	uint8_t *host = memory_begin(memory, address, image->plan.size);
	int ret;

	if (!host)
		return error_set(err, EFAULT, "the kernel does not fit into the guest's RAM");
	ret = copy_extents(image, host);
	if (ret == 0 && delta)
		ret = relocs_apply(image, host, delta);
	memory_end(memory, host, image->plan.size);
	if (ret < 0)
		return error_errno(err, -ret, "reading the unpacked kernel");
	return 0;
}
