/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames at the gate. From the guest: virtio's header and the beginning of the frame are copied,
 * the copy is judged and is what is sent, in front of the rest; what the guest writes meanwhile
 * changes payload at most. To the guest: the frame is taken into memory of the gate's own, judged,
 * and copied if it may pass. A frame for which there is no token stays where it is.
 */
#include "backend/frame.h"
#include "backend/gate_private.h"
#include "base/bytes.h"
#include "base/checked.h"
#include "base/clock.h"
#include "base/iov.h"

#include <errno.h>
#include <string.h>

#define HEAD (NET_HEADER_SIZE + FRAME_LOOK)

/* ---- limits ---- */

/* True: there is no token now; the queue is called when there is. */
static bool wait_for_token(struct gate_lane *lane, unsigned queue)
{
	const struct net *net = lane->gate->net;
	uint64_t now = clock_ns();
	uint64_t wait = bucket_pair_wait(&lane->buckets, now, lane->late);

	if (!wait)
		return false;
	/* A host's own frame, while no driver has the device: nobody waits. */
	if (!net->loop || net->detaching)
		return true;
	lane->held |= 1U << queue;
	if (!loop_timer_set(&lane->timer))
		loop_timer_at(net->loop, &lane->timer, now + wait);
	return true;
}

static bool holds(struct gate_lane *lane, unsigned queue)
{
	if (!lane->limits)
		return false;
	lane->held &= ~(1U << queue);
	return wait_for_token(lane, queue);
}

static void call(struct gate_lane *lane, unsigned queue)
{
	struct net *net = lane->gate->net;

	if (lane->direction == NET_OUT)
		net->events->writable(net->opaque, queue);
	else if (net->queues[queue].in.wanted)
		net->events->readable(net->opaque, queue);
}

/* In turns: the first one may find tokens for itself alone. */
void gate_wake(struct gate_lane *lane)
{
	const unsigned count = lane->gate->net->queues_count;
	uint32_t held = lane->held;

	lane->held = 0;
	lane->late = true;
	lane->first = (lane->first + 1) % count;
	for (unsigned i = 0; i < count && lane->gate->net->loop; i++) {
		unsigned queue = (lane->first + i) % count;

		if (held >> queue & 1)
			call(lane, queue);
	}
	lane->late = false;
}

void gate_expired(struct loop_timer *timer)
{
	gate_wake(container_of(timer, struct gate_lane, timer));
}

bool net_gate_holds(const struct net *net, unsigned queue)
{
	return net->gate->lanes[NET_OUT].held >> queue & 1;
}

void net_gate_rest(struct net *net)
{
	for (unsigned i = 0; i < NET_DIRECTIONS; i++) {
		loop_timer_stop(&net->gate->lanes[i].timer);
		net->gate->lanes[i].held = 0;
	}
}

/* As many as the wire will have. */
static uint64_t packets_of(const uint8_t *header, uint32_t length)
{
	uint32_t size = load_le16(header + 4);

	return header[1] && size ? (length + size - 1) / size : 1;
}

/* ---- judgement ---- */

/* @head: virtio's header and the frame's beginning; @length: of the frame. */
static enum net_verdict judge(
	struct gate_lane *lane, const uint8_t *head, uint32_t length, int *rule)
{
	struct frame_facts facts;
	enum net_verdict verdict;

	*rule = -1;
	if (!lane->filters)
		return NET_PASS;
	frame_read(&facts, head + NET_HEADER_SIZE, (uint32_t)min_u64(length, FRAME_LOOK), length,
		head[1] != 0);
	verdict = net_policy_judge(lane->gate->policy, lane->direction, &facts, rule);
	/* What the host itself asks for is true. */
	if (verdict != NET_PASS || lane->direction == NET_IN || frame_offload_is_true(&facts, head))
		return verdict;
	*rule = -1;
	return NET_BROKEN;
}

static void account(struct gate_lane *lane, enum net_verdict verdict, int rule, uint32_t length)
{
	net_count(&lane->verdicts[verdict], length);
	net_policy_count(lane->gate->policy, rule, length);
}

/* It has passed. */
static void pay(struct gate_lane *lane, const uint8_t *head, int rule, uint32_t length)
{
	account(lane, NET_PASS, rule, length);
	if (lane->limits)
		bucket_pair_take(&lane->buckets, length, packets_of(head, length));
}

/* ---- from the guest ---- */

/* The copy, and behind it what was not copied; 0: in too many pieces. *@total: bytes of it all. */
static unsigned take_apart(
	struct net_gate *gate, const struct iovec *segments, unsigned count, uint64_t *total)
{
	size_t copied = 0;
	unsigned pieces = 1;

