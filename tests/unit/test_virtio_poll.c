/* SPDX-License-Identifier: Apache-2.0 */
/* A polled device: what it finds without kicks, that it goes to sleep and asks to be woken. */
#include "virtio_rig.h"

#include "base/checked.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define PACKED    VIRTIO_FEATURE(VIRTIO_F_RING_PACKED)
#define EVENT_IDX VIRTIO_FEATURE(VIRTIO_F_EVENT_IDX)
#define VERSION_1 VIRTIO_FEATURE(VIRTIO_F_VERSION_1)
#define RING_BASE 0x100000ULL
#define DATA      0x800000ULL
#define REQUESTS  4000U

struct rig {
	struct fake_machine machine;
	struct device *device;
	struct rig_model *model;
	struct virtio_driver driver;
	struct ring_driver rings[2];
	unsigned kicks;
};

static const uint64_t kinds[] = {
	VERSION_1, VERSION_1 | EVENT_IDX, VERSION_1 | PACKED, VERSION_1 | PACKED | EVENT_IDX};

static void rig_init(struct rig *rig, uint64_t features)
{
	struct virtqueue_setup setup = {
		.size = 16, .packed = features & PACKED, .event_idx = features & EVENT_IDX};
	struct error err;

	memset(rig, 0, sizeof(*rig));
	fake_machine_init(&rig->machine);
	assert_int_equal(rig_model_new(&rig->device, &rig->model, 2, PACKED, &err), 0);
	rig->model->virtio.polls = true;
	assert_int_equal(rig->device->ops->realize(rig->device, &rig->machine.place, &err), 0);
	assert_int_equal(rig->device->ops->start(rig->device, &err), 0);
	driver_probe(&rig->driver, &rig->machine, 1);
	assert_true(driver_reset(&rig->driver));
	assert_true(driver_negotiate(&rig->driver, features));
	driver_msix(&rig->driver, 3);
	for (unsigned i = 0; i < 2; i++)
		driver_queue(&rig->driver, i, &rig->rings[i], RING_BASE + 0x40000 * i, &setup,
			(uint16_t)(i + 1));
	driver_ok(&rig->driver);
}

static void rig_free(struct rig *rig)
{
	fake_machine_end_device(&rig->machine, rig->device);
	fake_machine_free(&rig->machine);
}

static void offer(struct rig *rig, unsigned queue)
{
	const struct ring_buffer buffer = {DATA, 32, true};

	assert_true(ring_driver_offer(&rig->rings[queue], &buffer, 1, false, 7));
}

static void offer_and_kick(struct rig *rig, unsigned queue)
{
	offer(rig, queue);
	if (ring_driver_kick(&rig->rings[queue])) {
		rig->kicks++;
		driver_kick(&rig->driver, queue);
	}
}

/* As a guest that is busy waiting. */
static void await_answer(struct rig *rig, unsigned queue)
{
	struct timespec from, now;
	uint32_t written;
	uint64_t token;

	clock_gettime(CLOCK_MONOTONIC, &from);
	while (!ring_driver_take(&rig->rings[queue], &token, &written)) {
		sched_yield();
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (now.tv_sec - from.tv_sec > 10)
			fail_msg("no answer");
	}
	assert_int_equal(token, 7);
}

static uint64_t count_of(const _Atomic uint64_t *counter)
{
	return atomic_load(counter);
}

static void finds_without_kicks(void **state)
{
	(void)state;
	for (unsigned kind = 0; kind < ARRAY_SIZE(kinds); kind++) {
		const struct virtqueue_stats *stats;
		struct rig rig;

		rig_init(&rig, kinds[kind]);
		for (unsigned i = 0; i < REQUESTS; i++) {
			offer_and_kick(&rig, i & 1);
			await_answer(&rig, i & 1);
		}
		/* A handful in fact; all of them without polling. */
		assert_true(rig.kicks < REQUESTS / 4);
		stats = &rig.model->virtio.queues[0].stats;
		assert_true(count_of(&stats->polls) > REQUESTS / 4);
		assert_int_equal(count_of(&stats->chains), REQUESTS / 2);
		rig_free(&rig);
	}
}

