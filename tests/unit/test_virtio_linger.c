/* SPDX-License-Identifier: Apache-2.0 */
/* A device that lingers: its driver's kicks stay off while requests come fast, no request waits for
 * another's answer, and none is forgotten. */
#include "virtio_rig.h"

#include "base/checked.h"
#include "base/clock.h"
#include "virtio/transport/transport.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define PACKED    VIRTIO_FEATURE(VIRTIO_F_RING_PACKED)
#define EVENT_IDX VIRTIO_FEATURE(VIRTIO_F_EVENT_IDX)
#define VERSION_1 VIRTIO_FEATURE(VIRTIO_F_VERSION_1)
#define RING_BASE 0x100000ULL
#define DATA      0x800000ULL
#define SIZE      64U
#define US        1000ULL
#define PATIENCE  (10000000 * US)

struct rig {
	struct fake_machine machine;
	struct device *device;
	struct rig_model *model;
	struct virtio_driver driver;
	struct ring_driver ring;
	_Atomic unsigned offered;
	unsigned kicks;
};

static const uint64_t kinds[] = {
	VERSION_1, VERSION_1 | EVENT_IDX, VERSION_1 | PACKED, VERSION_1 | PACKED | EVENT_IDX};

static void bring_up(struct rig *rig, uint64_t features)
{
	struct virtqueue_setup setup = {
		.size = SIZE, .packed = features & PACKED, .event_idx = features & EVENT_IDX};

	assert_true(driver_reset(&rig->driver));
	assert_true(driver_negotiate(&rig->driver, features));
	driver_msix(&rig->driver, 2);
	driver_queue(&rig->driver, 0, &rig->ring, RING_BASE, &setup, 1);
	rig->model->kept = rig->offered = rig->kicks = 0;
	driver_ok(&rig->driver);
}

static void rig_init(struct rig *rig, uint64_t features)
{
	struct error err;

	memset(rig, 0, sizeof(*rig));
	fake_machine_init(&rig->machine);
	assert_int_equal(rig_model_new(&rig->device, &rig->model, 1, PACKED, &err), 0);
	rig->model->virtio.lingers = true;
	rig->model->keeps = true;
	assert_int_equal(rig->device->ops->realize(rig->device, &rig->machine.place, &err), 0);
	assert_int_equal(rig->device->ops->start(rig->device, &err), 0);
	driver_probe(&rig->driver, &rig->machine, 1);
	bring_up(rig, features);
}

static void rig_free(struct rig *rig)
{
	fake_machine_end_device(&rig->machine, rig->device);
	fake_machine_free(&rig->machine);
}

/* Whether it had to be kicked for. */
static bool offer(struct rig *rig)
{
	const struct ring_buffer buffer = {DATA, 32, true};
	bool wanted;

	assert_true(ring_driver_offer(&rig->ring, &buffer, 1, false, 7));
	rig->offered++;
	wanted = ring_driver_kick(&rig->ring);
	rig->kicks += wanted;
	if (wanted)
		driver_kick(&rig->driver, 0);
	return wanted;
}

static void await_answers(struct rig *rig, unsigned count)
{
	const uint64_t until = clock_ns() + PATIENCE;
	uint32_t written;
	uint64_t token;

	while (count) {
		if (ring_driver_take(&rig->ring, &token, &written))
			count--;
		else if (clock_ns() > until)
			fail_msg("%u requests without an answer", count);
		else
			sched_yield();
	}
}

static void await_kept(struct rig *rig)
{
	const uint64_t until = clock_ns() + PATIENCE;

	while (rig->model->kept < rig->offered && clock_ns() < until)
		sched_yield();
	assert_int_equal(rig->model->kept, rig->offered);
}

static void spin(uint64_t nanoseconds)
{
	const uint64_t until = clock_ns() + nanoseconds;

	while (clock_ns() < until)
		continue;
}

/* For the I/O loop, where the other side of the rig may be looked at. */
struct question {
	struct loop_task task;
	struct rig *rig;
	bool lingers;
};

static void answer(struct loop_task *task)
{
	struct question *question = container_of(task, struct question, task);
	struct virtio_pci *pci = virtio_pci_of(question->rig->device);

	question->lingers = loop_timer_set(&pci->queues[0].context.look);
}

/* Between two turns. */
static bool lingers(struct rig *rig)
{
	struct question question = {.task.run = answer, .rig = rig};

	loop_call(rig->machine.place.io, &question.task);
	return question.lingers;
}

/* A new driver's steady stream, none answered, until kicks are off; there is room in the ring then.
 * On a busy machine a stream may be none, and another one is tried. */
static void make_linger(struct rig *rig, uint64_t features)
{
	const uint64_t until = clock_ns() + PATIENCE;

	rig->offered = 0;
	do {
		assert_true(clock_ns() < until);
		if (rig->offered % (SIZE / 2) == 0)
			bring_up(rig, features);
		offer(rig);
		await_kept(rig);
	} while (!lingers(rig));
}

static void await_sleep(struct rig *rig)
{
	const uint64_t until = clock_ns() + PATIENCE;

	while (lingers(rig))
		assert_true(clock_ns() < until);
}

/* The answer of none ever comes, so what is taken has not waited for one; and most come while kicks
 * are off. Those before the pace is known are kicked for. */
