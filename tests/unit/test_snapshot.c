/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots are written, read again, and put together. */
#include "snapshot_rig.h"

#include "snapshot/merge.h"
#include "snapshot/read.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static int open_one(
	struct snapshot_rig *rig, struct snapshot *snapshot, const char *name, bool whole)
{
	const struct snapshot_place place = {.directory = rig_path(rig, name)};

	return snapshot_open(snapshot, &place, whole, &rig->err);
}

/* Blocks of 512 bytes, the marks' among them. */
static unsigned blocks(struct snapshot_rig *rig, const char *name)
{
	struct stat stat_of;

	assert_int_equal(stat(rig_path(rig, name), &stat_of), 0);
	return (unsigned)stat_of.st_blocks;
}

static void holds_what_is_not_zero(void **state)
{
	struct snapshot_rig *rig = *state;
	struct snapshot snapshot;

	rig_touch(rig, 0, 1);
	rig_touch(rig, 511, 2);
	rig_touch(rig, 512, 3);
	rig_touch(rig, 700, 0);
	rig_touch(rig, RIG_PAGES - 1, 4);
	rig_page(rig, 100)[4095] = 5;
	assert_int_equal(rig_take(rig, "one", false), 0);
	assert_int_equal(atomic_load(&rig->progress.done), RIG_SIZE);
	assert_int_equal(atomic_load(&rig->progress.written), 5 * MEMORY_PAGE);
	assert_true(rig_same(rig, "one"));
	assert_int_equal(blocks(rig, "one/memory"), 7 * 8);
	assert_int_equal(open_one(rig, &snapshot, "one", true), 0);
	assert_int_equal(snapshot.pages.stored, 5);
	assert_true(pages_hold(&snapshot.pages, 100));
	assert_false(pages_hold(&snapshot.pages, 700));
	assert_false(snapshot_is_diff(&snapshot.head));
	assert_int_equal(snapshot.config_length, 2);
	assert_memory_equal(
		snapshot.bytes + snapshot.machine_at, rig->machine, rig->machine_length);
	snapshot_close(&snapshot);
	assert_int_equal(snapshot_verify(rig_path(rig, "one"), &rig->err), 0);
	assert_int_equal(rig_entries(rig), 1);
}

/* Only what has changed; a page that has become zero is among it. */
static void puts_changes_together(void **state)
{
	const char *both[] = {NULL, NULL, NULL};
	struct snapshot_rig *rig = *state;
	struct snapshot snapshot;

	rig_touch(rig, 3, 1);
	rig_touch(rig, 4, 1);
	assert_int_equal(rig_take(rig, "base", false), 0);
	rig_touch(rig, 4, 0);
	rig_touch(rig, 1030, 7);
	assert_int_equal(rig_take(rig, "second", true), 0);
	assert_int_equal(blocks(rig, "second/memory"), 3 * 8);
	rig_touch(rig, 1030, 8);
	rig_touch(rig, 5, 9);
	assert_int_equal(rig_take(rig, "third", true), 0);
	assert_int_equal(open_one(rig, &snapshot, "third", true), -EINVAL);
	snapshot_close(&snapshot);
	both[0] = rig_path(rig, "base");
	both[1] = rig_path(rig, "second");
	both[2] = rig_path(rig, "third");
	assert_int_equal(snapshot_merge(both, 3, rig_path(rig, "now"), &rig->err), 0);
	assert_true(rig_same(rig, "now"));
	assert_int_equal(open_one(rig, &snapshot, "now", true), 0);
	/* What follows the third follows it. */
	assert_true(snapshot_id_same(&snapshot.head.id, &rig->last));
	assert_int_equal(snapshot.pages.stored, 3);
	snapshot_close(&snapshot);
	assert_int_equal(snapshot_verify(rig_path(rig, "now"), &rig->err), 0);
}

