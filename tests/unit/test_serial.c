/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/loop.h"
#include "board_fixture.h"
#include "loop_rig.h"

#include <fcntl.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

#define THR LAYOUT_SERIAL_PORT
#define IER (LAYOUT_SERIAL_PORT + 1)
#define IIR (LAYOUT_SERIAL_PORT + 2)
#define LCR (LAYOUT_SERIAL_PORT + 3)
#define MCR (LAYOUT_SERIAL_PORT + 4)
#define LSR (LAYOUT_SERIAL_PORT + 5)
#define MSR (LAYOUT_SERIAL_PORT + 6)

struct port {
	struct board_fixture fixture;
	struct device *device;
	int pipe[2];
	unsigned rooms;
};

static int set_up(void **state)
{
	struct port *port = calloc(1, sizeof(*port));

	assert_int_equal(pipe2(port->pipe, O_CLOEXEC), 0);
	fcntl(port->pipe[0], F_SETFL, O_NONBLOCK);
	fixture_open(&port->fixture);
	assert_int_equal(serial_new(&port->device, port->pipe[1], NULL), 0);
	assert_int_equal(port->device->ops->realize(port->device, &port->fixture.place, NULL), 0);
	port->device->ops->reset(port->device);
	*state = port;
	return 0;
}

static int tear_down(void **state)
{
	struct port *port = *state;

	port->device->ops->free(port->device);
	/* Its timer is the loop's. */
	loop_free(port->fixture.place.main);
	fixture_close(&port->fixture);
	close(port->pipe[0]);
	close(port->pipe[1]);
	free(port);
	return 0;
}

static void out(struct port *port, uint64_t address, uint8_t value)
{
	fixture_out(&port->fixture, address, 1, value);
}

static uint8_t in(struct port *port, uint64_t address)
{
	return (uint8_t)fixture_in(&port->fixture, address, 1);
}

static void put(struct port *port, const char *text)
{
	while (*text)
		out(port, THR, (uint8_t)*text++);
}

static void assert_output(struct port *port, const char *expected)
{
	char got[256] = {0};
	ssize_t length = read(port->pipe[0], got, sizeof(got) - 1);

	assert_int_equal(length < 0 ? 0 : length, strlen(expected));
	assert_string_equal(got, expected);
}

static bool line_up(const struct port *port)
{
	return port->fixture.lines >> LAYOUT_SERIAL_GSI & 1;
}

/* As a driver has it: the receive interrupt and its gate. */
static void open_port(struct port *port)
{
	out(port, MCR, 8);
	out(port, IER, 1);
}

static void test_line_is_one_write(void **state)
{
	struct port *port = *state;

	put(port, "hello");
	assert_output(port, "");
	put(port, "\n");
	assert_output(port, "hello\n");
}

static void test_prompt_leaves_when_the_driver_is_done(void **state)
{
	struct port *port = *state;

	put(port, "login: ");
	assert_output(port, "");
	out(port, IER, 0);
	assert_output(port, "login: ");
}

static void test_flush_at_the_end(void **state)
{
	struct port *port = *state;

	put(port, "last words");
	serial_flush(port->device, false);
	assert_output(port, "last words");
}

static uint64_t nanoseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Until the port says that its transmitter is not empty. */
static void fill(struct port *port)
{
	for (unsigned i = 0; in(port, LSR) & 0x20; i++) {
		assert_true(i < 1000000);
		out(port, THR, 'f');
	}
}

static void drain(struct port *port)
{
	char buffer[4096];

	while (read(port->pipe[0], buffer, sizeof(buffer)) > 0)
		;
}

/* No access waits for the reader, under whatever lock: the guest's driver is told to. */
static void test_slow_reader_is_waited_for_by_the_guest(void **state)
{
	struct port *port = *state;
	uint64_t slowest = UINT64_MAX;

	for (unsigned i = 0; i < 5; i++) {
		uint64_t start;

		fill(port);
		start = nanoseconds();
		for (unsigned more = 0; more < 100; more++)
			out(port, THR, 'm');
		if (nanoseconds() - start < slowest)
			slowest = nanoseconds() - start;
		assert_int_equal(in(port, LSR) & 0x60, 0);
		drain(port);
		assert_int_equal(in(port, LSR) & 0x60, 0x60);
		serial_flush(port->device, false);
		drain(port);
	}
	assert_true(slowest < 25000000);
}

