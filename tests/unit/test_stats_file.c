/* SPDX-License-Identifier: Apache-2.0 */
/* What --stats does to whatever has that name. */
#include "base/clock.h"
#include "cli/stats_file.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define LONG 200000

static char directory[] = "/tmp/duet-stats-XXXXXX";
static char path[64], other[64];

static int set_up(void **state)
{
	(void)state;
	strcpy(strrchr(directory, '-'), "-XXXXXX");
	assert_non_null(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/stats", directory);
	snprintf(other, sizeof(other), "%s/other", directory);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	unlink(path);
	unlink(other);
	return rmdir(directory); /* nothing else is left */
}

static void write_text(const char *text)
{
	struct error err = {0};

	assert_int_equal(stats_file_check(path, &err), 0);
	assert_int_equal(stats_file_write(path, text, strlen(text), &err), 0);
}

static void assert_holds(const char *file, const char *expected)
{
	char got[64] = {0};
	int fd = open(file, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0 && read(fd, got, sizeof(got) - 1) >= 0);
	assert_string_equal(got, expected);
	close(fd);
}

static mode_t kind_of(const char *file)
{
	struct stat status;

	assert_int_equal(lstat(file, &status), 0);
	return status.st_mode & S_IFMT;
}

static void a_file_is_replaced(void **state)
{
	int before;

	(void)state;
	write_text("first");
	before = open(path, O_RDONLY | O_CLOEXEC);
	write_text("second");
	assert_holds(path, "second\n");
	{
		char got[8] = {0};

		/* Who had it open still reads the whole of the first. */
		assert_int_equal(read(before, got, sizeof(got)), 6);
		assert_string_equal(got, "first\n");
	}
	close(before);
}

static void a_link_stays(void **state)
{
	(void)state;
	assert_int_equal(symlink("other", path), 0);
	write_text("a long first text");
	write_text("second");
	assert_int_equal(kind_of(path), S_IFLNK);
	assert_holds(other, "second\n");
}

static void a_device_stays(void **state)
{
	struct error err = {0};

	(void)state;
	assert_int_equal(stats_file_check("/dev/null", &err), 0);
	assert_int_equal(stats_file_write("/dev/null", "x", 1, &err), 0);
	assert_int_equal(kind_of("/dev/null"), S_IFCHR);
	assert_int_equal(stats_file_write("/dev/full", "x", 1, &err), -ENOSPC);
	assert_int_equal(kind_of("/dev/full"), S_IFCHR);
}

/* The check opens no FIFO: its reader would take the close for the end of all. */
static void a_fifo_stays_and_is_not_waited_for(void **state)
{
	struct error err = {0};
	char got[32] = {0};
	int reader;

	(void)state;
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(stats_file_check(path, &err), 0);
	assert_int_equal(stats_file_write(path, "x", 1, &err), -ENXIO);
	assert_non_null(strstr(err.text, "nobody reads it"));
	reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	assert_true(reader >= 0);
	write_text("statistics");
	assert_int_equal(read(reader, got, sizeof(got)), 11);
	assert_string_equal(got, "statistics\n");
	assert_int_equal(kind_of(path), S_IFIFO);
	close(reader);
}

/* More than a FIFO holds by default, and nobody who reads meanwhile; then more than it ever holds.
 */
static void a_slow_reader_holds_nothing_up(void **state)
{
	const uint64_t start = clock_ns();
	char *text = malloc(100 * LONG);
	struct error err = {0};
	int reader;

	(void)state;
	memset(text, 's', 100 * LONG);
	assert_int_equal(mkfifo(path, 0600), 0);
	reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	assert_int_equal(stats_file_write(path, text, LONG, &err), 0);
	assert_int_equal(read(reader, text, LONG), LONG);
	assert_int_equal(stats_file_write(path, text, 100 * LONG, &err), -ETIMEDOUT);
	assert_non_null(strstr(err.text, "reader"));
	assert_true(clock_ns() - start < 2000000000ULL);
	close(reader);
	free(text);
}

/* Where others may write they know the name beside it beforehand. */
static void what_is_beside_is_not_used(void **state)
{
	char beside[96];
	struct stat status;
	int mine;

	(void)state;
	snprintf(beside, sizeof(beside), "%s.%d.tmp", path, (int)getpid());
	alarm(10);
	assert_int_equal(mkfifo(beside, 0600), 0);
	write_text("one");
	assert_holds(path, "one\n");
	assert_int_equal(symlink(other, beside), 0);
	write_text("two");
	assert_holds(path, "two\n");
	assert_int_equal(access(other, F_OK), -1);
	/* Whoever made the file may go on to write to it. */
	mine = open(beside, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(mine >= 0);
	write_text("three");
	assert_int_equal(fstat(mine, &status), 0);
	assert_int_equal(status.st_size, 0);
	assert_holds(path, "three\n");
	alarm(0);
	close(mine);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_file_is_replaced, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_is_beside_is_not_used, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_link_stays, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_device_stays, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			a_fifo_stays_and_is_not_waited_for, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_slow_reader_holds_nothing_up, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
