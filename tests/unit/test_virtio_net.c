/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-net as its driver sees it, with the other end of passt's stream in the test's hand. */
#include "device_rig.h"
#include "device_stats.h"
#include "frames.h"
#include "tap_rig.h"

#include "backend/net_private.h"
#include "base/bytes.h"
#include "base/checked.h"
#include "virtio/devices.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define BIT(n)     VIRTIO_FEATURE(n)
#define F_CSUM     0
#define F_MTU      3
#define F_MAC      5
#define F_MRG      15
#define F_STATUS   16
#define F_CTRL_VQ  17
#define F_ANNOUNCE 21
#define F_MQ       22
#define PACKED     BIT(VIRTIO_F_RING_PACKED)
#define EVENT      BIT(VIRTIO_F_EVENT_IDX)
#define PLAIN      (BIT(F_MAC) | BIT(F_STATUS) | BIT(F_CTRL_VQ))

#define DATA   DEVICE_RIG_DATA
#define TX     (DATA + 0x200000)
#define HEADER 12

enum {
	RECEIVE,
	TRANSMIT,
	CONTROL
};

struct rig {
	struct device_rig rig;
	struct net *net; /* the device's */
	int other;
};

static void rig_init_polled(struct rig *rig, bool poll)
{
	struct virtio_net_options options = {.mac = {2, 0, 0, 1, 2, 3},
		.mtu = 9000,
		.packed = true,
		.offloads = true,
		.poll = poll};
	struct error err = {0};
	int pair[2];

	memset(rig, 0, sizeof(*rig));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	rig->other = pair[1];
	assert_int_equal(passt_open_stream(&options.net, pair[0], &err), 0);
	rig->net = options.net;
	fake_machine_init(&rig->rig.machine);
	assert_int_equal(virtio_net_new(&rig->rig.device, "net0", &options, &err), 0);
	device_rig_start(&rig->rig);
}

static void rig_init(struct rig *rig)
{
	rig_init_polled(rig, false);
}

static void rig_free(struct rig *rig)
{
	device_rig_free(&rig->rig);
	close(rig->other);
}

static void fill(uint8_t *bytes, size_t length, unsigned seed)
{
	for (size_t i = 0; i < length; i++)
		bytes[i] = (uint8_t)(i * 11 + i / 256 + seed);
}

/* From the network. */
static void put_frame(struct rig *rig, uint32_t length, unsigned seed)
{
	uint8_t *bytes = malloc(length + 4);

	store_le32(bytes, htonl(length));
	fill(bytes + 4, length, seed);
	assert_int_equal(send(rig->other, bytes, length + 4, 0), length + 4);
	free(bytes);
}

static bool take_frame(struct rig *rig, uint8_t *to, uint32_t length)
{
	struct pollfd readable = {.fd = rig->other, .events = POLLIN};
	uint32_t prefix;

	if (poll(&readable, 1, FAKE_PATIENCE_MS) != 1)
		return false;
	assert_int_equal(recv(rig->other, &prefix, 4, MSG_WAITALL), 4);
	assert_int_equal(ntohl(prefix), length);
	return recv(rig->other, to, length, MSG_WAITALL) == length;
}

static void offer(struct rig *rig, uint64_t gpa, uint32_t length)
{
	const struct ring_buffer buffer = {gpa, length, true};

	assert_true(ring_driver_offer(&rig->rig.rings[RECEIVE], &buffer, 1, false, gpa));
}

/* The next frame that was received; its length. */
static uint32_t next_frame(struct rig *rig, uint8_t *to, size_t room)
{
	unsigned buffers = 0, announced = 1;
	uint32_t at = 0;

	for (; buffers < announced; buffers++) {
		uint64_t token;
		uint32_t written;

		assert_true(driver_await(&rig->rig.rings[RECEIVE], &token, &written));
		assert_true(at + written <= room);
		memcpy(to + at, device_rig_at(&rig->rig, token), written);
		if (buffers == 0)
			announced = load_le16(to + 10);
		at += written;
	}
	return at;
}

