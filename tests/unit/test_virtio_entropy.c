/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-entropy as its driver sees it. */
#include "device_rig.h"
#include "device_stats.h"

#include "base/checked.h"
#include "base/clock.h"
#include "virtio/devices.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define DATA DEVICE_RIG_DATA

static void rig_init(struct device_rig *rig)
{
	struct error err = {0};

	memset(rig, 0, sizeof(*rig));
	fake_machine_init(&rig->machine);
	assert_int_equal(virtio_entropy_new(&rig->device, "entropy0", true, &err), 0);
	device_rig_start(rig);
}

/* How many of the bytes have each bit set: about half of them. */
static void looks_random(const uint8_t *bytes, size_t length)
{
	for (unsigned bit = 0; bit < 8; bit++) {
		size_t set = 0;

		for (size_t i = 0; i < length; i++)
			set += bytes[i] >> bit & 1;
		assert_true(set > length * 4 / 10 && set < length * 6 / 10);
	}
}

static void test_fills(void **state)
{
	static const uint64_t kinds[] = {
		0, VIRTIO_FEATURE(VIRTIO_F_EVENT_IDX), VIRTIO_FEATURE(VIRTIO_F_RING_PACKED)};
	const struct ring_buffer pieces[] = {{DATA, 1000, true}, {DATA + 1000, 7192, true}};
	const struct ring_buffer mixed[] = {{DATA, 100, false}, {DATA + 100, 64, true}};
	struct device_rig rig;

	rig_init(&rig);
	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
		device_rig_up(&rig, kinds[i], 1);
		memset(device_rig_at(&rig, DATA), 0, 16384);
		assert_int_equal(device_rig_request(&rig, 0, pieces, 2, false), 8192);
		looks_random(device_rig_at(&rig, DATA), 8192);
		for (unsigned j = 8192; j < 16384; j++)
			assert_int_equal(*device_rig_at(&rig, DATA + j), 0);
	}
	/* What is not writable is not written. */
	memset(device_rig_at(&rig, DATA), 0, 100);
	assert_int_equal(device_rig_request(&rig, 0, mixed, 2, false), 64);
	for (unsigned j = 0; j < 100; j++)
		assert_int_equal(*device_rig_at(&rig, DATA + j), 0);
	assert_int_equal(device_stat(rig.device, "queue0", "bytes"), 3 * 8192 + 64);
	device_rig_free(&rig);
}

/* More than a turn takes, all of it for one kick; stopped in between, nothing is lost. */
static void test_stops_between_turns(void **state)
{
	const struct ring_buffer large = {DATA, 1 << 20, true};
	struct error err;
	struct device_rig rig;

	rig_init(&rig);
	device_rig_up(&rig, VIRTIO_FEATURE(VIRTIO_F_EVENT_IDX), 1);
	for (unsigned i = 0; i < 60; i++)
		assert_true(ring_driver_offer(&rig.rings[0], &large, 1, false, i));
	driver_kick(&rig.driver, 0);
	for (unsigned i = 0; i < 60; i++) {
		uint64_t token;
		uint32_t written;

		fake_stop(rig.device);
		assert_int_equal(rig.device->ops->start(rig.device, &err), 0);
		assert_true(driver_await(&rig.rings[0], &token, &written));
		assert_int_equal(token, i);
	}
	device_rig_free(&rig);
}

static void limit(struct device_rig *rig, struct bucket_limits limits)
{
	struct error err = {0};

	memset(rig, 0, sizeof(*rig));
	fake_machine_init(&rig->machine);
	assert_int_equal(virtio_entropy_new(&rig->device, "entropy0", true, &err), 0);
	virtio_entropy_limit(rig->device, &limits);
	device_rig_start(rig);
	device_rig_up(rig, 0, 1);
}

