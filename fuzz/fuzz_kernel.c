/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel loaders: bzImage header, unpacking, ELF, relocation table, and the plan as it comes
 * from a cache file. The input's first byte chooses what the rest is: a whole file, or changes
 * (offset, value) to a sound kernel, so that the fuzzer need not invent checksums and tables.
 */
#include "base/bytes.h"
#include "kernel_samples.h"
#include "x86/bzimage.h"
#include "x86/kernel_image.h"
#include "x86/unpack.h"

#include <stdlib.h>
#include <string.h>

#define RAM         (1U << 20)
#define UNPACK_SIZE (1U << 20)
#define CHANGE_SIZE 5 /* offset (3 bytes), value (2) */
#define BASES       8

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void place(const struct kernel_image *image)
{
	static uint8_t ram[RAM] __attribute__((aligned(4096)));
	struct memory memory;

	memory_init(&memory);
	if (memory_add_fixed(&memory, GPA(0), RAM, ram) < 0)
		abort();
	kernel_image_place(image, &memory, GPA(0), 0x200000, NULL);
}

static void load_elf(const uint8_t *file, size_t size)
{
	struct kernel_image image;

	if (kernel_image_build(&image, file, size, NULL) == 0) {
		/* What the loader builds, the cache must accept. */
		struct kernel_plan plan = image.plan;

		memset(plan.reloc_count, 0, sizeof(plan.reloc_count));
		if (!kernel_plan_valid(&plan, size))
			abort();
		place(&image);
	}
	kernel_image_release(&image);
}

static void load_bzimage(const uint8_t *file, size_t size)
{
	struct bzimage bzimage;
	struct unpacked out;

	if (bzimage_parse(&bzimage, file, size, size, NULL) < 0)
		return;
	if (unpack(file + bzimage.payload, bzimage.payload_size, UNPACK_SIZE, &out, NULL) < 0)
		return;
	load_elf(out.data, out.size);
	unpack_free(&out);
}

/* A plan, then the bytes it speaks of. */
static void load_plan(const uint8_t *file, size_t size)
{
	struct kernel_image image = {.fd = -1};

	if (size < sizeof(image.plan))
		return;
	memcpy(&image.plan, file, sizeof(image.plan));
	image.bytes = file + sizeof(image.plan);
	size -= sizeof(image.plan);
	if (!kernel_plan_valid(&image.plan, size))
		return;
	/* Aligned, as they are when they are read from a file. */
	image.relocs = malloc(size - image.plan.relocs + 1);
	if (!image.relocs)
		return;
	memcpy(image.relocs, image.bytes + image.plan.relocs, size - image.plan.relocs);
	place(&image);
	free(image.relocs);
}

static void load(const uint8_t *file, size_t size)
{
	if (bzimage_probe(file, size))
		load_bzimage(file, size);
	else
		load_elf(file, size);
}

static const struct sample *base(unsigned index)
{
	static struct sample bases[BASES];

	if (bases[0].data)
		return &bases[index];
	bases[0] = sample_elf(true, SAMPLE_THREE_LISTS);
	bases[1] = sample_elf(false, SAMPLE_TWO_LISTS);
	bases[2] = sample_kernel("lz4", SAMPLE_TWO_LISTS);
	bases[3] = sample_kernel("gzip", SAMPLE_TWO_LISTS);
	bases[4] = sample_kernel("xz", SAMPLE_TWO_LISTS);
	bases[5] = sample_kernel("zstd", SAMPLE_TWO_LISTS);
	bases[6] = sample_elf(true, SAMPLE_NO_TABLE);
	bases[7] = sample_kernel("lz4", SAMPLE_NO_TABLE);
	return &bases[index];
}

/* Offsets count from the start, or (the highest bit) from the end, where the table is. */
static void change(uint8_t *file, size_t size, const uint8_t *change)
{
	uint32_t offset = change[0] | change[1] << 8 | change[2] << 16;
	size_t at = (offset & 0x7fffff) % (size - 1);

	if (offset & 0x800000)
		at = size - 2 - at;
	store_le16(file + at, load_le16(change + 3));
}

static void load_changed(const struct sample *sound, const uint8_t *data, size_t size)
{
	uint8_t *file = malloc(sound->size);

	if (!file)
		return;
	memcpy(file, sound->data, sound->size);
	for (; size >= CHANGE_SIZE; data += CHANGE_SIZE, size -= CHANGE_SIZE)
		change(file, sound->size, data);
	load(file, sound->size);
	free(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1)
		return 0;
	if (data[0] < BASES)
		load_changed(base(data[0]), data + 1, size - 1);
	else if (data[0] == BASES)
		load_plan(data + 1, size - 1);
	else
		load(data + 1, size - 1);
	return 0;
}