static void refuses_another_order(void **state)
{
	const char *some[3];
	struct snapshot_rig *rig = *state;

	rig_touch(rig, 3, 1);
	assert_int_equal(rig_take(rig, "base", false), 0);
	rig_touch(rig, 4, 2);
	assert_int_equal(rig_take(rig, "second", true), 0);
	rig_touch(rig, 5, 3);
	assert_int_equal(rig_take(rig, "third", true), 0);
	some[0] = rig_path(rig, "base");
	some[1] = rig_path(rig, "third");
	some[2] = rig_path(rig, "second");
	assert_int_equal(snapshot_merge(some, 3, rig_path(rig, "now"), &rig->err), -EINVAL);
	assert_int_equal(snapshot_merge(some, 2, rig_path(rig, "now"), &rig->err), -EINVAL);
	assert_int_equal(snapshot_merge(some + 1, 1, rig_path(rig, "now"), &rig->err), -EINVAL);
	assert_int_equal(rig_entries(rig), 3);
}

static void copy_data(const char *from, const char *to)
{
	int source = open(from, O_RDONLY), target = open(to, O_WRONLY);
	uint8_t page[MEMORY_PAGE];
	off_t end = 0, at;

	while ((at = lseek(source, end, SEEK_DATA)) >= 0) {
		end = lseek(source, at, SEEK_HOLE);
		for (; at < end; at += (off_t)sizeof(page)) {
			assert_int_equal(pread(source, page, sizeof(page), at), sizeof(page));
			assert_int_equal(pwrite(target, page, sizeof(page), at), sizeof(page));
		}
	}
	close(source);
	close(target);
}

/* As Firecracker's clients do: the data of one memory file over another. */
static void is_copied_over_another(void **state)
{
	struct snapshot_rig *rig = *state;
	struct snapshot snapshot;

	rig_touch(rig, 3, 1);
	rig_touch(rig, 4, 1);
	assert_int_equal(rig_take(rig, "base", false), 0);
	rig_touch(rig, 4, 0);
	rig_touch(rig, 1100, 2);
	assert_int_equal(rig_take(rig, "second", true), 0);
	copy_data(rig_path(rig, "second/memory"), rig_path(rig, "base/memory"));
	assert_true(rig_same(rig, "base"));
	assert_int_equal(open_one(rig, &snapshot, "base", true), -EINVAL);
	assert_non_null(strstr(rig->err.text, "not the memory of this snapshot"));
	snapshot_close(&snapshot);
	assert_int_equal(rename(rig_path(rig, "base/memory"), rig_path(rig, "second/memory")), 0);
	assert_int_equal(open_one(rig, &snapshot, "second", true), 0);
	snapshot_close(&snapshot);
}

static void two_files_instead_of_a_directory(void **state)
{
	struct snapshot_rig *rig = *state;
	char names[2][128];
	const struct snapshot_place place = {.state = names[0], .memory = names[1]},
				    one = {.state = names[0], .memory = names[0]};
	struct snapshot_content content = {.memory = &rig->memory,
		.config = "{}",
		.machine = rig->machine,
		.machine_length = rig->machine_length};
	struct snapshot snapshot;

	strcpy(names[0], rig_path(rig, "a.state"));
	strcpy(names[1], rig_path(rig, "a.memory"));
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(snapshot_id_new(&content.id), 0);
		rig_touch(rig, i, 1);
		assert_int_equal(snapshot_write(&content, &place, &rig->progress, &rig->err), 0);
		assert_int_equal(snapshot_open(&snapshot, &place, true, &rig->err), 0);
		assert_int_equal(snapshot.pages.stored, i + 1);
		snapshot_close(&snapshot);
		assert_int_equal(rig_entries(rig), 2);
	}
	assert_int_equal(snapshot_write(&content, &one, &rig->progress, &rig->err), -EINVAL);
	assert_int_equal(unlink(names[1]), 0);
	assert_int_equal(mkdir(names[1], 0700), 0);
	assert_int_equal(snapshot_write(&content, &place, &rig->progress, &rig->err), -EISDIR);
	assert_int_equal(rig_entries(rig), 2);
}

