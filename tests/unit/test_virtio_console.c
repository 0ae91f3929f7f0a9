/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-console as its driver sees it, on pipes. */
#include "device_rig.h"
#include "device_stats.h"
#include "late_page.h"

#include "base/checked.h"
#include "base/clock.h"
#include "virtio/devices.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define DATA DEVICE_RIG_DATA

enum {
	RECEIVE,
	TRANSMIT
};

struct rig {
	struct device_rig rig;
	int output, typing; /* the test's ends */
	int theirs[2];
};

static void rig_init_quiet(struct rig *rig, bool with_input, int flags, unsigned quiet_ms)
{
	struct virtio_console_options options = {.input = -1, .packed = true, .quiet_ms = quiet_ms};
	struct error err = {0};
	int out[2], in[2];

	memset(rig, 0, sizeof(*rig));
	assert_int_equal(pipe2(out, O_CLOEXEC | flags), 0);
	assert_int_equal(pipe2(in, O_CLOEXEC | flags), 0);
	rig->output = out[0];
	rig->typing = in[1];
	options.output = rig->theirs[0] = out[1];
	rig->theirs[1] = in[0];
	if (with_input)
		options.input = in[0];
	fake_machine_init(&rig->rig.machine);
	assert_int_equal(virtio_console_new(&rig->rig.device, "console0", &options, &err), 0);
	device_rig_start(&rig->rig);
}

static void rig_init(struct rig *rig, bool with_input, int flags)
{
	rig_init_quiet(rig, with_input, flags, 0);
}

static void rig_free(struct rig *rig)
{
	device_rig_free(&rig->rig);
	close(rig->output);
	close(rig->typing);
	close(rig->theirs[0]);
	close(rig->theirs[1]);
}

static void offer_text(struct rig *rig, uint64_t gpa, uint32_t length, uint64_t token)
{
	const struct ring_buffer buffer = {gpa, length, false};

	assert_true(ring_driver_offer(&rig->rig.rings[TRANSMIT], &buffer, 1, false, token));
}

static void expect_text(struct rig *rig, const uint8_t *text, size_t length)
{
	for (size_t at = 0; at < length;) {
		struct pollfd readable = {.fd = rig->output, .events = POLLIN};
		uint8_t got[4096];
		ssize_t count;

		assert_int_equal(poll(&readable, 1, FAKE_PATIENCE_MS), 1);
		count = read(rig->output, got, min_u64(sizeof(got), length - at));
		assert_true(count > 0);
		assert_memory_equal(got, text + at, (size_t)count);
		at += (size_t)count;
	}
}

static void output(int flags)
{
	static const uint64_t kinds[] = {
		0, VIRTIO_FEATURE(VIRTIO_F_EVENT_IDX), VIRTIO_FEATURE(VIRTIO_F_RING_PACKED)};
	struct rig rig;

	rig_init(&rig, false, flags);
	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
		const struct ring_buffer hello = {DATA, 16, false};

		device_rig_up(&rig.rig, kinds[i], 2);
		memcpy(device_rig_at(&rig.rig, DATA), "hello, terminal\n", 16);
		assert_int_equal(device_rig_request(&rig.rig, TRANSMIT, &hello, 1, false), 0);
		expect_text(&rig, (const uint8_t *)"hello, terminal\n", 16);
	}
	assert_int_equal(device_stat(rig.rig.device, "queue1", "bytes"), 48);
	rig_free(&rig);
}

static void test_output(void **state)
{
	output(0);
	output(O_NONBLOCK);
}

/* Much more than buffers and pipe hold: nothing is lost, and in order. */
static void long_output(int flags)
{
	enum {
		PIECES = 40,
		PIECE = 20000
	};
	uint8_t *text;
	struct rig rig;

	rig_init(&rig, false, flags);
	device_rig_up(&rig.rig, 0, 2);
	text = device_rig_at(&rig.rig, DATA);
	for (size_t i = 0; i < PIECES * PIECE; i++)
		text[i] = (uint8_t)(i * 3 + i / 1000);
	for (unsigned i = 0; i < PIECES; i++)
		offer_text(&rig, DATA + PIECE * i, PIECE, i);
	driver_kick(&rig.rig.driver, TRANSMIT);
	expect_text(&rig, text, PIECES * PIECE);
	for (uint64_t i = 0, token; i < PIECES; i++) {
		uint32_t written;

		assert_true(driver_await(&rig.rig.rings[TRANSMIT], &token, &written));
		assert_int_equal(token, i);
	}
	rig_free(&rig);
}

