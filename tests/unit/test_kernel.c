/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel loader on small kernels made up here: what arrives in guest memory, what the kernel
 * is told, the cache, and the words for files that are no good. */
#include "base/bytes.h"
#include "kernel_rig.h"
#include "x86/boot_params.h"
#include "x86/kernel.h"
#include "x86/layout.h"
#include "x86/unpack.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static void test_formats(void **state)
{
	static const char *const formats[] = {"gzip", "xz", "zstd", "lz4"};
	struct kernel_rig *f = *state;

	for (unsigned i = 0; i < 4; i++) {
		kernel_rig_fresh(f);
		kernel_rig_give(f, sample_kernel(formats[i], SAMPLE_THREE_LISTS));
		assert_int_equal(kernel_rig_load(f), 0);
		assert_string_equal(f->entry.compression, formats[i]);
		assert_string_equal(f->entry.format, "bzImage");
		assert_int_equal(f->entry.mode, KERNEL_ENTRY_LONG);
		assert_int_equal(f->entry.ip, SAMPLE_BASE + SAMPLE_ENTRY);
		assert_false(f->entry.randomised);
		kernel_rig_image(f, SAMPLE_BASE, 0, true);
	}
}

static void test_zero_page(void **state)
{
	struct kernel_rig *f = *state;
	const uint8_t *page;

	kernel_rig_give(f, sample_kernel("zstd", SAMPLE_THREE_LISTS));
	kernel_rig_write(f->initrd, "0123456789", 10);
	f->initrd_path = f->initrd;
	assert_int_equal(kernel_rig_load(f), 0);
	assert_int_equal(f->entry.params, LAYOUT_ZERO_PAGE);
	page = kernel_rig_guest(f, f->entry.params, 4096);
	assert_int_equal(load_le64(page + 0x70), LAYOUT_ACPI);
	assert_int_equal(load_le16(page + 0x1fe), 0xaa55);
	assert_memory_equal(page + 0x202, "HdrS", 4);
	assert_int_equal(page[0x210], 0xff);
	assert_int_equal(page[0x211], 1);
	assert_int_equal(load_le32(page + 0x218), KERNEL_RIG_RAM - 4096);
	assert_int_equal(load_le32(page + 0x21c), 10);
	assert_memory_equal(kernel_rig_guest(f, KERNEL_RIG_RAM - 4096, 10), "0123456789", 10);
	assert_int_equal(load_le32(page + 0x228), LAYOUT_CMDLINE);
	assert_string_equal((char *)kernel_rig_guest(f, LAYOUT_CMDLINE, 32), "console=ttyS0");
	assert_int_equal(load_le64(page + 0x250), LAYOUT_SETUP_DATA);
	assert_int_equal(page[0x1e8], 6);
	/* RAM from 1 MiB. */
	assert_int_equal(load_le64(page + 0x2d0 + 3 * 20), 0x100000);
	assert_int_equal(load_le64(page + 0x2d0 + 3 * 20 + 8), KERNEL_RIG_RAM - 0x100000);
	assert_int_equal(load_le32(page + 0x2d0 + 3 * 20 + 16), 1);
}

static void expect_randomised(struct kernel_rig *f, bool inverse)
{
	uint64_t at = f->entry.ip - SAMPLE_ENTRY;

	assert_true(f->entry.randomised);
	assert_int_equal(at % 0x200000, 0);
	assert_true(at >= SAMPLE_BASE && at + SAMPLE_NEEDED <= KERNEL_RIG_RAM);
	assert_int_equal(f->entry.virtual_offset % 0x200000, 0);
	assert_true(SAMPLE_BASE + f->entry.virtual_offset + SAMPLE_NEEDED <= 1ULL << 30);
	kernel_rig_image(f, at, f->entry.virtual_offset, inverse);
	/* KASLR_FLAG */
	assert_int_equal(*kernel_rig_guest(f, LAYOUT_ZERO_PAGE + 0x211, 1), 3);
}

static void test_randomised(void **state)
{
	struct kernel_rig *f = *state;
	unsigned moved_virtual = 0, moved_physical = 0;

	f->options.randomise = true;
	kernel_rig_give(f, sample_kernel("lz4", SAMPLE_THREE_LISTS));
	for (unsigned i = 0; i < 8; i++) {
		kernel_rig_fresh(f);
		assert_int_equal(kernel_rig_load(f), 0);
		expect_randomised(f, true);
		moved_virtual += f->entry.virtual_offset != 0;
		moved_physical += f->entry.ip != SAMPLE_BASE + SAMPLE_ENTRY;
	}
	/* By chance alone: once in 10^10 runs. */
	assert_true(moved_virtual && moved_physical);
}

