/* SPDX-License-Identifier: Apache-2.0 */
/* duetd's journal: what it holds after any end of the process that wrote it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/log.h"
#include "duetd/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST 16

static char folder[64], path[96], cut[96];

struct seen {
	unsigned count;
	char text[MOST][128];
};

static void put_back(void *opaque, const struct undo *undo)
{
	struct seen *seen = opaque;

	assert_true(seen->count < MOST);
	snprintf(seen->text[seen->count++], sizeof(seen->text[0]), "%d %s %s", (int)undo->kind,
		undo->where, undo->value);
}

static struct journal *open_at(const char *at)
{
	struct journal *journal = NULL;
	struct error err = {0};

	if (journal_open(&journal, at, &err) < 0)
		fail_msg("%s", err.text);
	return journal;
}

static void note(struct journal *journal, int kind, const char *where, const char *value)
{
	const struct undo undo = {.kind = kind, .where = where, .value = value};

	assert_int_equal(journal_note(journal, &undo, NULL), 0);
}

static struct seen undone(const char *at)
{
	struct journal *journal = open_at(at);
	struct seen seen = {0};

	journal_undo(journal, put_back, &seen);
	journal_close(journal);
	return seen;
}

static long size_of(const char *at)
{
	struct stat status;

	assert_int_equal(stat(at, &status), 0);
	return (long)status.st_size;
}

static int set_up(void **state)
{
	/* In memory, as the real one in /run: a disk takes half a minute for so many fsync(). */
	strcpy(folder, "/dev/shm/duet-journal-XXXXXX");
	if (!mkdtemp(folder))
		return -1;
	snprintf(path, sizeof(path), "%s/duetd/journal", folder);
	snprintf(cut, sizeof(cut), "%s/cut", folder);
	return 0;
}

static int tear_down(void **state)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -r %s", folder);
	return system(command);
}

static void outlives_its_process(void **state)
{
	struct journal *journal = open_at(path);
	struct stat status;
	struct seen seen;

	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_mode & 0777, 0600);
	note(journal, UNDO_RMDIR, "/sys/fs/cgroup/duet", NULL);
	note(journal, UNDO_FILE, "/a b/cpu.weight", "100");
	note(journal, UNDO_FILE, "/odd\n%name", "1 2\n3");
	note(journal, UNDO_FILE, "/a b/cpu.weight", "7"); /* what it was at first counts */
	journal_close(journal);
	seen = undone(path);
	assert_int_equal(seen.count, 3);
	assert_string_equal(seen.text[0], "0 /odd\n%name 1 2\n3");
	assert_string_equal(seen.text[1], "0 /a b/cpu.weight 100");
	assert_string_equal(seen.text[2], "4 /sys/fs/cgroup/duet ");
	assert_int_equal(undone(path).count, 0);
}

static void forgets(void **state)
{
	struct journal *journal = open_at(path);
	struct seen seen;

	note(journal, UNDO_SLICE, "12:345", "0");
	note(journal, UNDO_AFFINITY, "12:345", "ff");
	note(journal, UNDO_SLICE, "13:345", "0");
	journal_forget(journal, "12:345");
	journal_forget(journal, "nothing");
	journal_close(journal);
	seen = undone(path);
	assert_int_equal(seen.count, 1);
	assert_string_equal(seen.text[0], "1 13:345 0");
}

static void is_one_processs(void **state)
{
	struct journal *journal = open_at(path), *other = NULL;
	struct error err = {0};

	assert_int_equal(journal_open(&other, path, &err), -EWOULDBLOCK);
	assert_non_null(strstr(err.text, "another duetd"));
	journal_close(journal);
	journal_close(open_at(path));
}

static void stays_small(void **state)
{
	struct journal *journal = open_at(path), *other = NULL;
	char where[32];
	struct seen seen;

	note(journal, UNDO_FILE, "/kept", "1");
	for (unsigned i = 0; i < 3000; i++) {
		snprintf(where, sizeof(where), "%u:1", i);
		note(journal, UNDO_SLICE, where, "0");
		journal_forget(journal, where);
	}
	assert_true(size_of(path) < 20000);
	/* The file that took its place is locked as well. */
	assert_int_equal(journal_open(&other, path, NULL), -EWOULDBLOCK);
	journal_close(journal);
	seen = undone(path);
	assert_int_equal(seen.count, 1);
	assert_string_equal(seen.text[0], "0 /kept 1");
}

static size_t read_whole(char *text, size_t room)
{
	FILE *file = fopen(path, "r");
	size_t length;

	assert_non_null(file);
	length = fread(text, 1, room, file);
	fclose(file);
	return length;
}

static void write_cut(const char *text, size_t length)
{
	FILE *file = fopen(cut, "w");

	assert_non_null(file);
	assert_int_equal(fwrite(text, 1, length, file), length);
	fclose(file);
}

/* Killed at any byte of it: the whole lines before count, and the next one can be written. */
static void survives_a_cut_at_each_byte(void **state)
{
	struct journal *journal = open_at(path);
	char text[1024];
	size_t length;

	note(journal, UNDO_FILE, "/one", "1");
	note(journal, UNDO_MOVE, "5:6", "/user.slice/x y");
	note(journal, UNDO_RMDIR, "/three", NULL);
	journal_close(journal);
	length = read_whole(text, sizeof(text));
	for (size_t at = 0; at <= length; at++) {
		unsigned whole = 0;
		struct seen seen;

		for (size_t i = 0; i < at; i++)
			whole += text[i] == '\n';
		write_cut(text, at);
		journal = open_at(cut);
		note(journal, UNDO_FILE, "/next", "2");
		journal_close(journal);
		seen = undone(cut);
		assert_int_equal(seen.count, (whole ? whole - 1 : 0) + 1);
		assert_string_equal(seen.text[0], "0 /next 2");
		if (whole > 1)
			assert_string_equal(seen.text[seen.count - 1], "0 /one 1");
	}
	assert_int_equal(undone(path).count, 3);
}

static void passes_over_nonsense(void **state)
{
	static const char text[] = "duetd journal 1\nfile /one 1\nwhat is this\nfile /x %zz\n"
				   "file /x%00 1\nbrew /x 1\nfile\n\nfile  1\nfile /two 2\n";
	struct seen seen;

	log_set_level(LOG_LEVEL_ERROR);
	write_cut(text, sizeof(text) - 1);
	seen = undone(cut);
	log_set_level(LOG_LEVEL_INFO);
	assert_int_equal(seen.count, 2);
	assert_string_equal(seen.text[0], "0 /two 2");
	assert_string_equal(seen.text[1], "0 /one 1");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(outlives_its_process),
		cmocka_unit_test(forgets),
		cmocka_unit_test(is_one_processs),
		cmocka_unit_test(stays_small),
		cmocka_unit_test(survives_a_cut_at_each_byte),
		cmocka_unit_test(passes_over_nonsense),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
