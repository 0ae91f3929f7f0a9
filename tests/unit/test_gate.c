/* SPDX-License-Identifier: Apache-2.0 */
/* The gate before a back end, which is the test's own here. */
#include "backend/net_private.h"
#include "base/bytes.h"
#include "base/checked.h"
#include "base/clock.h"
#include "base/iov.h"
#include "frames.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define QUEUES 4
#define MS     1000000ULL

/* A back end that remembers the last frame sent and has so many to receive. */
struct fake {
	struct net net;
	struct loop *loop;
	uint8_t sent[NET_FRAME_MAX];
	size_t sent_length;
	unsigned sends, flushes, policed;
	bool busy;
	uint8_t *guest; /* changed "meanwhile" */
	struct frame incoming;
	unsigned arriving;
	/* The model: so many frames to send in each queue, so many received. */
	unsigned waiting[QUEUES], done[QUEUES], received, dropped;
	unsigned stop_at;
	struct frame frame;
	struct loop_task stop;
};

static void stop(struct loop_task *task)
{
	loop_stop(container_of(task, struct fake, stop)->loop);
}

static struct fake *fake_of(struct net *net)
{
	return container_of(net, struct fake, net);
}

static void fake_close(struct net *net)
{
}

static void fake_set(struct net *net, unsigned number)
{
}

static int fake_send(struct net *net, unsigned queue, const struct iovec *segments, unsigned count)
{
	struct fake *fake = fake_of(net);

	if (fake->busy)
		return -EAGAIN;
	if (fake->guest)
		memset(fake->guest, 0xee, 64);
	fake->sent_length = iov_copy_from(segments, count, 0, fake->sent, sizeof(fake->sent));
	fake->sends++;
	return 0;
}

static int fake_flush(struct net *net, unsigned queue)
{
	fake_of(net)->flushes++;
	return 0;
}

static int fake_receive(
	struct net *net, unsigned queue, const struct iovec *segments, unsigned count)
{
	struct fake *fake = fake_of(net);

	if (!fake->arriving)
		return -EAGAIN;
	fake->arriving--;
	return (int)iov_copy_to(
		segments, count, 0, &fake->incoming, NET_HEADER_SIZE + fake->incoming.length);
}

static const struct net_ops fake_ops = {.close = fake_close,
	.set_offloads = fake_set,
	.set_queues = fake_set,
	.send = fake_send,
	.flush = fake_flush,
	.receive = fake_receive};

static int send_one(struct fake *fake, unsigned queue, struct frame *frame)
{
	const struct iovec segments[] = {{frame->header, NET_HEADER_SIZE}, {frame->bytes, 20},
		{frame->bytes + 20, frame->length - 20}};

	return net_send(&fake->net, queue, segments, 3);
}

static void writable(void *opaque, unsigned queue)
{
	struct fake *fake = opaque;

	while (fake->waiting[queue]) {
		if (send_one(fake, queue, &fake->frame) == -EAGAIN)
			return;
		fake->waiting[queue]--;
		if (++fake->done[queue] == fake->stop_at)
			loop_stop(fake->loop);
	}
}

static void readable(void *opaque, unsigned queue)
{
	struct fake *fake = opaque;
	uint8_t room[NET_FRAME_MAX];
	struct iovec segment = {room, sizeof(room)};
	int got;

	while ((got = net_receive(&fake->net, queue, &segment, 1)) != -EAGAIN) {
		fake->received += got >= 0;
		fake->dropped += got < 0;
		if (fake->received + fake->dropped == fake->stop_at)
			loop_stop(fake->loop);
	}
}

static void gone(void *opaque)
{
}

static void policed(void *opaque)
{
	((struct fake *)opaque)->policed++;
}

static const struct net_events events = {readable, writable, gone, policed};

static void fake_open(struct fake *fake)
{
	memset(fake, 0, sizeof(*fake));
	fake->stop.run = stop;
	assert_int_equal(net_init(&fake->net, &fake_ops, QUEUES, NULL), 0);
	assert_int_equal(loop_new(&fake->loop, 16, NULL), 0);
	net_attach(&fake->net, fake->loop, &events, fake);
	frame_packet(&fake->frame, "10.0.0.2", "10.0.0.3", 17, 1000, 53);
	frame_zeroes(&fake->frame, 1000 - fake->frame.length);
}