	*total = 0;
	for (unsigned i = 0; i < count; i++) {
		size_t length = segments[i].iov_len, part = min_u64(HEAD - copied, length);

		*total += length;
		if (part)
			memcpy(gate->frame + copied, segments[i].iov_base, part);
		copied += part;
		if (part == length)
			continue;
		if (pieces == GATE_PIECES)
			return 0;
		gate->pieces[pieces++] =
			(struct iovec){(char *)segments[i].iov_base + part, length - part};
	}
	gate->pieces[0] = (struct iovec){gate->frame, copied};
	return pieces;
}

static int refuse(struct gate_lane *lane, enum net_verdict verdict, int rule, uint32_t length)
{
	account(lane, verdict, rule, length);
	return -EPERM;
}

static int gate_send(struct net *net, unsigned queue, const struct iovec *segments, unsigned count)
{
	struct net_gate *gate = net->gate;
	struct gate_lane *lane = &gate->lanes[NET_OUT];
	enum net_verdict verdict;
	unsigned pieces;
	uint64_t total;
	uint32_t length;
	int rule, ret;

	if (holds(lane, queue))
		return -EAGAIN;
	pieces = take_apart(gate, segments, count, &total);
	if (total < NET_HEADER_SIZE + FRAME_HEADER || total > NET_FRAME_MAX)
		return -EINVAL;
	length = (uint32_t)total - NET_HEADER_SIZE;
	if (!pieces)
		return refuse(lane, NET_BROKEN, -1, length);
	verdict = judge(lane, gate->frame, length, &rule);
	if (verdict != NET_PASS)
		return refuse(lane, verdict, rule, length);
	ret = gate->inner->send(net, queue, gate->pieces, pieces);
	if (ret == 0)
		pay(lane, gate->frame, rule, length);
	return ret;
}

/* ---- to the guest ---- */

static int gate_next_length(struct net *net, unsigned queue)
{
	const struct net_gate *gate = net->gate;

	if (holds(&net->gate->lanes[NET_IN], queue))
		return -EAGAIN;
	return gate->inner->next_length ? gate->inner->next_length(net, queue) : 0;
}

/* Nothing has to be known of it but its length. */
static int receive_unseen(
	struct net *net, unsigned queue, const struct iovec *segments, unsigned count)
{
	int got = net->gate->inner->receive(net, queue, segments, count);

	if (got >= NET_HEADER_SIZE)
		net_count(&net->gate->lanes[NET_IN].verdicts[NET_PASS],
			(uint64_t)got - NET_HEADER_SIZE);
	return got;
}

static int gate_receive(
	struct net *net, unsigned queue, const struct iovec *segments, unsigned count)
{
	struct net_gate *gate = net->gate;
	struct gate_lane *lane = &gate->lanes[NET_IN];
	const struct iovec room = {gate->frame, NET_FRAME_MAX};
	enum net_verdict verdict;
	uint32_t length;
	int rule, got;

	if (!lane->filters && !lane->limits)
		return receive_unseen(net, queue, segments, count);
	if (holds(lane, queue))
		return -EAGAIN;
	got = gate->inner->receive(net, queue, &room, 1);
	if (got < NET_HEADER_SIZE)
		return got;
	length = (uint32_t)got - NET_HEADER_SIZE;
	verdict = judge(lane, gate->frame, length, &rule);
	if (verdict != NET_PASS) {
		account(lane, verdict, rule, length);
		return -EMSGSIZE;
	}
	pay(lane, gate->frame, rule, length);
	return iov_copy_to(segments, count, 0, gate->frame, (size_t)got) == (size_t)got ? got
											: -EMSGSIZE;
}

/* ---- all else goes through as it is ---- */

static int gate_ready(struct net *net, struct error *err)
{
	const struct net_ops *inner = net->gate->inner;

	return inner->ready ? inner->ready(net, err) : 0;
}

static void gate_close(struct net *net)
{
	/* net_gate_free() has given the net its own functions back. */
}

static void gate_set_offloads(struct net *net, unsigned offloads)
{
	net->gate->inner->set_offloads(net, offloads);
}

static void gate_set_queues(struct net *net, unsigned count)
{
	net->gate->inner->set_queues(net, count);
}

static int gate_flush(struct net *net, unsigned queue)
{
	const struct net_ops *inner = net->gate->inner;

	return inner->flush ? inner->flush(net, queue) : 0;
}

const struct net_ops gate_ops = {
	.ready = gate_ready,
	.close = gate_close,
	.set_offloads = gate_set_offloads,
	.set_queues = gate_set_queues,
	.send = gate_send,
	.flush = gate_flush,
	.next_length = gate_next_length,
	.receive = gate_receive,
};
