/* SPDX-License-Identifier: Apache-2.0 */
/* What flows on virtio-vsock's connections: credit both ways, turns, halves that close, and
 * ends that are slow. */
#include "vsock_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* What the guest may send: the buffer's size in all, and never more. */
static void test_credit_of_guest(void **state)
{
	struct vsock_packet packet;
	struct vsock_rig rig;
	int listening, fd;
	uint32_t sent = 0;

	(void)state;
	vsock_rig_init(&rig);
	listening = host_listens(&rig);
	fd = guest_connects(&rig, listening, GUEST_PORT);
	/* The socket takes some, then the device holds as much as it said. */
	do {
		guest_says_data(&rig, GUEST_PORT, HOST_PORT, 'c', 32768);
		sent += 32768;
		guest_says(&rig, GUEST_PORT, HOST_PORT, OP_CREDIT_REQUEST, 0);
		guest_hears(&rig, &packet);
		assert_int_equal(packet.op, OP_CREDIT_UPDATE);
	} while (sent - packet.forwarded + 32768 <= HOST_ALLOC);
	host_expects_bytes(fd, 'c', sent);
	vsock_await_count(&rig, "bytes_out", sent);
	do {
		guest_expects(&rig, &packet, OP_CREDIT_UPDATE, GUEST_PORT);
	} while (sent - packet.forwarded >= HOST_ALLOC / 2);
	/* A guest that does not keep to it. */
	for (unsigned i = 0; i < 40 && vsock_counted(&rig, "violations") == 0; i++)
		guest_says_data(&rig, GUEST_PORT, HOST_PORT, 'c', 32768);
	assert_int_equal(vsock_counted(&rig, "violations"), 1);
	do {
		guest_hears(&rig, &packet);
	} while (packet.op == OP_CREDIT_UPDATE);
	assert_int_equal(packet.op, OP_RST);
	vsock_await_count(&rig, "connections", 0);
	close(fd);
	close(listening);
	vsock_rig_free(&rig);
}

/* What the guest can take. */
static void test_credit_of_host(void **state)
{
	static uint8_t bytes[20000];
	struct vsock_packet packet;
	struct vsock_rig rig;
	uint32_t got = 0;
	int listening, fd;

	(void)state;
	vsock_rig_init(&rig);
	rig.alloc = 10000;
	listening = host_listens(&rig);
	fd = guest_connects(&rig, listening, GUEST_PORT);
	assert_int_equal(write(fd, bytes, sizeof(bytes)), sizeof(bytes));
	while (got < 10000) {
		guest_expects(&rig, &packet, OP_RW, GUEST_PORT);
		got += packet.length;
	}
	assert_int_equal(got, 10000);
	guest_expects(&rig, &packet, OP_CREDIT_REQUEST, GUEST_PORT);
	assert_true(guest_hears_nothing(&rig));
	/* It has taken more than there was: that is no credit. */
	rig.forwarded = 10001;
	guest_says(&rig, GUEST_PORT, HOST_PORT, OP_CREDIT_UPDATE, 0);
	assert_true(guest_hears_nothing(&rig));
	rig.forwarded = 6000;
	guest_says(&rig, GUEST_PORT, HOST_PORT, OP_CREDIT_UPDATE, 0);
	while (got < 16000) {
		guest_expects(&rig, &packet, OP_RW, GUEST_PORT);
		got += packet.length;
	}
	assert_int_equal(got, 16000);
	guest_expects(&rig, &packet, OP_CREDIT_REQUEST, GUEST_PORT);
	rig.forwarded = 16000;
	guest_says(&rig, GUEST_PORT, HOST_PORT, OP_CREDIT_UPDATE, 0);
	guest_expects(&rig, &packet, OP_RW, GUEST_PORT);
	close(fd);
	close(listening);
	vsock_rig_free(&rig);
}