static void fake_detached(void *opaque)
{
}

static void fake_end(struct fake *fake)
{
	net_detach(&fake->net, fake_detached);
	net_close(&fake->net);
	loop_free(fake->loop);
}

static void set(struct fake *fake, struct loop *io, const struct net_policy_options *options)
{
	struct net_policy *policy = NULL;

	assert_int_equal(net_policy_new(&policy, options, NULL), 0);
	assert_int_equal(net_set_policy(&fake->net, io, policy), 0);
}

struct wanted {
	const char *group, *name;
	uint64_t value;
	bool found;
};

static void look(void *to, const char *group, const char *name, uint64_t value)
{
	struct wanted *wanted = to;

	if (strcmp(group, wanted->group) != 0 || strcmp(name, wanted->name) != 0)
		return;
	wanted->value = value;
	wanted->found = true;
}

static uint64_t count(struct fake *fake, const char *group, const char *name)
{
	struct wanted wanted = {.group = group, .name = name};

	net_policy_stats(&fake->net, look, &wanted);
	if (!wanted.found)
		fail_msg("no %s in %s", name, group);
	return wanted.value;
}

static const struct net_rule dns_only[] = {
	{.name = "dns",
		.allow = true,
		.directions = {true, true},
		.protocol = 17,
		.destination_ports = {53, 53}},
	{.name = "web", .directions = {true, true}, .protocol = 6, .destination_ports = {80, 80}},
};
static const struct net_policy_options dns_policy = {
	.rules = dns_only, .rule_count = 2, .deny = true};

static void sends_by_the_rules(void **state)
{
	struct frame frame;
	struct fake fake;

	fake_open(&fake);
	assert_ptr_equal(fake.net.ops, &fake_ops);
	set(&fake, NULL, &dns_policy);
	assert_int_equal(send_one(&fake, 0, &fake.frame), 0);
	assert_int_equal(fake.sent_length, NET_HEADER_SIZE + 1000);
	assert_memory_equal(fake.sent, &fake.frame, NET_HEADER_SIZE + 1000);
	frame_packet(&frame, "10.0.0.2", "10.0.0.3", 6, 1000, 80);
	assert_int_equal(send_one(&fake, 0, &frame), -EPERM);
	frame_packet(&frame, "10.0.0.2", "10.0.0.3", 6, 1000, 81);
	assert_int_equal(send_one(&fake, 3, &frame), -EPERM);
	frame.bytes[frame.ip] = 0;
	assert_int_equal(send_one(&fake, 0, &frame), -EPERM);
	assert_int_equal(fake.sends, 1);
	assert_int_equal(count(&fake, "policy", "out_passed_packets"), 1);
	assert_int_equal(count(&fake, "policy", "out_passed_bytes"), 1000);
	assert_int_equal(count(&fake, "policy", "out_denied_packets"), 1);
	assert_int_equal(count(&fake, "policy", "out_denied_bytes"), 54);
	assert_int_equal(count(&fake, "policy", "out_denied_by_default_packets"), 1);
	assert_int_equal(count(&fake, "policy", "out_broken_packets"), 1);
	assert_int_equal(count(&fake, "rule:dns", "bytes"), 1000);
	assert_int_equal(count(&fake, "rule:web", "packets"), 1);
	net_flush(&fake.net, 0);
	assert_int_equal(fake.flushes, 1);
	/* A busy back end is no refusal, and nothing is counted twice. */
	fake.busy = true;
	assert_int_equal(send_one(&fake, 0, &fake.frame), -EAGAIN);
	assert_int_equal(count(&fake, "rule:dns", "packets"), 1);
	fake_end(&fake);
}

