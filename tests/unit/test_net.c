/* SPDX-License-Identifier: Apache-2.0 */
/* The network back ends: passt's stream from its other end, passt itself, a tap. */
#include "backend/net_private.h"
#include "backend/passt_private.h"
#include "base/checked.h"
#include "tap_rig.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define FRAME_ROOM (NET_FRAME_MAX + 4)

/* A back end on a loop of the test's own, and the other end of its stream. */
struct rig {
	struct loop *loop;
	struct net *net;
	int other;
	unsigned readable, writable, gone, detached;
};

static void on_readable(void *opaque, unsigned queue)
{
	struct rig *rig = opaque;

	rig->readable++;
	loop_stop(rig->loop);
}

static void on_writable(void *opaque, unsigned queue)
{
	struct rig *rig = opaque;

	rig->writable++;
	loop_stop(rig->loop);
}

static void on_gone(void *opaque)
{
	((struct rig *)opaque)->gone++;
}

static void on_detached(void *opaque)
{
	struct rig *rig = opaque;

	rig->detached++;
	loop_stop(rig->loop);
}

static const struct net_events events = {
	.readable = on_readable, .writable = on_writable, .gone = on_gone};

static void rig_attach(struct rig *rig)
{
	assert_int_equal(loop_new(&rig->loop, 16, NULL), 0);
	net_attach(rig->net, rig->loop, &events, rig);
}

static void rig_stream(struct rig *rig)
{
	int pair[2];

	memset(rig, 0, sizeof(*rig));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	rig->other = pair[1];
	assert_int_equal(passt_open_stream(&rig->net, pair[0], NULL), 0);
	rig_attach(rig);
}

static void rig_free(struct rig *rig)
{
	net_detach(rig->net, on_detached);
	if (!rig->detached)
		assert_int_equal(loop_run(rig->loop), 0);
	assert_int_equal(rig->detached, 1);
	net_close(rig->net);
	loop_free(rig->loop);
	if (rig->other >= 0)
		close(rig->other);
}

static uint8_t *pattern(size_t length, unsigned seed)
{
	uint8_t *bytes = malloc(length);

	for (size_t i = 0; i < length; i++)
		bytes[i] = (uint8_t)(i * 13 + seed);
	return bytes;
}

static int send_frame(struct rig *rig, uint8_t *frame, size_t length)
{
	uint8_t header[NET_HEADER_SIZE] = {0};
	struct iovec segments[] = {{header, sizeof(header)}, {frame, length / 2},
		{frame + length / 2, length - length / 2}};

	return net_send(rig->net, 0, segments, 3);
}

static void read_all(int fd, void *to, size_t length)
{
	for (size_t at = 0; at < length;) {
		ssize_t got = recv(fd, (char *)to + at, length - at, 0);

		assert_true(got > 0);
		at += (size_t)got;
	}
}

static void expect_frame(struct rig *rig, const uint8_t *frame, size_t length)
{
	uint8_t *got = malloc(FRAME_ROOM);
	uint32_t prefix;

	read_all(rig->other, &prefix, sizeof(prefix));
	assert_int_equal(ntohl(prefix), length);
	read_all(rig->other, got, length);
	assert_memory_equal(got, frame, length);
	free(got);
}

static void test_sends(void **state)
{
	static const size_t lengths[] = {14, 60, 1514, 4096, 4097, 9014, 65535};
	struct rig rig;

	rig_stream(&rig);
	for (unsigned i = 0; i < ARRAY_SIZE(lengths); i++) {
		uint8_t *frame = pattern(lengths[i], i);

		assert_int_equal(send_frame(&rig, frame, lengths[i]), 0);
		assert_int_equal(send_frame(&rig, frame, 14), 0);
		net_flush(rig.net, 0);
		expect_frame(&rig, frame, lengths[i]);
		expect_frame(&rig, frame, 14);
		free(frame);
	}
	rig_free(&rig);
}