/* One that has stopped is given up, until it reads again. */
static void test_stopped_reader_is_given_up(void **state)
{
	const struct timespec step = {.tv_nsec = 1000000};
	struct port *port = *state;

	fill(port);
	for (unsigned i = 0; !(in(port, LSR) & 0x20); i++) {
		assert_true(i < 2000);
		nanosleep(&step, NULL);
	}
	for (unsigned i = 0; i < 1000; i++)
		out(port, THR, 'd');
	assert_int_equal(in(port, LSR) & 0x60, 0x60);
	drain(port);
	serial_flush(port->device, false);
	drain(port);
	put(port, "again\n");
	assert_output(port, "again\n");
}

/* A driver that obeys the line status loses nothing to a reader slower than itself. */
static void test_nothing_is_lost_to_a_slow_reader(void **state)
{
	struct port *port = *state;
	uint64_t sent = 0, got = 0;
	char buffer[4096];

	while (sent < 300000) {
		if (in(port, LSR) & 0x20) {
			for (unsigned i = 0; i < 16; i++, sent++)
				out(port, THR, sent % 80 == 79 ? '\n' : 's');
		} else {
			got += (uint64_t)read(port->pipe[0], buffer, sizeof(buffer));
		}
	}
	for (unsigned i = 0; i < 2; i++) {
		for (ssize_t length; (length = read(port->pipe[0], buffer, sizeof(buffer))) > 0;)
			got += (uint64_t)length;
		serial_flush(port->device, false);
	}
	for (ssize_t length; (length = read(port->pipe[0], buffer, sizeof(buffer))) > 0;)
		got += (uint64_t)length;
	assert_int_equal(sent, got);
}

static void test_full_pipe_drops_and_does_not_hang(void **state)
{
	struct port *port = *state;
	struct timespec start, end;

	clock_gettime(CLOCK_MONOTONIC, &start);
	for (unsigned i = 0; i < 200000; i++)
		out(port, THR, i % 64 == 63 ? '\n' : 'x');
	serial_flush(port->device, false);
	clock_gettime(CLOCK_MONOTONIC, &end);
	assert_true(end.tv_sec - start.tv_sec < 5);
	/* The test's own end of the pipe must not have become non-blocking. */
	assert_false(fcntl(port->pipe[1], F_GETFL) & O_NONBLOCK);
}

/* The end of a machine that was told to end at once waits for hardly anything. */
static void test_a_hurried_flush_is_short(void **state)
{
	struct port *port = *state;
	uint64_t shortest = UINT64_MAX;

	for (unsigned i = 0; i < 5; i++) {
		uint64_t start;

		fill(port);
		start = nanoseconds();
		serial_flush(port->device, true);
		if (nanoseconds() - start < shortest)
			shortest = nanoseconds() - start;
		drain(port);
	}
	assert_true(shortest < 200000000);
	put(port, "again\n");
	assert_output(port, "again\n");
}

/* Standard output and standard error are one pipe (2>&1 |), nobody reads it, and the guest provokes
 * lines of the log between its own: neither waits; the log's are dropped, counted, and told of. */
static void test_console_and_log_on_one_stalled_pipe(void **state)
{
	struct port *port = *state;
	const uint64_t start = nanoseconds(), before = log_dropped();
	char text[4096] = {0};

	log_set_output(port->pipe[1]);
	log_set_patience(0);
	alarm(60);
	for (unsigned i = 0; i < 3000; i++) {
		put(port,
			"a line of the guest's console, which is longer than one of some words\n");
		log_warning("a line that it provoked");
	}
	assert_in_range(log_dropped() - before, 1, 2999);
	assert_true(nanoseconds() - start < 5000000000);
	drain(port);
	serial_flush(port->device, false);
	drain(port);
	log_warning("heard");
	put(port, "again\n");
	alarm(0);
	assert_true(read(port->pipe[0], text, sizeof(text) - 1) > 0);
	log_set_patience(-1);
	log_set_output(STDERR_FILENO);
	if (!strstr(text, "lines were dropped\nduet: warning: heard\nagain\n"))
		fail_msg("%s", text);
}