static void test_randomised_two_lists(void **state)
{
	struct kernel_rig *f = *state;

	f->options.randomise = true;
	f->options.cache = f->cache;
	kernel_rig_give(f, sample_kernel("lz4", SAMPLE_TWO_LISTS));
	for (unsigned i = 0; i < 2; i++) {
		kernel_rig_fresh(f);
		assert_int_equal(kernel_rig_load(f), 0);
		assert_int_equal(f->entry.from_cache, i);
		expect_randomised(f, false);
	}
}

static void test_no_table(void **state)
{
	struct kernel_rig *f = *state;

	f->options.randomise = true;
	kernel_rig_give(f, sample_kernel("gzip", SAMPLE_NO_TABLE));
	assert_int_equal(kernel_rig_load(f), 0);
	assert_false(f->entry.randomised);
	kernel_rig_image(f, SAMPLE_BASE, 0, false);
	assert_int_equal(*kernel_rig_guest(f, LAYOUT_ZERO_PAGE + 0x211, 1), 1);
}

static void test_wild_table(void **state)
{
	struct kernel_rig *f = *state;

	kernel_rig_give(f, sample_kernel("gzip", SAMPLE_WILD_TABLE));
	assert_int_equal(kernel_rig_load(f), -EINVAL);
	kernel_rig_words(f, "relocation table");
	kernel_rig_words(f, f->kernel);
}

static void test_pvh(void **state)
{
	struct kernel_rig *f = *state;
	const uint8_t *info, *map;

	f->options.randomise = true; /* not by this entry */
	kernel_rig_give(f, sample_elf(true, SAMPLE_NO_TABLE));
	kernel_rig_write(f->initrd, "abc", 3);
	f->initrd_path = f->initrd;
	assert_int_equal(kernel_rig_load(f), 0);
	assert_int_equal(f->entry.mode, KERNEL_ENTRY_PVH32);
	assert_int_equal(f->entry.ip, SAMPLE_BASE + SAMPLE_PVH);
	assert_string_equal(f->entry.format, "vmlinux");
	assert_string_equal(f->entry.compression, "none");
	kernel_rig_image(f, SAMPLE_BASE, 0, false);
	info = kernel_rig_guest(f, f->entry.params, 56);
	assert_int_equal(load_le32(info), 0x336ec578);
	assert_int_equal(load_le32(info + 4), 1);
	assert_int_equal(load_le32(info + 12), 1);
	assert_int_equal(
		load_le64(kernel_rig_guest(f, load_le64(info + 16), 32)), KERNEL_RIG_RAM - 4096);
	assert_int_equal(load_le64(kernel_rig_guest(f, load_le64(info + 16) + 8, 8)), 3);
	assert_int_equal(load_le64(info + 24), LAYOUT_CMDLINE);
	assert_int_equal(load_le64(info + 32), LAYOUT_ACPI);
	assert_int_equal(load_le32(info + 48), 6);
	map = kernel_rig_guest(f, load_le64(info + 40), 6 * 24);
	assert_int_equal(load_le64(map + 3 * 24), 0x100000);
	assert_int_equal(load_le32(map + 3 * 24 + 16), 1);
}

static void set_entry(struct sample *elf, uint64_t entry)
{
	store_le64(elf->data + 24, entry);
}

/* As kernels of other systems are built: e_entry is a virtual address, the note a physical one. */
static void test_pvh_with_virtual_entry(void **state)
{
	struct kernel_rig *f = *state;
	struct sample elf = sample_elf(true, SAMPLE_NO_TABLE);

	f->options.cache = f->cache;
	set_entry(&elf, 0xffffffff81000040);
	kernel_rig_give(f, elf);
	for (unsigned cached = 0; cached < 2; cached++) {
		kernel_rig_fresh(f);
		assert_int_equal(kernel_rig_load(f), 0);
		assert_int_equal(f->entry.mode, KERNEL_ENTRY_PVH32);
		assert_int_equal(f->entry.ip, SAMPLE_BASE + SAMPLE_PVH);
		assert_int_equal(f->entry.from_cache, cached);
		kernel_rig_image(f, SAMPLE_BASE, 0, false);
	}
	elf = sample_elf(false, SAMPLE_NO_TABLE);
	set_entry(&elf, 0xffffffff81000040);
	kernel_rig_give(f, elf);
	assert_int_equal(kernel_rig_load(f), -ENOEXEC);
	kernel_rig_words(f, "no PVH note");
}

