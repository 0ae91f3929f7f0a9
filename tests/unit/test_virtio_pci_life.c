/* SPDX-License-Identifier: Apache-2.0 */
/* The PCI transport as it stops, starts and is reset, by the driver and by the machine, whatever
 * else goes on. */
#include "late_page.h"
#include "transport_rig.h"

#include "base/checked.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void test_reset_and_again(void **state)
{
	struct transport_rig rig;

	(void)state;
	transport_rig_init(&rig);
	for (unsigned round = 0; round < 20; round++) {
		transport_up(
			&rig, round & 1 ? FEATURES_ALL : FEATURES_ALL | FEATURE_PACKED, 2, true);
		transport_request(&rig, round & 1);
		transport_expect_answer(&rig, round & 1);
		assert_true(driver_reset(&rig.driver));
		assert_int_equal(fake_host_doorbells(&rig.machine.host), 0);
	}
	assert_int_equal(rig.model->activations, 20);
	assert_int_equal(rig.model->quiesces, 20);
	/* A reset before the loop came to activate must neither hang nor leave it active. */
	for (unsigned round = 0; round < 200; round++) {
		transport_up(&rig, FEATURES_ALL, 1, false);
		assert_true(driver_reset(&rig.driver));
	}
	assert_int_equal(rig.model->activations, rig.model->quiesces);
	transport_rig_free(&rig);
}

/* Until the model has nothing in flight the status does not read 0 and nothing can be changed. */
static void test_slow_reset(void **state)
{
	struct transport_rig rig;

	(void)state;
	transport_rig_init(&rig);
	transport_up(&rig, FEATURES_ALL, 1, false);
	transport_request(&rig, 0);
	transport_expect_answer(&rig, 0);
	rig.model->hold_quiesce = 2;
	driver_write(&rig.driver, COMMON_STATUS, 1, 0);
	for (unsigned i = 0; i < FAKE_PATIENCE_MS && rig.model->quiesces == 0; i++)
		transport_pause();
	assert_int_equal(driver_read(&rig.driver, COMMON_STATUS, 1), 15);
	driver_write(&rig.driver, COMMON_STATUS, 1, 1);
	driver_write(&rig.driver, COMMON_STATUS, 1, 0);
	driver_write(&rig.driver, COMMON_QUEUE_SELECT, 2, 3);
	driver_kick(&rig.driver, 0);
	assert_int_equal(driver_read(&rig.driver, COMMON_QUEUE_SELECT, 2), 0);
	rig_release(rig.model);
	assert_int_equal(driver_read(&rig.driver, COMMON_STATUS, 1), 15);
	rig_release(rig.model);
	rig.model->hold_quiesce = 0;
	assert_int_equal(driver_read(&rig.driver, COMMON_STATUS, 1), 0);
	transport_up(&rig, FEATURES_ALL, 1, false);
	transport_request(&rig, 0);
	transport_expect_answer(&rig, 0);
	assert_int_equal(rig.model->quiesces, 1);
	transport_rig_free(&rig);
}

static void test_needs_reset(void **state)
{
	unsigned kicks;
	struct transport_rig rig;

	(void)state;
	transport_rig_init(&rig);
	transport_up(&rig, FEATURES_ALL, 1, true);
	/* A descriptor outside memory. */
	assert_true(ring_driver_offer(
		&rig.rings[0], (struct ring_buffer[]){{FAKE_RAM_SIZE, 32, true}}, 1, false, 1));
	driver_kick(&rig.driver, 0);
	transport_await_status(&rig, STATUS_NEEDS_RESET | 4);
	assert_true(fake_host_wait_msi(&rig.machine.host, 0x100));
	for (unsigned i = 0; i < FAKE_PATIENCE_MS && rig.model->quiesces == 0; i++)
		transport_pause();
	kicks = rig.model->kicks;
	driver_kick(&rig.driver, 0);
	transport_pause();
	assert_int_equal(rig.model->kicks, kicks);
	transport_up(&rig, FEATURES_ALL, 1, true);
	transport_request(&rig, 0);
	transport_expect_answer(&rig, 0);
	transport_rig_free(&rig);
}

static void test_stop_and_start(void **state)
{
	struct error err;
	struct transport_rig rig;

	(void)state;
	transport_rig_init(&rig);
	transport_up(&rig, FEATURES_ALL | FEATURE_PACKED, 2, true);
	for (unsigned round = 0; round < 20; round++) {
		transport_request(&rig, 0);
		transport_expect_answer(&rig, 0);
		fake_stop(rig.device);
		transport_request(&rig, 1); /* seen after the start */
		transport_pause();
		assert_int_equal(rig.model->activations, rig.model->quiesces);
		rig.device->ops->start(rig.device, &err);
		transport_expect_answer(&rig, 1);
	}
	transport_rig_free(&rig);
}

