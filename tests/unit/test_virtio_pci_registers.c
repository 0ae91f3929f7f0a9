/* SPDX-License-Identifier: Apache-2.0 */
/* The PCI transport's registers: what a driver finds, what it may set and where; BARs that move. */
#include "transport_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void test_identity(void **state)
{
	struct transport_rig rig;

	(void)state;
	transport_rig_init(&rig);
	assert_int_equal(fake_guest_config_read(&rig.machine, TRANSPORT_SLOT, 0, 4), 0x10441af4);
	assert_int_equal(fake_guest_config_read(&rig.machine, TRANSPORT_SLOT, 8, 4), 0xff000001);
	assert_true(rig.driver.common && rig.driver.isr && rig.driver.config && rig.driver.notify);
	assert_int_equal(rig.driver.stride, 4);
	assert_true(rig.driver.ports);
	assert_int_equal(rig.driver.port_stride, 2);
	assert_int_equal(driver_read(&rig.driver, COMMON_NUM_QUEUES, 2), RIG_QUEUES);
	assert_int_equal(driver_features(&rig.driver), FEATURES_ALL | FEATURE_PACKED);
	assert_string_equal(rig.device->ops->type, "virtio-entropy");
	transport_rig_free(&rig);
}

static void test_negotiation(void **state)
{
	struct transport_rig rig;

	(void)state;
	transport_rig_init(&rig);
	assert_false(
		driver_negotiate(&rig.driver, FEATURES_ALL & ~VIRTIO_FEATURE(VIRTIO_F_VERSION_1)));
	driver_reset(&rig.driver);
	assert_false(driver_negotiate(&rig.driver, FEATURES_ALL | 2));
	driver_ok(&rig.driver); /* without FEATURES_OK: nothing may start */
	assert_int_equal(driver_read(&rig.driver, COMMON_STATUS, 1), 3);
	driver_reset(&rig.driver);
	assert_true(driver_negotiate(&rig.driver, FEATURES_ALL));
	/* Final now. */
	driver_write(&rig.driver, COMMON_DRIVER_FEATURE_SELECT, 4, 0);
	driver_write(&rig.driver, COMMON_DRIVER_FEATURE, 4, 0);
	assert_int_equal(
		driver_read(&rig.driver, COMMON_DRIVER_FEATURE, 4), (uint32_t)FEATURES_ALL);
	assert_int_equal(rig.model->activations, 0);
	transport_rig_free(&rig);
}

/* What its record says is what a driver finds and may take, also after a reset. */
static void test_offers_what_is_recorded(void **state)
{
	const uint64_t recorded = FEATURES_ALL & ~VIRTIO_FEATURE(VIRTIO_F_EVENT_IDX);
	struct transport_rig rig;
	struct error err = {0};

	(void)state;
	transport_rig_init(&rig);
	assert_int_equal(virtio_offer(rig.device, FEATURES_ALL | 2, &err), -ENOTSUP);
	assert_non_null(strstr(err.text, "0x2 of them cannot be had here"));
	assert_int_equal(
		virtio_offer(rig.device, FEATURES_ALL & ~VIRTIO_FEATURE(VIRTIO_F_VERSION_1), &err),
		-EINVAL);
	assert_int_equal(driver_features(&rig.driver), FEATURES_ALL | FEATURE_PACKED);
	assert_int_equal(virtio_offer(rig.device, recorded, &err), 0);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(virtio_offered(rig.device), recorded);
		assert_int_equal(driver_features(&rig.driver), recorded);
		assert_false(driver_negotiate(&rig.driver, FEATURES_ALL));
		assert_true(driver_reset(&rig.driver));
	}
	assert_true(driver_negotiate(&rig.driver, recorded));
	transport_rig_free(&rig);
}

