/* SPDX-License-Identifier: Apache-2.0 */
/* A driver of virtio-vsock that sends what it must not, gives bad buffers, or takes no answers. */
#include "vsock_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

/* Sends @packet, with @bytes of data, while a connection is open: @answer comes of it, or nothing
 * where that is 0, and so many connections are left. */
static void hostile(struct vsock_rig *rig, int listening, struct vsock_packet packet,
	uint32_t bytes, uint16_t answer, unsigned left)
{
	int fd = guest_connects(rig, listening, GUEST_PORT);
	struct vsock_packet heard;

	guest_sends(rig, &packet, bytes);
	if (answer)
		guest_expects(rig, &heard, answer, packet.src_port);
	assert_true(guest_hears_nothing(rig));
	assert_int_equal(vsock_counted(rig, "connections"), left);
	if (left) {
		guest_says(rig, GUEST_PORT, HOST_PORT, OP_RST, 0);
		vsock_await_count(rig, "connections", 0);
	}
	host_expects_end(fd);
	close(fd);
}

#define HOSTILE(bytes, answer, left, ...)                                                          \
	do {                                                                                       \
		struct vsock_packet packet = guest_packet(&rig, GUEST_PORT, HOST_PORT, OP_RW);     \
		__VA_ARGS__;                                                                       \
		hostile(&rig, listening, packet, bytes, answer, left);                             \
	} while (0)

static void test_hostile_packets(void **state)
{
	const struct ring_buffer stump = {PACKET_SENT, PACKET_HEADER - 1, false};
	const struct ring_buffer writable = {PACKET_SENT, PACKET_HEADER, true};
	struct vsock_rig rig;
	int listening;

	(void)state;
	vsock_rig_init(&rig);
	listening = host_listens(&rig);
	HOSTILE(10, 0, 1, packet.length = 11);
	HOSTILE(10, 0, 1, packet.length = UINT32_MAX);
	HOSTILE(10, 0, 1, packet.src_cid = GUEST_CID + 1);
	HOSTILE(10, 0, 1, packet.src_cid = GUEST_CID | 1ULL << 32);
	HOSTILE(10, 0, 1, packet.dst_cid = 1);
	HOSTILE(10, 0, 1, packet.dst_cid = UINT64_MAX);
	HOSTILE(10, OP_RST, 1, packet.type = 2);
	HOSTILE(10, OP_RST, 1, packet.src_port = GUEST_PORT + 1);
	HOSTILE(10, OP_RST, 1, packet.dst_port = UINT32_MAX);
	HOSTILE(0, OP_RST, 0, packet.op = OP_REQUEST);
	HOSTILE(0, OP_RST, 0, packet.op = OP_RESPONSE);
	HOSTILE(0, OP_RST, 0, packet.op = 0);
	HOSTILE(0, OP_RST, 0, packet.op = 8);
	HOSTILE(0, OP_RST, 0, packet.op = UINT16_MAX);
	HOSTILE(0, OP_RST, 0, packet.op = OP_SHUTDOWN; packet.flags = 4);
	HOSTILE(0, 0, 1, packet.op = OP_SHUTDOWN; packet.flags = 0);
	HOSTILE(HOST_ALLOC + 1, OP_RST, 0, packet.length = HOST_ALLOC + 1);
	/* An RST is not answered; nor is what has no header. */
	guest_says(&rig, 5, 6, OP_RST, 0);
	device_rig_request(&rig.rig, QUEUE_TRANSMIT, &stump, 1, false);
	device_rig_request(&rig.rig, QUEUE_TRANSMIT, &writable, 1, false);
	assert_true(guest_hears_nothing(&rig));
	assert_int_equal(vsock_counted(&rig, "needed_resets"), 0);
	close(listening);
	vsock_rig_free(&rig);
}

static void test_bad_buffers(void **state)
{
	const struct ring_buffer small = {DEVICE_RIG_DATA, PACKET_HEADER, true},
				 readable = {DEVICE_RIG_DATA, PACKET_BUFFER, false};
	struct vsock_rig rig;

	(void)state;
	vsock_rig_new(&rig);
	guest_up(&rig, 0, 0);
	ring_driver_offer(&rig.rig.rings[QUEUE_RECEIVE], &small, 1, false, 1);
	driver_kick(&rig.rig.driver, QUEUE_RECEIVE);
	guest_says(&rig, 5, 6, OP_RW, 0);
	assert_true(device_rig_needs_reset(&rig.rig));
	guest_up(&rig, 0, 0);
	ring_driver_offer(&rig.rig.rings[QUEUE_RECEIVE], &readable, 1, false, 1);
	driver_kick(&rig.rig.driver, QUEUE_RECEIVE);
	guest_says(&rig, 5, 6, OP_RW, 0);
	assert_true(device_rig_needs_reset(&rig.rig));
	vsock_rig_free(&rig);
}

/* A guest that takes no answers is not listened to, and is when it takes them. */
static void test_unheard_replies(void **state)
{
	const struct ring_buffer buffer = {PACKET_SENT, PACKET_HEADER, false};
	struct vsock_packet packet;
	struct vsock_rig rig;
	uint64_t token;
	uint32_t written;
	unsigned taken = 0;

	(void)state;
	vsock_rig_new(&rig);
	guest_up(&rig, 0, 0);
	packet = guest_packet(&rig, 5, 6, OP_RW);
	guest_puts_header(device_rig_at(&rig.rig, PACKET_SENT), &packet);
	for (unsigned i = 0; i < 70; i++) {
		assert_true(
			ring_driver_offer(&rig.rig.rings[QUEUE_TRANSMIT], &buffer, 1, false, 1) ||
			i >= 64);
		driver_kick(&rig.rig.driver, QUEUE_TRANSMIT);
		if (i < 64)
			assert_true(driver_await(&rig.rig.rings[QUEUE_TRANSMIT], &token, &written));
	}
	assert_true(guest_hears_nothing(&rig));
	assert_false(ring_driver_take(&rig.rig.rings[QUEUE_TRANSMIT], &token, &written));
	for (unsigned i = 0; i < GUEST_BUFFERS; i++)
		guest_offers(&rig, i);
	for (unsigned i = 0; i < 70; i++)
		guest_expects(&rig, &packet, OP_RST, 5);
	while (driver_await(&rig.rig.rings[QUEUE_TRANSMIT], &token, &written) && ++taken < 6)
		;
	assert_int_equal(taken, 6);
	vsock_rig_free(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hostile_packets),
		cmocka_unit_test(test_bad_buffers),
		cmocka_unit_test(test_unheard_replies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