static void expect(struct rig *rig, uint32_t length, unsigned seed)
{
	uint8_t *got = malloc(length + HEADER), *want = malloc(length);

	assert_int_equal(next_frame(rig, got, length + HEADER), length + HEADER);
	fill(want, length, seed);
	assert_memory_equal(got + HEADER, want, length);
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(got[i], 0);
	free(got);
	free(want);
}

/* As expect(), past what the host's kernel says of its own accord on a new interface. */
static void expect_tap(struct rig *rig, uint32_t length, unsigned seed)
{
	uint8_t *got = malloc(NET_FRAME_MAX), *want = malloc(length);
	uint32_t total;

	do {
		total = next_frame(rig, got, NET_FRAME_MAX);
	} while (load_le16(got + HEADER + 12) != htons(TAP_RIG_ETHERTYPE));
	assert_int_equal(total, length + HEADER);
	fill(want, length, seed);
	store_le16(want + 12, htons(TAP_RIG_ETHERTYPE));
	assert_memory_equal(got + HEADER, want, length);
	free(got);
	free(want);
}

static void receive(struct rig *rig, uint64_t features)
{
	device_rig_up(&rig->rig, features, 3);
	/* Frames before there are buffers, which come one by one; what is no frame between them. */
	put_frame(rig, 0, 0);
	put_frame(rig, 100, 1);
	for (unsigned i = 0; i < 20; i++)
		put_frame(rig, 13, i);
	put_frame(rig, 1514, 2);
	offer(rig, DATA, 2048);
	driver_kick(&rig->rig.driver, RECEIVE);
	expect(rig, 100, 1);
	offer(rig, DATA, 2048);
	driver_kick(&rig->rig.driver, RECEIVE);
	expect(rig, 1514, 2);
	/* Buffers before there are frames. */
	for (unsigned i = 0; i < 8; i++)
		offer(rig, DATA + 2048 * i, 2048);
	driver_kick(&rig->rig.driver, RECEIVE);
	for (unsigned i = 0; i < 8; i++)
		put_frame(rig, 60 + i, i);
	for (unsigned i = 0; i < 8; i++)
		expect(rig, 60 + i, i);
	assert_true(fake_host_wait_msi(&rig->rig.machine.host, 0x101));
}

static void test_receive(void **state)
{
	struct rig rig;

	rig_init(&rig);
	receive(&rig, PLAIN);
	receive(&rig, PLAIN | EVENT);
	receive(&rig, PLAIN | PACKED);
	receive(&rig, PLAIN | PACKED | EVENT | BIT(F_MRG));
	assert_int_equal(device_stat(rig.rig.device, "queue0", "frames"), 40);
	assert_int_equal(device_stat(rig.rig.device, "queue0", "dropped"), 4 * 21);
	rig_free(&rig);
}

static void merge(struct rig *rig, uint64_t features)
{
	device_rig_up(&rig->rig, features | BIT(F_MRG), 3);
	/* 9000 bytes over buffers of 1536, of which some come late. */
	for (unsigned i = 0; i < 4; i++)
		offer(rig, DATA + 2048 * i, 1536);
	driver_kick(&rig->rig.driver, RECEIVE);
	put_frame(rig, 9000, 5);
	put_frame(rig, 10, 5); /* no frame at all: not delivered */
	put_frame(rig, 64, 6);
	usleep(20000);
	for (unsigned i = 4; i < 8; i++)
		offer(rig, DATA + 2048 * i, 1536);
	driver_kick(&rig->rig.driver, RECEIVE);
	expect(rig, 9000, 5);
	expect(rig, 64, 6);
}

static void test_mergeable(void **state)
{
	struct rig rig;

	rig_init(&rig);
	merge(&rig, PLAIN);
	merge(&rig, PLAIN | EVENT | PACKED);
	rig_free(&rig);
}

/* A frame that is larger than what is left in the ring, on a queue whose poller goes to sleep: the
 * next buffer is offered by a driver that kicks only when it is asked to. */