static void test_registers(void **state)
{
	struct transport_rig rig;

	(void)state;
	transport_rig_init(&rig);
	driver_negotiate(&rig.driver, FEATURES_ALL);
	driver_write(&rig.driver, COMMON_QUEUE_SELECT, 2, RIG_QUEUES); /* there is none */
	assert_int_equal(driver_read(&rig.driver, COMMON_QUEUE_SIZE, 2), 0);
	driver_write(&rig.driver, COMMON_QUEUE_ENABLE, 2, 1);
	driver_write(&rig.driver, COMMON_QUEUE_SELECT, 2, 2);
	assert_int_equal(driver_read(&rig.driver, COMMON_QUEUE_SIZE, 2), 64);
	assert_int_equal(driver_read(&rig.driver, COMMON_QUEUE_NOTIFY_OFF, 2), 2);
	driver_write(&rig.driver, COMMON_QUEUE_SIZE, 2, 128);
	assert_int_equal(driver_read(&rig.driver, COMMON_QUEUE_SIZE, 2), 64);
	driver_write(&rig.driver, COMMON_QUEUE_SIZE, 2, 0);
	assert_int_equal(driver_read(&rig.driver, COMMON_QUEUE_SIZE, 2), 64);
	driver_write(&rig.driver, COMMON_QUEUE_VECTOR, 2, RIG_QUEUES);
	assert_int_equal(driver_read(&rig.driver, COMMON_QUEUE_VECTOR, 2), RIG_QUEUES);
	driver_write(&rig.driver, COMMON_QUEUE_VECTOR, 2, RIG_QUEUES + 1);
	assert_int_equal(driver_read(&rig.driver, COMMON_QUEUE_VECTOR, 2), 0xffff);
	driver_write(&rig.driver, COMMON_QUEUE_DESCRIPTORS, 8, 0x123456789a0);
	assert_int_equal(driver_read(&rig.driver, COMMON_QUEUE_DESCRIPTORS + 4, 4), 0x123);
	assert_int_equal(driver_read(&rig.driver, COMMON_QUEUE_DESCRIPTORS, 8), 0x123456789a0);
	/* Odd widths and places read 0 and write nothing. */
	driver_write(&rig.driver, COMMON_QUEUE_SIZE, 4, 1);
	driver_write(&rig.driver, COMMON_QUEUE_SIZE + 1, 1, 1);
	assert_int_equal(driver_read(&rig.driver, COMMON_QUEUE_SIZE, 2), 64);
	assert_int_equal(driver_read(&rig.driver, COMMON_QUEUE_SIZE, 4), 0);
	assert_int_equal(driver_read(&rig.driver, 0x800, 4), 0);
	driver_write(&rig.driver, COMMON_QUEUE_ENABLE, 2, 1);
	driver_write(&rig.driver, COMMON_QUEUE_SIZE, 2, 8);
	assert_int_equal(driver_read(&rig.driver, COMMON_QUEUE_SIZE, 2), 64);
	transport_rig_free(&rig);
}

static void test_device_config(void **state)
{
	struct transport_rig rig;

	(void)state;
	transport_rig_init(&rig);
	fake_guest_write(&rig.machine, rig.driver.config + 4, 4, 0x11223344);
	assert_int_equal(fake_guest_read(&rig.machine, rig.driver.config + 4, 2), 0x3344);
	fake_guest_write(&rig.machine, rig.driver.config + 14, 4, 1); /* across its end */
	assert_int_equal(fake_guest_read(&rig.machine, rig.driver.config + 14, 4), 0);
	assert_int_equal(fake_guest_read(&rig.machine, rig.driver.config + 16, 1), 0);
	transport_rig_free(&rig);
}

static void window_write(struct transport_rig *rig, uint32_t offset, uint32_t size, uint32_t value)
{
	unsigned at = rig->driver.window_capability;

	fake_guest_config_write(&rig->machine, TRANSPORT_SLOT, at + 4, 1, 0);
	fake_guest_config_write(&rig->machine, TRANSPORT_SLOT, at + 8, 4, offset);
	fake_guest_config_write(&rig->machine, TRANSPORT_SLOT, at + 12, 4, size);
	fake_guest_config_write(&rig->machine, TRANSPORT_SLOT, at + 16, 4, value);
}

