/* SPDX-License-Identifier: Apache-2.0 */
#include "vsock_rig.h"
#include "device_stats.h"

#include "base/bytes.h"
#include "base/checked.h"
#include "virtio/devices.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define MANY     (1U << 20) /* bytes: credit without end */
#define PATIENCE 300000000ULL

static int unix_socket(const char *path, struct sockaddr_un *address)
{
	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(address->sun_path, sizeof(address->sun_path), "%s", path);
	return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

void vsock_rig_new(struct vsock_rig *rig)
{
	struct virtio_vsock_options options = {
		.cid = GUEST_CID, .patience = PATIENCE, .packed = true};
	struct error err = {0};

	memset(rig, 0, sizeof(*rig));
	strcpy(rig->directory, "/tmp/duet-vsock-XXXXXX");
	assert_non_null(mkdtemp(rig->directory));
	snprintf(rig->path, sizeof(rig->path), "%s/v", rig->directory);
	rig->alloc = MANY;
	fake_machine_init(&rig->rig.machine);
	assert_int_equal(vsock_host_open(&options.host, rig->path, &err), 0);
	assert_int_equal(virtio_vsock_new(&rig->rig.device, "vsock0", &options, &err), 0);
	device_rig_start(&rig->rig);
}

void guest_offers(struct vsock_rig *rig, unsigned index)
{
	const struct ring_buffer buffers[] = {
		{DEVICE_RIG_DATA + 2ULL * index * PACKET_BUFFER, PACKET_HEADER, true},
		{DEVICE_RIG_DATA + (2ULL * index + 1) * PACKET_BUFFER,
			PACKET_BUFFER - PACKET_HEADER, true}};

	assert_true(ring_driver_offer(&rig->rig.rings[QUEUE_RECEIVE], buffers, 2, false, index));
	driver_kick(&rig->rig.driver, QUEUE_RECEIVE);
}

void guest_up(struct vsock_rig *rig, uint64_t features, unsigned buffers)
{
	device_rig_up(&rig->rig, features, 3);
	for (unsigned i = 0; i < buffers; i++)
		guest_offers(rig, i);
}

void vsock_rig_init(struct vsock_rig *rig)
{
	vsock_rig_new(rig);
	guest_up(rig, 0, GUEST_BUFFERS);
}

void vsock_rig_free(struct vsock_rig *rig)
{
	char other[128];

	device_rig_free(&rig->rig);
	assert_int_equal(access(rig->path, F_OK), -1);
	snprintf(other, sizeof(other), "%s_%u", rig->path, HOST_PORT);
	unlink(other);
	assert_int_equal(rmdir(rig->directory), 0);
}

uint64_t vsock_counted(struct vsock_rig *rig, const char *name)
{
	return device_stat(rig->rig.device, NULL, name);
}

void vsock_await_count(struct vsock_rig *rig, const char *name, uint64_t value)
{
	const struct timespec step = {.tv_nsec = 1000000};

	for (unsigned i = 0; i < FAKE_PATIENCE_MS && vsock_counted(rig, name) != value; i++)
		nanosleep(&step, NULL);
	assert_int_equal(vsock_counted(rig, name), value);
}

void guest_puts_header(uint8_t *at, const struct vsock_packet *packet)
{
	store_le64(at, packet->src_cid);
	store_le64(at + 8, packet->dst_cid);
	store_le32(at + 16, packet->src_port);
	store_le32(at + 20, packet->dst_port);
	store_le32(at + 24, packet->length);
	store_le16(at + 28, packet->type);
	store_le16(at + 30, packet->op);
	store_le32(at + 32, packet->flags);
	store_le32(at + 36, packet->alloc);
	store_le32(at + 40, packet->forwarded);
}

void guest_sends(struct vsock_rig *rig, const struct vsock_packet *packet, uint32_t bytes)
{
	const struct ring_buffer buffers[] = {
		{PACKET_SENT, PACKET_HEADER, false}, {PACKET_SENT + PACKET_HEADER, bytes, false}};

	guest_puts_header(device_rig_at(&rig->rig, PACKET_SENT), packet);
	device_rig_request(&rig->rig, QUEUE_TRANSMIT, buffers, bytes ? 2 : 1, false);
}

struct vsock_packet guest_packet(
	struct vsock_rig *rig, uint32_t guest_port, uint32_t host_port, uint16_t op)
{
	return (struct vsock_packet){.src_cid = GUEST_CID,
		.dst_cid = 2,
		.src_port = guest_port,
		.dst_port = host_port,
		.type = 1,
		.op = op,
		.alloc = rig->alloc,
		.forwarded = rig->forwarded};
}

void guest_says(
	struct vsock_rig *rig, uint32_t guest_port, uint32_t host_port, uint16_t op, uint32_t flags)
{
	struct vsock_packet packet = guest_packet(rig, guest_port, host_port, op);

	packet.flags = flags;
	guest_sends(rig, &packet, 0);
}

void guest_says_data(struct vsock_rig *rig, uint32_t guest_port, uint32_t host_port, uint8_t byte,
	uint32_t length)
{
	struct vsock_packet packet = guest_packet(rig, guest_port, host_port, OP_RW);

	packet.length = length;
	memset(device_rig_at(&rig->rig, PACKET_SENT + PACKET_HEADER), byte, length);
	guest_sends(rig, &packet, length);
}

void guest_hears(struct vsock_rig *rig, struct vsock_packet *packet)
{
	uint64_t index;
	uint32_t written;
	const uint8_t *at;

	assert_true(driver_await(&rig->rig.rings[QUEUE_RECEIVE], &index, &written));
	assert_true(written >= PACKET_HEADER);
	at = device_rig_at(&rig->rig, DEVICE_RIG_DATA + 2ULL * index * PACKET_BUFFER);
	packet->src_cid = load_le64(at);
	packet->dst_cid = load_le64(at + 8);
	packet->src_port = load_le32(at + 16);
	packet->dst_port = load_le32(at + 20);
	packet->length = load_le32(at + 24);
	packet->type = load_le16(at + 28);
	packet->op = load_le16(at + 30);
	packet->flags = load_le32(at + 32);
	packet->alloc = load_le32(at + 36);
	packet->forwarded = load_le32(at + 40);
	assert_int_equal(packet->length, written - PACKET_HEADER);
	assert_int_equal(packet->src_cid, 2);
	assert_int_equal(packet->dst_cid, GUEST_CID);
	memcpy(packet->data, at + PACKET_BUFFER, packet->length);
	guest_offers(rig, (unsigned)index);
}

void guest_expects(
	struct vsock_rig *rig, struct vsock_packet *packet, uint16_t op, uint32_t guest_port)
{
	guest_hears(rig, packet);
	assert_int_equal(packet->op, op);
	assert_int_equal(packet->dst_port, guest_port);
}

bool guest_hears_nothing(struct vsock_rig *rig)
{
	const struct timespec moment = {.tv_nsec = 20000000};
	uint64_t index;
	uint32_t written;

	nanosleep(&moment, NULL);
	return !ring_driver_take(&rig->rig.rings[QUEUE_RECEIVE], &index, &written);
}

int host_listens(struct vsock_rig *rig)
{
	struct sockaddr_un address;
	char path[107];
	int fd;

	snprintf(path, sizeof(path), "%s_%u", rig->path, HOST_PORT);
	fd = unix_socket(path, &address);
	assert_int_equal(bind(fd, (const void *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 128), 0);
	return fd;
}

int host_reaches(struct vsock_rig *rig)
{
	struct sockaddr_un address;
	int fd = unix_socket(rig->path, &address);

	assert_int_equal(connect(fd, (const void *)&address, sizeof(address)), 0);
	return fd;
}

int host_connects(struct vsock_rig *rig, const char *line)
{
	int fd = host_reaches(rig);

	assert_int_equal(send(fd, line, strlen(line), MSG_NOSIGNAL), strlen(line));
	return fd;
}

void host_expects_bytes(int fd, uint8_t byte, size_t length)
{
	uint8_t bytes[65536];

	while (length) {
		struct pollfd readable = {.fd = fd, .events = POLLIN};
		ssize_t got;

		assert_int_equal(poll(&readable, 1, FAKE_PATIENCE_MS), 1);
		got = read(fd, bytes, min_u64(sizeof(bytes), length));
		assert_true(got > 0);
		for (ssize_t i = 0; i < got; i++)
			assert_int_equal(bytes[i], byte);
		length -= (size_t)got;
	}
}

void host_expects_end(int fd)
{
	struct pollfd readable = {.fd = fd, .events = POLLIN};
	uint8_t byte;

	assert_int_equal(poll(&readable, 1, FAKE_PATIENCE_MS), 1);
	assert_true(read(fd, &byte, 1) <= 0);
}

int guest_connects(struct vsock_rig *rig, int listening, uint32_t guest_port)
{
	struct vsock_packet packet;
	int fd;

	guest_says(rig, guest_port, HOST_PORT, OP_REQUEST, 0);
	fd = accept(listening, NULL, NULL);
	assert_true(fd >= 0);
	guest_expects(rig, &packet, OP_RESPONSE, guest_port);
	assert_int_equal(packet.src_port, HOST_PORT);
	assert_int_equal(packet.alloc, HOST_ALLOC);
	assert_int_equal(packet.type, 1);
	return fd;
}

int host_connected(struct vsock_rig *rig, uint32_t *host_port)
{
	int fd = host_connects(rig, "CONNECT 1000\n");
	struct vsock_packet packet;
	char line[32] = "", wanted[32];

	guest_expects(rig, &packet, OP_REQUEST, GUEST_PORT);
	*host_port = packet.src_port;
	guest_says(rig, GUEST_PORT, *host_port, OP_RESPONSE, 0);
	snprintf(wanted, sizeof(wanted), "OK %u\n", *host_port);
	assert_int_equal(read(fd, line, sizeof(line) - 1), strlen(wanted));
	assert_string_equal(line, wanted);
	return fd;
}
