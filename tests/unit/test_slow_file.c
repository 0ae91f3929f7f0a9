/* SPDX-License-Identifier: Apache-2.0 */
/* Lines to a FIFO whose reader takes his time. */
#include "base/checked.h"
#include "base/log.h"
#include "cli/slow_file.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define LINE (40U << 10)
#define PIPE 4096

struct rig {
	struct slow_file file;
	struct loop *loop;
	struct loop_timer reading;
	int fd;
	char *got;
	size_t length, wanted;
};

static void rig_open(struct rig *rig)
{
	int ends[2];

	memset(rig, 0, sizeof(*rig));
	assert_int_equal(loop_new(&rig->loop, 8, NULL), 0);
	assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(fcntl(ends[1], F_SETPIPE_SZ, PIPE), PIPE);
	rig->fd = ends[0];
	rig->got = calloc(4, LINE);
	slow_file_init(&rig->file, rig->loop);
	slow_file_set(&rig->file, ends[1]);
}

static void rig_close(struct rig *rig)
{
	slow_file_close(&rig->file);
	loop_free(rig->loop);
	close(rig->fd);
	free(rig->got);
}

/* @length bytes of @letter, the last of them a newline. */
static void offer(struct rig *rig, char letter, size_t length)
{
	char *line = calloc(1, length + 1);

	memset(line, letter, length);
	line[length - 1] = '\n';
	assert_int_equal(slow_file_write(&rig->file, line, NULL), 0);
	free(line);
}

static void read_some(struct loop_timer *timer)
{
	struct rig *rig = container_of(timer, struct rig, reading);
	ssize_t got = read(rig->fd, rig->got + rig->length, 4 * LINE - rig->length);

	rig->length += got > 0 ? (size_t)got : 0;
	if (rig->length >= rig->wanted)
		loop_stop(rig->loop);
	else
		loop_timer_after(rig->loop, timer, 1000000);
}

/* The reader begins, and has @wanted bytes at the end. */
static void read_up_to(struct rig *rig, size_t wanted)
{
	rig->wanted = wanted;
	rig->reading.expired = read_some;
	alarm(20);
	read_some(&rig->reading);
	loop_run(rig->loop);
	alarm(0);
	assert_int_equal(rig->length, wanted);
}

static void assert_line(const char *at, char letter, size_t length)
{
	for (size_t i = 0; i + 1 < length; i++)
		assert_int_equal(at[i], letter);
	assert_int_equal(at[length - 1], '\n');
}

/* What is larger than the pipe comes as a whole, what comes meanwhile not at all, the next again.
 */
static void a_line_is_never_cut(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig);
	offer(&rig, 'a', 2 * PIPE + 100);
	offer(&rig, 'b', 100);
	offer(&rig, 'c', 100);
	assert_int_equal(rig.file.left_out, 2);
	read_up_to(&rig, 2 * PIPE + 100);
	assert_line(rig.got, 'a', 2 * PIPE + 100);
	assert_null(rig.file.line);
	rig.length = 0;
	offer(&rig, 'd', 100);
	read_up_to(&rig, 100);
	assert_line(rig.got, 'd', 100);
	rig_close(&rig);
}

/* Nor is one that found no room at all. */
static void a_full_pipe(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig);
	offer(&rig, 'a', PIPE);
	assert_null(rig.file.line);
	offer(&rig, 'b', 100);
	assert_non_null(rig.file.line);
	read_up_to(&rig, PIPE + 100);
	assert_line(rig.got, 'a', PIPE);
	assert_line(rig.got + PIPE, 'b', 100);
	rig_close(&rig);
}

/* Who never reads: nothing waits for him, not the end, nor another place. */
static void nobody_reads(void **state)
{
	struct rig rig;
	int ends[2];

	(void)state;
	rig_open(&rig);
	alarm(20);
	for (unsigned i = 0; i < 100; i++)
		offer(&rig, 'a', LINE);
	assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
	slow_file_set(&rig.file, ends[1]);
	close(rig.fd);
	rig.fd = ends[0];
	offer(&rig, 'b', 100);
	read_up_to(&rig, 100);
	assert_line(rig.got, 'b', 100);
	offer(&rig, 'c', 4 * LINE);
	rig_close(&rig);
	alarm(0);
}

static void a_fault_is_told(void **state)
{
	struct rig rig;
	struct error err = {0};

	(void)state;
	rig_open(&rig);
	slow_file_set(&rig.file, open("/dev/full", O_WRONLY | O_CLOEXEC));
	assert_int_equal(slow_file_write(&rig.file, "line\n", &err), -ENOSPC);
	assert_non_null(strstr(err.text, "metrics: "));
	assert_null(rig.file.line);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_line_is_never_cut),
		cmocka_unit_test(a_full_pipe),
		cmocka_unit_test(nobody_reads),
		cmocka_unit_test(a_fault_is_told),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