static void test_slow_reader_loses_nothing(void **state)
{
	struct port *port = *state;
	uint64_t sent = 0, got = 0;
	char buffer[4096];

	for (unsigned round = 0; round < 200; round++) {
		for (unsigned i = 0; i < 1000; i++, sent++)
			out(port, THR, i % 100 == 99 ? '\n' : 'y');
		got += (uint64_t)read(port->pipe[0], buffer, sizeof(buffer));
	}
	serial_flush(port->device, false);
	for (ssize_t length; (length = read(port->pipe[0], buffer, sizeof(buffer))) > 0;)
		got += (uint64_t)length;
	assert_int_equal(sent, got);
}

static void test_transmitter_interrupt(void **state)
{
	struct port *port = *state;

	out(port, IER, 2);
	assert_false(line_up(port)); /* OUT2 is the gate */
	out(port, MCR, 8);
	assert_true(line_up(port));
	assert_int_equal(in(port, IIR) & 0xf, 2);
	assert_false(line_up(port)); /* reading acknowledges */
	assert_int_equal(in(port, IIR) & 0xf, 1);
	out(port, THR, 'a');
	assert_true(line_up(port));
	out(port, IER, 0);
	assert_false(line_up(port));
	/* Enabling it while the transmitter is empty raises it again: drivers test for that. */
	out(port, IER, 2);
	assert_int_equal(in(port, IIR) & 0xf, 2);
}

static void test_receive(void **state)
{
	struct port *port = *state;

	out(port, IIR, 1); /* FIFO on */
	out(port, MCR, 8);
	out(port, IER, 1);
	assert_int_equal(in(port, LSR) & 1, 0);
	assert_int_equal(serial_input(port->device, "ab", 2), 2);
	assert_true(line_up(port));
	assert_int_equal(in(port, IIR), 0xc4);
	assert_int_equal(in(port, THR), 'a');
	assert_int_equal(in(port, LSR) & 1, 1);
	assert_int_equal(in(port, THR), 'b');
	assert_false(line_up(port));
	assert_int_equal(in(port, LSR), 0x60);
}

static void test_receive_is_bounded(void **state)
{
	struct port *port = *state;
	char text[200];

	memset(text, 'z', sizeof(text));
	open_port(port);
	assert_int_equal(serial_input(port->device, text, sizeof(text)), 1); /* no FIFO yet */
	in(port, THR);
	out(port, IIR, 1);
	assert_true(serial_input(port->device, text, sizeof(text)) >= 16);
	assert_int_equal(serial_input(port->device, text, 1), 0);
}

/* Linux's 8250 driver from its probe to the open port: it clears and reads the FIFO more than once.
 */
static void start_as_linux(struct port *port)
{
	static const uint8_t clears[] = {1, 7, 0};

	out(port, IER, 0);
	out(port, MCR, 0x1a);
	in(port, MSR);
	out(port, MCR, 0);
	for (unsigned i = 0; i < sizeof(clears); i++)
		out(port, IIR, clears[i]);
	for (unsigned i = 0; i < 2; i++) {
		in(port, LSR);
		in(port, THR);
		in(port, IIR);
		in(port, MSR);
		out(port, LCR, 3);
		out(port, MCR, 8);
		out(port, IER, i ? 5 : 0);
	}
	/* The settings of the line, once the receive interrupt is on. */
	out(port, IIR, 1);
	out(port, IIR, 0x81);
	out(port, MCR, 0x0b);
}

static void type_as_it_goes(struct port *port, const char *text)
{
	char got[64] = {0};

	for (size_t length = 0, typed = 0; length < strlen(text);) {
		typed += serial_input(port->device, text + typed, strlen(text) - typed);
		assert_true(in(port, LSR) & 1);
		got[length++] = (char)in(port, THR);
		assert_memory_equal(got, text, length);
	}
	assert_int_equal(in(port, LSR) & 1, 0);
}

