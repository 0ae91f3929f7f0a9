/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "loop_rig.h"

#include "cli/terminal.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* A guest that takes @room bytes at a time. */
struct guest {
	struct loop *loop;
	struct terminal terminal;
	size_t room, taken;
	unsigned calls, ends;
	char bytes[2048];
};

static size_t typed(void *opaque, const void *bytes, size_t length)
{
	struct guest *guest = opaque;

	if (length > guest->room)
		length = guest->room;
	memcpy(guest->bytes + guest->taken, bytes, length);
	guest->taken += length;
	guest->room -= length;
	guest->calls++;
	return length;
}

static void end(void *opaque)
{
	((struct guest *)opaque)->ends++;
}

static const struct terminal_events events = {.typed = typed, .end = end};

static int set_up(void **state)
{
	struct guest *guest = calloc(1, sizeof(*guest));

	assert_int_equal(loop_new(&guest->loop, 8, NULL), 0);
	*state = guest;
	return 0;
}

static int tear_down(void **state)
{
	struct guest *guest = *state;

	loop_free(guest->loop);
	free(guest);
	return 0;
}

static void test_a_file_is_read_as_the_guest_takes_it(void **state)
{
	struct guest *guest = *state;
	int fd = memfd_create("input", MFD_CLOEXEC);
	char text[1000];

	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (char)('a' + i % 26);
	assert_int_equal(write(fd, text, sizeof(text)), sizeof(text));
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	guest->room = 10;
	terminal_start(&guest->terminal, guest->loop, fd, &events, guest);
	loop_run_for(guest->loop, 50);
	assert_int_equal(guest->taken, 10);
	assert_in_range(guest->calls, 1, 3); /* and does not spin meanwhile */
	while (guest->taken < sizeof(text)) {
		size_t before = guest->taken;

		guest->room = 90;
		terminal_pump(&guest->terminal);
		assert_true(guest->taken > before);
	}
	assert_memory_equal(guest->bytes, text, sizeof(text));
	assert_false(guest->terminal.open);
	terminal_stop(&guest->terminal);
	close(fd);
}

static void test_dev_null_has_ended(void **state)
{
	struct guest *guest = *state;
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	terminal_start(&guest->terminal, guest->loop, fd, &events, guest);
	assert_false(guest->terminal.open);
	terminal_stop(&guest->terminal);
	close(fd);
}

static void test_a_pipe_is_waited_for(void **state)
{
	struct guest *guest = *state;
	int ends[2];

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	guest->room = 100;
	terminal_start(&guest->terminal, guest->loop, ends[0], &events, guest);
	loop_run_for(guest->loop, 5);
	assert_int_equal(write(ends[1], "one", 3), 3);
	loop_run_for(guest->loop, 20);
	assert_memory_equal(guest->bytes, "one", 3);
	close(ends[1]);
	loop_run_for(guest->loop, 20);
	assert_false(guest->terminal.open);
	terminal_stop(&guest->terminal);
	close(ends[0]);
}

static void test_a_terminal_of_nobody_is_raw_and_read(void **state)
{
	struct guest *guest = *state;
	int keys = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), fd;
	struct termios now;

	assert_true(keys >= 0 && grantpt(keys) == 0 && unlockpt(keys) == 0);
	fd = open(ptsname(keys), O_RDWR | O_NOCTTY | O_CLOEXEC);
	guest->room = 100;
	terminal_start(&guest->terminal, guest->loop, fd, &events, guest);
	assert_int_equal(tcgetattr(fd, &now), 0);
	assert_false(now.c_lflag & (ICANON | ECHO | ISIG));
	assert_int_equal(write(keys, "k\x01\x01", 3), 3);
	loop_run_for(guest->loop, 20);
	assert_int_equal(guest->taken, 2); /* Ctrl-A twice is one */
	assert_memory_equal(guest->bytes, "k\x01", 2);
	terminal_stop(&guest->terminal);
	assert_int_equal(tcgetattr(fd, &now), 0);
	assert_true(now.c_lflag & ICANON);
	close(fd);
	close(keys);
}

/* A guest that takes nothing can still be ended, and gets later what was typed first. */
static void test_the_escape_works_while_the_guest_takes_nothing(void **state)
{
	struct guest *guest = *state;
	int keys = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), fd;

	assert_true(keys >= 0 && grantpt(keys) == 0 && unlockpt(keys) == 0);
	fd = open(ptsname(keys), O_RDWR | O_NOCTTY | O_CLOEXEC);
	terminal_start(&guest->terminal, guest->loop, fd, &events, guest);
	for (unsigned i = 0; i < 30; i++) {
		assert_int_equal(
			write(keys, "early and far too much, much too much to be kept", 48), 48);
		loop_run_for(guest->loop, 2);
	}
	assert_int_equal(write(keys, "\x01x", 2), 2);
	loop_run_for(guest->loop, 20);
	assert_int_equal(guest->ends, 1);
	assert_int_equal(guest->taken, 0);
	guest->room = 9;
	terminal_pump(&guest->terminal);
	assert_memory_equal(guest->bytes, "early and", 9);
	terminal_stop(&guest->terminal);
	close(fd);
	close(keys);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_a_file_is_read_as_the_guest_takes_it, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_the_escape_works_while_the_guest_takes_nothing, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_dev_null_has_ended, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_a_terminal_of_nobody_is_raw_and_read, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_pipe_is_waited_for, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