/* Registers and doorbells through configuration space (4.1.4.9). */
static void test_window(void **state)
{
	unsigned at;
	struct transport_rig rig;

	(void)state;
	transport_rig_init(&rig);
	at = rig.driver.window_capability;
	assert_true(at);
	window_write(&rig, COMMON_QUEUE_SELECT, 2, 3);
	assert_int_equal(driver_read(&rig.driver, COMMON_QUEUE_SELECT, 2), 3);
	assert_int_equal(fake_guest_config_read(&rig.machine, TRANSPORT_SLOT, at + 16, 2), 3);
	window_write(&rig, 0x4000, 4, 1); /* outside */
	window_write(&rig, COMMON_QUEUE_SELECT, 3, 1);
	window_write(&rig, COMMON_QUEUE_SELECT + 1, 2, 1);
	assert_int_equal(driver_read(&rig.driver, COMMON_QUEUE_SELECT, 2), 3);
	transport_up(&rig, FEATURES_ALL, 1, false);
	transport_await_doorbells(&rig, 1);
	for (unsigned i = 0; i < FAKE_PATIENCE_MS && rig.model->kicks == 0; i++)
		transport_pause();
	transport_request(&rig, 0);
	transport_expect_answer(&rig, 0);
	memset(rig.machine.ram + TRANSPORT_DATA + 0x1000, 0, 64);
	assert_true(ring_driver_offer(&rig.rings[0],
		(struct ring_buffer[]){{TRANSPORT_DATA + 0x1000, 32, true}}, 1, false, 77));
	window_write(&rig, 0x3000, 2, 0);
	transport_expect_answer(&rig, 0);
	transport_rig_free(&rig);
}

static void test_bad_queue_address(void **state)
{
	struct transport_rig rig;

	(void)state;
	transport_rig_init(&rig);
	assert_true(driver_negotiate(&rig.driver, FEATURES_ALL));
	driver_write(&rig.driver, COMMON_QUEUE_SELECT, 2, 0);
	driver_write(&rig.driver, COMMON_QUEUE_DESCRIPTORS, 8, FAKE_RAM_SIZE - 16);
	driver_write(&rig.driver, COMMON_QUEUE_ENABLE, 2, 1);
	driver_ok(&rig.driver);
	transport_await_status(&rig, STATUS_NEEDS_RESET);
	assert_int_equal(rig.model->activations, 0);
	assert_true(driver_reset(&rig.driver));
	rig.model->fail_activate = true;
	transport_up(&rig, FEATURES_ALL, 1, false);
	transport_await_status(&rig, STATUS_NEEDS_RESET);
	rig.model->fail_activate = false;
	transport_up(&rig, FEATURES_ALL, 1, false);
	transport_request(&rig, 0);
	transport_expect_answer(&rig, 0);
	transport_rig_free(&rig);
}

static void test_moved_bar(void **state)
{
	uint32_t before;
	struct transport_rig rig;

	(void)state;
	transport_rig_init(&rig);
	before = fake_guest_config_read(&rig.machine, TRANSPORT_SLOT, 0x10, 4);
	transport_up(&rig, FEATURES_ALL, 2, true);
	transport_await_doorbells(&rig, 2);
	transport_move_bar(&rig, 0, 0xc8000000);
	transport_move_bar(&rig, 2, 0xd000);
	assert_int_equal(fake_host_doorbells(&rig.machine.host), 2);
	assert_false(fake_host_write(&rig.machine.host, true, rig.driver.ports, 2, 0));
	driver_probe(&rig.driver, &rig.machine, TRANSPORT_SLOT);
	assert_true(fake_host_write(&rig.machine.host, true, rig.driver.ports, 2, 0));
	transport_request(&rig, 1);
	transport_expect_answer(&rig, 1);
	transport_move_bar(&rig, 2, 0xc00); /* onto configuration's ports */
	assert_int_equal(fake_host_doorbells(&rig.machine.host), 0);
	transport_move_bar(&rig, 2, 0xd100);
	transport_move_bar(&rig, 0, 0x100000);  /* onto RAM */
	transport_move_bar(&rig, 0, FAKE_ECAM); /* onto configuration space */
	assert_int_equal(pci_misplaced_bars(rig.machine.place.pci), 3);
	transport_move_bar(&rig, 0, before);
	driver_probe(&rig.driver, &rig.machine, TRANSPORT_SLOT);
	transport_request(&rig, 0);
	transport_expect_answer(&rig, 0);
	transport_rig_free(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_identity),
		cmocka_unit_test(test_negotiation),
		cmocka_unit_test(test_offers_what_is_recorded),
		cmocka_unit_test(test_registers),
		cmocka_unit_test(test_device_config),
		cmocka_unit_test(test_window),
		cmocka_unit_test(test_bad_queue_address),
		cmocka_unit_test(test_moved_bar),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
