/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel loader on small kernels made up here: what arrives in guest memory, what the kernel
 * is told, the cache, and the words for files that are no good. */
#include "base/bytes.h"
#include "kernel_samples.h"
#include "x86/boot_params.h"
#include "x86/kernel.h"
#include "x86/kernel_cache.h"
#include "x86/layout.h"
#include "x86/unpack.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define RAM (64ULL << 20)

struct fixture {
	char directory[64];
	char kernel[96], initrd[96], cache[96];
	struct memory memory;
	struct kernel_options options;
	const char *kernel_path, *initrd_path;
	struct kernel_entry entry;
	struct error err;
};

static void write_file(const char *path, const void *bytes, size_t size)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, size, file), size);
	assert_int_equal(fclose(file), 0);
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	strcpy(f->directory, "/tmp/duet-kernel-XXXXXX");
	assert_non_null(mkdtemp(f->directory));
	snprintf(f->kernel, sizeof(f->kernel), "%s/kernel", f->directory);
	snprintf(f->initrd, sizeof(f->initrd), "%s/initrd", f->directory);
	snprintf(f->cache, sizeof(f->cache), "%s/some/cache", f->directory);
	memory_init(&f->memory);
	assert_int_equal(memory_add(&f->memory, GPA(0), RAM, MEMORY_ANONYMOUS, "low", &f->err), 0);
	f->kernel_path = f->kernel;
	f->options = (struct kernel_options){
		.cmdline = "console=ttyS0", .rsdp = LAYOUT_ACPI, .ram_size = RAM};
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	char command[128];

	memory_free(&f->memory);
	snprintf(command, sizeof(command), "rm -rf '%s'", f->directory);
	assert_int_equal(system(command), 0);
	free(f);
	return 0;
}

static void fresh_memory(struct fixture *f)
{
	memory_free(&f->memory);
	memory_init(&f->memory);
	assert_int_equal(memory_add(&f->memory, GPA(0), RAM, MEMORY_ANONYMOUS, "low", &f->err), 0);
}

static void give(struct fixture *f, struct sample sample)
{
	write_file(f->kernel, sample.data, sample.size);
	free(sample.data);
}

static int load(struct fixture *f)
{
	struct kernel_source *source = NULL;
	int ret;

	memset(&f->err, 0, sizeof(f->err));
	ret = kernel_source_open(&source, f->kernel_path, f->initrd_path, &f->err);
	if (ret == 0)
		ret = kernel_load(&f->memory, source, &f->options, &f->entry, &f->err);
	kernel_source_close(source);
	return ret;
}

static void expect_words(struct fixture *f, const char *words)
{
	if (!strstr(f->err.text, words))
		fail_msg("\"%s\" lacks \"%s\"", f->err.text, words);
}

static uint8_t *guest(struct fixture *f, uint64_t gpa, uint64_t size)
{
	uint8_t *host = memory_begin(&f->memory, GPA(gpa), size);

	assert_non_null(host);
	return host;
}

static bool is_place(uint64_t offset)
{
	return offset - SAMPLE_PLACE_64 < 8 || offset - SAMPLE_PLACE_INVERSE < 4 ||
	       offset - SAMPLE_PLACE_32 < 4;
}

/* The image at @at, moved by @delta. */
static void expect_image(struct fixture *f, uint64_t at, uint64_t delta, bool inverse)
{
	const uint8_t *image = guest(f, at, SAMPLE_SIZE);

	for (uint64_t i = 0; i < SAMPLE_SIZE; i++)
		if (!is_place(i) && image[i] != sample_byte(i))
			fail_msg("byte 0x%lx is %02x", (unsigned long)i, image[i]);
	assert_int_equal(load_le64(image + SAMPLE_PLACE_64), SAMPLE_VALUE_64 + delta);
	assert_int_equal(load_le32(image + SAMPLE_PLACE_32), (uint32_t)(SAMPLE_VALUE_32 + delta));
	assert_int_equal(load_le32(image + SAMPLE_PLACE_INVERSE),
		(uint32_t)(SAMPLE_VALUE_INVERSE - (inverse ? delta : 0)));
}