/* The guest writes into its frame while it is looked at: what goes out is what was judged. */
static void sends_what_was_judged(void **state)
{
	struct fake fake;
	struct frame frame;

	fake_open(&fake);
	set(&fake, NULL, &dns_policy);
	frame = fake.frame;
	fake.guest = frame.bytes;
	assert_int_equal(send_one(&fake, 0, &frame), 0);
	assert_memory_equal(fake.sent, &fake.frame, NET_HEADER_SIZE + 1000);
	assert_int_equal(frame.bytes[0], 0xee);
	/* Virtio's header as well. */
	frame = fake.frame;
	fake.guest = frame.header;
	assert_int_equal(send_one(&fake, 0, &frame), 0);
	assert_memory_equal(fake.sent, &fake.frame, NET_HEADER_SIZE + 1000);
	fake_end(&fake);
}

static void takes_pieces_of_any_size(void **state)
{
	struct iovec segments[1024];
	uint8_t *bytes = calloc(1, NET_FRAME_MAX);
	struct fake fake;

	fake_open(&fake);
	set(&fake, NULL, &dns_policy);
	memcpy(bytes, &fake.frame, NET_HEADER_SIZE + 1000);
	for (unsigned size = 1; size < 600; size += size < 30 ? 1 : 37) {
		unsigned pieces = (NET_HEADER_SIZE + 1000 + size - 1) / size;

		for (unsigned i = 0; i < pieces; i++)
			segments[i] = (struct iovec){
				bytes + i * size, min_u64(size, NET_HEADER_SIZE + 1000 - i * size)};
		assert_int_equal(net_send(&fake.net, 0, segments, pieces), 0);
		assert_int_equal(fake.sent_length, NET_HEADER_SIZE + 1000);
		assert_memory_equal(fake.sent, bytes, NET_HEADER_SIZE + 1000);
	}
	/* Empty ones, too many behind the first, too short, too long. */
	for (unsigned i = 0; i < ARRAY_SIZE(segments); i++)
		segments[i] = (struct iovec){bytes, 0};
	segments[1000] = (struct iovec){bytes, NET_HEADER_SIZE + 1000};
	assert_int_equal(net_send(&fake.net, 0, segments, 1024), 0);
	segments[0] = (struct iovec){bytes, NET_HEADER_SIZE + 400};
	for (unsigned i = 1; i < ARRAY_SIZE(segments); i++)
		segments[i] = (struct iovec){bytes, 1};
	segments[0].iov_len -= 423 - 400;
	assert_int_equal(net_send(&fake.net, 0, segments, 1024), -EPERM);
	segments[0] = (struct iovec){bytes, NET_HEADER_SIZE + 13};
	assert_int_equal(net_send(&fake.net, 0, segments, 1), -EINVAL);
	segments[0] = (struct iovec){bytes, NET_FRAME_MAX + 1};
	assert_int_equal(net_send(&fake.net, 0, segments, 1), -EINVAL);
	free(bytes);
	fake_end(&fake);
}

static void receives_by_the_rules(void **state)
{
	uint8_t room[NET_FRAME_MAX];
	struct iovec segment = {room, sizeof(room)};
	struct fake fake;

	fake_open(&fake);
	set(&fake, NULL, &dns_policy);
	fake.incoming = fake.frame;
	fake.arriving = 1;
	assert_int_equal(net_receive(&fake.net, 0, &segment, 1), NET_HEADER_SIZE + 1000);
	assert_memory_equal(room, &fake.frame, NET_HEADER_SIZE + 1000);
	assert_int_equal(net_receive(&fake.net, 0, &segment, 1), -EAGAIN);
	/* Of one that is refused not a byte comes into the guest's memory. */
	frame_packet(&fake.incoming, "10.0.0.3", "10.0.0.2", 6, 53, 80);
	fake.arriving = 1;
	memset(room, 0x55, 1012);
	assert_int_equal(net_receive(&fake.net, 0, &segment, 1), -EMSGSIZE);
	for (unsigned i = 0; i < 1012; i++)
		assert_int_equal(room[i], 0x55);
	assert_int_equal(count(&fake, "policy", "in_passed_bytes"), 1000);
	assert_int_equal(count(&fake, "policy", "in_denied_packets"), 1);
	assert_int_equal(count(&fake, "rule:web", "bytes"), 54);
	/* Room for less than the frame. */
	fake.incoming = fake.frame;
	fake.arriving = 1;
	segment.iov_len = 500;
	assert_int_equal(net_receive(&fake.net, 0, &segment, 1), -EMSGSIZE);
	fake_end(&fake);
}

