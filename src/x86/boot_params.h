/* SPDX-License-Identifier: Apache-2.0 */
/* What a kernel is told at its entry: the zero page of the 64-bit boot protocol, or the start info
 * of PVH (Xen's public/arch-x86/hvm/start_info.h). Main thread, before the first vCPU runs. */
#ifndef DUET_X86_BOOT_PARAMS_H
#define DUET_X86_BOOT_PARAMS_H

#include "base/error.h"
#include "memory/memory.h"
#include "x86/bzimage.h"

#include <stdbool.h>

/* As e820 numbers them; PVH uses the same. */
enum boot_range_type {
	BOOT_RANGE_RAM = 1,
	BOOT_RANGE_RESERVED = 2,
};

struct boot_range {
	uint64_t start, size;
	uint32_t type;
};

struct boot_map {
	struct boot_range ranges[MEMORY_MAX_REGIONS + 8];
	unsigned count;
};

/* The guest's physical address space, ascending: RAM as in @memory, less what firmware keeps. */
void boot_map_build(struct boot_map *map, const struct memory *memory);

struct boot_info {
	uint64_t cmdline; /* GPA, a string in guest memory */
	uint64_t initrd, initrd_size;
	uint64_t rsdp;
	uint64_t code32_start; /* where the protected-mode part is, 0 when it was not loaded */
	bool randomised;
	const uint8_t *setup; /* bzimage.setup, or null: a header is made up */
};

int boot_params_write_zero_page(struct memory *memory, const struct boot_info *info);
int boot_params_write_pvh(struct memory *memory, const struct boot_info *info);

#endif