static void test_half_close(void **state)
{
	struct vsock_packet packet;
	struct vsock_rig rig;
	int listening, fd;

	(void)state;
	vsock_rig_init(&rig);
	listening = host_listens(&rig);
	/* The guest has said all; the host still speaks. */
	fd = guest_connects(&rig, listening, GUEST_PORT);
	guest_says_data(&rig, GUEST_PORT, HOST_PORT, 'a', 100);
	guest_says(&rig, GUEST_PORT, HOST_PORT, OP_SHUTDOWN, 2);
	host_expects_bytes(fd, 'a', 100);
	host_expects_end(fd);
	assert_int_equal(write(fd, "b", 1), 1);
	guest_expects(&rig, &packet, OP_RW, GUEST_PORT);
	guest_says_data(&rig, GUEST_PORT, HOST_PORT, 'a', 1); /* against its word */
	guest_expects(&rig, &packet, OP_RST, GUEST_PORT);
	close(fd);
	/* The host has said all; the guest still speaks. */
	fd = guest_connects(&rig, listening, GUEST_PORT + 1);
	assert_int_equal(write(fd, "b", 1), 1);
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	guest_expects(&rig, &packet, OP_RW, GUEST_PORT + 1);
	guest_expects(&rig, &packet, OP_SHUTDOWN, GUEST_PORT + 1);
	assert_int_equal(packet.flags, 2);
	guest_says_data(&rig, GUEST_PORT + 1, HOST_PORT, 'c', 100);
	host_expects_bytes(fd, 'c', 100);
	/* Then it goes, and the guest never answers. */
	rig.forwarded = 1;
	guest_says(&rig, GUEST_PORT + 1, HOST_PORT, OP_CREDIT_UPDATE, 0);
	close(fd);
	guest_expects(&rig, &packet, OP_SHUTDOWN, GUEST_PORT + 1);
	assert_int_equal(packet.flags, 3);
	guest_says_data(&rig, GUEST_PORT + 1, HOST_PORT, 'c', 100); /* it was on its way */
	guest_expects(&rig, &packet, OP_RST, GUEST_PORT + 1);
	vsock_await_count(&rig, "connections", 0);
	close(listening);
	vsock_rig_free(&rig);
}

/* A driver whose program has not read all yet is asked again, as long as it answers. */
static void test_slow_guest(void **state)
{
	struct vsock_packet packet;
	struct vsock_rig rig;
	int listening, fd;

	(void)state;
	vsock_rig_init(&rig);
	listening = host_listens(&rig);
	fd = guest_connects(&rig, listening, GUEST_PORT);
	assert_int_equal(write(fd, "last words", 10), 10);
	guest_expects(&rig, &packet, OP_RW, GUEST_PORT);
	close(fd);
	guest_expects(&rig, &packet, OP_SHUTDOWN, GUEST_PORT);
	for (unsigned i = 0; i < 2; i++) {
		guest_says(&rig, GUEST_PORT, HOST_PORT, OP_CREDIT_UPDATE, 0);
		guest_expects(&rig, &packet, OP_CREDIT_REQUEST, GUEST_PORT);
	}
	rig.forwarded = 10;
	guest_says(&rig, GUEST_PORT, HOST_PORT, OP_SHUTDOWN, 3);
	guest_expects(&rig, &packet, OP_RST, GUEST_PORT);
	close(listening);
	vsock_rig_free(&rig);
}

/* A guest that closes need not wait for a host that reads slowly, and loses nothing. */
static void test_slow_host(void **state)
{
	struct vsock_packet packet;
	struct vsock_rig rig;
	uint32_t sent = 0;
	int listening, fd;

	(void)state;
	vsock_rig_init(&rig);
	listening = host_listens(&rig);
	fd = guest_connects(&rig, listening, GUEST_PORT);
	do {
		guest_says_data(&rig, GUEST_PORT, HOST_PORT, 's', 32768);
		sent += 32768;
		guest_says(&rig, GUEST_PORT, HOST_PORT, OP_CREDIT_REQUEST, 0);
		guest_hears(&rig, &packet);
	} while (sent == packet.forwarded);
	guest_says(&rig, GUEST_PORT, HOST_PORT, OP_SHUTDOWN, 3);
	guest_expects(&rig, &packet, OP_RST, GUEST_PORT);
	assert_int_equal(vsock_counted(&rig, "connections"), 1);
	host_expects_bytes(fd, 's', sent);
	host_expects_end(fd);
	vsock_await_count(&rig, "connections", 0);
	close(fd);
	close(listening);
	vsock_rig_free(&rig);
}

/* All that have something are heard in turn. */
static void test_fairness(void **state)
{
	static uint8_t bytes[40000];
	struct vsock_packet packet;
	struct vsock_rig rig;
	unsigned heard[2] = {0};
	int listening, fds[2];

	(void)state;
	vsock_rig_init(&rig);
	listening = host_listens(&rig);
	for (uint32_t i = 0; i < 2; i++)
		fds[i] = guest_connects(&rig, listening, GUEST_PORT + i);
	fake_stop(rig.rig.device);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(write(fds[i], bytes, sizeof(bytes)), sizeof(bytes));
	assert_int_equal(rig.rig.device->ops->start(rig.rig.device, NULL), 0);
	for (unsigned i = 0; i < 12; i++) {
		guest_hears(&rig, &packet);
		assert_int_equal(packet.op, OP_RW);
		heard[packet.dst_port - GUEST_PORT]++;
	}
	assert_true(heard[0] >= 4 && heard[1] >= 4);
	close(fds[0]);
	close(fds[1]);
	close(listening);
	vsock_rig_free(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_credit_of_guest),
		cmocka_unit_test(test_credit_of_host),
		cmocka_unit_test(test_half_close),
		cmocka_unit_test(test_slow_guest),
		cmocka_unit_test(test_slow_host),
		cmocka_unit_test(test_fairness),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
