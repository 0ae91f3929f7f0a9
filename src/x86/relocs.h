/* SPDX-License-Identifier: Apache-2.0 */
/* The relocation table behind the ELF part of a bzImage's payload: what moves a kernel's virtual
 * addresses (arch/x86/boot/compressed/misc.c in Linux reads the same). Main thread. */
#ifndef DUET_X86_RELOCS_H
#define DUET_X86_RELOCS_H

#include "x86/kernel_image.h"

/*
 * The table is little-endian 32-bit words: 0, the 64-bit places, 0, the inverse 32-bit places (not
 * since Linux 6.15), 0, the 32-bit places, end of file. A word is the place's virtual address,
 * sign-extended. Fills image->relocs and the plan's counts with offsets from plan.base. Without a
 * table the counts are 0; one with a place outside the image is -EINVAL.
 */
int relocs_parse(struct kernel_image *image, const uint8_t *file, size_t size, uint64_t elf_end,
	struct error *err);

/* Moves by @delta. @host: plan.size bytes where the image was copied to. */
int relocs_apply(const struct kernel_image *image, uint8_t *host, uint64_t delta);

#endif
