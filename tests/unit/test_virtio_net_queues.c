/* SPDX-License-Identifier: Apache-2.0 */
/* Queue pairs of virtio-net before a back end whose switching of queues takes the host long. */
#include "device_rig.h"

#include "backend/net_private.h"
#include "base/bytes.h"
#include "base/checked.h"
#include "base/clock.h"
#include "virtio/devices.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#define PAIRS     32
#define CONTROL   (2 * PAIRS)
#define QUEUES    (2 * PAIRS + 1)
#define DATA      DEVICE_RIG_DATA
#define SWITCH_US 2000
#define HEADER    12
#define FEATURES                                                                                   \
	(VIRTIO_FEATURE(5) /* MAC */ | VIRTIO_FEATURE(17) /* CTRL_VQ */ |                          \
		VIRTIO_FEATURE(22) /* MQ */ | VIRTIO_FEATURE(VIRTIO_F_INDIRECT_DESC))

/* A network that counts, and is slow as a tap's is under the host's lock. */
struct slow_net {
	struct net net;
	_Atomic unsigned switched, most; /* queues; of them by one call */
	_Atomic unsigned sent[PAIRS];
	_Atomic(const struct iovec *) segments[PAIRS]; /* where the last frame's were told */
};

static struct slow_net *slow_of(struct net *net)
{
	return container_of(net, struct slow_net, net);
}

static void slow_close(struct net *net)
{
	free(slow_of(net));
}

static void set_offloads(struct net *net, unsigned offloads)
{
}

static void set_queues(struct net *net, unsigned count)
{
	unsigned queues = count > net->active ? count - net->active : net->active - count;

	slow_of(net)->switched += queues;
	if (queues > slow_of(net)->most)
		slow_of(net)->most = queues;
	usleep(queues * SWITCH_US);
}

static int send_frame(struct net *net, unsigned queue, const struct iovec *segments, unsigned count)
{
	slow_of(net)->segments[queue] = segments;
	slow_of(net)->sent[queue]++;
	return 0;
}

static int receive(struct net *net, unsigned queue, const struct iovec *segments, unsigned count)
{
	return -EAGAIN;
}

static const struct net_ops slow_ops = {
	.close = slow_close,
	.set_offloads = set_offloads,
	.set_queues = set_queues,
	.send = send_frame,
	.receive = receive,
};

struct rig {
	struct device_rig rig;
	struct slow_net *net;
	/* Posts itself once a round, and notes how many queues were switched between. */
	struct loop_task other;
	_Atomic bool stop, stopped;
	unsigned before, most_a_round;
};

static void rig_init(struct rig *rig)
{
	struct virtio_net_options options = {.mac = {2}, .queue_pairs = PAIRS};
	struct error err = {0};

	memset(rig, 0, sizeof(*rig));
	rig->net = calloc(1, sizeof(*rig->net));
	assert_int_equal(net_init(&rig->net->net, &slow_ops, PAIRS, &err), 0);
	for (unsigned i = 0; i < PAIRS; i++)
		rig->net->net.queues[i].fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	options.net = &rig->net->net;
	fake_machine_init(&rig->rig.machine);
	assert_int_equal(virtio_net_new(&rig->rig.device, "net0", &options, &err), 0);
	device_rig_start(&rig->rig);
	device_rig_up(&rig->rig, FEATURES, QUEUES);
	rig->net->switched = rig->net->most = 0;
}

static void look(struct loop_task *task)
{
	struct rig *rig = container_of(task, struct rig, other);
	unsigned now = rig->net->switched;

	if (now - rig->before > rig->most_a_round)
		rig->most_a_round = now - rig->before;
	rig->before = now;
	if (rig->stop)
		rig->stopped = true;
	else
		loop_post(rig->rig.machine.place.io, &rig->other);
}

static void offer_pairs(struct rig *rig, unsigned index, uint16_t pairs)
{
	uint64_t gpa = DATA + 64 * index;
	const struct ring_buffer buffers[] = {{gpa, 4, false}, {gpa + 32, 1, true}};
	uint8_t *bytes = device_rig_at(&rig->rig, gpa);

	memset(bytes, 0, 64);
	bytes[0] = 4;
	store_le16(bytes + 2, pairs);
	bytes[32] = 0xff;
	assert_true(ring_driver_offer(&rig->rig.rings[CONTROL], buffers, 2, true, index));
}

static void await_answers(struct rig *rig, unsigned count)
{
	uint32_t written;
	uint64_t token;

	for (unsigned i = 0; i < count; i++) {
		assert_true(driver_await(&rig->rig.rings[CONTROL], &token, &written));
		assert_int_equal(*device_rig_at(&rig->rig, DATA + 64 * token + 32), 0);
	}
}

struct question {
	struct loop_task task;
	const struct net *net;
	unsigned on;
};

static void read_queues(struct loop_task *task)
{
	struct question *question = container_of(task, struct question, task);

	question->on = net_queues_on(question->net);
}

