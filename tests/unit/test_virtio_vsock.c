/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-vsock as its driver sees it, on real unix sockets. */
#include "device_rig.h"
#include "device_stats.h"

#include "base/bytes.h"
#include "base/checked.h"
#include "virtio/devices.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define CID       77
#define HEADER    44
#define BUFFER    4096
#define BUFFERS   32 /* that wait for packets */
#define DATA      DEVICE_RIG_DATA
#define SENT      (DATA + 0x100000)
#define EVENTS    (DATA + 0x200000)
#define MANY      (1U << 20) /* bytes: credit without end */
#define ALLOC     (128U << 10)
#define PATIENCE  300000000ULL
#define GUEST     1000 /* ports */
#define HOST      52
#define CONFIG_ID 0

enum {
	RECEIVE,
	TRANSMIT,
	EVENT,
};

enum {
	REQUEST = 1,
	RESPONSE,
	RST,
	SHUTDOWN,
	RW,
	CREDIT_UPDATE,
	CREDIT_REQUEST,
};

struct rig {
	struct device_rig rig;
	char directory[64], path[96];
	uint32_t alloc; /* what the driver says of its buffers */
	uint32_t forwarded;
};

struct packet {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port, length;
	uint16_t type, op;
	uint32_t flags, alloc, forwarded;
	uint8_t data[BUFFER];
};