static void await_buffers(struct rig *rig, uint64_t features)
{
	device_rig_up(&rig->rig, features | BIT(F_MRG), 3);
	for (unsigned i = 0; i < 4; i++) {
		offer(rig, DATA + 4096 * i, 1000);
		if (ring_driver_kick(&rig->rig.rings[RECEIVE]))
			driver_kick(&rig->rig.driver, RECEIVE);
		put_frame(rig, 1800, i);
		usleep(60000);
		offer(rig, DATA + 4096 * i + 2048, 1000);
		if (ring_driver_kick(&rig->rig.rings[RECEIVE]))
			driver_kick(&rig->rig.driver, RECEIVE);
		expect(rig, 1800, i);
	}
}

static void test_polled_and_mergeable(void **state)
{
	struct rig rig;

	rig_init_polled(&rig, true);
	await_buffers(&rig, PLAIN);
	await_buffers(&rig, PLAIN | EVENT);
	await_buffers(&rig, PLAIN | PACKED);
	await_buffers(&rig, PLAIN | PACKED | EVENT);
	rig_free(&rig);
}

/* Without mergeable buffers, or with too many needed: dropped, and what follows still comes. */
static void test_frame_too_long(void **state)
{
	struct rig rig;

	rig_init(&rig);
	device_rig_up(&rig.rig, PLAIN, 3);
	offer(&rig, DATA, 1000);
	put_frame(&rig, 2000, 1);
	put_frame(&rig, 500, 2);
	driver_kick(&rig.rig.driver, RECEIVE);
	expect(&rig, 500, 2);
	assert_int_equal(device_stat(rig.rig.device, "queue0", "dropped"), 1);
	device_rig_up(&rig.rig, PLAIN | BIT(F_MRG), 3);
	put_frame(&rig, 9000, 1);
	put_frame(&rig, 16, 2);
	for (unsigned i = 0; i < 64; i++)
		offer(&rig, DATA + 64 * i, 32);
	driver_kick(&rig.rig.driver, RECEIVE);
	expect(&rig, 16, 2);
	assert_int_equal(device_stat(rig.rig.device, "queue0", "dropped"), 2);
	rig_free(&rig);
}

static void transmit(struct rig *rig, uint32_t length, unsigned seed)
{
	const struct ring_buffer buffers[] = {
		{TX, 7, false}, {TX + 7, 5 + 20, false}, {TX + 32, length - 20, false}};
	uint8_t *got = malloc(length);

	memset(device_rig_at(&rig->rig, TX), 0, HEADER);
	fill(device_rig_at(&rig->rig, TX + HEADER), length, seed);
	assert_int_equal(device_rig_request(&rig->rig, TRANSMIT, buffers, 3, false), 0);
	assert_true(take_frame(rig, got, length));
	assert_memory_equal(got, device_rig_at(&rig->rig, TX + HEADER), length);
	free(got);
}

static void test_transmit(void **state)
{
	static const uint64_t kinds[] = {PLAIN, PLAIN | EVENT, PLAIN | PACKED | EVENT};
	struct rig rig;

	rig_init(&rig);
	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
		device_rig_up(&rig.rig, kinds[i], 3);
		transmit(&rig, 60, i);
		transmit(&rig, 1514, i);
		transmit(&rig, 65000, i);
	}
	assert_int_equal(device_stat(rig.rig.device, "queue1", "frames"), 9);
	assert_int_equal(device_stat(rig.rig.device, "queue1", "bytes"), 3 * (60 + 1514 + 65000));
	rig_free(&rig);
}

static void test_transmit_dropped(void **state)
{
	const struct ring_buffer too_short = {TX, HEADER + 13, false};
	const struct ring_buffer too_long[] = {{TX, 60000, false}, {TX, 60000, false}};
	const struct ring_buffer checksum = {TX, HEADER + 60, false};
	const struct ring_buffer writable = {TX, 2000, true};
	struct rig rig;

	rig_init(&rig);
	device_rig_up(&rig.rig, PLAIN, 3);
	device_rig_request(&rig.rig, TRANSMIT, &too_short, 1, false);
	device_rig_request(&rig.rig, TRANSMIT, too_long, 2, false);
	device_rig_request(&rig.rig, TRANSMIT, &writable, 1, false);
	*device_rig_at(&rig.rig, TX) = 1;
	device_rig_request(&rig.rig, TRANSMIT, &checksum, 1, false);
	assert_int_equal(device_stat(rig.rig.device, "queue1", "dropped"), 4);
	transmit(&rig, 60, 9);
	rig_free(&rig);
}