static void test_formats(void **state)
{
	static const char *const formats[] = {"gzip", "xz", "zstd", "lz4"};
	struct fixture *f = *state;

	for (unsigned i = 0; i < 4; i++) {
		fresh_memory(f);
		give(f, sample_kernel(formats[i], SAMPLE_THREE_LISTS));
		assert_int_equal(load(f), 0);
		assert_string_equal(f->entry.compression, formats[i]);
		assert_string_equal(f->entry.format, "bzImage");
		assert_int_equal(f->entry.mode, KERNEL_ENTRY_LONG);
		assert_int_equal(f->entry.ip, SAMPLE_BASE + SAMPLE_ENTRY);
		assert_false(f->entry.randomised);
		expect_image(f, SAMPLE_BASE, 0, true);
	}
}

static void test_zero_page(void **state)
{
	struct fixture *f = *state;
	const uint8_t *page;

	give(f, sample_kernel("zstd", SAMPLE_THREE_LISTS));
	write_file(f->initrd, "0123456789", 10);
	f->initrd_path = f->initrd;
	assert_int_equal(load(f), 0);
	assert_int_equal(f->entry.params, LAYOUT_ZERO_PAGE);
	page = guest(f, f->entry.params, 4096);
	assert_int_equal(load_le64(page + 0x70), LAYOUT_ACPI);
	assert_int_equal(load_le16(page + 0x1fe), 0xaa55);
	assert_memory_equal(page + 0x202, "HdrS", 4);
	assert_int_equal(page[0x210], 0xff);
	assert_int_equal(page[0x211], 1);
	assert_int_equal(load_le32(page + 0x218), RAM - 4096);
	assert_int_equal(load_le32(page + 0x21c), 10);
	assert_memory_equal(guest(f, RAM - 4096, 10), "0123456789", 10);
	assert_int_equal(load_le32(page + 0x228), LAYOUT_CMDLINE);
	assert_string_equal((char *)guest(f, LAYOUT_CMDLINE, 32), "console=ttyS0");
	assert_int_equal(load_le64(page + 0x250), LAYOUT_SETUP_DATA);
	assert_int_equal(page[0x1e8], 6);
	/* RAM from 1 MiB. */
	assert_int_equal(load_le64(page + 0x2d0 + 3 * 20), 0x100000);
	assert_int_equal(load_le64(page + 0x2d0 + 3 * 20 + 8), RAM - 0x100000);
	assert_int_equal(load_le32(page + 0x2d0 + 3 * 20 + 16), 1);
}

static void expect_randomised(struct fixture *f, bool inverse)
{
	uint64_t at = f->entry.ip - SAMPLE_ENTRY;

	assert_true(f->entry.randomised);
	assert_int_equal(at % 0x200000, 0);
	assert_true(at >= SAMPLE_BASE && at + SAMPLE_NEEDED <= RAM);
	assert_int_equal(f->entry.virtual_offset % 0x200000, 0);
	assert_true(SAMPLE_BASE + f->entry.virtual_offset + SAMPLE_NEEDED <= 1ULL << 30);
	expect_image(f, at, f->entry.virtual_offset, inverse);
	/* KASLR_FLAG */
	assert_int_equal(*guest(f, LAYOUT_ZERO_PAGE + 0x211, 1), 3);
}

static void test_randomised(void **state)
{
	struct fixture *f = *state;
	unsigned moved_virtual = 0, moved_physical = 0;

	f->options.randomise = true;
	give(f, sample_kernel("lz4", SAMPLE_THREE_LISTS));
	for (unsigned i = 0; i < 8; i++) {
		fresh_memory(f);
		assert_int_equal(load(f), 0);
		expect_randomised(f, true);
		moved_virtual += f->entry.virtual_offset != 0;
		moved_physical += f->entry.ip != SAMPLE_BASE + SAMPLE_ENTRY;
	}
	/* By chance alone: once in 10^10 runs. */
	assert_true(moved_virtual && moved_physical);
}