/* Piped in before the guest has its port open, across a reboot too: none is lost. */
static void test_typed_before_the_port_is_open(void **state)
{
	struct port *port = *state;

	assert_int_equal(serial_input(port->device, "early", 5), 0);
	assert_int_equal(in(port, LSR) & 1, 0);
	start_as_linux(port);
	type_as_it_goes(port, "echo hi\npoweroff -f\n");
	assert_int_equal(serial_input(port->device, "abc", 3), 3);
	/* The driver's close and another open, then the machine's reset. */
	out(port, IER, 0);
	assert_int_equal(in(port, LSR) & 1, 0);
	assert_int_equal(in(port, THR), 0);
	start_as_linux(port);
	assert_int_equal(in(port, THR), 'a');
	port->device->ops->reset(port->device);
	assert_int_equal(in(port, THR), 0);
	start_as_linux(port);
	assert_int_equal(serial_input(port->device, "d", 1), 1);
	assert_int_equal(in(port, THR), 'b');
	assert_int_equal(in(port, THR), 'c');
	assert_int_equal(in(port, THR), 'd');
}

/* Without interrupts: a boot loader, a memory tester. */
static void test_guest_that_polls(void **state)
{
	struct port *port = *state;

	assert_int_equal(serial_input(port->device, "x", 1), 0);
	for (unsigned i = 0; i < 100; i++) {
		in(port, LSR); /* not for a byte: to send */
		out(port, THR, 'o');
	}
	assert_int_equal(serial_input(port->device, "x", 1), 0);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(in(port, LSR) & 1, 0);
	assert_int_equal(serial_input(port->device, "x", 1), 1);
	assert_int_equal(in(port, LSR) & 1, 1);
	assert_int_equal(in(port, THR), 'x');
}

static void output_came(struct loop_watch *watch, uint32_t events)
{
	(void)events;
	loop_stop(watch->loop);
}

static void made_room(void *opaque)
{
	struct port *port = opaque;

	port->rooms++;
	loop_stop(port->fixture.place.main);
}

struct other_task {
	struct loop_task task;
	unsigned runs;
};

static void run_other(struct loop_task *task)
{
	((struct other_task *)task)->runs++;
}

/* Room, a full FIFO and room again before the main loop runs: its list of tasks stays whole. */
static void give_room_twice(struct port *port)
{
	struct other_task other = {.task.run = run_other};
	const unsigned rooms = port->rooms;
	char text[100] = {0};

	for (unsigned round = 0; round < 2; round++) {
		size_t taken = serial_input(port->device, text, sizeof(text));

		assert_true(taken < sizeof(text));
		while (taken--)
			in(port, THR);
		if (round == 0)
			loop_post(port->fixture.place.main, &other.task);
	}
	assert_int_equal(loop_run(port->fixture.place.main), 0);
	assert_int_equal(port->rooms, rooms + 1);
	assert_int_equal(other.runs, 1);
}

static void test_room_is_told_once_the_guest_has_read(void **state)
{
	struct port *port = *state;
	struct loop_watch output;
	char text[100] = {0};
	size_t taken;

	assert_int_equal(loop_new(&port->fixture.place.main, 8, NULL), 0);
	/* Again, now with a main loop. */
	port->device->ops->free(port->device);
	fixture_close(&port->fixture);
	bus_new(&port->fixture.place.ports, "ports");
	bus_new(&port->fixture.place.mmio, "mmio");
	assert_int_equal(serial_new(&port->device, port->pipe[1], NULL), 0);
	assert_int_equal(port->device->ops->realize(port->device, &port->fixture.place, NULL), 0);
	serial_set_room(port->device, port->fixture.place.main, made_room, port);
	open_port(port);
	out(port, IIR, 1);
	taken = serial_input(port->device, text, sizeof(text));
	assert_true(taken < sizeof(text));
	for (size_t i = 0; i < taken; i++)
		in(port, THR);
	assert_int_equal(loop_run(port->fixture.place.main), 0);
	assert_int_equal(port->rooms, 1);
	/* A driver that opens its port has room as well. */
	out(port, IER, 0);
	assert_int_equal(serial_input(port->device, text, sizeof(text)), 0);
	out(port, IER, 1);
	assert_int_equal(loop_run(port->fixture.place.main), 0);
	assert_int_equal(port->rooms, 2);
	give_room_twice(port);
	/* And a byte without a newline leaves by the timer alone. */
	out(port, THR, '>');
	assert_output(port, "");
	loop_watch(port->fixture.place.main, &output, port->pipe[0], POLLIN, output_came);
	assert_int_equal(loop_run(port->fixture.place.main), 0);
	assert_output(port, ">");
}