/* The network takes nothing: the driver's frames wait in its ring, none is lost. */
static void test_transmit_waits(void **state)
{
	enum {
		FRAMES = 60,
		LENGTH = 20000
	};
	uint8_t *got = malloc(LENGTH);
	unsigned used = 0;
	struct rig rig;

	rig_init(&rig);
	device_rig_up(&rig.rig, PLAIN | EVENT, 3);
	for (unsigned i = 0; i < FRAMES; i++) {
		const struct ring_buffer buffer = {TX + 32768ULL * i, HEADER + LENGTH, false};

		memset(device_rig_at(&rig.rig, buffer.gpa), 0, HEADER);
		fill(device_rig_at(&rig.rig, buffer.gpa + HEADER), LENGTH, i);
		assert_true(ring_driver_offer(&rig.rig.rings[TRANSMIT], &buffer, 1, false, i));
	}
	driver_kick(&rig.rig.driver, TRANSMIT);
	usleep(50000);
	for (unsigned i = 0; i < FRAMES; i++) {
		assert_true(take_frame(&rig, got, LENGTH));
		assert_memory_equal(
			got, device_rig_at(&rig.rig, TX + 32768ULL * i + HEADER), LENGTH);
	}
	for (uint64_t token; used < FRAMES; used++) {
		uint32_t written;

		assert_true(driver_await(&rig.rig.rings[TRANSMIT], &token, &written));
		assert_int_equal(token, used);
	}
	free(got);
	rig_free(&rig);
}

static uint8_t command(
	struct rig *rig, uint8_t class, uint8_t number, const void *data, uint32_t length)
{
	const struct ring_buffer buffers[] = {
		{DATA, 2, false}, {DATA + 2, length, false}, {DATA + 0x1000, 1, true}};
	const struct ring_buffer short_form[] = {{DATA, 2, false}, {DATA + 0x1000, 1, true}};

	device_rig_at(&rig->rig, DATA)[0] = class;
	device_rig_at(&rig->rig, DATA)[1] = number;
	memcpy(device_rig_at(&rig->rig, DATA + 2), data, length);
	*device_rig_at(&rig->rig, DATA + 0x1000) = 0xff;
	if (length)
		device_rig_request(&rig->rig, CONTROL, buffers, 3, false);
	else
		device_rig_request(&rig->rig, CONTROL, short_form, 2, false);
	return *device_rig_at(&rig->rig, DATA + 0x1000);
}

static void test_control(void **state)
{
	const struct ring_buffer no_answer = {DATA, 3, false};
	struct rig rig;

	rig_init(&rig);
	device_rig_up(&rig.rig, PLAIN, 3);
	assert_int_equal(command(&rig, 0, 0, "\1", 1), 0); /* promiscuous */
	assert_int_equal(command(&rig, 0, 5, "\0", 1), 0);
	assert_int_equal(command(&rig, 0, 0, "", 0), 1);
	assert_int_equal(command(&rig, 0, 6, "\1", 1), 1);
	assert_int_equal(command(&rig, 1, 0, "\0\0\0\0\0\0\0\0", 8), 0);
	assert_int_equal(command(&rig, 1, 1, "\2\0\0\0\0\1", 6), 1);
	assert_int_equal(command(&rig, 4, 0, "\1\0", 2), 1); /* MQ was not negotiated */
	assert_int_equal(command(&rig, 5, 0, "\0\0\0\0\0\0\0\0", 8), 1);
	assert_int_equal(command(&rig, 77, 0, "", 0), 1);
	assert_true(ring_driver_offer(&rig.rig.rings[CONTROL], &no_answer, 1, false, 1));
	driver_kick(&rig.rig.driver, CONTROL);
	assert_true(device_rig_needs_reset(&rig.rig));
	rig_free(&rig);
}