static void test_randomised_two_lists(void **state)
{
	struct fixture *f = *state;

	f->options.randomise = true;
	f->options.cache = f->cache;
	give(f, sample_kernel("lz4", SAMPLE_TWO_LISTS));
	for (unsigned i = 0; i < 2; i++) {
		fresh_memory(f);
		assert_int_equal(load(f), 0);
		assert_int_equal(f->entry.from_cache, i);
		expect_randomised(f, false);
	}
}

static void test_no_table(void **state)
{
	struct fixture *f = *state;

	f->options.randomise = true;
	give(f, sample_kernel("gzip", SAMPLE_NO_TABLE));
	assert_int_equal(load(f), 0);
	assert_false(f->entry.randomised);
	expect_image(f, SAMPLE_BASE, 0, false);
	assert_int_equal(*guest(f, LAYOUT_ZERO_PAGE + 0x211, 1), 1);
}

static void test_wild_table(void **state)
{
	struct fixture *f = *state;

	give(f, sample_kernel("gzip", SAMPLE_WILD_TABLE));
	assert_int_equal(load(f), -EINVAL);
	expect_words(f, "relocation table");
	expect_words(f, f->kernel);
}

static void test_pvh(void **state)
{
	struct fixture *f = *state;
	const uint8_t *info, *map;

	f->options.randomise = true; /* not by this entry */
	give(f, sample_elf(true, SAMPLE_NO_TABLE));
	write_file(f->initrd, "abc", 3);
	f->initrd_path = f->initrd;
	assert_int_equal(load(f), 0);
	assert_int_equal(f->entry.mode, KERNEL_ENTRY_PVH32);
	assert_int_equal(f->entry.ip, SAMPLE_BASE + SAMPLE_PVH);
	assert_string_equal(f->entry.format, "vmlinux");
	assert_string_equal(f->entry.compression, "none");
	expect_image(f, SAMPLE_BASE, 0, false);
	info = guest(f, f->entry.params, 56);
	assert_int_equal(load_le32(info), 0x336ec578);
	assert_int_equal(load_le32(info + 4), 1);
	assert_int_equal(load_le32(info + 12), 1);
	assert_int_equal(load_le64(guest(f, load_le64(info + 16), 32)), RAM - 4096);
	assert_int_equal(load_le64(guest(f, load_le64(info + 16) + 8, 8)), 3);
	assert_int_equal(load_le64(info + 24), LAYOUT_CMDLINE);
	assert_int_equal(load_le64(info + 32), LAYOUT_ACPI);
	assert_int_equal(load_le32(info + 48), 6);
	map = guest(f, load_le64(info + 40), 6 * 24);
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
	struct fixture *f = *state;
	struct sample elf = sample_elf(true, SAMPLE_NO_TABLE);

	f->options.cache = f->cache;
	set_entry(&elf, 0xffffffff81000040);
	give(f, elf);
	for (unsigned cached = 0; cached < 2; cached++) {
		fresh_memory(f);
		assert_int_equal(load(f), 0);
		assert_int_equal(f->entry.mode, KERNEL_ENTRY_PVH32);
		assert_int_equal(f->entry.ip, SAMPLE_BASE + SAMPLE_PVH);
		assert_int_equal(f->entry.from_cache, cached);
		expect_image(f, SAMPLE_BASE, 0, false);
	}
	elf = sample_elf(false, SAMPLE_NO_TABLE);
	set_entry(&elf, 0xffffffff81000040);
	give(f, elf);
	assert_int_equal(load(f), -ENOEXEC);
	expect_words(f, "no PVH note");
}