/* The loop's own affair, and asked there. */
static unsigned queues_on(struct rig *rig)
{
	struct question question = {.task.run = read_queues, .net = &rig->net->net};

	loop_call(rig->rig.machine.place.io, &question.task);
	return question.on;
}

static void await_queues(struct rig *rig, unsigned count)
{
	for (unsigned i = 0; i < FAKE_PATIENCE_MS && queues_on(rig) != count; i++)
		usleep(1000);
	assert_int_equal(queues_on(rig), count);
}

/* One a round, the last value counts, and most of the time is others'. */
static void test_many_commands(void **state)
{
	enum {
		COMMANDS = 64
	};
	struct rig rig;
	uint64_t from;

	(void)state;
	rig_init(&rig);
	rig.other.run = look;
	loop_post(rig.rig.machine.place.io, &rig.other);
	from = clock_ns();
	for (unsigned i = 0; i < COMMANDS; i++)
		offer_pairs(&rig, i, i == COMMANDS - 1 ? 5 : i & 1 ? 1 : PAIRS);
	driver_kick(&rig.rig.driver, CONTROL);
	await_answers(&rig, COMMANDS);
	await_queues(&rig, 5);
	assert_true(clock_ns() - from >= (rig.net->switched - 1) * 4 * SWITCH_US * 1000ULL);
	rig.stop = true;
	while (!rig.stopped)
		usleep(100);
	assert_int_equal(rig.net->most, 1);
	assert_int_equal(rig.most_a_round, 1);
	/* And settled: nothing goes on. */
	rig.net->switched = 0;
	usleep(50000);
	assert_int_equal(rig.net->switched, 0);
	device_rig_free(&rig.rig);
}

/* All pairs are asked for, and the answer is there. */
static void rig_with_all_pairs(struct rig *rig)
{
	rig_init(rig);
	offer_pairs(rig, 0, PAIRS);
	driver_kick(&rig->rig.driver, CONTROL);
	await_answers(rig, 1);
}

static void send_on(struct rig *rig, unsigned pair)
{
	const struct ring_buffer frame = {DATA + 0x10000, HEADER + 60, false};

	assert_true(ring_driver_offer(&rig->rig.rings[2 * pair + 1], &frame, 1, false, pair));
	driver_kick(&rig->rig.driver, 2 * pair + 1);
}

/* What is sent on a pair that was asked for waits until the back end has followed. */
static void test_frames_wait(void **state)
{
	struct rig rig;
	uint32_t written;
	uint64_t token;

	(void)state;
	rig_with_all_pairs(&rig);
	for (unsigned i = 0; i < PAIRS; i++)
		send_on(&rig, i);
	for (unsigned i = 0; i < PAIRS; i++) {
		assert_true(driver_await(&rig.rig.rings[2 * i + 1], &token, &written));
		assert_int_equal(rig.net->sent[i], 1);
	}
	device_rig_free(&rig.rig);
}

/* What a pair needs to move its frames is its own, so that pairs may come to have threads of their
 * own. */
static void test_pairs_share_nothing(void **state)
{
	struct rig rig;
	uint32_t written;
	uint64_t token;

	(void)state;
	rig_with_all_pairs(&rig);
	for (unsigned i = 0; i < PAIRS; i++) {
		send_on(&rig, i);
		assert_true(driver_await(&rig.rig.rings[2 * i + 1], &token, &written));
		for (unsigned j = 0; j < i; j++)
			assert_ptr_not_equal(rig.net->segments[i], rig.net->segments[j]);
	}
	device_rig_free(&rig.rig);
}

/* A turn that is over on one loop is not over for the queues of another one. */
static void test_turn_is_the_queues(void **state)
{
	struct virtqueue one = {0}, other = {0};

	(void)state;
	assert_int_equal(loop_new(&one.io, 8, NULL), 0);
	assert_int_equal(loop_new(&other.io, 8, NULL), 0);
	assert_false(virtio_turn_over(&one));
	loop_turn_add(one.io, LOOP_TURN_NS);
	assert_true(virtio_turn_over(&one));
	assert_false(virtio_turn_over(&other));
	loop_free(one.io);
	loop_free(other.io);
}

/* A driver that starts anew while the back end is under way. */
static void test_reset_on_the_way(void **state)
{
	struct rig rig;

	(void)state;
	rig_init(&rig);
	for (unsigned i = 0; i < 5; i++) {
		offer_pairs(&rig, 0, PAIRS);
		driver_kick(&rig.rig.driver, CONTROL);
		await_answers(&rig, 1);
		usleep(5000);
		device_rig_up(&rig.rig, FEATURES, QUEUES);
	}
	await_queues(&rig, 1);
	assert_int_equal(rig.net->most, 1);
	device_rig_free(&rig.rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_many_commands),
		cmocka_unit_test(test_frames_wait),
		cmocka_unit_test(test_pairs_share_nothing),
		cmocka_unit_test(test_turn_is_the_queues),
		cmocka_unit_test(test_reset_on_the_way),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