static void takes_what_comes_while_none_is_answered(void **state)
{
	(void)state;
	for (unsigned kind = 0; kind < ARRAY_SIZE(kinds); kind++) {
		unsigned tries = 0;
		struct rig rig;

		rig_init(&rig, kinds[kind]);
		do {
			assert_true(tries++ < 50);
			bring_up(&rig, kinds[kind]);
			for (unsigned i = 0; i < SIZE; i++) {
				offer(&rig);
				spin(50 * US);
			}
			await_kept(&rig);
		} while (rig.kicks > SIZE / 2);
		rig_free(&rig);
	}
}

/* What comes once nobody looks any more is kicked for. */
static void asks_again_when_nothing_comes(void **state)
{
	(void)state;
	for (unsigned kind = 0; kind < ARRAY_SIZE(kinds); kind++) {
		struct rig rig;

		rig_init(&rig, kinds[kind]);
		make_linger(&rig, kinds[kind]);
		await_sleep(&rig);
		assert_true(offer(&rig));
		await_kept(&rig);
		rig_free(&rig);
	}
}

static void offer_late(void *opaque)
{
	struct rig *rig = opaque;

	rig->model->at_end = NULL;
	assert_false(offer(rig));
}

static void offer_first(struct loop_task *task)
{
	struct question *question = container_of(task, struct question, task);

	question->rig->model->opaque = question->rig;
	question->rig->model->at_end = offer_late;
	assert_true(offer(question->rig));
}

/* One comes behind the model's back, when it has looked and the driver is not asked for kicks yet.
 */
static void looks_once_more_before_it_sleeps(void **state)
{
	(void)state;
	for (unsigned kind = 0; kind < ARRAY_SIZE(kinds); kind++) {
		struct rig rig;
		struct question first = {.task.run = offer_first, .rig = &rig};

		rig_init(&rig, kinds[kind]);
		assert_false(lingers(&rig)); /* and the first look is over */
		loop_call(rig.machine.place.io, &first.task);
		while (rig.offered < 2)
			sched_yield();
		await_kept(&rig);
		assert_true(offer(&rig));
		await_kept(&rig);
		rig_free(&rig);
	}
}

/* One after the other: a kick for each as ever, whatever was before. */
static void asks_for_each_that_comes_alone(void **state)
{
	(void)state;
	for (unsigned kind = 0; kind < ARRAY_SIZE(kinds); kind++) {
		struct rig rig;

		rig_init(&rig, kinds[kind]);
		rig.model->keeps = false;
		for (unsigned i = 0; i < 500; i++) {
			assert_true(offer(&rig));
			await_answers(&rig, 1);
			/* The answer is seen before the turn is over, which would find the next. */
			assert_false(lingers(&rig));
		}
		rig_free(&rig);
	}
}

/* At all distances of the last look, its end included. */
static void loses_none(void **state)
{
	(void)state;
	for (unsigned kind = 0; kind < ARRAY_SIZE(kinds); kind++) {
		unsigned seed = 1;
		struct rig rig;

		rig_init(&rig, kinds[kind]);
		rig.model->keeps = false;
		for (unsigned i = 0; i < 4000; i++) {
			unsigned count = 1 + (unsigned)rand_r(&seed) % 4;

			for (unsigned j = 0; j < count; j++)
				offer(&rig);
			await_answers(&rig, count);
			spin((unsigned)rand_r(&seed) % 60 * US);
		}
		assert_in_range(rig.kicks, 1, rig.offered - 1);
		rig_free(&rig);
	}
}

static void stops_and_goes_on(void **state)
{
	struct error err;

	(void)state;
	for (unsigned kind = 0; kind < ARRAY_SIZE(kinds); kind++) {
		struct rig rig;

		rig_init(&rig, kinds[kind]);
		make_linger(&rig, kinds[kind]);
		fake_stop(rig.device);
		assert_false(lingers(&rig));
		offer(&rig);
		rig.model->keeps = false;
		rig.device->ops->start(rig.device, &err);
		await_answers(&rig, rig.offered - rig.model->kept);
		/* Nothing is left on when it is taken away in this state. */
		rig.model->keeps = true;
		make_linger(&rig, kinds[kind]);
		rig_free(&rig);
	}
}

static void is_reset(void **state)
{
	struct rig rig;

	(void)state;
	rig_init(&rig, VERSION_1);
	for (unsigned round = 0; round < 40; round++) {
		make_linger(&rig, kinds[round % ARRAY_SIZE(kinds)]);
		assert_true(driver_reset(&rig.driver));
		assert_false(lingers(&rig));
	}
	rig_free(&rig);
}

/* The driver breaks the ring while nobody is to kick. */
static void breaks(void **state)
{
	const uint64_t until = clock_ns() + PATIENCE;
	struct rig rig;

	(void)state;
	rig_init(&rig, VERSION_1);
	make_linger(&rig, VERSION_1);
	/* An index that jumps. */
	__atomic_store_n((uint16_t *)(rig.machine.ram + rig.ring.setup.driver.value + 2), 0x8000,
		__ATOMIC_RELEASE);
	while (!(driver_read(&rig.driver, COMMON_STATUS, 1) & 64) && clock_ns() < until) {
		if (!lingers(&rig))
			driver_kick(&rig.driver, 0);
	}
	assert_true(driver_read(&rig.driver, COMMON_STATUS, 1) & 64);
	rig_free(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_what_comes_while_none_is_answered),
		cmocka_unit_test(asks_again_when_nothing_comes),
		cmocka_unit_test(looks_once_more_before_it_sleeps),
		cmocka_unit_test(asks_for_each_that_comes_alone),
		cmocka_unit_test(loses_none),
		cmocka_unit_test(stops_and_goes_on),
		cmocka_unit_test(is_reset),
		cmocka_unit_test(breaks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
