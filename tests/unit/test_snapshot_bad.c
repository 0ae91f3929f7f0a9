/* SPDX-License-Identifier: Apache-2.0 */
/* Files that are damaged or made to harm, and a host that fails at each step. */
#include "snapshot_rig.h"

#include "base/checked.h"
#include "snapshot/merge.h"
#include "snapshot/read.h"
#include "state/state.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- the host: the call before which @left falls to 0 fails ---- */

static int left = -1; /* below 0: none does */

static bool fails(int code)
{
	if (left < 0 || left-- != 0)
		return false;
	errno = code;
	return true;
}

#define WRAPPED(type, name, code, failed, parameters, arguments)                                   \
	type __real_##name parameters;                                                             \
	type __wrap_##name parameters;                                                             \
	type __wrap_##name parameters                                                              \
	{                                                                                          \
		return fails(code) ? (failed) : __real_##name arguments;                           \
	}

WRAPPED(void *, malloc, ENOMEM, NULL, (size_t size), (size))
WRAPPED(void *, calloc, ENOMEM, NULL, (size_t count, size_t size), (count, size))
WRAPPED(void *, realloc, ENOMEM, NULL, (void *at, size_t size), (at, size))
WRAPPED(int, fsync, EIO, -1, (int fd), (fd))
WRAPPED(int, ftruncate64, EFBIG, -1, (int fd, off_t size), (fd, size))
WRAPPED(int, mkdir, EACCES, -1, (const char *path, mode_t mode), (path, mode))
WRAPPED(ssize_t, pwrite64, ENOSPC, -1, (int fd, const void *bytes, size_t length, off_t at),
	(fd, bytes, length, at))
WRAPPED(ssize_t, write, ENOSPC, -1, (int fd, const void *bytes, size_t length), (fd, bytes, length))
WRAPPED(ssize_t, pread64, EIO, -1, (int fd, void *bytes, size_t length, off_t at),
	(fd, bytes, length, at))
WRAPPED(ssize_t, read, EIO, -1, (int fd, void *bytes, size_t length), (fd, bytes, length))
WRAPPED(int, fstat64, EIO, -1, (int fd, struct stat *stat), (fd, stat))
WRAPPED(DIR *, opendir, ENFILE, NULL, (const char *path), (path))
WRAPPED(void *, mmap64, ENOMEM, MAP_FAILED,
	(void *at, size_t length, int protection, int flags, int fd, off_t offset),
	(at, length, protection, flags, fd, offset))
WRAPPED(int, rename, EIO, -1, (const char *from, const char *to), (from, to))
WRAPPED(int, renameat2, EIO, -1,
	(int from_fd, const char *from, int to_fd, const char *to, unsigned flags),
	(from_fd, from, to_fd, to, flags))

int __real_open64(const char *path, int flags, mode_t mode);
int __wrap_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...)
{
	va_list args;
	mode_t mode;

	va_start(args, flags);
	mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
	va_end(args);
	return fails(EMFILE) ? -1 : __real_open64(path, flags, mode);
}

static int open_one(struct snapshot_rig *rig, const char *name)
{
	const struct snapshot_place place = {.directory = rig_path(rig, name)};
	struct snapshot snapshot;
	int ret = snapshot_open(&snapshot, &place, true, &rig->err);

	snapshot_close(&snapshot);
	return ret;
}

/* Where a snapshot is to take an old one's place: each call fails in turn, until none is left. What
 * it can do without (a table of the process's pages) fails it not. */
static void keeps_the_old_one_whatever_fails(void **state)
{
	struct snapshot_rig *rig = *state;
	unsigned failed = 0;
	bool all = false;
	uint8_t there = 1;

	rig_touch(rig, 3, there);
	assert_int_equal(rig_take(rig, "one", false), 0);
	for (int n = 0; !all; n++) {
		rig_touch(rig, 3, (uint8_t)(2 + n));
		left = n;
		if (rig_take(rig, "one", false) == 0)
			there = (uint8_t)(2 + n);
		else
			failed++;
		all = left >= 0;
		left = -1;
		rig_touch(rig, 3, there);
		assert_true(rig_same(rig, "one"));
		assert_int_equal(rig_entries(rig), 1);
		assert_int_equal(snapshot_verify(rig_path(rig, "one"), &rig->err), 0);
		assert_int_equal(open_one(rig, "one"), 0);
		assert_in_range(n, 0, 200);
	}
	assert_int_not_equal(there, 1);
	assert_in_range(failed, 10, 200);
}