static void rig_new(struct rig *rig)
{
	struct virtio_vsock_options options = {.cid = CID, .patience = PATIENCE, .packed = true};
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

/* One buffer, which comes back as number @index. */
static void offer(struct rig *rig, unsigned index)
{
	const struct ring_buffer buffers[] = {{DATA + 2ULL * index * BUFFER, HEADER, true},
		{DATA + (2ULL * index + 1) * BUFFER, BUFFER - HEADER, true}};

	assert_true(ring_driver_offer(&rig->rig.rings[RECEIVE], buffers, 2, false, index));
	driver_kick(&rig->rig.driver, RECEIVE);
}

static void up(struct rig *rig, uint64_t features, unsigned buffers)
{
	device_rig_up(&rig->rig, features, 3);
	for (unsigned i = 0; i < buffers; i++)
		offer(rig, i);
}

static void rig_init(struct rig *rig)
{
	rig_new(rig);
	up(rig, 0, BUFFERS);
}

static void rig_free(struct rig *rig)
{
	char other[128];

	device_rig_free(&rig->rig);
	assert_int_equal(access(rig->path, F_OK), -1);
	snprintf(other, sizeof(other), "%s_%u", rig->path, HOST);
	unlink(other);
	assert_int_equal(rmdir(rig->directory), 0);
}

static uint64_t counted(struct rig *rig, const char *name)
{
	return device_stat(rig->rig.device, NULL, name);
}

static void put(uint8_t *at, const struct packet *packet)
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

/* @bytes of data really there; all else as it stands. */
static void send_raw(struct rig *rig, const struct packet *packet, uint32_t bytes)
{
	const struct ring_buffer buffers[] = {{SENT, HEADER, false}, {SENT + HEADER, bytes, false}};

	put(device_rig_at(&rig->rig, SENT), packet);
	device_rig_request(&rig->rig, TRANSMIT, buffers, bytes ? 2 : 1, false);
}

static struct packet from_guest(
	struct rig *rig, uint32_t guest_port, uint32_t host_port, uint16_t op)
{
	return (struct packet){.src_cid = CID,
		.dst_cid = 2,
		.src_port = guest_port,
		.dst_port = host_port,
		.type = 1,
		.op = op,
		.alloc = rig->alloc,
		.forwarded = rig->forwarded};
}

static void say(
	struct rig *rig, uint32_t guest_port, uint32_t host_port, uint16_t op, uint32_t flags)
{
	struct packet packet = from_guest(rig, guest_port, host_port, op);

	packet.flags = flags;
	send_raw(rig, &packet, 0);
}

/* @length bytes of @byte. */
static void say_data(
	struct rig *rig, uint32_t guest_port, uint32_t host_port, uint8_t byte, uint32_t length)
{
	struct packet packet = from_guest(rig, guest_port, host_port, RW);

	packet.length = length;
	memset(device_rig_at(&rig->rig, SENT + HEADER), byte, length);
	send_raw(rig, &packet, length);
}

/* The next packet to the guest; its buffer is offered again. */
static void hear(struct rig *rig, struct packet *packet)
{
	uint64_t index;
	uint32_t written;
	const uint8_t *at;

	assert_true(driver_await(&rig->rig.rings[RECEIVE], &index, &written));
	assert_true(written >= HEADER);
	at = device_rig_at(&rig->rig, DATA + 2ULL * index * BUFFER);
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
	assert_int_equal(packet->length, written - HEADER);
	assert_int_equal(packet->src_cid, 2);
	assert_int_equal(packet->dst_cid, CID);
	memcpy(packet->data, at + BUFFER, packet->length);
	offer(rig, (unsigned)index);
}

static void expect(struct rig *rig, struct packet *packet, uint16_t op, uint32_t guest_port)
{
	hear(rig, packet);
	assert_int_equal(packet->op, op);
	assert_int_equal(packet->dst_port, guest_port);
}

static bool silent(struct rig *rig)
{
	const struct timespec moment = {.tv_nsec = 20000000};
	uint64_t index;
	uint32_t written;

	nanosleep(&moment, NULL);
	return !ring_driver_take(&rig->rig.rings[RECEIVE], &index, &written);
}

static int unix_socket(const char *path, struct sockaddr_un *address)
{
	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(address->sun_path, sizeof(address->sun_path), "%s", path);
	return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

static int listener(struct rig *rig)
{
	struct sockaddr_un address;
	char path[107];
	int fd;

	snprintf(path, sizeof(path), "%s_%u", rig->path, HOST);
	fd = unix_socket(path, &address);
	assert_int_equal(bind(fd, (const void *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 128), 0);
	return fd;
}

static int host_reaches(struct rig *rig)
{
	struct sockaddr_un address;
	int fd = unix_socket(rig->path, &address);

	assert_int_equal(connect(fd, (const void *)&address, sizeof(address)), 0);
	return fd;
}

static int host_connects(struct rig *rig, const char *line)
{
	int fd = host_reaches(rig);

	assert_int_equal(send(fd, line, strlen(line), MSG_NOSIGNAL), strlen(line));
	return fd;
}

/* Reads all of @length bytes, each of which is @byte. */
static void expect_bytes(int fd, uint8_t byte, size_t length)
{
	uint8_t bytes[65536];

	while (length) {
		struct pollfd readable = {.fd = fd, .events = POLLIN};
		ssize_t got;

		assert_int_equal(poll(&readable, 1, 2000), 1);
		got = read(fd, bytes, min_u64(sizeof(bytes), length));
		assert_true(got > 0);
		for (ssize_t i = 0; i < got; i++)
			assert_int_equal(bytes[i], byte);
		length -= (size_t)got;
	}
}

static void expect_end(int fd)
{
	struct pollfd readable = {.fd = fd, .events = POLLIN};
	uint8_t byte;

	assert_int_equal(poll(&readable, 1, 2000), 1);
	assert_true(read(fd, &byte, 1) <= 0);
}

/* The guest's port @guest_port to HOST; the host's end. */
static int guest_connects(struct rig *rig, int listening, uint32_t guest_port)
{
	struct packet packet;
	int fd;

	say(rig, guest_port, HOST, REQUEST, 0);
	fd = accept(listening, NULL, NULL);
	assert_true(fd >= 0);
	expect(rig, &packet, RESPONSE, guest_port);
	assert_int_equal(packet.src_port, HOST);
	assert_int_equal(packet.alloc, ALLOC);
	assert_int_equal(packet.type, 1);
	return fd;
}

/* The host's end of a connection to the guest's port GUEST. */
static int host_connected(struct rig *rig, uint32_t *host_port)
{
	int fd = host_connects(rig, "CONNECT 1000\n");
	struct packet packet;
	char line[32] = "", wanted[32];

	expect(rig, &packet, REQUEST, GUEST);
	*host_port = packet.src_port;
	say(rig, GUEST, *host_port, RESPONSE, 0);
	snprintf(wanted, sizeof(wanted), "OK %u\n", *host_port);
	assert_int_equal(read(fd, line, sizeof(line) - 1), strlen(wanted));
	assert_string_equal(line, wanted);
	return fd;
}

static void await_count(struct rig *rig, const char *name, uint64_t value)
{
	const struct timespec step = {.tv_nsec = 1000000};

	for (unsigned i = 0; i < 2000 && counted(rig, name) != value; i++)
		nanosleep(&step, NULL);
	assert_int_equal(counted(rig, name), value);
}

static void test_guest_connects(void **state)
{
	static const uint64_t kinds[] = {
		0, VIRTIO_FEATURE(VIRTIO_F_EVENT_IDX), VIRTIO_FEATURE(VIRTIO_F_RING_PACKED)};
	struct packet packet;
	struct stat status;
	struct rig rig;
	int listening, fd;

	(void)state;
	rig_new(&rig);
	listening = listener(&rig);
	assert_int_equal(stat(rig.path, &status), 0);
	assert_int_equal(status.st_mode, S_IFSOCK | 0600);
	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
		up(&rig, kinds[i], 20);
		assert_int_equal(
			fake_guest_read(&rig.rig.machine, rig.rig.driver.config + CONFIG_ID, 4),
			CID);
		fd = guest_connects(&rig, listening, GUEST);
		assert_int_equal(counted(&rig, "connections"), 1);
		say_data(&rig, GUEST, HOST, 'g', 5000);
		expect_bytes(fd, 'g', 5000);
		assert_int_equal(write(fd, "hhhh", 4), 4);
		expect(&rig, &packet, RW, GUEST);
		assert_int_equal(packet.length, 4);
		assert_memory_equal(packet.data, "hhhh", 4);
		assert_int_equal(packet.forwarded, 5000);
		/* The guest closes. */
		say(&rig, GUEST, HOST, SHUTDOWN, 3);
		expect(&rig, &packet, RST, GUEST);
		expect_end(fd);
		close(fd);
		await_count(&rig, "connections", 0);
	}
	assert_int_equal(counted(&rig, "from_guest"), 3);
	close(listening);
	rig_free(&rig);
}

static void test_host_connects(void **state)
{
	struct packet packet;
	struct rig rig;
	uint32_t first, second;
	int fd, other, partial;

	(void)state;
	rig_init(&rig);
	/* Half of a line waits for the other, and holds up nobody. */
	partial = host_connects(&rig, "CONN");
	fd = host_connected(&rig, &first);
	other = host_connected(&rig, &second);
	assert_int_not_equal(first, second);
	assert_true(first >= 1U << 30);
	assert_int_equal(write(other, "o", 1), 1);
	expect(&rig, &packet, RW, GUEST);
	assert_int_equal(packet.src_port, second);
	say_data(&rig, GUEST, first, 'x', 10);
	expect_bytes(fd, 'x', 10);
	assert_int_equal(write(partial, "ECT 7\nbehind", 12), 12);
	expect(&rig, &packet, REQUEST, 7);
	say(&rig, 7, packet.src_port, RESPONSE, 0);
	expect(&rig, &packet, RW, 7);
	assert_int_equal(packet.length, 6);
	assert_memory_equal(packet.data, "behind", 6);
	assert_int_equal(counted(&rig, "from_host"), 3);
	/* The host closes; the guest agrees. */
	close(fd);
	expect(&rig, &packet, SHUTDOWN, GUEST);
	assert_int_equal(packet.flags, 3);
	say(&rig, GUEST, first, RST, 0);
	await_count(&rig, "connections", 2);
	close(other);
	close(partial);
	rig_free(&rig);
}

static void test_bad_greetings(void **state)
{
	static const char *const lines[] = {"\n", "CONNECT\n", "CONNECT \n", "CONNECT -1\n",
		"CONNECT 4294967296\n", "CONNECT 1 2\n", "GET / HTTP/1.1\r\n",
		"CONNECT 99999999999999999999999999999999999", "CONNECT 5x\n"};
	struct packet packet;
	struct rig rig;
	int fd;

	(void)state;
	rig_init(&rig);
	for (unsigned i = 0; i < ARRAY_SIZE(lines); i++) {
		fd = host_connects(&rig, lines[i]);
		expect_end(fd);
		close(fd);
	}
	assert_int_equal(counted(&rig, "refused"), ARRAY_SIZE(lines));
	/* Nobody listens in the guest. */
	fd = host_connects(&rig, "connect 5 \r\n");
	expect(&rig, &packet, REQUEST, 5);
	say(&rig, 5, packet.src_port, RST, 0);
	expect_end(fd);
	close(fd);
	/* It does not answer, and neither does who says nothing. */
	fd = host_connects(&rig, "CONNECT 5\n");
	expect(&rig, &packet, REQUEST, 5);
	expect(&rig, &packet, RST, 5);
	expect_end(fd);
	close(fd);
	fd = host_connects(&rig, "CON");
	expect_end(fd);
	close(fd);
	assert_true(silent(&rig));
	assert_int_equal(counted(&rig, "connections"), 0);
	rig_free(&rig);
}

/* What the guest may send: the buffer's size in all, and never more. */
static void test_credit_of_guest(void **state)
{
	struct packet packet;
	struct rig rig;
	int listening, fd;
	uint32_t sent = 0;

	(void)state;
	rig_init(&rig);
	listening = listener(&rig);
	fd = guest_connects(&rig, listening, GUEST);
	/* The socket takes some, then the device holds as much as it said. */
	do {
		say_data(&rig, GUEST, HOST, 'c', 32768);
		sent += 32768;
		say(&rig, GUEST, HOST, CREDIT_REQUEST, 0);
		hear(&rig, &packet);
		assert_int_equal(packet.op, CREDIT_UPDATE);
	} while (sent - packet.forwarded + 32768 <= ALLOC);
	expect_bytes(fd, 'c', sent);
	await_count(&rig, "bytes_out", sent);
	do {
		expect(&rig, &packet, CREDIT_UPDATE, GUEST);
	} while (sent - packet.forwarded >= ALLOC / 2);
	/* A guest that does not keep to it. */
	for (unsigned i = 0; i < 40 && counted(&rig, "violations") == 0; i++)
		say_data(&rig, GUEST, HOST, 'c', 32768);
	assert_int_equal(counted(&rig, "violations"), 1);
	do {
		hear(&rig, &packet);
	} while (packet.op == CREDIT_UPDATE);
	assert_int_equal(packet.op, RST);
	await_count(&rig, "connections", 0);
	close(fd);
	close(listening);
	rig_free(&rig);
}

/* What the guest can take. */
static void test_credit_of_host(void **state)
{
	static uint8_t bytes[20000];
	struct packet packet;
	struct rig rig;
	uint32_t got = 0;
	int listening, fd;

	(void)state;
	rig_init(&rig);
	rig.alloc = 10000;
	listening = listener(&rig);
	fd = guest_connects(&rig, listening, GUEST);
	assert_int_equal(write(fd, bytes, sizeof(bytes)), sizeof(bytes));
	while (got < 10000) {
		expect(&rig, &packet, RW, GUEST);
		got += packet.length;
	}
	assert_int_equal(got, 10000);
	expect(&rig, &packet, CREDIT_REQUEST, GUEST);
	assert_true(silent(&rig));
	/* It has taken more than there was: that is no credit. */
	rig.forwarded = 10001;
	say(&rig, GUEST, HOST, CREDIT_UPDATE, 0);
	assert_true(silent(&rig));
	rig.forwarded = 6000;
	say(&rig, GUEST, HOST, CREDIT_UPDATE, 0);
	while (got < 16000) {
		expect(&rig, &packet, RW, GUEST);
		got += packet.length;
	}
	assert_int_equal(got, 16000);
	expect(&rig, &packet, CREDIT_REQUEST, GUEST);
	rig.forwarded = 16000;
	say(&rig, GUEST, HOST, CREDIT_UPDATE, 0);
	expect(&rig, &packet, RW, GUEST);
	close(fd);
	close(listening);
	rig_free(&rig);
}

static void test_half_close(void **state)
{
	struct packet packet;
	struct rig rig;
	int listening, fd;

	(void)state;
	rig_init(&rig);
	listening = listener(&rig);
	/* The guest has said all; the host still speaks. */
	fd = guest_connects(&rig, listening, GUEST);
	say_data(&rig, GUEST, HOST, 'a', 100);
	say(&rig, GUEST, HOST, SHUTDOWN, 2);
	expect_bytes(fd, 'a', 100);
	expect_end(fd);
	assert_int_equal(write(fd, "b", 1), 1);
	expect(&rig, &packet, RW, GUEST);
	say_data(&rig, GUEST, HOST, 'a', 1); /* against its word */
	expect(&rig, &packet, RST, GUEST);
	close(fd);
	/* The host has said all; the guest still speaks. */
	fd = guest_connects(&rig, listening, GUEST + 1);
	assert_int_equal(write(fd, "b", 1), 1);
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	expect(&rig, &packet, RW, GUEST + 1);
	expect(&rig, &packet, SHUTDOWN, GUEST + 1);
	assert_int_equal(packet.flags, 2);
	say_data(&rig, GUEST + 1, HOST, 'c', 100);
	expect_bytes(fd, 'c', 100);
	/* Then it goes, and the guest never answers. */
	rig.forwarded = 1;
	say(&rig, GUEST + 1, HOST, CREDIT_UPDATE, 0);
	close(fd);
	expect(&rig, &packet, SHUTDOWN, GUEST + 1);
	assert_int_equal(packet.flags, 3);
	say_data(&rig, GUEST + 1, HOST, 'c', 100); /* it was on its way */
	expect(&rig, &packet, RST, GUEST + 1);
	await_count(&rig, "connections", 0);
	close(listening);
	rig_free(&rig);
}

/* A driver whose program has not read all yet is asked again, as long as it answers. */
static void test_slow_guest(void **state)
{
	struct packet packet;
	struct rig rig;
	int listening, fd;

	(void)state;
	rig_init(&rig);
	listening = listener(&rig);
	fd = guest_connects(&rig, listening, GUEST);
	assert_int_equal(write(fd, "last words", 10), 10);
	expect(&rig, &packet, RW, GUEST);
	close(fd);
	expect(&rig, &packet, SHUTDOWN, GUEST);
	for (unsigned i = 0; i < 2; i++) {
		say(&rig, GUEST, HOST, CREDIT_UPDATE, 0);
		expect(&rig, &packet, CREDIT_REQUEST, GUEST);
	}
	rig.forwarded = 10;
	say(&rig, GUEST, HOST, SHUTDOWN, 3);
	expect(&rig, &packet, RST, GUEST);
	close(listening);
	rig_free(&rig);
}

/* A guest that closes need not wait for a host that reads slowly, and loses nothing. */
static void test_slow_host(void **state)
{
	struct packet packet;
	struct rig rig;
	uint32_t sent = 0;
	int listening, fd;

	(void)state;
	rig_init(&rig);
	listening = listener(&rig);
	fd = guest_connects(&rig, listening, GUEST);
	do {
		say_data(&rig, GUEST, HOST, 's', 32768);
		sent += 32768;
		say(&rig, GUEST, HOST, CREDIT_REQUEST, 0);
		hear(&rig, &packet);
	} while (sent == packet.forwarded);
	say(&rig, GUEST, HOST, SHUTDOWN, 3);
	expect(&rig, &packet, RST, GUEST);
	assert_int_equal(counted(&rig, "connections"), 1);
	expect_bytes(fd, 's', sent);
	expect_end(fd);
	await_count(&rig, "connections", 0);
	close(fd);
	close(listening);
	rig_free(&rig);
}

/* @change of a packet of an open connection, and what comes of it: RST, or 0. */
static void hostile(struct rig *rig, int listening, struct packet packet, uint32_t bytes,
	uint16_t answer, unsigned left)
{
	int fd = guest_connects(rig, listening, GUEST);
	struct packet heard;

	send_raw(rig, &packet, bytes);
	if (answer)
		expect(rig, &heard, answer, packet.src_port);
	assert_true(silent(rig));
	assert_int_equal(counted(rig, "connections"), left);
	if (left) {
		say(rig, GUEST, HOST, RST, 0);
		await_count(rig, "connections", 0);
	}
	expect_end(fd);
	close(fd);
}

#define HOSTILE(bytes, answer, left, ...)                                                          \
	do {                                                                                       \
		struct packet packet = from_guest(&rig, GUEST, HOST, RW);                          \
		__VA_ARGS__;                                                                       \
		hostile(&rig, listening, packet, bytes, answer, left);                             \
	} while (0)

static void test_hostile_packets(void **state)
{
	const struct ring_buffer stump = {SENT, HEADER - 1, false};
	const struct ring_buffer writable = {SENT, HEADER, true};
	struct rig rig;
	int listening;

	(void)state;
	rig_init(&rig);
	listening = listener(&rig);
	HOSTILE(10, 0, 1, packet.length = 11);
	HOSTILE(10, 0, 1, packet.length = UINT32_MAX);
	HOSTILE(10, 0, 1, packet.src_cid = CID + 1);
	HOSTILE(10, 0, 1, packet.src_cid = CID | 1ULL << 32);
	HOSTILE(10, 0, 1, packet.dst_cid = 1);
	HOSTILE(10, 0, 1, packet.dst_cid = UINT64_MAX);
	HOSTILE(10, RST, 1, packet.type = 2);
	HOSTILE(10, RST, 1, packet.src_port = GUEST + 1);
	HOSTILE(10, RST, 1, packet.dst_port = UINT32_MAX);
	HOSTILE(0, RST, 0, packet.op = REQUEST);
	HOSTILE(0, RST, 0, packet.op = RESPONSE);
	HOSTILE(0, RST, 0, packet.op = 0);
	HOSTILE(0, RST, 0, packet.op = 8);
	HOSTILE(0, RST, 0, packet.op = UINT16_MAX);
	HOSTILE(0, RST, 0, packet.op = SHUTDOWN; packet.flags = 4);
	HOSTILE(0, 0, 1, packet.op = SHUTDOWN; packet.flags = 0);
	HOSTILE(ALLOC + 1, RST, 0, packet.length = ALLOC + 1);
	/* An RST is not answered; nor is what has no header. */
	say(&rig, 5, 6, RST, 0);
	device_rig_request(&rig.rig, TRANSMIT, &stump, 1, false);
	device_rig_request(&rig.rig, TRANSMIT, &writable, 1, false);
	assert_true(silent(&rig));
	assert_int_equal(counted(&rig, "needed_resets"), 0);
	close(listening);
	rig_free(&rig);
}

static void test_bad_buffers(void **state)
{
	const struct ring_buffer small = {DATA, HEADER, true}, readable = {DATA, BUFFER, false};
	struct rig rig;

	(void)state;
	rig_new(&rig);
	up(&rig, 0, 0);
	ring_driver_offer(&rig.rig.rings[RECEIVE], &small, 1, false, 1);
	driver_kick(&rig.rig.driver, RECEIVE);
	say(&rig, 5, 6, RW, 0);
	assert_true(device_rig_needs_reset(&rig.rig));
	up(&rig, 0, 0);
	ring_driver_offer(&rig.rig.rings[RECEIVE], &readable, 1, false, 1);
	driver_kick(&rig.rig.driver, RECEIVE);
	say(&rig, 5, 6, RW, 0);
	assert_true(device_rig_needs_reset(&rig.rig));
	rig_free(&rig);
}

/* A guest that takes no answers is not listened to, and is when it takes them. */
static void test_unheard_replies(void **state)
{
	const struct ring_buffer buffer = {SENT, HEADER, false};
	struct packet packet;
	struct rig rig;
	uint64_t token;
	uint32_t written;
	unsigned taken = 0;

	(void)state;
	rig_new(&rig);
	up(&rig, 0, 0);
	packet = from_guest(&rig, 5, 6, RW);
	put(device_rig_at(&rig.rig, SENT), &packet);
	for (unsigned i = 0; i < 70; i++) {
		assert_true(ring_driver_offer(&rig.rig.rings[TRANSMIT], &buffer, 1, false, 1) ||
			    i >= 64);
		driver_kick(&rig.rig.driver, TRANSMIT);
		if (i < 64)
			assert_true(driver_await(&rig.rig.rings[TRANSMIT], &token, &written));
	}
	assert_true(silent(&rig));
	assert_false(ring_driver_take(&rig.rig.rings[TRANSMIT], &token, &written));
	for (unsigned i = 0; i < BUFFERS; i++)
		offer(&rig, i);
	for (unsigned i = 0; i < 70; i++)
		expect(&rig, &packet, RST, 5);
	while (driver_await(&rig.rig.rings[TRANSMIT], &token, &written) && ++taken < 6)
		;
	assert_int_equal(taken, 6);
	rig_free(&rig);
}

static void test_nobody_listens(void **state)
{
	struct packet packet;
	struct rig rig;
	char path[128], aside[160];
	int listening, fd;

	(void)state;
	rig_init(&rig);
	say(&rig, GUEST, HOST, REQUEST, 0);
	expect(&rig, &packet, RST, GUEST);
	listening = listener(&rig);
	fd = guest_connects(&rig, listening, GUEST);
	/* The path vanishes: who is connected stays so. */
	snprintf(path, sizeof(path), "%s_%u", rig.path, HOST);
	assert_int_equal(unlink(path), 0);
	say(&rig, GUEST + 1, HOST, REQUEST, 0);
	expect(&rig, &packet, RST, GUEST + 1);
	say_data(&rig, GUEST, HOST, 'v', 10);
	expect_bytes(fd, 'v', 10);
	assert_int_equal(counted(&rig, "refused"), 2);
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
	struct rig rig;

	(void)state;
	rig_init(&rig);
	assert_int_equal(vsock_host_open(&host, rig.path, &err), -EADDRINUSE);
	assert_non_null(strstr(err.text, "the file exists; remove it"));
	assert_int_equal(access(rig.path, F_OK), 0);
	assert_int_equal(vsock_host_open(&host, "/nowhere/at/all", &err), -ENOENT);
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = 0;
	assert_int_equal(vsock_host_open(&host, longest, &err), -ENAMETOOLONG);
	assert_null(host);
	rig_free(&rig);
}

static void test_limit(void **state)
{
	const struct rlimit limit = {4096, 4096};
	struct packet packet;
	static int fds[1023];
	struct rig rig;
	int listening, fd;

	(void)state;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		skip();
	rig_init(&rig);
	listening = listener(&rig);
	for (uint32_t i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = guest_connects(&rig, listening, GUEST + i);
	assert_int_equal(counted(&rig, "connections"), 1023);
	say(&rig, 1, HOST, REQUEST, 0);
	expect(&rig, &packet, RST, 1);
	/* Refused before it has said anything. */
	fd = host_reaches(&rig);
	expect_end(fd);
	close(fd);
	assert_int_equal(counted(&rig, "refused"), 2);
	/* One place is free again. */
	say(&rig, GUEST + 500, HOST, RST, 0);
	expect_end(fds[500]);
	fd = guest_connects(&rig, listening, 1);
	close(fd);
	for (uint32_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	close(listening);
	rig_free(&rig);
}

/* All that have something are heard in turn. */
static void test_fairness(void **state)
{
	static uint8_t bytes[40000];
	struct packet packet;
	struct rig rig;
	unsigned heard[2] = {0};
	int listening, fds[2];

	(void)state;
	rig_init(&rig);
	listening = listener(&rig);
	for (uint32_t i = 0; i < 2; i++)
		fds[i] = guest_connects(&rig, listening, GUEST + i);
	fake_stop(rig.rig.device);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(write(fds[i], bytes, sizeof(bytes)), sizeof(bytes));
	assert_int_equal(rig.rig.device->ops->start(rig.rig.device, NULL), 0);
	for (unsigned i = 0; i < 12; i++) {
		hear(&rig, &packet);
		assert_int_equal(packet.op, RW);
		heard[packet.dst_port - GUEST]++;
	}
	assert_true(heard[0] >= 4 && heard[1] >= 4);
	close(fds[0]);
	close(fds[1]);
	close(listening);
	rig_free(&rig);
}

static void test_pause(void **state)
{
	struct packet packet;
	struct rig rig;
	int listening, fd;

	(void)state;
	rig_init(&rig);
	listening = listener(&rig);
	fd = guest_connects(&rig, listening, GUEST);
	for (unsigned i = 0; i < 20; i++) {
		fake_stop(rig.rig.device);
		assert_int_equal(write(fd, "p", 1), 1);
		assert_true(silent(&rig));
		assert_int_equal(rig.rig.device->ops->start(rig.rig.device, NULL), 0);
		expect(&rig, &packet, RW, GUEST);
		say_data(&rig, GUEST, HOST, 'p', 100);
		expect_bytes(fd, 'p', 100);
	}
	close(fd);
	close(listening);
	rig_free(&rig);
}

static void expect_event(struct rig *rig)
{
	const struct ring_buffer buffer = {EVENTS, 8, true};
	uint64_t token;
	uint32_t written;

	memset(device_rig_at(&rig->rig, EVENTS), 0xff, 8);
	assert_true(ring_driver_offer(&rig->rig.rings[EVENT], &buffer, 1, false, 9));
	driver_kick(&rig->rig.driver, EVENT);
	assert_true(driver_await(&rig->rig.rings[EVENT], &token, &written));
	assert_int_equal(written, 4);
	assert_int_equal(load_le32(device_rig_at(&rig->rig, EVENTS)), 0);
}

static void test_reset(void **state)
{
	struct rig rig;
	uint32_t port;
	int listening, fd, other, waiting;

	(void)state;
	rig_init(&rig);
	listening = listener(&rig);
	fd = guest_connects(&rig, listening, GUEST);
	other = host_connected(&rig, &port);
	waiting = host_connects(&rig, "CONN");
	await_count(&rig, "connections", 3);
	up(&rig, 0, BUFFERS);
	expect_end(fd);
	expect_end(other);
	expect_end(waiting);
	close(fd);
	close(other);
	close(waiting);
	assert_int_equal(counted(&rig, "connections"), 0);
	expect_event(&rig);
	/* And it works as before. */
	fd = guest_connects(&rig, listening, GUEST);
	say_data(&rig, GUEST, HOST, 'r', 10);
	expect_bytes(fd, 'r', 10);
	close(fd);
	close(listening);
	rig_free(&rig);
}

static void test_save_restore(void **state)
{
	struct state_writer writer;
	struct state_reader reader;
	struct error err = {0};
	struct rig rig, other;
	int listening, fd;

	(void)state;
	rig_init(&rig);
	listening = listener(&rig);
	fd = guest_connects(&rig, listening, GUEST);
	fake_stop(rig.rig.device);
	state_writer_init(&writer);
	state_section_begin(&writer, "vsock0", 1);
	rig.rig.device->ops->save(rig.rig.device, &writer);
	state_section_close(&writer);
	assert_int_equal(state_writer_finish(&writer), 0);
	rig_new(&other);
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
	say_data(&rig, GUEST, HOST, 'r', 10);
	expect_bytes(fd, 'r', 10);
	close(fd);
	close(listening);
	state_writer_free(&writer);
	rig_free(&other);
	rig_free(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_guest_connects),
		cmocka_unit_test(test_host_connects),
		cmocka_unit_test(test_bad_greetings),
		cmocka_unit_test(test_credit_of_guest),
		cmocka_unit_test(test_credit_of_host),
		cmocka_unit_test(test_half_close),
		cmocka_unit_test(test_slow_guest),
		cmocka_unit_test(test_slow_host),
		cmocka_unit_test(test_hostile_packets),
		cmocka_unit_test(test_bad_buffers),
		cmocka_unit_test(test_unheard_replies),
		cmocka_unit_test(test_nobody_listens),
		cmocka_unit_test(test_path),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_fairness),
		cmocka_unit_test(test_pause),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_save_restore),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