static void test_small_frames_go_together(void **state)
{
	uint8_t *frame = pattern(100, 1), got[104 * 10 + 1];
	struct rig rig;

	rig_stream(&rig);
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(send_frame(&rig, frame, 100), 0);
	assert_int_equal(recv(rig.other, got, sizeof(got), MSG_DONTWAIT), -1);
	net_flush(rig.net, 0);
	assert_int_equal(recv(rig.other, got, sizeof(got), MSG_DONTWAIT), 1040);
	free(frame);
	rig_free(&rig);
}

/* Drivers of real cards fill short frames up; passt wants an IP packet to end with its frame. */
static void test_padding_stays_here(void **state)
{
	static const struct {
		size_t length, expected;
		uint16_t type;
		uint8_t at, ip_length; /* where in the frame, and what */
	} cases[] = {
		{60, 54, 0x0800, 17, 40}, /* a TCP ACK */
		{60, 34, 0x0800, 17, 20},
		{60, 60, 0x0800, 17, 46},
		{60, 60, 0x0800, 17, 47}, /* longer than the frame: passt's to judge */
		{60, 60, 0x0800, 17, 19}, /* shorter than its own header: as well */
		{56, 54, 0x0800, 17, 40},
		{61, 61, 0x0800, 17, 40}, /* no padding of Ethernet's */
		{60, 58, 0x86dd, 19, 4},
		{60, 60, 0x86dd, 19, 6},
		{60, 60, 0x86dd, 19, 255},
		{60, 60, 0x0806, 17, 28}, /* ARP: no length of its own */
		{19, 19, 0x0800, 17, 20},
	};
	struct rig rig;

	(void)state;
	rig_stream(&rig);
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		uint8_t frame[64] = {[12] = (uint8_t)(cases[i].type >> 8), (uint8_t)cases[i].type};

		frame[cases[i].at] = cases[i].ip_length;
		assert_int_equal(send_frame(&rig, frame, cases[i].length), 0);
		net_flush(rig.net, 0);
		expect_frame(&rig, frame, cases[i].expected);
	}
	rig_free(&rig);
}

static void test_drops_what_it_cannot_do(void **state)
{
	uint8_t bytes[NET_HEADER_SIZE + 60] = {0};
	struct iovec segment = {bytes, sizeof(bytes)};
	struct rig rig;

	rig_stream(&rig);
	bytes[0] = 1; /* a checksum is to be completed */
	assert_int_equal(net_send(rig.net, 0, &segment, 1), -EINVAL);
	bytes[0] = 0;
	bytes[1] = 1; /* to be cut into segments */
	assert_int_equal(net_send(rig.net, 0, &segment, 1), -EINVAL);
	bytes[1] = 0;
	segment.iov_len = NET_HEADER_SIZE + 13;
	assert_int_equal(net_send(rig.net, 0, &segment, 1), -EINVAL);
	segment.iov_len = 1;
	assert_int_equal(net_send(rig.net, 0, &segment, 1), -EINVAL);
	assert_int_equal(net_send(rig.net, 0, &segment, 0), -EINVAL);
	assert_int_equal(net_send(rig.net, 1, &segment, 1), -ENXIO);
	net_flush(rig.net, 0);
	assert_int_equal(recv(rig.other, bytes, 1, MSG_DONTWAIT), -1);
	rig_free(&rig);
}

/* The other end does not read: frames are kept whole, -EAGAIN comes, then writable(). */
static void test_backpressure(void **state)
{
	static const size_t lengths[] = {9000, 200, 4097, 1514};
	size_t total = 0, at = 0;
	uint8_t *stream;
	unsigned sent = 0;
	struct rig rig;

	rig_stream(&rig);
	for (;; sent++) {
		uint8_t *frame = pattern(lengths[sent % 4], sent);
		int ret = send_frame(&rig, frame, lengths[sent % 4]);

		free(frame);
		if (ret == -EAGAIN)
			break;
		assert_int_equal(ret, 0);
		assert_true(sent < 100000);
	}
	for (unsigned i = 0; i < sent; i++)
		total += 4 + lengths[i % 4];
	stream = malloc(total);
	while (at < total) {
		ssize_t got = recv(rig.other, stream + at, total - at, MSG_DONTWAIT);

		at += got > 0 ? (size_t)got : 0;
		/* What was kept goes out as soon as there is room. */
		if (got < 0)
			assert_int_equal(loop_run(rig.loop), 0);
	}
	at = 0;
	for (unsigned i = 0; i < sent; i++) {
		uint8_t *frame = pattern(lengths[i % 4], i);

		assert_memory_equal(stream + at + 4, frame, lengths[i % 4]);
		at += 4 + lengths[i % 4];
		free(frame);
	}
	free(stream);
	assert_true(rig.writable >= 1);
	assert_int_equal(rig.gone, 0);
	rig_free(&rig);
}

