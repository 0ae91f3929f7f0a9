/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An unpacked kernel, ready to be put into guest memory: the parts of its segments that are not
 * zero, and its relocations, both checked. It comes from an ELF file in memory or from the cache;
 * the cache's file is this struct's plan and then the bytes.
 *
 * Main thread.
 */
#ifndef DUET_X86_KERNEL_IMAGE_H
#define DUET_X86_KERNEL_IMAGE_H

#include "base/error.h"
#include "memory/memory.h"

#include <stddef.h>
#include <stdint.h>

#define KERNEL_IMAGE_MAX     (1ULL << 30) /* KERNEL_IMAGE_SIZE: what the virtual mapping holds */
#define KERNEL_IMAGE_EXTENTS 160
#define KERNEL_NO_ENTRY      UINT64_MAX /* to be entered by its PVH note alone */

/* In the order of the table that the kernel's build appends (tools/relocs.c there). */
enum kernel_reloc {
	RELOC_64,         /* 64 bits, add */
	RELOC_INVERSE_32, /* 32 bits, subtract: per-CPU, gone since Linux 6.15 */
	RELOC_32,         /* 32 bits, add */
	RELOC_KINDS,
};

struct kernel_extent {
	uint64_t source; /* offset in the bytes (ELF file or cache file) */
	uint32_t target; /* offset from kernel_plan.base */
	uint32_t length;
};

/* Everything but the bytes. Written to the cache as it is: same machine, same user. */
struct kernel_plan {
	uint64_t base;      /* physical address it is linked for */
	uint64_t size;      /* memory it takes, zeroes included */
	uint64_t entry;     /* offset of startup_64 from @base, or KERNEL_NO_ENTRY */
	uint64_t pvh_entry; /* physical, 0 without */
	uint64_t relocs;    /* offset in the bytes: arrays of uint32_t, offsets from @base */
	uint32_t reloc_count[RELOC_KINDS];
	uint32_t extent_count;
	struct kernel_extent extents[KERNEL_IMAGE_EXTENTS];
};

struct kernel_image {
	struct kernel_plan plan;
	int fd;               /* the bytes: an open file, owned; -1: in memory */
	const uint8_t *bytes; /* then these, with ... */
	uint32_t *relocs;     /* ... the relocations, owned */
	void *mapping;        /* unmapped on release; what @bytes points into, or null */
	size_t mapping_size;
};

/* From an ELF file in memory; @file stays the caller's and must outlive the image. A file without
 * a relocation table is no error. */
int kernel_image_build(
	struct kernel_image *image, const uint8_t *file, size_t size, struct error *err);
void kernel_image_release(struct kernel_image *image);

/* Whether every number in a plan read from a file of @file_size bytes is possible. */
bool kernel_plan_valid(const struct kernel_plan *plan, uint64_t file_size);

static inline bool kernel_image_relocatable(const struct kernel_image *image)
{
	return image->plan.reloc_count[RELOC_64] || image->plan.reloc_count[RELOC_32];
}

/* Copies the image to @address and moves its virtual addresses by @delta. The memory must be
 * zeroed and hold plan.size bytes there. -EFAULT, -EIO. */
int kernel_image_place(const struct kernel_image *image, struct memory *memory, gpa_t address,
	uint64_t delta, struct error *err);

#endif
