/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel loader keeps of a kernel for the next start: found
 * again, and made again when it is damaged. */
#include "kernel_rig.h"
#include "x86/kernel_cache.h"
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

/* The one entry of the cache, by its name. */
static void entry_path(struct kernel_rig *f, char *path, size_t size)
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

static void expect_load(struct kernel_rig *f, bool from_cache)
{
	kernel_rig_fresh(f);
	assert_int_equal(kernel_rig_load(f), 0);
	assert_int_equal(f->entry.from_cache, from_cache);
	kernel_rig_image(f, f->entry.ip - SAMPLE_ENTRY, f->entry.virtual_offset, true);
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
	struct kernel_rig *f = *state;
	struct stat status;
	char path[256];

	f->options.cache = f->cache;
	kernel_rig_give(f, sample_kernel("xz", SAMPLE_THREE_LISTS));
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
	struct kernel_rig *f = *state;
	struct kernel_source *source = NULL;

	kernel_rig_give(f, sample_kernel("xz", SAMPLE_THREE_LISTS));
	assert_int_equal(kernel_source_open(&source, f->kernel_path, NULL, &f->err), 0);
	assert_int_equal(truncate(f->kernel, 100), 0);
	assert_int_equal(kernel_load(&f->memory, source, &f->options, &f->entry, &f->err), -EINVAL);
	kernel_rig_words(f, "cut short since it was opened");
	kernel_source_close(source);
}

static void test_cache_unusable(void **state)
{
	struct kernel_rig *f = *state;

	kernel_rig_give(f, sample_kernel("xz", SAMPLE_THREE_LISTS));
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
	struct kernel_rig *f = *state;
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
	struct kernel_rig *f = *state;
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, kernel_rig_set_up, kernel_rig_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_cache),
		TEST(test_cut_short_later),
		TEST(test_cache_unusable),
		TEST(test_cache_by_file),
		TEST(test_cache_pruned),
		cmocka_unit_test(test_sha256),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
