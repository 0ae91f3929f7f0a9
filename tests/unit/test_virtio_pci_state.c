/* SPDX-License-Identifier: Apache-2.0 */
/* The PCI transport's saved state: a device moves to another machine, half set up too, and what was
 * damaged does no harm. */
#include "transport_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void save(struct transport_rig *rig, struct state_writer *writer)
{
	state_writer_init(writer);
	state_section_begin(writer, "rig0", 1);
	rig->device->ops->save(rig->device, writer);
	state_section_close(writer);
	assert_int_equal(state_writer_finish(writer), 0);
}

static int restore(struct transport_rig *rig, const struct state_writer *writer)
{
	struct state_reader reader;
	struct error err;
	int ret;

	assert_int_equal(state_reader_init(&reader, writer->bytes, writer->length, &err), 0);
	assert_int_equal(state_section_next(&reader, &err), 1);
	ret = rig->device->ops->restore(rig->device, &reader, &err);
	return ret < 0 ? ret : state_section_end(&reader, &err);
}

static void move_to_another_machine(uint64_t features)
{
	struct transport_rig from, to;
	struct state_writer writer;
	struct error err;

	transport_rig_init(&from);
	transport_rig_init(&to);
	transport_up(&from, features, 2, true);
	for (unsigned i = 0; i < 21; i++) {
		transport_request(&from, 0);
		transport_expect_answer(&from, 0);
	}
	fake_guest_write(&from.machine, from.driver.config, 4, 0xabcd);
	transport_move_bar(&from, 0, 0xc8000000);
	fake_stop(from.device);
	fake_stop(to.device);
	transport_request(&from, 1); /* under way */
	save(&from, &writer);
	memcpy(to.machine.ram, from.machine.ram, FAKE_RAM_SIZE);
	assert_int_equal(restore(&to, &writer), 0);
	for (unsigned i = 0; i < 2; i++) {
		to.rings[i] = from.rings[i];
		to.rings[i].memory = &to.machine.memory;
	}
	to.device->ops->start(to.device, &err);
	driver_probe(&to.driver, &to.machine, TRANSPORT_SLOT);
	assert_int_equal(to.driver.common, 0xc8000000);
	transport_expect_answer(&to, 1);
	assert_true(fake_host_wait_msi(&to.machine.host, 0x102));
	transport_await_doorbells(&to, 2);
	transport_request(&to, 0);
	transport_expect_answer(&to, 0);
	assert_int_equal(driver_read(&to.driver, COMMON_STATUS, 1), 15);
	assert_int_equal(fake_guest_read(&to.machine, to.driver.config, 4), 0xabcd);
	state_writer_free(&writer);
	transport_rig_free(&from);
	transport_rig_free(&to);
}

static void test_saved_state(void **state)
{
	(void)state;
	move_to_another_machine(FEATURES_ALL);
	move_to_another_machine(FEATURES_ALL | FEATURE_PACKED);
}

/* A driver that gives one good queue and one outside memory has a device that needs a reset; moved,
 * it has the same. */
static void test_half_a_setup_moves(void **state)
{
	struct virtqueue_setup setup = {.size = 16};
	struct state_writer writer;
	struct transport_rig from, to;

	(void)state;
	transport_rig_init(&from);
	transport_rig_init(&to);
	assert_true(driver_reset(&from.driver));
	assert_true(driver_negotiate(&from.driver, VIRTIO_FEATURE(VIRTIO_F_VERSION_1)));
	driver_queue(&from.driver, 0, &from.rings[0], TRANSPORT_RINGS, &setup, 0xffff);
	driver_write(&from.driver, COMMON_QUEUE_SELECT, 2, 1);
	driver_write(&from.driver, COMMON_QUEUE_DEVICE, 8, 1ULL << 32);
	driver_write(&from.driver, COMMON_QUEUE_ENABLE, 2, 1);
	driver_ok(&from.driver);
	transport_await_status(&from, STATUS_NEEDS_RESET);
	fake_stop(from.device);
	fake_stop(to.device);
	save(&from, &writer);
	assert_int_equal(restore(&to, &writer), 0);
	to.device->ops->start(to.device, NULL);
	transport_await_status(&to, STATUS_NEEDS_RESET);
	transport_up(&to, FEATURES_ALL, 2, true);
	transport_await_doorbells(&to, 2);
	transport_request(&to, 0);
	transport_expect_answer(&to, 0);
	state_writer_free(&writer);
	transport_rig_free(&from);
	transport_rig_free(&to);
}

/* A stream that was changed, with checksums put right by the writer, is refused or harmless. */
static void test_damaged_state(void **state)
{
	struct state_writer writer, changed;
	struct transport_rig rig;

	(void)state;
	transport_rig_init(&rig);
	transport_up(&rig, FEATURES_ALL, 2, true);
	transport_request(&rig, 0);
	transport_expect_answer(&rig, 0);
	fake_stop(rig.device);
	save(&rig, &writer);
	for (size_t at = 26; at + 40 < writer.length; at++) {
		state_writer_init(&changed);
		state_section_begin(&changed, "rig0", 1);
		state_put_bytes(&changed, writer.bytes + 26, at - 26);
		state_put_u8(&changed, (uint8_t)~writer.bytes[at]);
		state_put_bytes(&changed, writer.bytes + at + 1, writer.length - at - 1 - 21);
		state_section_close(&changed);
		assert_int_equal(state_writer_finish(&changed), 0);
		restore(&rig, &changed);
		state_writer_free(&changed);
	}
	assert_int_equal(restore(&rig, &writer), 0);
	state_writer_free(&writer);
	transport_rig_free(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_saved_state),
		cmocka_unit_test(test_half_a_setup_moves),
		cmocka_unit_test(test_damaged_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