/* Nothing but the boot protocol's entry leads into a bzImage. */
static void test_packed_with_virtual_entry(void **state)
{
	struct kernel_rig *f = *state;
	struct sample elf = sample_elf(true, SAMPLE_THREE_LISTS), packed;

	set_entry(&elf, 0xffffffff81000040);
	packed = sample_pack(&elf, "gzip");
	kernel_rig_give(f, sample_bzimage(&packed));
	assert_int_equal(kernel_rig_load(f), -ENOEXEC);
	kernel_rig_words(f, "--kernel-unpack guest");
	free(elf.data);
	free(packed.data);
}

/* memtest86+ 6 has the header of a kernel that is not packed, for 1 MiB, by pages, not to be
 * moved. */
static struct sample memtest(void)
{
	struct sample nothing = {.data = (uint8_t *)"", .size = 0};
	struct sample image = sample_bzimage(&nothing);

	store_le16(image.data + 0x206, 0x20c);
	store_le32(image.data + 0x230, 0x1000);
	image.data[0x234] = 0;
	store_le32(image.data + 0x248, 0);
	store_le64(image.data + 0x258, 0x100000);
	return image;
}

static void test_memtest(void **state)
{
	struct kernel_rig *f = *state;
	struct sample image = memtest();

	kernel_rig_write(f->kernel, image.data, image.size);
	for (int unpack = KERNEL_UNPACK_HOST; unpack <= KERNEL_UNPACK_GUEST; unpack++) {
		kernel_rig_fresh(f);
		f->options.unpack = (enum kernel_unpack)unpack;
		f->options.randomise = true;
		assert_int_equal(kernel_rig_load(f), 0);
		assert_int_equal(f->entry.ip, 0x100200);
		assert_int_equal(f->entry.mode, KERNEL_ENTRY_LONG);
		assert_string_equal(f->entry.compression, "none");
		assert_memory_equal(kernel_rig_guest(f, 0x100000, image.size - 1024),
			image.data + 1024, image.size - 1024);
		assert_int_equal(
			load_le32(kernel_rig_guest(f, LAYOUT_ZERO_PAGE + 0x214, 4)), 0x100000);
	}
	/* Where duet's own tables are. */
	store_le64(image.data + 0x258, 0x10000);
	kernel_rig_give(f, image);
	assert_int_equal(kernel_rig_load(f), -EINVAL);
	kernel_rig_words(f, "below 1 MiB");
	image = memtest();
	store_le64(image.data + 0x258, 0x100800);
	kernel_rig_give(f, image);
	assert_int_equal(kernel_rig_load(f), -EINVAL);
	kernel_rig_words(f, "impossible address");
}

static void test_vmlinux_without_note(void **state)
{
	struct kernel_rig *f = *state;
	const uint8_t *page;

	kernel_rig_give(f, sample_elf(false, SAMPLE_NO_TABLE));
	assert_int_equal(kernel_rig_load(f), 0);
	assert_int_equal(f->entry.mode, KERNEL_ENTRY_LONG);
	assert_int_equal(f->entry.ip, SAMPLE_BASE + SAMPLE_ENTRY);
	page = kernel_rig_guest(f, f->entry.params, 4096);
	assert_memory_equal(page + 0x202, "HdrS", 4);
	assert_int_equal(load_le32(page + 0x230), 0x1000000);
}

static void test_guest_unpacks(void **state)
{
	struct kernel_rig *f = *state;
	struct sample image = sample_kernel("xz", SAMPLE_THREE_LISTS);

	kernel_rig_write(f->kernel, image.data, image.size);
	f->options.unpack = KERNEL_UNPACK_GUEST;
	assert_int_equal(kernel_rig_load(f), 0);
	assert_int_equal(f->entry.ip, SAMPLE_BASE + 0x200);
	assert_int_equal(f->entry.mode, KERNEL_ENTRY_LONG);
	assert_memory_equal(kernel_rig_guest(f, SAMPLE_BASE, image.size - 1024), image.data + 1024,
		image.size - 1024);
	assert_int_equal(load_le32(kernel_rig_guest(f, LAYOUT_ZERO_PAGE + 0x214, 4)), SAMPLE_BASE);
	free(image.data);
}