/* Nothing but the boot protocol's entry leads into a bzImage. */
static void test_packed_with_virtual_entry(void **state)
{
	struct fixture *f = *state;
	struct sample elf = sample_elf(true, SAMPLE_THREE_LISTS), packed;

	set_entry(&elf, 0xffffffff81000040);
	packed = sample_pack(&elf, "gzip");
	give(f, sample_bzimage(&packed));
	assert_int_equal(load(f), -ENOEXEC);
	expect_words(f, "--kernel-unpack guest");
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
	struct fixture *f = *state;
	struct sample image = memtest();

	write_file(f->kernel, image.data, image.size);
	for (int unpack = KERNEL_UNPACK_HOST; unpack <= KERNEL_UNPACK_GUEST; unpack++) {
		fresh_memory(f);
		f->options.unpack = (enum kernel_unpack)unpack;
		f->options.randomise = true;
		assert_int_equal(load(f), 0);
		assert_int_equal(f->entry.ip, 0x100200);
		assert_int_equal(f->entry.mode, KERNEL_ENTRY_LONG);
		assert_string_equal(f->entry.compression, "none");
		assert_memory_equal(guest(f, 0x100000, image.size - 1024), image.data + 1024,
			image.size - 1024);
		assert_int_equal(load_le32(guest(f, LAYOUT_ZERO_PAGE + 0x214, 4)), 0x100000);
	}
	/* Where duet's own tables are. */
	store_le64(image.data + 0x258, 0x10000);
	give(f, image);
	assert_int_equal(load(f), -EINVAL);
	expect_words(f, "below 1 MiB");
	image = memtest();
	store_le64(image.data + 0x258, 0x100800);
	give(f, image);
	assert_int_equal(load(f), -EINVAL);
	expect_words(f, "impossible address");
}

static void test_vmlinux_without_note(void **state)
{
	struct fixture *f = *state;
	const uint8_t *page;

	give(f, sample_elf(false, SAMPLE_NO_TABLE));
	assert_int_equal(load(f), 0);
	assert_int_equal(f->entry.mode, KERNEL_ENTRY_LONG);
	assert_int_equal(f->entry.ip, SAMPLE_BASE + SAMPLE_ENTRY);
	page = guest(f, f->entry.params, 4096);
	assert_memory_equal(page + 0x202, "HdrS", 4);
	assert_int_equal(load_le32(page + 0x230), 0x1000000);
}

static void test_guest_unpacks(void **state)
{
	struct fixture *f = *state;
	struct sample image = sample_kernel("xz", SAMPLE_THREE_LISTS);

	write_file(f->kernel, image.data, image.size);
	f->options.unpack = KERNEL_UNPACK_GUEST;
	assert_int_equal(load(f), 0);
	assert_int_equal(f->entry.ip, SAMPLE_BASE + 0x200);
	assert_int_equal(f->entry.mode, KERNEL_ENTRY_LONG);
	assert_memory_equal(
		guest(f, SAMPLE_BASE, image.size - 1024), image.data + 1024, image.size - 1024);
	assert_int_equal(load_le32(guest(f, LAYOUT_ZERO_PAGE + 0x214, 4)), SAMPLE_BASE);
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
	struct fixture *f = *state;

	assert_int_equal(load(f), -ENOENT);
	expect_words(f, "--kernel /tmp/");
	expect_words(f, "name a bzImage or vmlinux that you may read");
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		write_file(f->kernel, bad[i].bytes, strlen(bad[i].bytes));
		assert_true(load(f) < 0);
		expect_words(f, bad[i].words);
		expect_words(f, f->kernel);
	}
	f->kernel_path = f->directory;
	assert_int_equal(load(f), -EISDIR);
	expect_words(f, "a directory");
}

/* Loads @image with @size bytes of value changed at @offset. */
static int load_changed(struct fixture *f, struct sample image, size_t offset, unsigned value)
{
	store_le16(image.data + offset, (uint16_t)value);
	give(f, image);
	return load(f);
}