static void test_long_output(void **state)
{
	long_output(0);
	long_output(O_NONBLOCK);
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* A terminal that takes nothing holds up neither a reset nor the end. */
static void test_stuck_terminal(void **state)
{
	static const int flags[] = {0, O_NONBLOCK};

	for (unsigned i = 0; i < ARRAY_SIZE(flags); i++) {
		uint64_t start;
		struct rig rig;

		rig_init(&rig, false, flags[i]);
		device_rig_up(&rig.rig, 0, 2);
		for (unsigned j = 0; j < 20; j++)
			offer_text(&rig, DATA, 20000, j);
		driver_kick(&rig.rig.driver, TRANSMIT);
		usleep(50000);
		start = now_ms();
		assert_true(driver_reset(&rig.rig.driver));
		assert_true(now_ms() - start < 1000);
		device_rig_up(&rig.rig, 0, 2);
		for (unsigned j = 0; j < 20; j++)
			offer_text(&rig, DATA, 20000, j);
		driver_kick(&rig.rig.driver, TRANSMIT);
		usleep(20000);
		start = now_ms();
		rig_free(&rig);
		assert_true(now_ms() - start < 1500);
	}
}

/* What the guest said last comes out though it is switched off at once. */
static void test_last_words(void **state)
{
	struct rig rig;

	rig_init(&rig, false, 0);
	device_rig_up(&rig.rig, 0, 2);
	memcpy(device_rig_at(&rig.rig, DATA), "last words", 10);
	offer_text(&rig, DATA, 10, 1);
	driver_kick(&rig.rig.driver, TRANSMIT);
	{
		uint64_t token;
		uint32_t written;

		assert_true(driver_await(&rig.rig.rings[TRANSMIT], &token, &written));
	}
	fake_stop(rig.rig.device);
	expect_text(&rig, (const uint8_t *)"last words", 10);
	rig_free(&rig);
}

static void offer_room(struct rig *rig, uint64_t gpa, uint32_t length)
{
	const struct ring_buffer buffer = {gpa, length, true};

	assert_true(ring_driver_offer(&rig->rig.rings[RECEIVE], &buffer, 1, false, gpa));
	driver_kick(&rig->rig.driver, RECEIVE);
}

static void expect_typed(struct rig *rig, const char *text)
{
	size_t length = strlen(text), at = 0;

	while (at < length) {
		uint64_t token;
		uint32_t written;

		assert_true(driver_await(&rig->rig.rings[RECEIVE], &token, &written));
		assert_true(written <= length - at);
		assert_memory_equal(device_rig_at(&rig->rig, token), text + at, written);
		at += written;
	}
}

static void test_input_from_main(void **state)
{
	char much[8192];
	struct rig rig;

	rig_init(&rig, false, 0);
	/* Typed before there is a driver. */
	assert_int_equal(virtio_console_input(rig.rig.device, "early", 5), 5);
	device_rig_up(&rig.rig, VIRTIO_FEATURE(VIRTIO_F_EVENT_IDX), 2);
	offer_room(&rig, DATA, 3);
	offer_room(&rig, DATA + 16, 16);
	expect_typed(&rig, "early");
	offer_room(&rig, DATA, 64);
	assert_int_equal(virtio_console_input(rig.rig.device, "ls\n", 3), 3);
	expect_typed(&rig, "ls\n");
	/* Bounded. */
	memset(much, 'x', sizeof(much));
	assert_int_equal(virtio_console_input(rig.rig.device, much, sizeof(much)), 4096);
	assert_int_equal(virtio_console_input(rig.rig.device, much, 1), 0);
	rig_free(&rig);
}

/* By the linker's --wrap. */
size_t __real_iov_copy_to(const struct iovec *segments, unsigned count, size_t offset,
	const void *from, size_t length);
size_t __wrap_iov_copy_to(const struct iovec *segments, unsigned count, size_t offset,
	const void *from, size_t length);

size_t __wrap_iov_copy_to(const struct iovec *segments, unsigned count, size_t offset,
	const void *from, size_t length)
{
	late_page_write();
	return __real_iov_copy_to(segments, count, offset, from, length);
}

/* Who types goes on meanwhile; nothing is lost, and all in order. */
static void test_buffer_that_is_yet_to_come(void **state)
{
	char much[4093];
	struct rig rig;

	rig_init(&rig, false, 0);
	device_rig_up(&rig.rig, 0, 2);
	memset(much, 'x', sizeof(much));
	late_page_begin();
	offer_room(&rig, DATA, 5000);
	assert_int_equal(virtio_console_input(rig.rig.device, "one", 3), 3);
	late_page_await();
	assert_int_equal(virtio_console_input(rig.rig.device, "two", 3), 3);
	/* What is being copied still takes room. */
	assert_int_equal(virtio_console_input(rig.rig.device, much, sizeof(much)), 4090);
	late_page_come();
	expect_typed(&rig, "one");
	offer_room(&rig, DATA, 3);
	expect_typed(&rig, "two");
	/* Round the ring's end. */
	assert_int_equal(virtio_console_input(rig.rig.device, "end", 3), 3);
	much[4090] = 0;
	offer_room(&rig, DATA, 4090);
	expect_typed(&rig, much);
	offer_room(&rig, DATA, 16);
	expect_typed(&rig, "end");
	rig_free(&rig);
}

struct giver {
	struct loop *loop;
	unsigned calls;
};

static void may_give(void *opaque)
{
	struct giver *giver = opaque;

	giver->calls++;
	loop_stop(giver->loop);
}

static void test_giver_hears_of_room(void **state)
{
	static char much[4096];
	struct giver giver = {.calls = 0};
	struct rig rig;

	assert_int_equal(loop_new(&giver.loop, 8, NULL), 0);
	rig_init(&rig, false, 0);
	virtio_console_set_room(rig.rig.device, giver.loop, may_give, &giver);
	device_rig_up(&rig.rig, VIRTIO_FEATURE(VIRTIO_F_EVENT_IDX), 2);
	memset(much, 'x', sizeof(much));
	/* All was taken: nobody waits. */
	assert_int_equal(virtio_console_input(rig.rig.device, much, sizeof(much)), sizeof(much));
	assert_int_equal(virtio_console_input(rig.rig.device, "yz", 2), 0);
	offer_room(&rig, DATA, 2048);
	assert_int_equal(loop_run(giver.loop), 0);
	assert_int_equal(giver.calls, 1);
	assert_int_equal(virtio_console_input(rig.rig.device, "yz", 2), 2);
	rig_free(&rig);
	loop_free(giver.loop);
}

#define QUIET_MS 20

/* What was typed early comes to the driver at @soonest, at the soonest. */
static void expect_early(struct rig *rig, uint64_t soonest)
{
	expect_typed(rig, "early");
	assert_true(clock_ns() >= soonest);
}

/* Linux loses what it is given before its console is there: when it has spoken and fallen silent.
 */
static void test_early_input_waits_for_the_console(void **state)
{
	struct rig rig;

	(void)state;
	rig_init_quiet(&rig, false, 0, QUIET_MS);
	for (unsigned words = 0; words < 4; words++) {
		uint64_t up = clock_ns(), spoken = up;

		assert_int_equal(virtio_console_input(rig.rig.device, "early", 5), 5);
		device_rig_up(&rig.rig, 0, 2);
		offer_room(&rig, DATA, 64);
		for (unsigned i = 0; i < words; i++) {
			const struct ring_buffer text = {DATA + 0x1000, 16, false};

			usleep(QUIET_MS * 500);
			spoken = clock_ns();
			device_rig_request(&rig.rig, TRANSMIT, &text, 1, false);
		}
		expect_early(&rig,
			words ? spoken + QUIET_MS * 1000000ULL : up + 4 * QUIET_MS * 1000000ULL);
	}
	/* And from then on at once, over a stop, too. */
	fake_stop(rig.rig.device);
	assert_int_equal(rig.rig.device->ops->start(rig.rig.device, NULL), 0);
	offer_room(&rig, DATA, 64);
	assert_int_equal(virtio_console_input(rig.rig.device, "early", 5), 5);
	expect_early(&rig, 0);
	rig_free(&rig);
}

/* Who never stops gets it as well. */
static void test_early_input_does_not_wait_for_ever(void **state)
{
	const struct ring_buffer text = {DATA + 0x1000, 16, false};
	struct rig rig;

	(void)state;
	rig_init_quiet(&rig, false, 0, QUIET_MS);
	assert_int_equal(virtio_console_input(rig.rig.device, "early", 5), 5);
	device_rig_up(&rig.rig, 0, 2);
	offer_room(&rig, DATA, 64);
	for (unsigned i = 0; device_stat(rig.rig.device, "queue0", "bytes") == 0; i++) {
		assert_true(i < FAKE_PATIENCE_MS);
		device_rig_request(&rig.rig, TRANSMIT, &text, 1, false);
		usleep(1000);
	}
	expect_early(&rig, 0);
	rig_free(&rig);
}

static void input_from_descriptor(int flags)
{
	struct rig rig;

	rig_init(&rig, true, flags);
	device_rig_up(&rig.rig, 0, 2);
	assert_int_equal(write(rig.typing, "first", 5), 5);
	usleep(10000);
	offer_room(&rig, DATA, 64);
	expect_typed(&rig, "first");
	offer_room(&rig, DATA, 64);
	assert_int_equal(write(rig.typing, "second", 6), 6);
	expect_typed(&rig, "second");
	/* A reset takes the reading operation off the loop; after it input goes on. */
	device_rig_up(&rig.rig, 0, 2);
	offer_room(&rig, DATA, 64);
	assert_int_equal(write(rig.typing, "third", 5), 5);
	expect_typed(&rig, "third");
	close(rig.typing);
	rig.typing = -1;
	usleep(10000);
	rig_free(&rig);
}

/* Buffers that take nothing could come without end while a byte waits. */
static void test_malformed_input(void **state)
{
	const struct ring_buffer readable = {DATA, 64, false};
	struct rig rig;

	rig_init(&rig, false, 0);
	device_rig_up(&rig.rig, 0, 2);
	assert_true(ring_driver_offer(&rig.rig.rings[RECEIVE], &readable, 1, false, 1));
	driver_kick(&rig.rig.driver, RECEIVE);
	assert_int_equal(virtio_console_input(rig.rig.device, "x", 1), 1);
	assert_true(device_rig_needs_reset(&rig.rig));
	rig_free(&rig);
}

static void test_input_from_descriptor(void **state)
{
	input_from_descriptor(0);
	input_from_descriptor(O_NONBLOCK);
}

static void test_config(void **state)
{
	struct rig rig;
	uint64_t config;

	rig_init(&rig, false, 0);
	device_rig_up(&rig.rig, 0, 2);
	config = rig.rig.driver.config;
	assert_int_equal(driver_features(&rig.rig.driver) & 7, 5);
	virtio_console_resize(rig.rig.device, 132, 43);
	assert_true(fake_host_wait_msi(&rig.rig.machine.host, 0x100));
	assert_int_equal(fake_guest_read(&rig.rig.machine, config, 2), 132);
	assert_int_equal(fake_guest_read(&rig.rig.machine, config + 2, 2), 43);
	assert_int_equal(fake_guest_read(&rig.rig.machine, config + 4, 4), 1);
	fake_guest_write(&rig.rig.machine, config + 8, 4, '!');
	expect_text(&rig, (const uint8_t *)"!", 1);
	rig_free(&rig);
}

/* Known before there is a driver; a driver like Linux's reads it when it is told of a change, at
 * each of its starts. */
static void test_size_from_the_start(void **state)
{
	struct rig rig;

	rig_init(&rig, false, 0);
	virtio_console_resize(rig.rig.device, 123, 41);
	for (unsigned start = 0; start < 2; start++) {
		device_rig_up(&rig.rig, 1, 2);
		assert_true(fake_host_wait_msi(&rig.rig.machine.host, 0x100));
		assert_int_equal(fake_guest_read(&rig.rig.machine, rig.rig.driver.config, 4),
			123 | 41 << 16);
	}
	rig_free(&rig);
}

/* An emergency write is an exit on a vCPU's thread: it never waits for the reader. */
static void test_emergency_write_to_a_full_pipe(void **state)
{
	static const char much[4096];
	uint64_t start;
	struct rig rig;

	rig_init(&rig, false, 0);
	device_rig_up(&rig.rig, 0, 2);
	fcntl(rig.theirs[0], F_SETFL, O_NONBLOCK);
	while (write(rig.theirs[0], much, sizeof(much)) > 0)
		;
	fcntl(rig.theirs[0], F_SETFL, 0);
	start = now_ms();
	for (unsigned i = 0; i < 1000; i++)
		fake_guest_write(&rig.rig.machine, rig.rig.driver.config + 8, 4, '!');
	assert_true(now_ms() - start < 1000);
	rig_free(&rig);
}

/* The other end of the terminal is gone: output is thrown away, the guest goes on. */
static void test_no_terminal(void **state)
{
	const struct ring_buffer text = {DATA, 4096, false};
	struct rig rig;

	rig_init(&rig, false, 0);
	close(rig.output);
	rig.output = -1;
	device_rig_up(&rig.rig, 0, 2);
	for (unsigned i = 0; i < 100; i++)
		device_rig_request(&rig.rig, TRANSMIT, &text, 1, false);
	rig_free(&rig);
}

static int ignore_sigpipe(void **state)
{
	return signal(SIGPIPE, SIG_IGN) == SIG_ERR;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_output),
		cmocka_unit_test(test_long_output),
		cmocka_unit_test(test_stuck_terminal),
		cmocka_unit_test(test_last_words),
		cmocka_unit_test(test_input_from_main),
		cmocka_unit_test(test_buffer_that_is_yet_to_come),
		cmocka_unit_test(test_giver_hears_of_room),
		cmocka_unit_test(test_early_input_waits_for_the_console),
		cmocka_unit_test(test_early_input_does_not_wait_for_ever),
		cmocka_unit_test(test_input_from_descriptor),
		cmocka_unit_test(test_malformed_input),
		cmocka_unit_test(test_config),
		cmocka_unit_test(test_emergency_write_to_a_full_pipe),
		cmocka_unit_test(test_size_from_the_start),
		cmocka_unit_test(test_no_terminal),
	};

	return cmocka_run_group_tests(tests, ignore_sigpipe, NULL);
}