static void test_config_and_link(void **state)
{
	static const uint8_t mac[] = {2, 0, 0, 1, 2, 3};
	struct rig rig;
	uint64_t config, features;

	rig_init(&rig);
	config = rig.rig.driver.config;
	features = driver_features(&rig.rig.driver);
	assert_int_equal(features & PLAIN, PLAIN);
	assert_true(features & BIT(F_MTU));
	/* passt has no offloads and one queue. */
	assert_false(features & (BIT(F_CSUM) | BIT(F_MQ)));
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(fake_guest_read(&rig.rig.machine, config + i, 1), mac[i]);
	assert_int_equal(fake_guest_read(&rig.rig.machine, config + 6, 2), 1);
	assert_int_equal(fake_guest_read(&rig.rig.machine, config + 10, 2), 9000);
	device_rig_up(&rig.rig, PLAIN, 3);
	offer(&rig, DATA, 2048);
	driver_kick(&rig.rig.driver, RECEIVE);
	shutdown(rig.other, SHUT_RDWR);
	assert_true(fake_host_wait_msi(&rig.rig.machine.host, 0x100));
	assert_int_equal(fake_guest_read(&rig.rig.machine, config + 6, 2), 0);
	/* Frames go nowhere, and come back. */
	device_rig_request(
		&rig.rig, TRANSMIT, &(struct ring_buffer){TX, HEADER + 60, false}, 1, false);
	assert_int_equal(device_stat(rig.rig.device, NULL, "link_up"), 0);
	rig_free(&rig);
}

static unsigned status_of(struct rig *rig)
{
	return (unsigned)fake_guest_read(&rig->rig.machine, rig->rig.driver.config + 6, 2);
}

/* A driver that can is told to say where it is, until it says that it does; others are not. */
static void test_announces_itself(void **state)
{
	struct rig rig;

	rig_init(&rig);
	device_rig_up(&rig.rig, PLAIN, 3);
	virtio_net_announce(rig.rig.device);
	assert_int_equal(status_of(&rig), 1);
	assert_int_equal(command(&rig, 3, 0, "", 0), 1);
	device_rig_up(&rig.rig, PLAIN | BIT(F_ANNOUNCE), 3);
	assert_int_equal(status_of(&rig), 1);
	virtio_net_announce(rig.rig.device);
	assert_true(fake_host_wait_msi(&rig.rig.machine.host, 0x100));
	assert_int_equal(status_of(&rig), 3);
	assert_int_equal(command(&rig, 3, 1, "", 0), 1);
	assert_int_equal(status_of(&rig), 3);
	assert_int_equal(command(&rig, 3, 0, "", 0), 0);
	assert_int_equal(status_of(&rig), 1);
	/* Nothing of it is left for the next driver. */
	virtio_net_announce(rig.rig.device);
	device_rig_up(&rig.rig, PLAIN | BIT(F_ANNOUNCE), 3);
	assert_int_equal(status_of(&rig), 1);
	rig_free(&rig);
}

static void test_malformed_receive(void **state)
{
	const struct ring_buffer readable = {DATA, 2048, false};
	struct rig rig;

	rig_init(&rig);
	device_rig_up(&rig.rig, PLAIN, 3);
	assert_true(ring_driver_offer(&rig.rig.rings[RECEIVE], &readable, 1, false, 1));
	driver_kick(&rig.rig.driver, RECEIVE);
	put_frame(&rig, 64, 1);
	assert_true(device_rig_needs_reset(&rig.rig));
	/* The frame waits for the next driver. */
	device_rig_up(&rig.rig, PLAIN, 3);
	offer(&rig, DATA, 2048);
	driver_kick(&rig.rig.driver, RECEIVE);
	expect(&rig, 64, 1);
	rig_free(&rig);
}

/* A tap does not tell a frame's length beforehand: large ones go over several buffers, and wait
 * for them when the driver has too few. */
static void tap_merge(struct rig *rig, uint64_t features)
{
	static const uint32_t lengths[] = {60, 1514, 9000, 60000, 1525};
	uint8_t *frame = malloc(65536);

	device_rig_up(&rig->rig, features, 3);
	for (unsigned i = 0; i < ARRAY_SIZE(lengths); i++) {
		fill(frame, lengths[i], i);
		store_le16(frame + 12, htons(TAP_RIG_ETHERTYPE));
		assert_int_equal(send(rig->other, frame, lengths[i], 0), lengths[i]);
	}
	for (unsigned i = 0; i < 60; i++) {
		offer(rig, DATA + 2048 * i, 1536);
		driver_kick(&rig->rig.driver, RECEIVE);
		usleep(i % 8 ? 0 : 2000);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(lengths); i++)
		expect_tap(rig, lengths[i], i);
	free(frame);
}

