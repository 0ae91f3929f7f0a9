/* SPDX-License-Identifier: Apache-2.0 */
/* What a hostile file or guest may bring into a message. */
#include "base/clock.h"
#include "base/log.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void one_plain_line(void **state)
{
	char line[256] = {0};
	int ends[2], before = dup(STDERR_FILENO);

	(void)state;
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	dup2(ends[1], STDERR_FILENO);
	log_warning("section %s", "\x1b[2J\nx\x7f\ty \xc3\xa4");
	dup2(before, STDERR_FILENO);
	assert_true(read(ends[0], line, sizeof(line) - 1) > 0);
	assert_string_equal(line, "duet: warning: section ?[2J?x??y \xc3\xa4\n");
	close(before);
	close(ends[0]);
	close(ends[1]);
}

static void log_much(unsigned lines)
{
	while (lines--)
		log_warning("what a guest provokes, line after line, with nobody to read it");
}

static size_t read_all(int fd, char *text, size_t size)
{
	size_t length = 0;
	ssize_t got;

	while ((got = read(fd, text + length, size - 1 - length)) > 0)
		length += (size_t)got;
	text[length] = 0;
	return length;
}

/* Standard error on a pipe that nobody reads: lines are dropped, counted and told of later. */
static void a_stalled_pipe_holds_nothing_up(void **state)
{
	static char text[1 << 17];
	const uint64_t start = clock_ns();
	int ends[2], before = dup(STDERR_FILENO);
	uint64_t lost;

	(void)state;
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	fcntl(ends[0], F_SETFL, O_NONBLOCK);
	dup2(ends[1], STDERR_FILENO);
	log_set_patience(0);
	log_much(5000);
	lost = log_dropped();
	assert_true(lost > 0 && lost < 5000);
	assert_true(clock_ns() - start < 1000000000ULL);
	/* The end of the pipe that others write to is as it was. */
	assert_false(fcntl(ends[1], F_GETFL) & O_NONBLOCK);
	assert_true(read_all(ends[0], text, sizeof(text)) > 0);
	log_much(1);
	read_all(ends[0], text, sizeof(text));
	assert_non_null(strstr(text, "lines were dropped\nduet: warning: what a guest"));
	assert_int_equal(log_dropped(), lost);
	/* Last words wait for a moment. */
	log_much(5000);
	log_set_patience(20);
	log_much(2);
	assert_true(clock_ns() - start < 2000000000ULL);
	log_set_patience(-1);
	dup2(before, STDERR_FILENO);
	close(before);
	close(ends[0]);
	close(ends[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_plain_line),
		cmocka_unit_test(a_stalled_pipe_holds_nothing_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