static void put_frame(struct rig *rig, const uint8_t *frame, uint32_t length)
{
	uint32_t prefix = htonl(length);

	assert_int_equal(send(rig->other, &prefix, 4, 0), 4);
	assert_int_equal(send(rig->other, frame, length, 0), length);
}

static void take_frame(struct rig *rig, const uint8_t *frame, size_t length)
{
	static const uint8_t zeroes[NET_HEADER_SIZE];
	uint8_t *got = malloc(FRAME_ROOM);
	struct iovec segments[] = {{got, 10}, {got + 10, 50}, {got + 60, FRAME_ROOM - 60}};

	assert_int_equal(net_next_length(rig->net, 0), length + NET_HEADER_SIZE);
	assert_int_equal(net_receive(rig->net, 0, segments, 3), length + NET_HEADER_SIZE);
	assert_memory_equal(got, zeroes, sizeof(zeroes));
	assert_memory_equal(got + NET_HEADER_SIZE, frame, length);
	free(got);
}

static void test_receives(void **state)
{
	static const size_t lengths[] = {14, 60, 1514, 65535, 14, 65535};
	uint8_t small[20];
	struct iovec little = {small, sizeof(small)};
	struct rig rig;

	rig_stream(&rig);
	net_receive_enable(rig.net, 0, true);
	for (unsigned round = 0; round < 5; round++) {
		for (unsigned i = 0; i < ARRAY_SIZE(lengths); i++) {
			uint8_t *frame = pattern(lengths[i], i);

			put_frame(&rig, frame, (uint32_t)lengths[i]);
			free(frame);
		}
		assert_int_equal(loop_run(rig.loop), 0);
		for (unsigned i = 0; i < ARRAY_SIZE(lengths); i++) {
			uint8_t *frame = pattern(lengths[i], i);

			take_frame(&rig, frame, lengths[i]);
			free(frame);
		}
		assert_int_equal(net_receive(rig.net, 0, &little, 1), -EAGAIN);
	}
	/* No room: dropped, and the next one is found. */
	put_frame(&rig, (const uint8_t *)"0123456789abcdef", 16);
	put_frame(&rig, (const uint8_t *)"0123456789abcdefgh", 18);
	assert_int_equal(net_receive(rig.net, 0, &little, 1), -EMSGSIZE);
	take_frame(&rig, (const uint8_t *)"0123456789abcdefgh", 18);
	rig_free(&rig);
}

static void test_byte_by_byte(void **state)
{
	static const uint8_t stream[] = {0, 0, 0, 15, 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i',
		'j', 'k', 'l', 'm', 'n', 'o'};
	struct rig rig;

	rig_stream(&rig);
	for (unsigned i = 0; i < sizeof(stream); i++) {
		assert_int_equal(net_next_length(rig.net, 0), -EAGAIN);
		assert_int_equal(send(rig.other, stream + i, 1, 0), 1);
	}
	take_frame(&rig, stream + 4, 15);
	rig_free(&rig);
}

static void test_hostile_length(void **state)
{
	uint8_t bytes[64];
	struct iovec segment = {bytes, sizeof(bytes)};
	uint32_t prefix = htonl(NET_FRAME_MAX);
	struct rig rig;

	rig_stream(&rig);
	net_receive_enable(rig.net, 0, true);
	assert_int_equal(send(rig.other, &prefix, 4, 0), 4);
	assert_int_equal(loop_run(rig.loop), 0);
	assert_int_equal(net_receive(rig.net, 0, &segment, 1), -EPIPE);
	assert_true(net_is_gone(rig.net));
	assert_int_equal(rig.gone, 1);
	assert_int_equal(net_send(rig.net, 0, &segment, 1), -EPIPE);
	rig_free(&rig);
}

