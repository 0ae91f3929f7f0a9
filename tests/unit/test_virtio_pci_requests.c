/* SPDX-License-Identifier: Apache-2.0 */
/* Requests through the PCI transport: doorbells, queues that take turns, interrupts. */
#include "transport_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void requests_with(uint64_t features)
{
	struct transport_rig rig;

	transport_rig_init(&rig);
	transport_up(&rig, features, RIG_QUEUES, true);
	transport_await_doorbells(&rig, RIG_QUEUES);
	for (unsigned round = 0; round < 40; round++) {
		unsigned queue = round % RIG_QUEUES;

		ring_driver_interrupts_on(&rig.rings[queue], 0);
		transport_request(&rig, queue);
		transport_expect_answer(&rig, queue);
		assert_true(fake_host_wait_msi(&rig.machine.host, 0x101 + queue));
	}
	assert_int_equal(rig.model->virtio.queues[0].stats.chains, 10);
	assert_int_equal(rig.model->virtio.queues[0].stats.interrupts, 10);
	/* One route for each vector that was unmasked, and nothing said twice. */
	assert_int_equal(rig.machine.host.msi_adds, RIG_QUEUES + 1);
	assert_int_equal(rig.machine.host.msi_changes, 0);
	transport_rig_free(&rig);
}

static void test_requests(void **state)
{
	(void)state;
	requests_with(FEATURES_ALL);
	requests_with(FEATURES_ALL | FEATURE_PACKED);
	requests_with(VIRTIO_FEATURE(VIRTIO_F_VERSION_1));
	requests_with(VIRTIO_FEATURE(VIRTIO_F_VERSION_1) | FEATURE_PACKED);
}

static void test_intx(void **state)
{
	unsigned gsi = pci_slot_gsi(TRANSPORT_SLOT);
	struct transport_rig rig;

	(void)state;
	transport_rig_init(&rig);
	transport_up(&rig, FEATURES_ALL, 1, false);
	transport_request(&rig, 0);
	transport_expect_answer(&rig, 0);
	for (unsigned i = 0; i < FAKE_PATIENCE_MS && !fake_host_line(&rig.machine.host, gsi); i++)
		transport_pause();
	assert_true(fake_host_line(&rig.machine.host, gsi));
	assert_int_equal(fake_guest_read(&rig.machine, rig.driver.isr, 1), 1);
	assert_false(fake_host_line(&rig.machine.host, gsi));
	assert_int_equal(fake_guest_read(&rig.machine, rig.driver.isr, 1), 0);
	virtio_config_changed(&rig.model->virtio);
	assert_true(fake_host_line(&rig.machine.host, gsi));
	assert_int_equal(driver_read(&rig.driver, COMMON_GENERATION, 1), 1);
	assert_int_equal(fake_guest_read(&rig.machine, rig.driver.isr, 1), 2);
	transport_rig_free(&rig);
}

/* Nobody would lower the line before there is a driver. */
static void test_config_change_without_driver(void **state)
{
	struct transport_rig rig;

	(void)state;
	transport_rig_init(&rig);
	virtio_config_changed(&rig.model->virtio);
	assert_false(fake_host_line(&rig.machine.host, pci_slot_gsi(TRANSPORT_SLOT)));
	assert_int_equal(driver_read(&rig.driver, COMMON_GENERATION, 1), 1);
	transport_rig_free(&rig);
}

/* Kicks before DRIVER_OK are harmless, and what was offered then is seen at activation. */
static void test_early_kick(void **state)
{
	struct virtqueue_setup setup = {.size = 16};
	struct transport_rig rig;

	(void)state;
	transport_rig_init(&rig);
	driver_kick(&rig.driver, 0);
	driver_kick(&rig.driver, RIG_QUEUES + 100);
	assert_true(driver_negotiate(&rig.driver, VIRTIO_FEATURE(VIRTIO_F_VERSION_1)));
	driver_queue(&rig.driver, 0, &rig.rings[0], TRANSPORT_RINGS, &setup, 0xffff);
	transport_request(&rig, 0);
	assert_int_equal(rig.model->kicks, 0);
	driver_ok(&rig.driver);
	transport_expect_answer(&rig, 0);
	transport_rig_free(&rig);
}

/* A driver that prefers memory: exits, and works. Beyond the last queue nothing happens. */
static void test_doorbells_in_memory(void **state)
{
	struct transport_rig rig;

	(void)state;
	transport_rig_init(&rig);
	transport_up(&rig, FEATURES_ALL, 1, false);
	transport_await_doorbells(&rig, 1);
	transport_request(&rig, 0);
	transport_expect_answer(&rig, 0);
	memset(rig.machine.ram + TRANSPORT_DATA + 0x1000, 0, 64);
	assert_true(ring_driver_offer(&rig.rings[0],
		(struct ring_buffer[]){{TRANSPORT_DATA + 0x1000, 32, true}}, 1, false, 77));
	driver_kick(&rig.driver, RIG_QUEUES);
	driver_kick_memory(&rig.driver, RIG_QUEUES);
	driver_kick_memory(&rig.driver, 0);
	transport_expect_answer(&rig, 0);
	transport_rig_free(&rig);
}

struct pause {
	struct loop_task task;
	_Atomic bool begun, end;
};

static void pause_loop(struct loop_task *task)
{
	struct pause *pause = (struct pause *)task;

	pause->begun = true;
	while (!pause->end)
		transport_pause();
}

/* Two queues that each have more than a turn's work take turns, and one kick is enough. */
static void test_turns_alternate(void **state)
{
	struct pause pause = {.task.run = pause_loop};
	struct transport_rig rig;

	(void)state;
	transport_rig_init(&rig);
	transport_up(&rig, FEATURES_ALL, 2, false);
	transport_await_doorbells(&rig, 2);
	rig.model->per_turn = 1;
	loop_post(rig.machine.place.io, &pause.task);
	while (!pause.begun)
		transport_pause();
	rig.model->kicks = 0;
	for (unsigned i = 0; i < 16; i++)
		transport_request(&rig, i & 1);
	pause.end = true;
	/* They share a buffer, which the next answer may be written to. */
	for (unsigned i = 0; i < 16; i++)
		assert_true(driver_await(&rig.rings[i & 1], &(uint64_t){0}, &(uint32_t){0}));
	for (unsigned i = 1; i < 16; i++)
		assert_int_not_equal(rig.model->turns[i], rig.model->turns[i - 1]);
	transport_rig_free(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests),
		cmocka_unit_test(test_intx),
		cmocka_unit_test(test_config_change_without_driver),
		cmocka_unit_test(test_early_kick),
		cmocka_unit_test(test_doorbells_in_memory),
		cmocka_unit_test(test_turns_alternate),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
