/* SPDX-License-Identifier: Apache-2.0 */
/* What a hostile file or guest may bring into a message. */
#include "base/clock.h"
#include "base/log.h"
#include "base/nowait.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include <cmocka.h>

static void one_plain_line(void **state)
{
	char line[256] = {0};
	int ends[2], before = dup(STDERR_FILENO);

	(void)state;
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	dup2(ends[1], STDERR_FILENO);
	log_warning("section %s", "\x1b[2J\nx\x7f\ty \xc3\xa4 \xc2\x9b"
				  "2J \x9b"
				  "2J \xc3\x9b \xc2\xa0");
	dup2(before, STDERR_FILENO);
	assert_true(read(ends[0], line, sizeof(line) - 1) > 0);
	assert_string_equal(
		line, "duet: warning: section ?[2J?x??y \xc3\xa4 ??2J ?2J \xc3\x9b \xc2\xa0\n");
	close(before);
	close(ends[0]);
	close(ends[1]);
}

static void lines_go_where_they_are_told(void **state)
{
	char line[256] = {0};
	int ends[2];

	(void)state;
	assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
	for (int patience = -1; patience <= 0; patience++) {
		log_set_patience(patience);
		log_set_output(ends[1]);
		log_warning("elsewhere");
		log_set_output(STDERR_FILENO);
		memset(line, 0, sizeof(line));
		assert_true(read(ends[0], line, sizeof(line) - 1) > 0);
		assert_string_equal(line, "duet: warning: elsewhere\n");
	}
	log_set_patience(-1);
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

/* A terminal that may not be opened again, as after su(1): it says that it has room when it has for
 * one byte. */
static void a_full_terminal_is_not_waited_for(void **state)
{
	static char text[4096];
	const uid_t user = geteuid();
	struct termios raw;
	struct nowait to;
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), slave;
	ssize_t written, total = 0;

	(void)state;
	assert_true(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
	slave = open(ptsname(master), O_WRONLY | O_NOCTTY | O_CLOEXEC);
	assert_true(slave >= 0);
	assert_int_equal(tcgetattr(slave, &raw), 0);
	cfmakeraw(&raw);
	assert_int_equal(tcsetattr(slave, TCSANOW, &raw), 0);
	assert_int_equal(fchmod(slave, 0), 0);
	assert_int_equal(user ? 0 : seteuid(65534), 0);
	nowait_open(&to, slave);
	assert_int_equal(seteuid(user), 0);
	assert_int_equal(to.fd, slave);
	memset(text, 'x', sizeof(text));
	/* Whoever waits is never woken. */
	alarm(10);
	while ((written = nowait_write(&to, text, sizeof(text))) > 0)
		total += written;
	assert_int_equal(written, -EAGAIN);
	assert_true(total > 1024);
	assert_true(read(master, text, 100) == 100);
	while ((written = nowait_write(&to, text, sizeof(text))) > 0)
		total += written;
	assert_int_equal(written, -EAGAIN);
	alarm(0);
	nowait_close(&to);
	close(slave);
	close(master);
}

static _Atomic bool read_enough;

/* A page in a fifth of a second: within the writer's patience. */
static void *read_slowly(void *opaque)
{
	char bytes[400];

	while (!read_enough && read(*(int *)opaque, bytes, sizeof(bytes)) > 0)
		usleep(20000);
	return NULL;
}

static void last_words_have_an_end(void **state)
{
	static char text[1 << 18];
	int ends[2];
	const uint64_t start = clock_ns();
	struct nowait to;
	pthread_t reader;
	size_t taken;

	(void)state;
	memset(text, 'x', sizeof(text));
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	fcntl(ends[1], F_SETPIPE_SZ, 4096);
	assert_int_equal(pthread_create(&reader, NULL, read_slowly, &ends[0]), 0);
	nowait_open(&to, ends[1]);
	alarm(30);
	taken = nowait_last(&to, text, sizeof(text), 1000, NOWAIT_LAST_MS);
	assert_true(taken > 0 && taken < sizeof(text));
	assert_true(clock_ns() - start < 2 * NOWAIT_LAST_MS * 1000000ULL);
	/* Nor does a reader that takes a little at a time hold up who is in a hurry. */
	taken = nowait_last(&to, text, sizeof(text), NOWAIT_LAST_MS, NOWAIT_HURRY_MS);
	assert_true(taken < sizeof(text));
	assert_true(clock_ns() - start < 3 * NOWAIT_LAST_MS * 1000000ULL);
	read_enough = true;
	pthread_join(reader, NULL);
	close(ends[0]);
	close(ends[1]);
	alarm(0);
	nowait_close(&to);
}

/* What is written to a terminal's other side arrives there. */
static void a_master_is_not_opened_again(void **state)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), slave;
	char text[4] = {0};
	struct nowait to;

	(void)state;
	assert_true(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
	slave = open(ptsname(master), O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	assert_true(slave >= 0);
	nowait_open(&to, master);
	assert_int_equal(nowait_write(&to, "ab\n", 3), 3);
	assert_int_equal(read(slave, text, sizeof(text)), 3);
	assert_string_equal(text, "ab\n");
	nowait_close(&to);
	close(slave);
	close(master);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_plain_line),
		cmocka_unit_test(lines_go_where_they_are_told),
		cmocka_unit_test(a_stalled_pipe_holds_nothing_up),
		cmocka_unit_test(a_full_terminal_is_not_waited_for),
		cmocka_unit_test(a_master_is_not_opened_again),
		cmocka_unit_test(last_words_have_an_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