/* Frames that are none are as much work as others: each is told of, so that whoever takes frames
 * looks at the clock, and does not go on for as long as passt sends such. */
static void test_hostile_short_frames(void **state)
{
	static const uint8_t frame[16];
	uint8_t bytes[64];
	struct iovec segment = {bytes, sizeof(bytes)};
	struct rig rig;

	rig_stream(&rig);
	for (unsigned i = 0; i < 6; i++)
		put_frame(&rig, frame, i % 2 ? 13 : 0);
	put_frame(&rig, frame, sizeof(frame));
	/* Each call takes one. */
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(net_next_length(rig.net, 0), -EMSGSIZE);
		assert_int_equal(net_receive(rig.net, 0, &segment, 1), -EMSGSIZE);
	}
	take_frame(&rig, frame, sizeof(frame));
	assert_int_equal(net_next_length(rig.net, 0), -EAGAIN);
	rig_free(&rig);
}

static void test_other_end_closes(void **state)
{
	uint8_t bytes[64];
	struct iovec segment = {bytes, sizeof(bytes)};
	struct rig rig;

	rig_stream(&rig);
	net_receive_enable(rig.net, 0, true);
	close(rig.other);
	rig.other = -1;
	assert_int_equal(loop_run(rig.loop), 0);
	assert_int_equal(net_receive(rig.net, 0, &segment, 1), -EPIPE);
	assert_int_equal(rig.gone, 1);
	assert_int_equal(net_receive(rig.net, 0, &segment, 1), -EPIPE);
	assert_int_equal(rig.gone, 1);
	rig_free(&rig);
}

static void test_detach_and_attach(void **state)
{
	struct rig rig;

	rig_stream(&rig);
	net_receive_enable(rig.net, 0, true);
	net_detach(rig.net, on_detached);
	assert_int_equal(loop_run(rig.loop), 0);
	assert_int_equal(rig.detached, 1);
	put_frame(&rig, (const uint8_t *)"0123456789abcdef", 16);
	net_attach(rig.net, rig.loop, &events, &rig);
	net_receive_enable(rig.net, 0, true);
	assert_int_equal(loop_run(rig.loop), 0);
	assert_int_equal(rig.readable, 1);
	take_frame(&rig, (const uint8_t *)"0123456789abcdef", 16);
	rig.detached = 0;
	rig_free(&rig);
}

static bool have_passt(void)
{
	return system("command -v passt >/dev/null") == 0;
}

static void test_passt_missing(void **state)
{
	struct net_options options = {.kind = NET_USER, .passt = "/nonexistent/passt"};
	struct error err = {0};
	struct net *net = NULL;

	assert_int_equal(net_open(&net, &options, &err), -ENOENT);
	assert_null(net);
	assert_non_null(strstr(err.text, "--net user: /nonexistent/passt is not installed"));
	assert_non_null(strstr(err.text, "apt-get install passt"));
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	options.queues = 2;
	assert_int_equal(net_open(&net, &options, &err), -EINVAL);
}

