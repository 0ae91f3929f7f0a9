/* SPDX-License-Identifier: Apache-2.0 */
#include "x86/boot_params.h"

#include "base/bytes.h"
#include "base/checked.h"
#include "x86/layout.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

/* Offsets in the zero page (Documentation/arch/x86/zero-page.rst). */
enum {
	ZP_ACPI_RSDP = 0x070,
	ZP_E820_ENTRIES = 0x1e8,
	ZP_VID_MODE = 0x1fa,
	ZP_BOOT_FLAG = 0x1fe,
	ZP_HEADER = 0x202,
	ZP_VERSION = 0x206,
	ZP_TYPE_OF_LOADER = 0x210,
	ZP_LOADFLAGS = 0x211,
	ZP_CODE32_START = 0x214,
	ZP_RAMDISK_IMAGE = 0x218,
	ZP_RAMDISK_SIZE = 0x21c,
	ZP_CMD_LINE_PTR = 0x228,
	ZP_INITRD_ADDR_MAX = 0x22c,
	ZP_KERNEL_ALIGNMENT = 0x230,
	ZP_CMDLINE_SIZE = 0x238,
	ZP_SETUP_DATA = 0x250,
	ZP_E820_TABLE = 0x2d0,
	ZP_SIZE = 4096,
};

#define LOADED_HIGH     (1 << 0)
#define KASLR_FLAG      (1 << 1)
#define KEEP_SEGMENTS   (1 << 6)
#define CAN_USE_HEAP    (1 << 7)
#define LOADER_UNKNOWN  0xff
#define VID_MODE_NORMAL 0xffff
#define SETUP_RNG_SEED  9
#define SEED_SIZE       32

static void add(struct boot_map *map, uint64_t start, uint64_t end, enum boot_range_type type)
{
	if (start < end)
		map->ranges[map->count++] =
			(struct boot_range){.start = start, .size = end - start, .type = type};
}

void boot_map_build(struct boot_map *map, const struct memory *memory)
{
	const struct memory_region *region;

	map->count = 0;
	add(map, 0, LAYOUT_EBDA, BOOT_RANGE_RAM);
	add(map, LAYOUT_EBDA, 0xa0000, BOOT_RANGE_RESERVED);
	add(map, LAYOUT_ACPI, LAYOUT_ACPI_END, BOOT_RANGE_RESERVED);
	for (unsigned i = 0; (region = memory_region(memory, i)); i++) {
		uint64_t end = region->base.value + region->size;

		if (region->base.value < LAYOUT_LOW_RAM_MAX)
			add(map, region->base.value ? region->base.value : LAYOUT_ACPI_END, end,
				BOOT_RANGE_RAM);
	}
	/* Linux uses the memory-mapped configuration space only where firmware reserved it. */
	add(map, LAYOUT_ECAM, LAYOUT_ECAM + LAYOUT_ECAM_SIZE, BOOT_RANGE_RESERVED);
	add(map, LAYOUT_KVM_RESERVED, LAYOUT_KVM_RESERVED + 0x4000, BOOT_RANGE_RESERVED);
	for (unsigned i = 0; (region = memory_region(memory, i)); i++)
		if (region->base.value >= LAYOUT_HIGH_RAM)
			add(map, region->base.value, region->base.value + region->size,
				BOOT_RANGE_RAM);
}

/* For a vmlinux, which has no setup header of its own. */
static void make_up_header(uint8_t *page)
{
	store_le16(page + ZP_BOOT_FLAG, 0xaa55);
	memcpy(page + ZP_HEADER, "HdrS", 4);
	store_le16(page + ZP_VERSION, 0x20f);
	store_le32(page + ZP_INITRD_ADDR_MAX, 0x7fffffff);
	store_le32(page + ZP_KERNEL_ALIGNMENT, LAYOUT_KERNEL);
	store_le32(page + ZP_CMDLINE_SIZE, 2047);
}