/* Waits until the device gave up since @misses. */
static void await_sleep(struct rig *rig, uint64_t misses)
{
	const struct timespec step = {.tv_nsec = 1000000};
	const struct virtqueue_stats *stats = &rig->model->virtio.queues[0].stats;

	for (unsigned i = 0; i < FAKE_PATIENCE_MS && count_of(&stats->poll_misses) == misses; i++)
		nanosleep(&step, NULL);
	assert_true(count_of(&stats->poll_misses) > misses);
}

static void sleeps_and_is_woken(void **state)
{
	(void)state;
	for (unsigned kind = 0; kind < ARRAY_SIZE(kinds); kind++) {
		const struct virtqueue_stats *stats;
		unsigned woken = 0;
		struct rig rig;

		rig_init(&rig, kinds[kind]);
		stats = &rig.model->virtio.queues[0].stats;
		for (unsigned i = 0; i < 50; i++) {
			uint64_t misses = count_of(&stats->poll_misses);

			offer_and_kick(&rig, 0);
			await_answer(&rig, 0);
			await_sleep(&rig, misses);
			/* Now nobody looks, so it must have asked; or the sleep was an earlier one,
			 * and it looks. */
			offer(&rig, 0);
			if (ring_driver_kick(&rig.rings[0])) {
				driver_kick(&rig.driver, 0);
				woken++;
			}
			await_answer(&rig, 0);
		}
		assert_true(woken > 0);
		rig_free(&rig);
	}
}

static void stops_and_goes_on(void **state)
{
	struct error err;
	struct rig rig;

	(void)state;
	rig_init(&rig, VERSION_1 | EVENT_IDX);
	for (unsigned i = 0; i < 200; i++) {
		offer_and_kick(&rig, 0);
		await_answer(&rig, 0);
		fake_stop(rig.device);
		offer_and_kick(&rig, 1);
		assert_int_equal(rig.model->activations, rig.model->quiesces);
		rig.device->ops->start(rig.device, &err);
		await_answer(&rig, 1);
	}
	rig_free(&rig);
}

/* Too little for the model is in the ring when it goes to sleep: more must wake it. */
static void wakes_for_more(void **state)
{
	const struct timespec nap = {.tv_nsec = 60000000};

	(void)state;
	for (unsigned kind = 0; kind < ARRAY_SIZE(kinds); kind++) {
		struct rig rig;

		rig_init(&rig, kinds[kind]);
		rig.model->needs = 3;
		for (unsigned i = 0; i < 5; i++) {
			offer_and_kick(&rig, 0);
			offer_and_kick(&rig, 0);
			nanosleep(&nap, NULL);
			offer_and_kick(&rig, 0);
			for (unsigned answers = 0; answers < 3; answers++)
				await_answer(&rig, 0);
		}
		rig_free(&rig);
	}
}

/* Other work of the loop is not held up, polling or not. */
static void count_task(struct loop_task *task)
{
	(void)task;
}

static void serves_others(void **state)
{
	struct loop_task task = {.run = count_task};
	struct rig rig;

	(void)state;
	rig_init(&rig, VERSION_1);
	for (unsigned i = 0; i < 2000; i++) {
		loop_call(rig.machine.place.io, &task);
		offer_and_kick(&rig, 0);
		await_answer(&rig, 0);
		assert_true(fake_host_wait_msi(&rig.machine.host, 0x101));
	}
	rig_free(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_without_kicks),
		cmocka_unit_test(sleeps_and_is_woken),
		cmocka_unit_test(wakes_for_more),
		cmocka_unit_test(stops_and_goes_on),
		cmocka_unit_test(serves_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