static void test_bad_headers(void **state)
{
	struct fixture *f = *state;
	struct sample image = sample_kernel("lz4", SAMPLE_THREE_LISTS);

	image.size /= 2;
	give(f, image);
	assert_int_equal(load(f), -EINVAL);
	expect_words(f, "truncated");
	assert_true(load_changed(f, sample_kernel("lz4", 0), 0x206, 0x204) < 0);
	expect_words(f, "boot protocol 2.04");
	assert_true(load_changed(f, sample_kernel("lz4", 0), 0x236, 0) < 0);
	expect_words(f, "32-bit kernel");
	assert_true(load_changed(f, sample_elf(true, 0), 18, 183) < 0);
	expect_words(f, "another machine");
	/* The second segment onto the first. */
	assert_true(load_changed(f, sample_elf(true, 0), 64 + 56 + 26, 0x100) < 0);
	expect_words(f, "overlap");
}

static void test_corrupt_payload(void **state)
{
	static const char *const formats[] = {"gzip", "xz", "zstd", "lz4"};
	struct fixture *f = *state;

	for (unsigned i = 0; i < 4; i++) {
		struct sample image = sample_kernel(formats[i], SAMPLE_NO_TABLE);

		/* All ones are no valid end of any of them. */
		memset(image.data + image.size - 256, 0xff, 232);
		give(f, image);
		assert_int_equal(load(f), -EINVAL);
		expect_words(f, "corrupt");
		expect_words(f, formats[i]);
		image = sample_kernel(formats[i], SAMPLE_NO_TABLE);
		memset(image.data + 1024 + 0x300, 0, 8);
		give(f, image);
		assert_int_equal(load(f), -EINVAL);
		expect_words(f, "method duet does not know");
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
	struct fixture *f = *state;

	memory_free(&f->memory);
	memory_init(&f->memory);
	assert_int_equal(
		memory_add(&f->memory, GPA(0), 17 << 20, MEMORY_ANONYMOUS, "low", NULL), 0);
	f->options.ram_size = 17 << 20;
	give(f, sample_kernel("lz4", SAMPLE_NO_TABLE));
	assert_int_equal(load(f), -ENOMEM);
	expect_words(f, "--memory: 17M is too small");
	expect_words(f, "at least 18M");
	f->options.unpack = KERNEL_UNPACK_GUEST;
	assert_int_equal(load(f), -ENOMEM);
	expect_words(f, "at least 18M");
}

static void test_bad_initrd(void **state)
{
	struct fixture *f = *state;

	give(f, sample_kernel("lz4", SAMPLE_NO_TABLE));
	f->initrd_path = f->initrd;
	assert_int_equal(load(f), -ENOENT);
	expect_words(f, "--initrd");
	expect_words(f, "name an initramfs that you may read");
	write_file(f->initrd, "", 0);
	assert_int_equal(load(f), -EINVAL);
	expect_words(f, "empty");
	assert_int_equal(truncate(f->initrd, 47 << 20), 0);
	assert_int_equal(load(f), -ENOMEM);
	expect_words(f, "needs 47 MiB; --memory 64M leaves 46 MiB");
	assert_int_equal(truncate(f->initrd, 45 << 20), 0);
	assert_int_equal(load(f), 0);
}

static void test_long_cmdline(void **state)
{
	struct fixture *f = *state;
	char text[2049];

	memset(text, 'x', sizeof(text));
	text[2048] = '\0';
	f->options.cmdline = text;
	give(f, sample_kernel("lz4", SAMPLE_NO_TABLE));
	assert_int_equal(load(f), -E2BIG);
	expect_words(f, "at most 2047");
	text[2047] = '\0';
	assert_int_equal(load(f), 0);
}

/* The one entry of the cache, by its name. */
static void entry_path(struct fixture *f, char *path, size_t size)
{
	struct sample elf = sample_elf(true, SAMPLE_THREE_LISTS);
	struct sample packed = sample_pack(&elf, "xz");
	uint8_t digest[SHA256_SIZE];
	int at = snprintf(path, size, "%s/v1-", f->cache);

	sha256(packed.data, packed.size, digest);
	for (unsigned i = 0; i < SHA256_SIZE; i++)
		at += snprintf(path + at, size - (size_t)at, "%02x", digest[i]);
	free(elf.data);
	free(packed.data);
}

static void expect_load(struct fixture *f, bool from_cache)
{
	fresh_memory(f);
	assert_int_equal(load(f), 0);
	assert_int_equal(f->entry.from_cache, from_cache);
	expect_image(f, f->entry.ip - SAMPLE_ENTRY, f->entry.virtual_offset, true);
}

static void change_byte(const char *path, long offset)
{
	FILE *file = fopen(path, "r+");
	int byte;

	assert_non_null(file);
	assert_int_equal(fseek(file, offset, SEEK_SET), 0);
	byte = fgetc(file);
	assert_int_equal(fseek(file, offset, SEEK_SET), 0);
	fputc(byte ^ 0x40, file);
	assert_int_equal(fclose(file), 0);
}

static void test_cache(void **state)
{
	struct fixture *f = *state;
	struct stat status;
	char path[256];

	f->options.cache = f->cache;
	give(f, sample_kernel("xz", SAMPLE_THREE_LISTS));
	expect_load(f, false);
	expect_load(f, true);
	f->options.randomise = true;
	expect_load(f, true);
	entry_path(f, path, sizeof(path));
	assert_int_equal(stat(path, &status), 0);
	/* The hole is not in it. */
	assert_true(status.st_size < (off_t)(SAMPLE_TEXT + SAMPLE_DATA_BYTES));
	/* Damaged in the plan, cut short, emptied: made again each time. */
	change_byte(path, 40);
	expect_load(f, false);
	expect_load(f, true);
	assert_int_equal(truncate(path, status.st_size - 1), 0);
	expect_load(f, false);
	assert_int_equal(truncate(path, 0), 0);
	expect_load(f, false);
	expect_load(f, true);
}

/* Overwritten by a shorter one, and the guest resets: what was the end of it is not read. */
static void test_cut_short_later(void **state)
{
	struct fixture *f = *state;
	struct kernel_source *source = NULL;

	give(f, sample_kernel("xz", SAMPLE_THREE_LISTS));
	assert_int_equal(kernel_source_open(&source, f->kernel_path, NULL, &f->err), 0);
	assert_int_equal(truncate(f->kernel, 100), 0);
	assert_int_equal(kernel_load(&f->memory, source, &f->options, &f->entry, &f->err), -EINVAL);
	expect_words(f, "cut short since it was opened");
	kernel_source_close(source);
}

static void test_cache_unusable(void **state)
{
	struct fixture *f = *state;

	give(f, sample_kernel("xz", SAMPLE_THREE_LISTS));
	/* A file where the directory should be. */
	f->options.cache = f->kernel;
	expect_load(f, false);
	/* A directory that others may write to. */
	f->options.cache = f->directory;
	assert_int_equal(chmod(f->directory, 0777), 0);
	expect_load(f, false);
	expect_load(f, false);
	assert_int_equal(chmod(f->directory, 0700), 0);
	expect_load(f, false);
	expect_load(f, true);
}

static void test_cache_by_file(void **state)
{
	struct fixture *f = *state;
	struct sample elf = sample_elf(true, SAMPLE_THREE_LISTS);
	struct kernel_image image, found;
	uint8_t digest[SHA256_SIZE] = {1, 2, 3};
	struct stat file;
	int cache = kernel_cache_open(f->cache);

	assert_true(cache >= 0);
	assert_int_equal(kernel_image_build(&image, elf.data, elf.size, &f->err), 0);
	assert_int_equal(stat("/bin/sh", &file), 0);
	assert_int_equal(kernel_cache_store(cache, digest, &image), 0);
	assert_false(kernel_cache_find_file(cache, &file, &found));
	/* Changed just now: it might change again within the same tick. */
	clock_gettime(CLOCK_REALTIME, &file.st_ctim);
	kernel_cache_link(cache, &file, digest);
	assert_false(kernel_cache_find_file(cache, &file, &found));
	file.st_ctim.tv_sec -= 10;
	kernel_cache_link(cache, &file, digest);
	assert_true(kernel_cache_find_file(cache, &file, &found));
	assert_int_equal(found.plan.size, SAMPLE_SIZE);
	kernel_image_release(&found);
	file.st_ctim.tv_nsec ^= 1;
	assert_false(kernel_cache_find_file(cache, &file, &found));
	kernel_image_release(&image);
	close(cache);
	free(elf.data);
}

static unsigned files_in(const char *directory)
{
	DIR *dir = opendir(directory);
	unsigned count = 0;

	assert_non_null(dir);
	for (struct dirent *item; (item = readdir(dir));)
		count += item->d_name[0] != '.';
	closedir(dir);
	return count;
}

static void test_cache_pruned(void **state)
{
	struct fixture *f = *state;
	struct sample elf = sample_elf(true, SAMPLE_THREE_LISTS);
	struct timespec times[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
	uint8_t digest[SHA256_SIZE] = {0};
	struct kernel_image image, found;
	struct stat file;
	int cache = kernel_cache_open(f->cache);

	assert_int_equal(kernel_image_build(&image, elf.data, elf.size, &f->err), 0);
	for (unsigned i = 0; i <= KERNEL_CACHE_ENTRIES; i++) {
		digest[0] = (uint8_t)i;
		assert_int_equal(kernel_cache_store(cache, digest, &image), 0);
	}
	/* The eighth is the oldest; a link leads to it; a killed process left a file. */
	digest[0] = 7;
	assert_int_equal(stat("/bin/sh", &file), 0);
	kernel_cache_link(cache, &file, digest);
	assert_true(kernel_cache_find_digest(cache, digest, &found));
	assert_int_equal(futimens(found.fd, times), 0);
	kernel_image_release(&found);
	close(openat(cache, "tmp-1", O_CREAT | O_WRONLY, 0600));
	assert_int_equal(utimensat(cache, "tmp-1", times, 0), 0);
	assert_int_equal(files_in(f->cache), KERNEL_CACHE_ENTRIES + 3);
	kernel_cache_prune(cache);
	assert_int_equal(files_in(f->cache), KERNEL_CACHE_ENTRIES);
	assert_false(kernel_cache_find_digest(cache, digest, &found));
	digest[0] = 8;
	assert_true(kernel_cache_find_digest(cache, digest, &found));
	kernel_image_release(&found);
	kernel_image_release(&image);
	close(cache);
	free(elf.data);
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

static void test_sha256(void **state)
{
	/* The examples of FIPS 180-4's companion: "abc", the 448-bit message, and nothing. */
	static const struct {
		const char *text;
		uint8_t start[4], end[4];
	} known[] = {
		{"", {0xe3, 0xb0, 0xc4, 0x42}, {0x78, 0x52, 0xb8, 0x55}},
		{"abc", {0xba, 0x78, 0x16, 0xbf}, {0xf2, 0x00, 0x15, 0xad}},
		{"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
			{0x24, 0x8d, 0x6a, 0x61}, {0x19, 0xdb, 0x06, 0xc1}},
	};

	for (unsigned i = 0; i < 3; i++) {
		uint8_t digest[SHA256_SIZE];

		sha256(known[i].text, strlen(known[i].text), digest);
		assert_memory_equal(digest, known[i].start, 4);
		assert_memory_equal(digest + 28, known[i].end, 4);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

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
		TEST(test_cache),
		TEST(test_cut_short_later),
		TEST(test_cache_unusable),
		TEST(test_cache_by_file),
		TEST(test_cache_pruned),
		TEST(test_map_above_4g),
		TEST(test_sha256),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