/* A burst of 8 and 2 for once go at once, the others at 100 a second; all come, in their order. */
static void test_limits_requests(void **state)
{
	const struct ring_buffer buffer = {DATA, 16, true};
	struct device_rig rig;
	uint64_t start, token;
	uint32_t written;

	limit(&rig, (struct bucket_limits){.operations = {.amount = 100, .burst = 8, .once = 2}});
	for (unsigned i = 0; i < 30; i++)
		assert_true(ring_driver_offer(&rig.rings[0], &buffer, 1, false, i));
	start = clock_ns();
	driver_kick(&rig.driver, 0);
	for (unsigned i = 0; i < 30; i++) {
		assert_true(driver_await(&rig.rings[0], &token, &written));
		assert_int_equal(token, i);
		assert_int_equal(written, 16);
	}
	/* A late timer is made up for, so no more than 20 ms earlier than in 200 ms. */
	assert_in_range(clock_ns() - start, 170000000ULL, 10000000000ULL);
	assert_in_range(device_stat(rig.device, "queue0", "throttled"), 1, 20);
	device_rig_free(&rig);
}

/* What was given is paid for: the second request waits for the bytes of the first. */
static void test_limits_bytes(void **state)
{
	const struct ring_buffer buffer = {DATA, 3000, true};
	struct device_rig rig;
	uint64_t start = clock_ns();

	limit(&rig, (struct bucket_limits){.bytes = {.amount = 10000, .burst = 1000}});
	assert_int_equal(device_rig_request(&rig, 0, &buffer, 1, false), 3000);
	assert_int_equal(device_stat(rig.device, "queue0", "throttled"), 0);
	assert_int_equal(device_rig_request(&rig, 0, &buffer, 1, false), 3000);
	assert_in_range(clock_ns() - start, 170000000ULL, 10000000000ULL);
	assert_int_equal(device_stat(rig.device, "queue0", "throttled"), 1);
	assert_int_equal(device_stat(rig.device, "queue0", "bytes"), 6000);
	device_rig_free(&rig);
}

/* Stopped and reset while a request waits: no turn comes for it any more. */
static void test_stops_while_limited(void **state)
{
	const struct ring_buffer buffer = {DATA, 64, true};
	struct error err;
	struct device_rig rig;
	uint64_t token;
	uint32_t written;

	limit(&rig, (struct bucket_limits){.operations = {.amount = 5, .burst = 1}});
	for (unsigned i = 0; i < 2; i++)
		assert_true(ring_driver_offer(&rig.rings[0], &buffer, 1, false, i));
	driver_kick(&rig.driver, 0);
	assert_true(driver_await(&rig.rings[0], &token, &written));
	fake_stop(rig.device);
	assert_int_equal(rig.device->ops->start(rig.device, &err), 0);
	assert_true(driver_await(&rig.rings[0], &token, &written));
	assert_int_equal(token, 1);
	assert_true(ring_driver_offer(&rig.rings[0], &buffer, 1, false, 2));
	driver_kick(&rig.driver, 0);
	device_rig_up(&rig, 0, 1);
	assert_int_equal(device_rig_request(&rig, 0, &buffer, 1, false), 64);
	device_rig_free(&rig);
}

static void test_bounded(void **state)
{
	const struct ring_buffer large = {DATA, 4 << 20, true};
	struct device_rig rig;

	rig_init(&rig);
	device_rig_up(&rig, 0, 1);
	assert_int_equal(device_rig_request(&rig, 0, &large, 1, false), 65536);
	/* More than one round takes. */
	for (unsigned i = 0; i < 60; i++)
		assert_true(ring_driver_offer(&rig.rings[0], &large, 1, false, i));
	driver_kick(&rig.driver, 0);
	for (unsigned i = 0; i < 60; i++) {
		uint64_t token;
		uint32_t written;

		assert_true(driver_await(&rig.rings[0], &token, &written));
		assert_int_equal(written, 65536);
	}
	device_rig_free(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fills),
		cmocka_unit_test(test_bounded),
		cmocka_unit_test(test_limits_requests),
		cmocka_unit_test(test_limits_bytes),
		cmocka_unit_test(test_stops_while_limited),
		cmocka_unit_test(test_stops_between_turns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