static void test_passt_refuses(void **state)
{
	struct net_options options = {.kind = NET_USER, .forward = "not-a-port"};
	struct error err = {0};
	struct net *net;

	if (!have_passt()) {
		print_message("skipped: passt is not installed\n");
		skip();
	}
	assert_int_equal(net_open(&net, &options, &err), 0);
	assert_true(net_ready(net, &err) < 0);
	if (!strstr(err.text, "not-a-port"))
		fail_msg("no reason in: %s", err.text);
	net_close(net);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

/* A DHCP discovery, as a guest sends it first. */
static size_t make_discovery(uint8_t *frame)
{
	static const uint8_t start[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0, 1, 2, 3,
		8, 0,                                                       /* Ethernet */
		0x45, 0, 1, 16, 0, 0, 0, 0, 64, 17, 0x79, 0xde, 0, 0, 0, 0, /* IPv4 */
		255, 255, 255, 255, 0, 68, 0, 67, 0, 252, 0, 0,             /* UDP */
		1, 1, 6, 0, 1, 2, 3, 4};                                    /* BOOTP */
	static const uint8_t options[] = {0x63, 0x82, 0x53, 0x63, 53, 1, 1, 255};
	size_t bootp = 14 + 20 + 8;

	memset(frame, 0, bootp + 244);
	memcpy(frame, start, sizeof(start));
	memcpy(frame + bootp + 28, frame + 6, 6);
	memcpy(frame + bootp + 236, options, sizeof(options));
	return bootp + 244;
}

/* A unit that is stopped signals every process of it: passt lives as long as its guest. */
static void signal_as_service_managers_do(pid_t pid)
{
	static const int signals[] = {SIGTERM, SIGHUP, SIGINT, SIGQUIT};

	for (unsigned i = 0; i < ARRAY_SIZE(signals); i++)
		assert_int_equal(kill(pid, signals[i]), 0);
	usleep(50000);
}

static void test_passt_answers(void **state)
{
	struct net_options options = {.kind = NET_USER};
	uint8_t frame[512], *answer = malloc(FRAME_ROOM);
	struct iovec segment = {answer, FRAME_ROOM};
	struct rig rig = {.other = -1};
	struct error err = {0};
	bool offered = false;
	pid_t pid;

	if (!have_passt()) {
		print_message("skipped: passt is not installed\n");
		free(answer);
		skip();
	}
	assert_int_equal(net_open(&rig.net, &options, &err), 0);
	if (net_ready(rig.net, &err) < 0)
		fail_msg("%s", err.text);
	pid = container_of(rig.net, struct passt, net)->pid;
	assert_int_equal(getpgid(pid), pid);
	signal_as_service_managers_do(pid);
	rig_attach(&rig);
	net_receive_enable(rig.net, 0, true);
	assert_int_equal(send_frame(&rig, frame, make_discovery(frame)), 0);
	net_flush(rig.net, 0);
	alarm(10);
	while (!offered) {
		int length = net_receive(rig.net, 0, &segment, 1);

		if (length == -EAGAIN)
			assert_int_equal(loop_run(rig.loop), 0);
		else
			offered = length > NET_HEADER_SIZE + 300 &&
				  answer[NET_HEADER_SIZE + 14 + 20 + 1] == 67;
		assert_int_not_equal(length, -EPIPE);
	}
	alarm(0);
	/* It dies: the link goes down, and nothing is left. */
	kill(pid, SIGKILL);
	while (!rig.gone) {
		assert_int_equal(loop_run(rig.loop), 0);
		while (net_receive(rig.net, 0, &segment, 1) >= 0)
			;
	}
	rig_free(&rig);
	assert_int_equal(kill(pid, 0), -1);
	assert_int_equal(errno, ESRCH);
	free(answer);
}

static void tap_refused(const char *ifname, unsigned queues, int code, const char *word)
{
	struct net_options options = {.kind = NET_TAP, .ifname = ifname, .queues = queues};
	struct error err = {0};
	struct net *net = NULL;

	assert_int_equal(net_open(&net, &options, &err), -code);
	assert_null(net);
	assert_non_null(strstr(err.text, "--net tap,ifname="));
	if (!strstr(err.text, word))
		fail_msg("no \"%s\" in: %s", word, err.text);
}

/* A network namespace of our own: what is made in it goes away with the process. */
static void need_tap(void)
{
	if (!tap_rig_namespace() || !tap_rig_make("duet0", 0, 1500) ||
		!tap_rig_make("duet1", IFF_MULTI_QUEUE, 1500)) {
		print_message("skipped: a tap needs root and /dev/net/tun\n");
		skip();
	}
}

static void tap_exchange(const char *ifname, unsigned queues)
{
	struct net_options options = {.kind = NET_TAP, .ifname = ifname, .queues = queues};
	uint8_t frame[60] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5, 42};
	uint8_t *got = malloc(NET_FRAME_MAX);
	struct iovec segment = {got, NET_FRAME_MAX};
	struct rig rig = {0};
	struct error err = {0};
	int length;

	if (net_open(&rig.net, &options, &err) < 0)
		fail_msg("%s", err.text);
	assert_true(net_fd(rig.net, 0) >= 0);
	rig.other = tap_rig_socket(ifname);
	rig_attach(&rig);
	net_set_offloads(rig.net, TUN_F_CSUM | TUN_F_TSO4);
	net_set_queues(rig.net, 1);
	net_receive_enable(rig.net, 0, true);
	assert_int_equal(send_frame(&rig, frame, sizeof(frame)), 0);
	assert_int_equal(recv(rig.other, got, 2000, 0), sizeof(frame));
	assert_memory_equal(got, frame, sizeof(frame));
	assert_int_equal(send(rig.other, frame, sizeof(frame), 0), sizeof(frame));
	alarm(10);
	do { /* the kernel says things of its own on a new interface */
		length = net_receive(rig.net, 0, &segment, 1);
		if (length == -EAGAIN)
			assert_int_equal(loop_run(rig.loop), 0);
	} while (length == -EAGAIN || got[NET_HEADER_SIZE + 12] != 0x88);
	alarm(0);
	assert_int_equal(length, NET_HEADER_SIZE + sizeof(frame));
	assert_memory_equal(got + NET_HEADER_SIZE, frame, sizeof(frame));
	if (queues > 1) {
		assert_int_equal(net_send(rig.net, 1, &segment, 1), -ENXIO);
		net_set_queues(rig.net, queues);
		segment.iov_len = NET_HEADER_SIZE + sizeof(frame);
		assert_int_equal(net_send(rig.net, 1, &segment, 1), 0);
	}
	rig_free(&rig);
	free(got);
}