static void test_tap(void **state)
{
	struct virtio_net_options options = {.mac = {2}, .packed = true, .offloads = true};
	struct net_options tap = {.kind = NET_TAP, .ifname = "duet0"};
	struct error err = {0};
	uint64_t features;
	struct rig rig;

	memset(&rig, 0, sizeof(rig));
	if (!tap_rig_namespace() || !tap_rig_make("duet0", 0, 65000)) {
		print_message("skipped: a tap needs root and /dev/net/tun\n");
		skip();
	}
	rig.other = tap_rig_socket("duet0");
	assert_true(rig.other >= 0);
	assert_int_equal(net_open(&options.net, &tap, &err), 0);
	assert_true(tap_rig_await_link("duet0"));
	fake_machine_init(&rig.rig.machine);
	assert_int_equal(virtio_net_new(&rig.rig.device, "net0", &options, &err), 0);
	device_rig_start(&rig.rig);
	features = driver_features(&rig.rig.driver);
	assert_true(features & BIT(F_CSUM));
	tap_merge(&rig, PLAIN | BIT(F_MRG));
	tap_merge(&rig, (features & 0xffffff) | EVENT | PACKED);
	assert_true(tap_rig_segments("duet0"));
	/* GUEST_CSUM and GUEST_ECN: no segments, though the tap knows no such combination. */
	assert_int_equal(command(&rig, 5, 0, "\2\2\0\0\0\0\0\0", 8), 0);
	assert_false(tap_rig_segments("duet0"));
	rig_free(&rig);
}

static void set_policy(struct rig *rig, const struct net_policy_options *options)
{
	struct net_policy *policy = NULL;

	assert_int_equal(net_policy_new(&policy, options, NULL), 0);
	assert_int_equal(net_set_policy(rig->net, rig->rig.machine.place.io, policy), 0);
}

static void nothing(struct loop_task *task)
{
}

/* What was posted to the loop before has been done. */
static void settle(struct rig *rig)
{
	struct loop_task barrier = {.run = nothing};

	loop_call(rig->rig.machine.place.io, &barrier);
}

/* To @port; the last two bytes are @number. */
static struct frame numbered(unsigned number, uint16_t port)
{
	struct frame frame;

	frame_packet(&frame, "10.0.0.2", "10.0.0.3", 17, 1000, port);
	frame_zeroes(&frame, 98 - frame.length);
	frame_be16(&frame, (uint16_t)number);
	return frame;
}

static void offer_sent(struct rig *rig, unsigned at, const struct frame *frame)
{
	const struct ring_buffer buffer = {TX + 4096 * at, HEADER + frame->length, false};

	memcpy(device_rig_at(&rig->rig, buffer.gpa), frame, HEADER + frame->length);
	assert_true(ring_driver_offer(&rig->rig.rings[TRANSMIT], &buffer, 1, false, at));
	driver_kick(&rig->rig.driver, TRANSMIT);
}

static void expect_numbered(struct rig *rig, unsigned number)
{
	uint8_t got[100];

	assert_true(take_frame(rig, got, sizeof(got)));
	assert_int_equal(got[98] << 8 | got[99], number);
}

static const struct net_rule only_53[] = {{.name = "dns",
	.allow = true,
	.directions = {true, true},
	.protocol = 17,
	.destination_ports = {53, 53}}};