static void makes_none_where_a_merge_fails(void **state)
{
	const char *both[2];
	struct snapshot_rig *rig = *state;
	int ret = -1;

	rig_touch(rig, 3, 1);
	assert_int_equal(rig_take(rig, "base", false), 0);
	rig_touch(rig, 4, 2);
	assert_int_equal(rig_take(rig, "second", true), 0);
	for (int n = 0; ret < 0; n++) {
		both[0] = rig_path(rig, "base");
		both[1] = rig_path(rig, "second");
		left = n;
		ret = snapshot_merge(both, 2, rig_path(rig, "now"), &rig->err);
		left = -1;
		assert_int_equal(rig_entries(rig), ret < 0 ? 2 : 3);
		assert_in_range(n, 0, 200);
	}
	assert_true(rig_same(rig, "now"));
}

static unsigned count_open(void)
{
	DIR *list = opendir("/proc/self/fd");
	unsigned count = 0;

	while (readdir(list))
		count++;
	closedir(list);
	return count;
}

/* As it is restored: opened, and each region mapped from the file. */
static int load(struct snapshot_rig *rig, const char *name, struct memory *memory)
{
	const struct snapshot_place place = {.directory = rig_path(rig, name)};
	struct snapshot snapshot;
	int ret = snapshot_open(&snapshot, &place, true, &rig->err);
	uint64_t offset = 0;

	for (unsigned i = 0; ret == 0 && i < snapshot.head.regions; i++) {
		const uint64_t size = snapshot.head.region[i].size;

		ret = memory_add_file(memory, GPA(snapshot.head.region[i].base), size,
			snapshot.memory_fd, offset, "RAM", &rig->err);
		offset += size;
	}
	snapshot_close(&snapshot);
	return ret;
}

/* Each call in turn: it says why, and nothing of it is left open; and the snapshot is as it was. */
static void restores_all_or_nothing_whatever_fails(void **state)
{
	struct snapshot_rig *rig = *state;
	const unsigned open_before = count_open();
	int ret = -1;

	rig_touch(rig, 3, 1);
	rig_touch(rig, RIG_PAGES - 1, 2);
	assert_int_equal(rig_take(rig, "one", false), 0);
	for (int n = 0; ret < 0; n++) {
		struct memory memory;

		memory_init(&memory);
		rig->err = (struct error){0};
		left = n;
		ret = load(rig, "one", &memory);
		left = -1;
		assert_true(ret == 0 || *rig->err.text);
		if (ret == 0)
			assert_memory_equal(
				memory_region(&memory, 0)->mapped_at, rig->bytes, RIG_LOW);
		memory_free(&memory);
		assert_int_equal(count_open(), open_before);
		assert_in_range(n, 0, 100);
		assert_true(ret < 0 || n > 8);
	}
	assert_true(rig_same(rig, "one"));
	assert_int_equal(snapshot_verify(rig_path(rig, "one"), &rig->err), 0);
}

/* ---- files ---- */

static int parse(const uint8_t *bytes, size_t length)
{
	/* Of that very size, so that the sanitizer sees a byte too much. */
	uint8_t *copy = malloc(length ? length : 1);
	struct snapshot snapshot = {.memory_fd = -1, .bytes = copy, .length = length};
	int ret;

	if (length)
		memcpy(copy, bytes, length);
	ret = snapshot_parse(&snapshot, NULL);
	snapshot_close(&snapshot);
	return ret;
}

static void refuses_every_damage_of_the_state(void **state)
{
	struct snapshot_rig *rig = *state;
	uint8_t *bytes;
	size_t length;

	rig_touch(rig, 3, 1);
	assert_int_equal(rig_take(rig, "one", false), 0);
	bytes = rig_load(rig_path(rig, "one/state"), &length);
	assert_int_equal(parse(bytes, length), 0);
	for (size_t i = 0; i < length; i++)
		assert_true(parse(bytes, i) < 0);
	for (size_t i = 0; i < length; i++) {
		for (unsigned bit = 0; bit < 8; bit++) {
			bytes[i] ^= (uint8_t)(1U << bit);
			assert_true(parse(bytes, length) < 0);
			bytes[i] ^= (uint8_t)(1U << bit);
		}
	}
	bytes = realloc(bytes, length + 1);
	bytes[length] = 0;
	assert_int_equal(parse(bytes, length + 1), -EINVAL);
	free(bytes);
}