/* A reader that has it open keeps what it was. */
static void takes_anothers_place(void **state)
{
	struct snapshot_rig *rig = *state;
	struct snapshot snapshot;
	uint8_t byte;

	rig_touch(rig, 3, 1);
	assert_int_equal(rig_take(rig, "one", false), 0);
	assert_int_equal(open_one(rig, &snapshot, "one/", true), 0);
	rig_touch(rig, 3, 2);
	assert_int_equal(rig_take(rig, "one", false), 0);
	assert_int_equal(rig_entries(rig), 1);
	assert_int_equal(pread(snapshot.memory_fd, &byte, 1, 3 * MEMORY_PAGE), 1);
	assert_int_equal(byte, 1);
	snapshot_close(&snapshot);
	assert_true(rig_same(rig, "one"));
}

/* They would destroy what they are the changes to. */
static void changes_take_nobodys_place(void **state)
{
	struct snapshot_rig *rig = *state;

	rig_touch(rig, 3, 1);
	assert_int_equal(rig_take(rig, "one", false), 0);
	rig_touch(rig, 4, 1);
	assert_int_equal(rig_take(rig, "one", true), -EEXIST);
	assert_non_null(strstr(rig->err.text, "a name of their own"));
	assert_int_equal(snapshot_verify(rig_path(rig, "one"), &rig->err), 0);
	assert_int_equal(rig_entries(rig), 1);
}

static void leaves_what_is_not_its_own(void **state)
{
	struct snapshot_rig *rig = *state;

	rig_touch(rig, 3, 1);
	assert_int_equal(rig_take(rig, "one", false), 0);
	rig_store(rig_path(rig, "one/letter"), "dear", 4);
	assert_int_equal(rig_take(rig, "one", false), -ENOTEMPTY);
	assert_non_null(strstr(rig->err.text, "letter"));
	assert_int_equal(mkdir(rig_path(rig, "two.new"), 0700), 0);
	assert_int_equal(rig_take(rig, "two", false), -EEXIST);
	assert_non_null(strstr(rig->err.text, "two.new: is there already"));
	assert_int_equal(access(rig_path(rig, "two.new"), F_OK), 0);
	assert_int_equal(symlink("one", rig_path(rig, "link")), 0);
	assert_int_equal(rig_take(rig, "link", false), -EINVAL);
	assert_int_equal(rig_entries(rig), 3);
}

static void stops_when_told(void **state)
{
	struct snapshot_rig *rig = *state;

	rig_touch(rig, 3, 1);
	assert_int_equal(rig_take(rig, "one", false), 0);
	atomic_store(&rig->progress.cancelled, true);
	rig_touch(rig, 3, 2);
	assert_int_equal(rig_take(rig, "one", false), -ECANCELED);
	assert_int_equal(rig_entries(rig), 1);
	assert_int_equal(snapshot_verify(rig_path(rig, "one"), &rig->err), 0);
	rig_touch(rig, 3, 1);
	assert_true(rig_same(rig, "one"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(holds_what_is_not_zero, rig_make, rig_free),
		cmocka_unit_test_setup_teardown(puts_changes_together, rig_make, rig_free),
		cmocka_unit_test_setup_teardown(refuses_another_order, rig_make, rig_free),
		cmocka_unit_test_setup_teardown(is_copied_over_another, rig_make, rig_free),
		cmocka_unit_test_setup_teardown(
			two_files_instead_of_a_directory, rig_make, rig_free),
		cmocka_unit_test_setup_teardown(takes_anothers_place, rig_make, rig_free),
		cmocka_unit_test_setup_teardown(changes_take_nobodys_place, rig_make, rig_free),
		cmocka_unit_test_setup_teardown(leaves_what_is_not_its_own, rig_make, rig_free),
		cmocka_unit_test_setup_teardown(stops_when_told, rig_make, rig_free),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