/* Switched on while the guest runs: what is refused goes nowhere, in either direction. */
static void test_policy_refuses(void **state)
{
	const struct net_policy_options policy = {.rules = only_53, .rule_count = 1, .deny = true};
	struct frame good = numbered(7, 53), bad = numbered(8, 54);
	uint32_t prefix = htonl(100);
	uint8_t got[2048];
	struct rig rig;

	rig_init(&rig);
	device_rig_up(&rig.rig, PLAIN, 3);
	transmit(&rig, 100, 1);
	set_policy(&rig, &policy);
	settle(&rig);
	offer_sent(&rig, 0, &bad);
	offer_sent(&rig, 1, &good);
	expect_numbered(&rig, 7);
	for (unsigned i = 0; i < 4; i++)
		offer(&rig, DATA + 2048 * i, 2048);
	driver_kick(&rig.rig.driver, RECEIVE);
	for (unsigned i = 0; i < 3; i++) {
		struct frame *frame = i == 2 ? &good : &bad;

		assert_int_equal(send(rig.other, &prefix, 4, 0), 4);
		assert_int_equal(send(rig.other, frame->bytes, 100, 0), 100);
	}
	assert_int_equal(next_frame(&rig, got, sizeof(got)), HEADER + 100);
	assert_int_equal(got[HEADER + 99], 7);
	assert_int_equal(device_stat(rig.rig.device, "policy", "out_passed_packets"), 1);
	assert_int_equal(device_stat(rig.rig.device, "policy", "out_denied_by_default_packets"), 1);
	assert_int_equal(device_stat(rig.rig.device, "policy", "in_denied_by_default_bytes"), 200);
	assert_int_equal(device_stat(rig.rig.device, "rule:dns", "packets"), 2);
	assert_int_equal(device_stat(rig.rig.device, "queue1", "dropped"), 1);
	assert_int_equal(device_stat(rig.rig.device, "queue0", "dropped"), 2);
	rig_free(&rig);
}

/* Limits that change, come and go while frames wait for them: each frame goes once, in order, also
 * over a stop of the device. */
static void test_policy_changes(void **state)
{
	struct net_policy_options policies[] = {
		{.limits = {[NET_OUT] = {.operations = {.amount = 200, .burst = 1}}}},
		{.rules = only_53, .rule_count = 1, .deny = true},
		{.deny = false},
		{.limits = {[NET_OUT] = {.bytes = {.amount = 1, .period = 1ULL << 47}}}},
	};
	unsigned sent = 0, taken = 0;
	struct error err = {0};
	struct rig rig;

	rig_init(&rig);
	device_rig_up(&rig.rig, PLAIN | EVENT, 3);
	for (unsigned round = 0; round < 40; round++) {
		set_policy(&rig, &policies[round % ARRAY_SIZE(policies)]);
		for (unsigned i = 0; i < 5; i++, sent++) {
			struct frame frame = numbered(sent, 53);

			offer_sent(&rig, sent % 60, &frame);
		}
		if (round % 16 == 7) {
			fake_stop(rig.rig.device);
			assert_int_equal(rig.rig.device->ops->start(rig.rig.device, &err), 0);
		}
		/* With the last kind of limit only what is there may go. */
		while (taken < sent && round % ARRAY_SIZE(policies) != 3) {
			uint64_t token;
			uint32_t written;

			expect_numbered(&rig, taken);
			assert_true(driver_await(&rig.rig.rings[TRANSMIT], &token, &written));
			assert_int_equal(token, taken++ % 60);
		}
	}
	set_policy(&rig, &policies[2]);
	for (; taken < sent; taken++)
		expect_numbered(&rig, taken);
	settle(&rig);
	assert_int_equal(device_stat(rig.rig.device, "queue1", "frames"), 200);
	assert_int_equal(device_stat(rig.rig.device, "queue1", "dropped"), 0);
	rig_free(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_receive),
		cmocka_unit_test(test_mergeable),
		cmocka_unit_test(test_polled_and_mergeable),
		cmocka_unit_test(test_frame_too_long),
		cmocka_unit_test(test_transmit),
		cmocka_unit_test(test_transmit_dropped),
		cmocka_unit_test(test_transmit_waits),
		cmocka_unit_test(test_control),
		cmocka_unit_test(test_config_and_link),
		cmocka_unit_test(test_announces_itself),
		cmocka_unit_test(test_malformed_receive),
		cmocka_unit_test(test_policy_refuses),
		cmocka_unit_test(test_policy_changes),
		cmocka_unit_test(test_tap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