void __real_virtqueue_flush(struct virtqueue *queue);
void __wrap_virtqueue_flush(struct virtqueue *queue);

void __wrap_virtqueue_flush(struct virtqueue *queue)
{
	late_page_write();
	__real_virtqueue_flush(queue);
}

/* It comes to rest when the page is there; whoever asks for its lock meanwhile, as the main thread
 * does, does not wait for that. */
static void test_a_ring_that_is_yet_to_come(void **state)
{
	struct fake_rest rest;
	struct transport_rig rig;
	struct error err;

	(void)state;
	transport_rig_init(&rig);
	transport_up(&rig, FEATURES_ALL, 2, true);
	transport_request(&rig, 0);
	transport_expect_answer(&rig, 0);
	late_page_begin();
	fake_rest_ask(&rest, rig.device);
	late_page_await();
	assert_int_equal(driver_read(&rig.driver, COMMON_STATUS, 1), 15);
	assert_false(fake_rest_is_reached(&rest));
	late_page_come();
	fake_rest_await(&rest, rig.device);
	rig.device->ops->start(rig.device, &err);
	transport_request(&rig, 0);
	transport_expect_answer(&rig, 0);
	transport_rig_free(&rig);
}

/* Work whose next turn does not end: a device that is stopped or reset has no turn any more. */
static void test_stop_between_turns(void **state)
{
	struct error err;
	unsigned kicks;
	struct transport_rig rig;

	(void)state;
	transport_rig_init(&rig);
	for (unsigned round = 0; round < 50; round++) {
		rig.model->restless = true;
		transport_up(&rig, FEATURES_ALL, 2, false);
		transport_request(&rig, 0);
		transport_expect_answer(&rig, 0);
		fake_stop(rig.device);
		kicks = rig.model->kicks;
		transport_pause();
		assert_int_equal(rig.model->kicks, kicks);
		rig.device->ops->start(rig.device, &err);
		transport_request(&rig, 1);
		transport_expect_answer(&rig, 1);
		assert_true(driver_reset(&rig.driver));
		kicks = rig.model->kicks;
		transport_pause();
		assert_int_equal(rig.model->kicks, kicks);
		rig.model->restless = false;
	}
	rig.model->restless = true;
	transport_up(&rig, FEATURES_ALL, 2, false);
	transport_rig_free(&rig);
}

struct kicker {
	struct transport_rig *rig;
	_Atomic bool stop;
	_Atomic unsigned taken; /* answers */
};

static void *kick_all_the_time(void *opaque)
{
	struct kicker *kicker = opaque;

	while (!kicker->stop)
		driver_kick(&kicker->rig->driver, 0);
	return NULL;
}

/* A doorbell that rings while its watch is taken from the loop must not keep it there. */
static void test_stop_under_kicks(void **state)
{
	struct kicker kicker = {0};
	pthread_t thread;
	struct error err;
	struct transport_rig rig;

	(void)state;
	transport_rig_init(&rig);
	kicker.rig = &rig;
	transport_up(&rig, FEATURES_ALL, 1, true);
	pthread_create(&thread, NULL, kick_all_the_time, &kicker);
	for (unsigned round = 0; round < 1000; round++) {
		fake_stop(rig.device);
		rig.device->ops->start(rig.device, &err);
	}
	kicker.stop = true;
	pthread_join(thread, NULL);
	transport_request(&rig, 0);
	transport_expect_answer(&rig, 0);
	transport_rig_free(&rig);
}

struct anew {
	struct loop_task task;
	struct transport_rig *rig;
};

static void ask_anew(struct loop_task *task)
{
	virtio_hand_over_anew(&container_of(task, struct anew, task)->rig->model->virtio);
}

/* Who serves the queues is decided anew while the driver kicks, the machine stops, the driver
 * resets: no request is lost, and nothing of it shows. */