static void fill_header(uint8_t *page, const struct boot_info *info)
{
	if (info->setup)
		memcpy(page + SETUP_HEADER, info->setup, SETUP_HEADER_END - SETUP_HEADER);
	else
		make_up_header(page);
	store_le16(page + ZP_VID_MODE, VID_MODE_NORMAL);
	page[ZP_TYPE_OF_LOADER] = LOADER_UNKNOWN;
	page[ZP_LOADFLAGS] &= (uint8_t) ~(KASLR_FLAG | KEEP_SEGMENTS | CAN_USE_HEAP);
	/* The flag makes Linux place its direct map, vmalloc and vmemmap at random, too. */
	page[ZP_LOADFLAGS] |= LOADED_HIGH | (info->randomised ? KASLR_FLAG : 0);
	store_le32(page + ZP_CODE32_START, (uint32_t)info->code32_start);
	store_le32(page + ZP_RAMDISK_IMAGE, (uint32_t)info->initrd);
	store_le32(page + ZP_RAMDISK_SIZE, (uint32_t)info->initrd_size);
	store_le32(page + ZP_CMD_LINE_PTR, (uint32_t)info->cmdline);
}

static void fill_e820(uint8_t *page, const struct memory *memory)
{
	struct boot_map map;

	boot_map_build(&map, memory);
	for (unsigned i = 0; i < map.count; i++) {
		uint8_t *entry = page + ZP_E820_TABLE + i * 20;

		store_le64(entry, map.ranges[i].start);
		store_le64(entry + 8, map.ranges[i].size);
		store_le32(entry + 16, map.ranges[i].type);
	}
	page[ZP_E820_ENTRIES] = (uint8_t)map.count;
}

/* A setup_data node with host entropy: a guest's generator is seeded before its first user. A
 * host that has none yet gives none. */
static int write_seed(struct memory *memory, uint8_t *page)
{
	uint8_t node[16 + SEED_SIZE] = {0};

	if (getrandom(node + 16, SEED_SIZE, GRND_NONBLOCK) != SEED_SIZE)
		return 0;
	store_le32(node + 8, SETUP_RNG_SEED);
	store_le32(node + 12, SEED_SIZE);
	store_le64(page + ZP_SETUP_DATA, LAYOUT_SETUP_DATA);
	return memory_write(memory, GPA(LAYOUT_SETUP_DATA), node, sizeof(node));
}

int boot_params_write_zero_page(struct memory *memory, const struct boot_info *info)
{
	uint8_t page[ZP_SIZE] = {0};
	int ret;

	fill_header(page, info);
	fill_e820(page, memory);
	store_le64(page + ZP_ACPI_RSDP, info->rsdp);
	ret = write_seed(memory, page);
	if (ret < 0)
		return ret;
	return memory_write(memory, GPA(LAYOUT_ZERO_PAGE), page, sizeof(page));
}

/* start_info.h of Xen, version 1. */
enum {
	PVH_MAGIC = 0x336ec578,
	PVH_MODULES = 0x40, /* our places behind the 56 bytes of the start info */
	PVH_MEMMAP = 0x80,
	PVH_SIZE = 0x300,
};

int boot_params_write_pvh(struct memory *memory, const struct boot_info *info)
{
	uint8_t page[PVH_SIZE] = {0};
	struct boot_map map;

	boot_map_build(&map, memory);
	store_le32(page, PVH_MAGIC);
	store_le32(page + 4, 1);
	store_le64(page + 24, info->cmdline);
	store_le64(page + 32, info->rsdp);
	store_le64(page + 40, LAYOUT_PVH_INFO + PVH_MEMMAP);
	store_le32(page + 48, map.count);
	if (info->initrd_size) {
		store_le32(page + 12, 1);
		store_le64(page + 16, LAYOUT_PVH_INFO + PVH_MODULES);
		store_le64(page + PVH_MODULES, info->initrd);
		store_le64(page + PVH_MODULES + 8, info->initrd_size);
	}
	for (unsigned i = 0; i < map.count; i++) {
		uint8_t *entry = page + PVH_MEMMAP + i * 24;

		store_le64(entry, map.ranges[i].start);
		store_le64(entry + 8, map.ranges[i].size);
		store_le32(entry + 16, map.ranges[i].type);
	}
	return memory_write(memory, GPA(LAYOUT_PVH_INFO), page, sizeof(page));
}