static const struct net_policy_options slow = {
	.limits = {[NET_OUT] = {.operations = {.amount = 100, .burst = 1}},
		[NET_IN] = {.bytes = {.amount = 100000, .burst = 1000}}}};

/* 100 a second: the 21st comes 200 ms after the first; the queues take turns. */
static void limits_what_is_sent(void **state)
{
	struct fake fake;
	uint64_t start = clock_ns();

	fake_open(&fake);
	set(&fake, NULL, &slow);
	fake.waiting[0] = fake.waiting[2] = 100;
	fake.stop_at = 11;
	writable(&fake, 0);
	writable(&fake, 2);
	assert_int_equal(fake.sends, 1);
	assert_int_equal(loop_run(fake.loop), 0);
	assert_in_range(clock_ns() - start, 180 * MS, 400 * MS);
	assert_in_range(fake.done[0] + fake.done[2], 19, 23);
	assert_in_range(fake.sends, 19, 23);
	/* Off the loop with frames that wait: they are still the model's. */
	fake_end(&fake);
}

/* As a host announces a machine whose guest has no driver yet, or none any more. */
static void nobody_waits_without_a_driver(void **state)
{
	struct fake fake;

	fake_open(&fake);
	net_detach(&fake.net, fake_detached);
	assert_null(fake.net.loop);
	set(&fake, NULL, &slow);
	for (unsigned i = 0; i < 20; i++)
		send_one(&fake, 0, &fake.frame);
	assert_int_equal(send_one(&fake, 0, &fake.frame), -EAGAIN);
	assert_false(net_gate_holds(&fake.net, 0));
	net_attach(&fake.net, fake.loop, &events, &fake);
	fake_end(&fake);
}

/* 1000 bytes each, 100 a second; what was not taken is there still. */
static void limits_what_is_received(void **state)
{
	struct fake fake;
	uint64_t start = clock_ns();

	fake_open(&fake);
	set(&fake, NULL, &slow);
	fake.incoming = fake.frame;
	fake.arriving = 1000;
	fake.stop_at = 21;
	fake.net.queues[0].in.wanted = true;
	readable(&fake, 0);
	assert_in_range(fake.received, 1, 2);
	assert_int_equal(loop_run(fake.loop), 0);
	assert_in_range(clock_ns() - start, 180 * MS, 400 * MS);
	assert_int_equal(fake.received + fake.arriving, 1000);
	fake_end(&fake);
}

/* What is to be cut is as many packets as it will be. */
static void pays_for_segments(void **state)
{
	struct net_policy_options options = {
		.limits = {[NET_OUT] = {.operations = {.amount = 1, .burst = 10}}}};
	struct fake fake;

	fake_open(&fake);
	set(&fake, NULL, &options);
	fake.frame.header[1] = 1;
	store_le16(fake.frame.header + 4, 100);
	assert_int_equal(send_one(&fake, 0, &fake.frame), 0);
	assert_int_equal(send_one(&fake, 0, &fake.frame), -EAGAIN);
	/* The policy says so as well, once it looks. */
	set(&fake, NULL, &dns_policy);
	assert_int_equal(send_one(&fake, 0, &fake.frame), -EPERM);
	fake_end(&fake);
}

/* Those who wait for one limit do not wait for it when there is another. */
static void a_change_wakes_who_waits(void **state)
{
	struct net_policy_options options = {
		.limits = {[NET_OUT] = {.operations = {.amount = 1, .period = 100000 * MS}}}};
	struct net_policy_options none = {0};
	struct fake fake;

	fake_open(&fake);
	set(&fake, fake.loop, &options);
	set(&fake, fake.loop, &options);
	assert_false(net_policed(&fake.net));
	fake.waiting[1] = 50;
	loop_post(fake.loop, &fake.stop);
	assert_int_equal(loop_run(fake.loop), 0);
	assert_true(net_policed(&fake.net));
	assert_int_equal(fake.policed, 1);
	writable(&fake, 1);
	assert_int_equal(fake.done[1], 1);
	fake.stop_at = 50;
	set(&fake, fake.loop, &none);
	assert_int_equal(loop_run(fake.loop), 0);
	assert_int_equal(fake.done[1], 50);
	assert_int_equal(fake.policed, 2);
	assert_ptr_equal(fake.net.ops, &fake_ops);
	assert_int_equal(count(&fake, "policy", "out_passed_packets"), 1);
	fake_end(&fake);
}

