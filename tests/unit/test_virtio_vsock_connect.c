/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-vsock's connections as they come about, from either side, and those that are refused. */
#include "vsock_rig.h"

#include "base/checked.h"
#include "virtio/devices.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define CONFIG_ID 0

static void test_guest_connects(void **state)
{
	static const uint64_t kinds[] = {
		0, VIRTIO_FEATURE(VIRTIO_F_EVENT_IDX), VIRTIO_FEATURE(VIRTIO_F_RING_PACKED)};
	struct vsock_packet packet;
	struct stat status;
	struct vsock_rig rig;
	int listening, fd;

	(void)state;
	vsock_rig_new(&rig);
	listening = host_listens(&rig);
	assert_int_equal(stat(rig.path, &status), 0);
	assert_int_equal(status.st_mode, S_IFSOCK | 0600);
	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
		guest_up(&rig, kinds[i], 20);
		assert_int_equal(
			fake_guest_read(&rig.rig.machine, rig.rig.driver.config + CONFIG_ID, 4),
			GUEST_CID);
		fd = guest_connects(&rig, listening, GUEST_PORT);
		assert_int_equal(vsock_counted(&rig, "connections"), 1);
		guest_says_data(&rig, GUEST_PORT, HOST_PORT, 'g', 5000);
		host_expects_bytes(fd, 'g', 5000);
		assert_int_equal(write(fd, "hhhh", 4), 4);
		guest_expects(&rig, &packet, OP_RW, GUEST_PORT);
		assert_int_equal(packet.length, 4);
		assert_memory_equal(packet.data, "hhhh", 4);
		assert_int_equal(packet.forwarded, 5000);
		/* The guest closes. */
		guest_says(&rig, GUEST_PORT, HOST_PORT, OP_SHUTDOWN, 3);
		guest_expects(&rig, &packet, OP_RST, GUEST_PORT);
		host_expects_end(fd);
		close(fd);
		vsock_await_count(&rig, "connections", 0);
	}
	assert_int_equal(vsock_counted(&rig, "from_guest"), 3);
	close(listening);
	vsock_rig_free(&rig);
}

static void test_host_connects(void **state)
{
	struct vsock_packet packet;
	struct vsock_rig rig;
	uint32_t first, second;
	int fd, other, partial;

	(void)state;
	vsock_rig_init(&rig);
	/* Half of a line waits for the other, and holds up nobody. */
	partial = host_connects(&rig, "CONN");
	fd = host_connected(&rig, &first);
	other = host_connected(&rig, &second);
	assert_int_not_equal(first, second);
	assert_true(first >= 1U << 30);
	assert_int_equal(write(other, "o", 1), 1);
	guest_expects(&rig, &packet, OP_RW, GUEST_PORT);
	assert_int_equal(packet.src_port, second);
	guest_says_data(&rig, GUEST_PORT, first, 'x', 10);
	host_expects_bytes(fd, 'x', 10);
	assert_int_equal(write(partial, "ECT 7\nbehind", 12), 12);
	guest_expects(&rig, &packet, OP_REQUEST, 7);
	guest_says(&rig, 7, packet.src_port, OP_RESPONSE, 0);
	guest_expects(&rig, &packet, OP_RW, 7);
	assert_int_equal(packet.length, 6);
	assert_memory_equal(packet.data, "behind", 6);
	assert_int_equal(vsock_counted(&rig, "from_host"), 3);
	/* The host closes; the guest agrees. */
	close(fd);
	guest_expects(&rig, &packet, OP_SHUTDOWN, GUEST_PORT);
	assert_int_equal(packet.flags, 3);
	guest_says(&rig, GUEST_PORT, first, OP_RST, 0);
	vsock_await_count(&rig, "connections", 2);
	close(other);
	close(partial);
	vsock_rig_free(&rig);
}