static void test_hands_over_anew(void **state)
{
	struct anew anew = {.task.run = ask_anew};
	struct error err;
	struct transport_rig rig;

	(void)state;
	transport_rig_init(&rig);
	anew.rig = &rig;
	/* Not active: nothing to do. */
	loop_call(rig.machine.place.io, &anew.task);
	assert_int_equal(rig.model->activations, 0);
	transport_up(&rig, FEATURES_ALL | FEATURE_PACKED, 2, true);
	transport_await_doorbells(&rig, 2);
	for (unsigned round = 0; round < 200; round++) {
		unsigned before = rig.model->activations, quiesces = rig.model->quiesces;

		rig.model->hold_quiesce = round % 3 == 0;
		transport_request(&rig, 0);
		loop_call(rig.machine.place.io, &anew.task);
		transport_request(&rig, 1);
		if (round % 5 == 0)
			fake_machine_round(&rig.machine);
		if (rig.model->hold_quiesce) {
			for (unsigned i = 0;
				i < FAKE_PATIENCE_MS && rig.model->quiesces == quiesces; i++)
				transport_pause();
			rig.model->hold_quiesce = 0;
			rig_release(rig.model);
		}
		if (round % 7 == 0) {
			fake_stop(rig.device);
			rig.device->ops->start(rig.device, &err);
		}
		for (unsigned i = 0; i < 2; i++)
			assert_true(driver_await(&rig.rings[i], &(uint64_t){0}, &(uint32_t){0}));
		for (unsigned i = 0; i < FAKE_PATIENCE_MS && rig.model->activations == before; i++)
			transport_pause();
		assert_true(rig.model->activations > before);
		assert_int_equal(driver_read(&rig.driver, COMMON_STATUS, 1), 15);
		if (round % 11 == 0) {
			loop_call(rig.machine.place.io, &anew.task);
			transport_up(&rig, FEATURES_ALL | FEATURE_PACKED, 2, true);
			transport_await_doorbells(&rig, 2);
		}
	}
	transport_rig_free(&rig);
}

static void test_machine_reset(void **state)
{
	struct transport_rig rig;

	(void)state;
	transport_rig_init(&rig);
	transport_up(&rig, FEATURES_ALL, 2, true);
	transport_request(&rig, 0);
	transport_expect_answer(&rig, 0);
	rig.device->ops->reset(rig.device);
	assert_int_equal(fake_host_doorbells(&rig.machine.host), 0);
	assert_int_equal(fake_host_attached(&rig.machine.host), 0);
	assert_int_equal(fake_guest_config_read(&rig.machine, TRANSPORT_SLOT, 4, 2), 0);
	driver_probe(&rig.driver, &rig.machine, TRANSPORT_SLOT);
	transport_up(&rig, FEATURES_ALL, 2, true);
	transport_request(&rig, 1);
	transport_expect_answer(&rig, 1);
	transport_rig_free(&rig);
}

/* A driver that offers as fast as it can, and looks at nothing but its ring. */
static void *offer_all_the_time(void *opaque)
{
	const struct ring_buffer buffer = {TRANSPORT_DATA + 0x8000, 32, true};
	struct kicker *driver = opaque;
	struct ring_driver *ring = &driver->rig->rings[0];
	uint32_t written;
	uint64_t token;

	while (!driver->stop) {
		while (ring_driver_offer(ring, &buffer, 1, false, 3))
			;
		driver_kick(&driver->rig->driver, 0);
		while (ring_driver_take(ring, &token, &written))
			driver->taken++;
	}
	return NULL;
}

/* The others are served meanwhile, and the device comes to rest when it is asked to, and goes on.
 */
static void test_a_queue_that_never_comes_to_rest(void **state)
{
	struct kicker driver = {0};
	struct transport_rig rig;
	pthread_t thread;
	struct error err;

	(void)state;
	transport_rig_init(&rig);
	driver.rig = &rig;
	transport_up(&rig, FEATURES_ALL, 2, true);
	assert_int_equal(pthread_create(&thread, NULL, offer_all_the_time, &driver), 0);
	for (unsigned round = 0; round < 100; round++) {
		unsigned before = driver.taken;

		transport_request(&rig, 1);
		transport_expect_answer(&rig, 1);
		for (unsigned i = 0; i < FAKE_PATIENCE_MS && driver.taken == before; i++)
			transport_pause();
		assert_int_not_equal(driver.taken, before);
		fake_stop(rig.device);
		assert_int_equal(rig.model->activations, rig.model->quiesces);
		assert_int_equal(rig.device->ops->start(rig.device, &err), 0);
	}
	/* Under the driver's hands; it goes on with a device that has no queues. */
	assert_true(driver_reset(&rig.driver));
	driver.stop = true;
	pthread_join(thread, NULL);
	transport_rig_free(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reset_and_again),
		cmocka_unit_test(test_slow_reset),
		cmocka_unit_test(test_needs_reset),
		cmocka_unit_test(test_stop_and_start),
		cmocka_unit_test(test_a_ring_that_is_yet_to_come),
		cmocka_unit_test(test_stop_between_turns),
		cmocka_unit_test(test_stop_under_kicks),
		cmocka_unit_test(test_hands_over_anew),
		cmocka_unit_test(test_machine_reset),
		cmocka_unit_test(test_a_queue_that_never_comes_to_rest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