static void test_tap(void **state)
{
	need_tap();
	tap_exchange("duet0", 1);
	tap_exchange("duet1", 1);
	tap_exchange("duet1", 3);
}

static void test_tap_refused(void **state)
{
	struct net_options options = {.kind = NET_TAP, .ifname = "duet0"};
	struct net *net;

	tap_refused("", 1, EINVAL, "1 to 15 characters");
	tap_refused("a-name-far-too-long", 1, EINVAL, "1 to 15 characters");
	tap_refused("duet-none", 1, ENODEV, "`ip tuntap add duet-none mode tap user $USER`");
	need_tap();
	assert_int_equal(tap_rig_index("duet-none"), 0);
	tap_refused("lo", 1, EINVAL, "is not a tap interface");
	tap_refused("duet0", 2, EINVAL, "multi_queue");
	assert_int_equal(net_open(&net, &options, NULL), 0);
	tap_refused("duet0", 1, EBUSY, "busy");
	net_close(net);
}

static void test_tap_removed(void **state)
{
	struct net_options options = {.kind = NET_TAP, .ifname = "duet0"};
	uint8_t bytes[128];
	struct iovec segment = {bytes, sizeof(bytes)};
	struct rig rig = {.other = -1};

	need_tap();
	assert_int_equal(net_open(&rig.net, &options, NULL), 0);
	rig_attach(&rig);
	net_receive_enable(rig.net, 0, true);
	if (system("ip link del duet0") != 0) {
		print_message("skipped: no ip program\n");
		rig_free(&rig);
		skip();
	}
	while (!rig.gone) {
		assert_int_equal(loop_run(rig.loop), 0);
		while (net_receive(rig.net, 0, &segment, 1) >= 0)
			;
	}
	rig_free(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sends),
		cmocka_unit_test(test_small_frames_go_together),
		cmocka_unit_test(test_padding_stays_here),
		cmocka_unit_test(test_drops_what_it_cannot_do),
		cmocka_unit_test(test_backpressure),
		cmocka_unit_test(test_receives),
		cmocka_unit_test(test_byte_by_byte),
		cmocka_unit_test(test_hostile_length),
		cmocka_unit_test(test_hostile_short_frames),
		cmocka_unit_test(test_other_end_closes),
		cmocka_unit_test(test_detach_and_attach),
		cmocka_unit_test(test_passt_missing),
		cmocka_unit_test(test_passt_refuses),
		cmocka_unit_test(test_passt_answers),
		cmocka_unit_test(test_tap),
		cmocka_unit_test(test_tap_refused),
		cmocka_unit_test(test_tap_removed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