static void test_bad_greetings(void **state)
{
	static const char *const lines[] = {"\n", "CONNECT\n", "CONNECT \n", "CONNECT -1\n",
		"CONNECT 4294967296\n", "CONNECT 1 2\n", "GET / HTTP/1.1\r\n",
		"CONNECT 99999999999999999999999999999999999", "CONNECT 5x\n"};
	struct vsock_packet packet;
	struct vsock_rig rig;
	int fd;

	(void)state;
	vsock_rig_init(&rig);
	for (unsigned i = 0; i < ARRAY_SIZE(lines); i++) {
		fd = host_connects(&rig, lines[i]);
		host_expects_end(fd);
		close(fd);
	}
	assert_int_equal(vsock_counted(&rig, "refused"), ARRAY_SIZE(lines));
	/* Nobody listens in the guest. */
	fd = host_connects(&rig, "connect 5 \r\n");
	guest_expects(&rig, &packet, OP_REQUEST, 5);
	guest_says(&rig, 5, packet.src_port, OP_RST, 0);
	host_expects_end(fd);
	close(fd);
	/* It does not answer, and neither does who says nothing. */
	fd = host_connects(&rig, "CONNECT 5\n");
	guest_expects(&rig, &packet, OP_REQUEST, 5);
	guest_expects(&rig, &packet, OP_RST, 5);
	host_expects_end(fd);
	close(fd);
	fd = host_connects(&rig, "CON");
	host_expects_end(fd);
	close(fd);
	assert_true(guest_hears_nothing(&rig));
	assert_int_equal(vsock_counted(&rig, "connections"), 0);
	vsock_rig_free(&rig);
}

static void test_nobody_listens(void **state)
{
	struct vsock_packet packet;
	struct vsock_rig rig;
	char path[128], aside[160];
	int listening, fd;

	(void)state;
	vsock_rig_init(&rig);
	guest_says(&rig, GUEST_PORT, HOST_PORT, OP_REQUEST, 0);
	guest_expects(&rig, &packet, OP_RST, GUEST_PORT);
	listening = host_listens(&rig);
	fd = guest_connects(&rig, listening, GUEST_PORT);
	/* The path vanishes: who is connected stays so. */
	snprintf(path, sizeof(path), "%s_%u", rig.path, HOST_PORT);
	assert_int_equal(unlink(path), 0);
	guest_says(&rig, GUEST_PORT + 1, HOST_PORT, OP_REQUEST, 0);
	guest_expects(&rig, &packet, OP_RST, GUEST_PORT + 1);
	guest_says_data(&rig, GUEST_PORT, HOST_PORT, 'v', 10);
	host_expects_bytes(fd, 'v', 10);
	assert_int_equal(vsock_counted(&rig, "refused"), 2);
	close(fd);
	close(listening);
	/* And the device's own, in whose place another has come: that one stays. */
	snprintf(aside, sizeof(aside), "%s/aside", rig.directory);
	assert_int_equal(rename(rig.path, aside), 0);
	assert_int_equal(mkdir(rig.path, 0700), 0);
	device_rig_free(&rig.rig);
	assert_int_equal(rmdir(rig.path), 0);
	assert_int_equal(unlink(aside), 0);
	assert_int_equal(rmdir(rig.directory), 0);
}

static void test_path(void **state)
{
	struct vsock_host *host = NULL;
	char longest[VSOCK_PATH_MAX + 2];
	struct error err = {0};
	struct vsock_rig rig;

	(void)state;
	vsock_rig_init(&rig);
	assert_int_equal(vsock_host_open(&host, rig.path, &err), -EADDRINUSE);
	assert_non_null(strstr(err.text, "the file exists; remove it"));
	assert_int_equal(access(rig.path, F_OK), 0);
	assert_int_equal(vsock_host_open(&host, "/nowhere/at/all", &err), -ENOENT);
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = 0;
	assert_int_equal(vsock_host_open(&host, longest, &err), -ENAMETOOLONG);
	assert_null(host);
	vsock_rig_free(&rig);
}

static void test_limit(void **state)
{
	const struct rlimit limit = {4096, 4096};
	struct vsock_packet packet;
	static int fds[1023];
	struct vsock_rig rig;
	int listening, fd;

	(void)state;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		skip();
	vsock_rig_init(&rig);
	listening = host_listens(&rig);
	for (uint32_t i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = guest_connects(&rig, listening, GUEST_PORT + i);
	assert_int_equal(vsock_counted(&rig, "connections"), 1023);
	guest_says(&rig, 1, HOST_PORT, OP_REQUEST, 0);
	guest_expects(&rig, &packet, OP_RST, 1);
	/* Refused before it has said anything. */
	fd = host_reaches(&rig);
	host_expects_end(fd);
	close(fd);
	assert_int_equal(vsock_counted(&rig, "refused"), 2);
	/* One place is free again. */
	guest_says(&rig, GUEST_PORT + 500, HOST_PORT, OP_RST, 0);
	host_expects_end(fds[500]);
	fd = guest_connects(&rig, listening, 1);
	close(fd);
	for (uint32_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	close(listening);
	vsock_rig_free(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_guest_connects),
		cmocka_unit_test(test_host_connects),
		cmocka_unit_test(test_bad_greetings),
		cmocka_unit_test(test_nobody_listens),
		cmocka_unit_test(test_path),
		cmocka_unit_test(test_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