static void test_bad_files(void **state)
{
	static const struct {
		const char *bytes, *words;
	} bad[] = {
		{"", "empty"},
		{"#!/bin/sh\n", "a script"},
		{"070701000000", "cpio archive"},
		{"hello, world", "not a Linux kernel but data"},
		{"\177ELF\1\1\1", "no ELF header"},
	};
	struct kernel_rig *f = *state;

	assert_int_equal(kernel_rig_load(f), -ENOENT);
	kernel_rig_words(f, "--kernel /tmp/");
	kernel_rig_words(f, "name a bzImage or vmlinux that you may read");
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		kernel_rig_write(f->kernel, bad[i].bytes, strlen(bad[i].bytes));
		assert_true(kernel_rig_load(f) < 0);
		kernel_rig_words(f, bad[i].words);
		kernel_rig_words(f, f->kernel);
	}
	f->kernel_path = f->directory;
	assert_int_equal(kernel_rig_load(f), -EISDIR);
	kernel_rig_words(f, "a directory");
}

/* Loads @image with @size bytes of value changed at @offset. */
static int load_changed(struct kernel_rig *f, struct sample image, size_t offset, unsigned value)
{
	store_le16(image.data + offset, (uint16_t)value);
	kernel_rig_give(f, image);
	return kernel_rig_load(f);
}

static void test_bad_headers(void **state)
{
	struct kernel_rig *f = *state;
	struct sample image = sample_kernel("lz4", SAMPLE_THREE_LISTS);

	image.size /= 2;
	kernel_rig_give(f, image);
	assert_int_equal(kernel_rig_load(f), -EINVAL);
	kernel_rig_words(f, "truncated");
	assert_true(load_changed(f, sample_kernel("lz4", 0), 0x206, 0x204) < 0);
	kernel_rig_words(f, "boot protocol 2.04");
	assert_true(load_changed(f, sample_kernel("lz4", 0), 0x236, 0) < 0);
	kernel_rig_words(f, "32-bit kernel");
	assert_true(load_changed(f, sample_elf(true, 0), 18, 183) < 0);
	kernel_rig_words(f, "another machine");
	/* The second segment onto the first. */
	assert_true(load_changed(f, sample_elf(true, 0), 64 + 56 + 26, 0x100) < 0);
	kernel_rig_words(f, "overlap");
}

static void test_corrupt_payload(void **state)
{
	static const char *const formats[] = {"gzip", "xz", "zstd", "lz4"};
	struct kernel_rig *f = *state;

	for (unsigned i = 0; i < 4; i++) {
		struct sample image = sample_kernel(formats[i], SAMPLE_NO_TABLE);

		/* All ones are no valid end of any of them. */
		memset(image.data + image.size - 256, 0xff, 232);
		kernel_rig_give(f, image);
		assert_int_equal(kernel_rig_load(f), -EINVAL);
		kernel_rig_words(f, "corrupt");
		kernel_rig_words(f, formats[i]);
		image = sample_kernel(formats[i], SAMPLE_NO_TABLE);
		memset(image.data + 1024 + 0x300, 0, 8);
		kernel_rig_give(f, image);
		assert_int_equal(kernel_rig_load(f), -EINVAL);
		kernel_rig_words(f, "method duet does not know");
	}
}

static void test_declared_size(void **state)
{
	struct sample elf = sample_elf(true, SAMPLE_NO_TABLE);
	struct sample packed = sample_pack(&elf, "zstd");
	struct unpacked out;

	assert_int_equal(unpack(packed.data, packed.size, elf.size, &out, NULL), 0);
	assert_int_equal(out.size, elf.size);
	unpack_free(&out);
	assert_int_equal(unpack(packed.data, packed.size, elf.size - 1, &out, NULL), -EFBIG);
	/* Larger and smaller than what is in it. */
	store_le32(packed.data + packed.size - 4, (uint32_t)elf.size + 1);
	assert_int_equal(unpack(packed.data, packed.size, UNPACK_MAX, &out, NULL), -EINVAL);
	store_le32(packed.data + packed.size - 4, (uint32_t)elf.size - 1);
	assert_int_equal(unpack(packed.data, packed.size, UNPACK_MAX, &out, NULL), -EINVAL);
	assert_null(out.data);
	free(packed.data);
	free(elf.data);
}

