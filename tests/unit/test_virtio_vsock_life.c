/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-vsock over pauses, resets and a move to another machine. */
#include "vsock_rig.h"

#include "base/bytes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define EVENTS (DEVICE_RIG_DATA + 0x200000)

static void test_pause(void **state)
{
	struct vsock_packet packet;
	struct vsock_rig rig;
	int listening, fd;

	(void)state;
	vsock_rig_init(&rig);
	listening = host_listens(&rig);
	fd = guest_connects(&rig, listening, GUEST_PORT);
	for (unsigned i = 0; i < 20; i++) {
		fake_stop(rig.rig.device);
		assert_int_equal(write(fd, "p", 1), 1);
		assert_true(guest_hears_nothing(&rig));
		assert_int_equal(rig.rig.device->ops->start(rig.rig.device, NULL), 0);
		guest_expects(&rig, &packet, OP_RW, GUEST_PORT);
		guest_says_data(&rig, GUEST_PORT, HOST_PORT, 'p', 100);
		host_expects_bytes(fd, 'p', 100);
	}
	close(fd);
	close(listening);
	vsock_rig_free(&rig);
}

static void expect_event(struct vsock_rig *rig)
{
	const struct ring_buffer buffer = {EVENTS, 8, true};
	uint64_t token;
	uint32_t written;

	memset(device_rig_at(&rig->rig, EVENTS), 0xff, 8);
	assert_true(ring_driver_offer(&rig->rig.rings[QUEUE_EVENT], &buffer, 1, false, 9));
	driver_kick(&rig->rig.driver, QUEUE_EVENT);
	assert_true(driver_await(&rig->rig.rings[QUEUE_EVENT], &token, &written));
	assert_int_equal(written, 4);
	assert_int_equal(load_le32(device_rig_at(&rig->rig, EVENTS)), 0);
}

static void test_reset(void **state)
{
	struct vsock_rig rig;
	uint32_t port;
	int listening, fd, other, waiting;

	(void)state;
	vsock_rig_init(&rig);
	listening = host_listens(&rig);
	fd = guest_connects(&rig, listening, GUEST_PORT);
	other = host_connected(&rig, &port);
	waiting = host_connects(&rig, "CONN");
	vsock_await_count(&rig, "connections", 3);
	guest_up(&rig, 0, GUEST_BUFFERS);
	host_expects_end(fd);
	host_expects_end(other);
	host_expects_end(waiting);
	close(fd);
	close(other);
	close(waiting);
	assert_int_equal(vsock_counted(&rig, "connections"), 0);
	expect_event(&rig);
	/* And it works as before. */
	fd = guest_connects(&rig, listening, GUEST_PORT);
	guest_says_data(&rig, GUEST_PORT, HOST_PORT, 'r', 10);
	host_expects_bytes(fd, 'r', 10);
	close(fd);
	close(listening);
	vsock_rig_free(&rig);
}

static void test_save_restore(void **state)
{
	struct state_writer writer;
	struct state_reader reader;
	struct error err = {0};
	struct vsock_rig rig, other;
	int listening, fd;

	(void)state;
	vsock_rig_init(&rig);
	listening = host_listens(&rig);
	fd = guest_connects(&rig, listening, GUEST_PORT);
	fake_stop(rig.rig.device);
	state_writer_init(&writer);
	state_section_begin(&writer, "vsock0", 1);
	rig.rig.device->ops->save(rig.rig.device, &writer);
	state_section_close(&writer);
	assert_int_equal(state_writer_finish(&writer), 0);
	vsock_rig_new(&other);
	memcpy(other.rig.machine.ram, rig.rig.machine.ram, FAKE_RAM_SIZE);
	fake_stop(other.rig.device);
	assert_int_equal(state_reader_init(&reader, writer.bytes, writer.length, &err), 0);
	assert_int_equal(state_section_next(&reader, &err), 1);
	assert_int_equal(other.rig.device->ops->restore(other.rig.device, &reader, &err), 0);
	assert_int_equal(state_section_end(&reader, &err), 0);
	for (unsigned i = 0; i < 3; i++) {
		other.rig.rings[i] = rig.rig.rings[i];
		other.rig.rings[i].memory = &other.rig.machine.memory;
	}
	assert_int_equal(other.rig.device->ops->start(other.rig.device, &err), 0);
	expect_event(&other);
	/* Where it was saved, it goes on. */
	assert_int_equal(rig.rig.device->ops->start(rig.rig.device, &err), 0);
	guest_says_data(&rig, GUEST_PORT, HOST_PORT, 'r', 10);
	host_expects_bytes(fd, 'r', 10);
	close(fd);
	close(listening);
	state_writer_free(&writer);
	vsock_rig_free(&other);
	vsock_rig_free(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pause),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_save_restore),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
