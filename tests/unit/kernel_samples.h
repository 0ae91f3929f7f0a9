/* SPDX-License-Identifier: Apache-2.0 */
/* Small kernels made up in memory: an ELF file with two segments, a hole, a Xen note and a
 * relocation table; a bzImage around any payload. */
#ifndef DUET_TESTS_KERNEL_SAMPLES_H
#define DUET_TESTS_KERNEL_SAMPLES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SAMPLE_BASE       0x1000000ULL /* where it is linked for */
#define SAMPLE_TEXT       0x14000ULL   /* first segment's bytes; zero from 0x4000 to 0xc000 */
#define SAMPLE_DATA       0x20000ULL   /* second segment, from the base */
#define SAMPLE_DATA_BYTES 0x1234ULL    /* in the file */
#define SAMPLE_SIZE       0x30000ULL   /* with what is zeroed */
#define SAMPLE_ENTRY      0x40ULL
#define SAMPLE_PVH        0x80ULL
/* Places to be moved, from the base, and what they hold. */
#define SAMPLE_PLACE_64      0x100ULL
#define SAMPLE_PLACE_INVERSE 0x200ULL
#define SAMPLE_PLACE_32      0x20300ULL
#define SAMPLE_VALUE_64      0xffffffff81000abcULL
#define SAMPLE_VALUE_INVERSE 0x7e001000U
#define SAMPLE_VALUE_32      0x81000abcU
#define SAMPLE_NEEDED        0x200000ULL /* init_size */

enum sample_table {
	SAMPLE_NO_TABLE,
	SAMPLE_TWO_LISTS,
	SAMPLE_THREE_LISTS,
	SAMPLE_WILD_TABLE
};

struct sample {
	uint8_t *data; /* free() */
	size_t size;
};

struct sample sample_elf(bool pvh_note, enum sample_table table);
/* @format: "gzip", "xz", "zstd", "lz4"; xz with the BCJ filter, as the kernel's build does. */
struct sample sample_pack(const struct sample *plain, const char *format);
struct sample sample_bzimage(const struct sample *payload);
/* The three in one go. */
struct sample sample_kernel(const char *format, enum sample_table table);
/* What byte @offset of the unmoved image is. */
uint8_t sample_byte(uint64_t offset);

#endif