static void test_too_little_memory(void **state)
{
	struct kernel_rig *f = *state;

	memory_free(&f->memory);
	memory_init(&f->memory);
	assert_int_equal(
		memory_add(&f->memory, GPA(0), 17 << 20, MEMORY_ANONYMOUS, "low", NULL), 0);
	f->options.ram_size = 17 << 20;
	kernel_rig_give(f, sample_kernel("lz4", SAMPLE_NO_TABLE));
	assert_int_equal(kernel_rig_load(f), -ENOMEM);
	kernel_rig_words(f, "--memory: 17M is too small");
	kernel_rig_words(f, "at least 18M");
	f->options.unpack = KERNEL_UNPACK_GUEST;
	assert_int_equal(kernel_rig_load(f), -ENOMEM);
	kernel_rig_words(f, "at least 18M");
}

static void test_bad_initrd(void **state)
{
	struct kernel_rig *f = *state;

	kernel_rig_give(f, sample_kernel("lz4", SAMPLE_NO_TABLE));
	f->initrd_path = f->initrd;
	assert_int_equal(kernel_rig_load(f), -ENOENT);
	kernel_rig_words(f, "--initrd");
	kernel_rig_words(f, "name an initramfs that you may read");
	kernel_rig_write(f->initrd, "", 0);
	assert_int_equal(kernel_rig_load(f), -EINVAL);
	kernel_rig_words(f, "empty");
	assert_int_equal(truncate(f->initrd, 47 << 20), 0);
	assert_int_equal(kernel_rig_load(f), -ENOMEM);
	kernel_rig_words(f, "needs 47 MiB; --memory 64M leaves 46 MiB");
	assert_int_equal(truncate(f->initrd, 45 << 20), 0);
	assert_int_equal(kernel_rig_load(f), 0);
}

static void test_long_cmdline(void **state)
{
	struct kernel_rig *f = *state;
	char text[2049];

	memset(text, 'x', sizeof(text));
	text[2048] = '\0';
	f->options.cmdline = text;
	kernel_rig_give(f, sample_kernel("lz4", SAMPLE_NO_TABLE));
	assert_int_equal(kernel_rig_load(f), -E2BIG);
	kernel_rig_words(f, "at most 2047");
	text[2047] = '\0';
	assert_int_equal(kernel_rig_load(f), 0);
}

static void test_map_above_4g(void **state)
{
	struct memory memory;
	struct boot_map map;

	memory_init(&memory);
	/* Never touched, so that it costs nothing. */
	assert_int_equal(
		memory_add(&memory, GPA(0), LAYOUT_LOW_RAM_MAX, MEMORY_ANONYMOUS, "low", NULL), 0);
	assert_int_equal(
		memory_add(&memory, GPA(LAYOUT_HIGH_RAM), 1 << 20, MEMORY_ANONYMOUS, "high", NULL),
		0);
	boot_map_build(&map, &memory);
	assert_int_equal(map.count, 7);
	assert_int_equal(map.ranges[6].start, LAYOUT_HIGH_RAM);
	assert_int_equal(map.ranges[6].size, 1 << 20);
	assert_int_equal(map.ranges[6].type, BOOT_RANGE_RAM);
	for (unsigned i = 1; i < map.count; i++)
		assert_true(
			map.ranges[i].start >= map.ranges[i - 1].start + map.ranges[i - 1].size);
	memory_free(&memory);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, kernel_rig_set_up, kernel_rig_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_formats),
		TEST(test_zero_page),
		TEST(test_randomised),
		TEST(test_randomised_two_lists),
		TEST(test_no_table),
		TEST(test_wild_table),
		TEST(test_pvh),
		TEST(test_pvh_with_virtual_entry),
		TEST(test_packed_with_virtual_entry),
		TEST(test_memtest),
		TEST(test_vmlinux_without_note),
		TEST(test_guest_unpacks),
		TEST(test_bad_files),
		TEST(test_bad_headers),
		TEST(test_corrupt_payload),
		TEST(test_declared_size),
		TEST(test_too_little_memory),
		TEST(test_bad_initrd),
		TEST(test_long_cmdline),
		TEST(test_map_above_4g),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