/* Who changes a rule does not give a limit's burst of once again. */
static void gives_a_burst_once(void **state)
{
	struct net_policy_options options = {
		.limits = {[NET_OUT] = {.operations = {.amount = 1, .burst = 1, .once = 2}}}};
	struct fake fake;

	fake_open(&fake);
	set(&fake, NULL, &options);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(send_one(&fake, 0, &fake.frame), 0);
	assert_int_equal(send_one(&fake, 0, &fake.frame), -EAGAIN);
	options.limits[NET_IN].bytes.amount = 5000;
	set(&fake, NULL, &options);
	assert_int_equal(send_one(&fake, 0, &fake.frame), -EAGAIN);
	options.limits[NET_OUT].operations.once = 1;
	set(&fake, NULL, &options);
	assert_int_equal(send_one(&fake, 0, &fake.frame), 0);
	assert_int_equal(send_one(&fake, 0, &fake.frame), -EAGAIN);
	fake_end(&fake);
}

/* Never run: what was posted is taken back. */
static void closes_with_a_change_on_its_way(void **state)
{
	struct fake fake;

	fake_open(&fake);
	set(&fake, fake.loop, &dns_policy);
	set(&fake, fake.loop, &slow);
	fake_end(&fake);
}

static void *run(void *loop)
{
	loop_run(loop);
	return NULL;
}

struct sender {
	struct loop_task task;
	struct fake *fake;
	_Atomic unsigned left;
};

static void send_some(struct loop_task *task)
{
	struct sender *sender = container_of(task, struct sender, task);

	for (unsigned i = 0; i < 100; i++)
		if (send_one(sender->fake, 0, &sender->fake->frame) != 0)
			return;
	if (--sender->left)
		loop_post(sender->fake->loop, &sender->task);
	else
		loop_stop(sender->fake->loop);
}

/* Changed all the time while another thread sends: every frame counted, by its rule, once. */
static void changes_while_frames_go_by(void **state)
{
	struct net_rule other[2] = {dns_only[1], dns_only[0]};
	struct net_policy_options options[] = {dns_policy, dns_policy};
	struct sender sender = {.task.run = send_some, .left = 2000};
	pthread_t thread;
	struct fake fake;

	options[1].rules = other;
	options[1].limits[NET_OUT].bytes.amount = 1ULL << 40;
	fake_open(&fake);
	sender.fake = &fake;
	set(&fake, NULL, &dns_policy);
	loop_post(fake.loop, &sender.task);
	assert_int_equal(pthread_create(&thread, NULL, run, fake.loop), 0);
	for (unsigned i = 0; sender.left; i++) {
		set(&fake, fake.loop, &options[i & 1]);
		assert_true(count(&fake, "rule:dns", "packets") <= 200000);
	}
	pthread_join(thread, NULL);
	assert_int_equal(fake.sends, 200000);
	assert_int_equal(count(&fake, "rule:dns", "packets"), 200000);
	assert_int_equal(count(&fake, "policy", "out_passed_bytes"), 200000000);
	fake_end(&fake);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sends_by_the_rules),
		cmocka_unit_test(sends_what_was_judged),
		cmocka_unit_test(takes_pieces_of_any_size),
		cmocka_unit_test(receives_by_the_rules),
		cmocka_unit_test(limits_what_is_sent),
		cmocka_unit_test(nobody_waits_without_a_driver),
		cmocka_unit_test(limits_what_is_received),
		cmocka_unit_test(pays_for_segments),
		cmocka_unit_test(a_change_wakes_who_waits),
		cmocka_unit_test(gives_a_burst_once),
		cmocka_unit_test(closes_with_a_change_on_its_way),
		cmocka_unit_test(changes_while_frames_go_by),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