/* A state file with right checksums. */
static int parse_head(const struct snapshot_rig *rig, const struct snapshot_head *head,
	uint32_t version, const char *behind)
{
	struct state_writer writer;
	struct pages pages;
	int ret;

	state_writer_init(&writer);
	snapshot_head_save(head, &writer);
	/* Behind magic, format, and the name and its length: the version is not what is summed up.
	 */
	if (version != 1) {
		state_writer_free(&writer);
		state_writer_init(&writer);
		state_section_begin(&writer, "snapshot", version);
		state_section_close(&writer);
	}
	state_section_begin(&writer, "config", 1);
	state_section_close(&writer);
	assert_int_equal(pages_init(&pages, RIG_PAGES), 0);
	pages_save(&pages, &writer);
	pages_free(&pages);
	if (behind) {
		state_section_begin(&writer, behind, 1);
		state_section_close(&writer);
	}
	assert_int_equal(state_writer_finish(&writer), 0);
	writer.bytes = realloc(writer.bytes, writer.length + rig->machine_length);
	memcpy(writer.bytes + writer.length, rig->machine, rig->machine_length);
	ret = parse(writer.bytes, writer.length + rig->machine_length);
	state_writer_free(&writer);
	return ret;
}

static struct snapshot_head good_head(void)
{
	return (struct snapshot_head){.id = {{1}},
		.regions = 2,
		.region = {{0, RIG_LOW}, {4ULL << 30, RIG_SIZE - RIG_LOW}}};
}

static void refuses_a_table_without_sense(void **state)
{
	static const struct snapshot_head bad[] = {
		{.id = {{1}}},
		{.regions = 1, .region = {{0, RIG_SIZE}}},
		{.id = {{1}}, .regions = 1, .region = {{0, 0}}},
		{.id = {{1}}, .regions = 1, .region = {{0, RIG_SIZE + 1}}},
		{.id = {{1}}, .regions = 1, .region = {{1, RIG_SIZE}}},
		{.id = {{1}}, .regions = 1, .region = {{0, 1ULL << 41}}},
		{.id = {{1}}, .regions = 1, .region = {{0, UINT64_MAX & ~0x3ffffULL}}},
		{.id = {{1}}, .regions = 2, .region = {{0, 1ULL << 40}, {0, 1ULL << 40}}},
		{.id = {{1}}, .regions = 2, .region = {{0, 1ULL << 20}, {4ULL << 30, 4ULL << 20}}},
		/* Sane, but of more and of less than the pages that are there. */
		{.id = {{1}}, .regions = 1, .region = {{0, 8ULL << 30}}},
		{.id = {{1}}, .regions = 1, .region = {{0, 4ULL << 20}}},
	};
	struct snapshot_head head = good_head();
	struct snapshot_rig *rig = *state;

	assert_int_equal(parse_head(rig, &head, 1, NULL), 0);
	assert_int_equal(parse_head(rig, &head, 2, NULL), -ENOTSUP);
	assert_int_equal(parse_head(rig, &head, 1, "more"), -EINVAL);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		assert_true(parse_head(rig, &bad[i], 1, NULL) < 0);
}

/* More regions than there can be, in a section that has none of them. */
static void refuses_too_many_regions(void **state)
{
	static const uint32_t counts[] = {3, MEMORY_MAX_REGIONS + 1, UINT32_MAX};
	struct snapshot_head head;
	struct state_reader reader;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(counts); i++) {
		struct state_writer writer;
		uint8_t id[32] = {1};

		state_writer_init(&writer);
		state_section_begin(&writer, "snapshot", 1);
		state_put_bytes(&writer, id, sizeof(id));
		state_put_u32(&writer, counts[i]);
		state_section_close(&writer);
		assert_int_equal(state_writer_finish(&writer), 0);
		assert_int_equal(state_reader_init(&reader, writer.bytes, writer.length, NULL), 0);
		assert_int_equal(snapshot_head_restore(&head, &reader, NULL), -EINVAL);
		state_writer_free(&writer);
	}
}