static void test_probe_of_drivers(void **state)
{
	struct port *port = *state;

	out(port, IER, 0xff);
	assert_int_equal(in(port, IER), 0x0f);
	out(port, IER, 0);
	out(port, MCR, 0x1a); /* loopback, OUT2, RTS */
	assert_int_equal(in(port, MSR) & 0xf0, 0x90);
	out(port, THR, 'L');
	assert_int_equal(in(port, THR), 'L');
	out(port, MCR, 0);
	out(port, LCR, 0x80);
	out(port, THR, 0x34);
	out(port, IER, 0x12);
	assert_int_equal(in(port, THR), 0x34);
	assert_int_equal(in(port, IER), 0x12);
	out(port, LCR, 3);
	assert_int_equal(in(port, IER), 0);
	out(port, IIR, 1);
	assert_int_equal(in(port, IIR) & 0xc0, 0xc0);
	serial_flush(port->device, false);
	assert_output(port, "");
}

static void test_move(void **state)
{
	struct port *from = *state;
	struct port *to;

	set_up((void **)&to);
	out(from, IIR, 1);
	out(from, MCR, 8);
	out(from, IER, 3);
	serial_input(from->device, "xyz", 3);
	in(from, THR);
	assert_int_equal(fixture_move(from->device, to->device), 0);
	assert_int_equal(in(to, IER), 3);
	assert_int_equal(in(to, MCR), 8);
	assert_int_equal(in(to, IIR), 0xc4);
	assert_int_equal(in(to, THR), 'y');
	assert_int_equal(in(to, THR), 'z');
	assert_int_equal(in(to, LSR) & 1, 0);
	tear_down((void **)&to);
}

/* As version 1 wrote it: one FIFO. */
static void test_older_state(void **state)
{
	static const uint8_t old[] = {1, 1, 3, 8, 0, 0x5a, 12, 0, 0, 2, 'o', 'k', 0, 0};
	struct port *port = *state;
	struct state_reader reader = {
		.bytes = old, .length = sizeof(old), .section_end = sizeof(old), .version = 1};

	assert_int_equal(port->device->ops->restore(port->device, &reader, NULL), 0);
	assert_int_equal(reader.at, sizeof(old));
	assert_int_equal(in(port, THR), 'o');
	assert_int_equal(in(port, THR), 'k');
	assert_int_equal(in(port, LSR) & 1, 0);
}

/* A restored prompt is shown; nothing of a port that has gone comes by its owner's loop again. */
static void test_output_goes_on_and_ends(void **state)
{
	struct port *from = *state;
	struct port to = {.rooms = 0};
	struct loop *loop;

	assert_int_equal(loop_new(&loop, 8, NULL), 0);
	assert_int_equal(pipe2(to.pipe, O_CLOEXEC | O_NONBLOCK), 0);
	fixture_open(&to.fixture);
	to.fixture.place.main = loop;
	assert_int_equal(serial_new(&to.device, to.pipe[1], NULL), 0);
	assert_int_equal(to.device->ops->realize(to.device, &to.fixture.place, NULL), 0);
	put(from, "login: ");
	assert_int_equal(fixture_move(from->device, to.device), 0);
	assert_int_equal(to.device->ops->start(to.device, NULL), 0);
	loop_run_for(loop, 150);
	assert_output(&to, "login: ");
	put(&to, "more");
	to.device->ops->free(to.device);
	loop_run_for(loop, 150);
	fixture_close(&to.fixture);
	close(to.pipe[0]);
	close(to.pipe[1]);
	loop_free(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_line_is_one_write, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_prompt_leaves_when_the_driver_is_done, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_flush_at_the_end, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_full_pipe_drops_and_does_not_hang, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_hurried_flush_is_short, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_console_and_log_on_one_stalled_pipe, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_slow_reader_loses_nothing, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_slow_reader_is_waited_for_by_the_guest, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_stopped_reader_is_given_up, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_nothing_is_lost_to_a_slow_reader, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_typed_before_the_port_is_open, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_guest_that_polls, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_transmitter_interrupt, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_output_goes_on_and_ends, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_receive, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_receive_is_bounded, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_room_is_told_once_the_guest_has_read, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_probe_of_drivers, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_older_state, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_move, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
