/* SPDX-License-Identifier: Apache-2.0 */
/* An x86-64 ELF kernel in memory: where its segments go and where it is entered. Every offset is
 * checked against the file's size. Pure functions, any thread. */
#ifndef DUET_X86_ELF_IMAGE_H
#define DUET_X86_ELF_IMAGE_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

#define ELF_MAX_SEGMENTS 16
#define ELF_NO_ENTRY     UINT64_MAX
#define ELF_MAX_ADDRESS  (1ULL << 40) /* no kernel is linked above; keeps sums far from 2^64 */

struct elf_segment {
	uint64_t offset, file_size; /* in the file, within its bounds */
	uint64_t address;           /* physical, as linked */
	uint64_t memory_size;       /* at least file_size */
};

struct elf_image {
	struct elf_segment segments[ELF_MAX_SEGMENTS]; /* PT_LOAD; ascending, disjoint */
	unsigned count;                                /* at least one */
	/* e_entry, within the segments; ELF_NO_ENTRY: a virtual address, and there is pvh_entry. */
	uint64_t entry;
	uint64_t pvh_entry; /* of the Xen note PHYS32_ENTRY, 0 without */
	uint64_t low, high; /* all segments lie in [low, high) */
	uint64_t end;       /* file offset behind all that the ELF headers speak of */
};

int elf_image_parse(struct elf_image *image, const uint8_t *file, size_t size, struct error *err);

#endif