static void refuses_another_memory(void **state)
{
	struct snapshot_rig *rig = *state;
	char path[128];
	uint8_t *bytes;
	size_t length;

	rig_touch(rig, 3, 1);
	assert_int_equal(rig_take(rig, "one", false), 0);
	assert_int_equal(rig_take(rig, "two", false), 0);
	strcpy(path, rig_path(rig, "one/memory"));
	bytes = rig_load(path, &length);
	rig_store(path, bytes, length - 1);
	assert_int_equal(open_one(rig, "one"), -EINVAL);
	assert_non_null(strstr(rig->err.text, "cut short"));
	rig_store(path, bytes, 0);
	assert_int_equal(open_one(rig, "one"), -EINVAL);
	bytes[RIG_SIZE + 9] ^= 1;
	rig_store(path, bytes, length);
	assert_int_equal(open_one(rig, "one"), -EINVAL);
	assert_non_null(strstr(rig->err.text, "not the memory of this snapshot"));
	bytes[RIG_SIZE + 9] ^= 1;
	bytes[RIG_SIZE + MEMORY_PAGE] ^= 1;
	rig_store(path, bytes, length);
	assert_int_equal(open_one(rig, "one"), -EINVAL);
	assert_non_null(strstr(rig->err.text, "duet snapshot merge"));
	assert_int_equal(rename(rig_path(rig, "two/memory"), path), 0);
	assert_int_equal(open_one(rig, "one"), -EINVAL);
	free(bytes);
}

static void refuses_what_is_no_file(void **state)
{
	struct snapshot_rig *rig = *state;

	rig_touch(rig, 3, 1);
	assert_int_equal(rig_take(rig, "one", false), 0);
	assert_int_equal(open_one(rig, "none"), -ENOENT);
	assert_int_equal(unlink(rig_path(rig, "one/memory")), 0);
	assert_int_equal(open_one(rig, "one"), -ENOENT);
	/* Nobody writes to it. */
	assert_int_equal(mkfifo(rig_path(rig, "one/memory"), 0600), 0);
	assert_int_equal(open_one(rig, "one"), -EINVAL);
	assert_int_equal(unlink(rig_path(rig, "one/state")), 0);
	assert_int_equal(mkdir(rig_path(rig, "one/state"), 0700), 0);
	assert_int_equal(open_one(rig, "one"), -EINVAL);
	assert_int_equal(rmdir(rig_path(rig, "one/state")), 0);
	rig_store(rig_path(rig, "one/state"), "", 0);
	assert_int_equal(open_one(rig, "one"), -EINVAL);
	assert_int_equal(truncate(rig_path(rig, "one/state"), 1LL << 40), 0);
	assert_int_equal(open_one(rig, "one"), -EFBIG);
}

static void finds_a_page_that_was_changed(void **state)
{
	struct snapshot_rig *rig = *state;
	const char *one[1];
	char path[128];
	uint8_t *bytes;
	size_t length;

	rig_touch(rig, 3, 1);
	rig_touch(rig, 600, 1);
	assert_int_equal(rig_take(rig, "one", false), 0);
	strcpy(path, rig_path(rig, "one/memory"));
	bytes = rig_load(path, &length);
	bytes[600 * MEMORY_PAGE + 17] ^= 4;
	rig_store(path, bytes, length);
	assert_int_equal(open_one(rig, "one"), 0);
	assert_int_equal(snapshot_verify(rig_path(rig, "one"), &rig->err), -EBADMSG);
	assert_non_null(strstr(rig->err.text, "between 2 and 4 MiB"));
	one[0] = rig_path(rig, "one");
	assert_int_equal(snapshot_merge(one, 1, rig_path(rig, "now"), &rig->err), -EBADMSG);
	assert_int_equal(rig_entries(rig), 1);
	free(bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			keeps_the_old_one_whatever_fails, rig_make, rig_free),
		cmocka_unit_test_setup_teardown(makes_none_where_a_merge_fails, rig_make, rig_free),
		cmocka_unit_test_setup_teardown(
			restores_all_or_nothing_whatever_fails, rig_make, rig_free),
		cmocka_unit_test_setup_teardown(
			refuses_every_damage_of_the_state, rig_make, rig_free),
		cmocka_unit_test_setup_teardown(refuses_a_table_without_sense, rig_make, rig_free),
		cmocka_unit_test(refuses_too_many_regions),
		cmocka_unit_test_setup_teardown(refuses_another_memory, rig_make, rig_free),
		cmocka_unit_test_setup_teardown(refuses_what_is_no_file, rig_make, rig_free),
		cmocka_unit_test_setup_teardown(finds_a_page_that_was_changed, rig_make, rig_free),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
