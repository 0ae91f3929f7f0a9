/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames to the guest (virtio 1.2, 5.1.6.3 and 5.1.6.4).
 *
 * A back end that knows the next frame's length (passt) gets buffers for just that. A tap does not:
 * it reads into the first buffer, which holds any usual frame, with the pair's own frame memory
 * behind it; what a large frame leaves there is copied into further buffers.
 */
#include "virtio/devices/net_private.h"

#include <errno.h>
#include <string.h>

#define NUM_BUFFERS 10 /* offset in struct virtio_net_hdr_v1 */

/* Buffers popped for one frame: their segments are contiguous in the scratch array. */
struct buffers {
	unsigned count;    /* chains */
	unsigned segments; /* of all of them */
	uint64_t bytes;
};

enum progress {
	MORE,    /* a frame was delivered or dropped */
	IDLE,    /* no frame */
	STARVED, /* no buffers for the frame */
	BROKEN,  /* the device needs a reset */
};

/* 1: there are buffers for @needed bytes; 0: the guest has too few now; -EMSGSIZE: they would be
 * too many. */
static int collect(struct nic_pair *pair, struct buffers *buffers, uint64_t needed)
{
	struct nic_scratch *scratch = pair->scratch;
	unsigned most = virtio_has(&pair->nic->virtio, VIRTIO_NET_F_MRG_RXBUF) ? NIC_MERGE_MAX : 1;

	while (buffers->bytes < needed) {
		struct virtqueue_chain *chain = &scratch->chains[buffers->count];
		int ret;

		if (buffers->count == most || buffers->segments == NIC_SEGMENTS)
			return -EMSGSIZE;
		chain->segments = &scratch->segments[buffers->segments];
		chain->capacity = NIC_SEGMENTS - buffers->segments;
		ret = virtqueue_pop(pair->receive, chain);
		if (ret <= 0)
			return ret;
		if (chain->readable || chain->writable_bytes == 0) {
			virtio_needs_reset(&pair->nic->virtio, "receive buffer not writable");
			return -EPROTO;
		}
		buffers->count++;
		buffers->segments += chain->writable;
		buffers->bytes += chain->writable_bytes;
	}
	return 1;
}

static void give_back(struct nic_pair *pair, struct buffers *buffers)
{
	while (buffers->count)
		virtqueue_unpop(pair->receive, &pair->scratch->chains[--buffers->count]);
	buffers->segments = 0;
	buffers->bytes = 0;
}

static enum progress drop(struct nic_pair *pair, struct buffers *buffers)
{
	give_back(pair, buffers);
	counter_add(&pair->received.dropped, 1);
	return MORE;
}

/* What a failed collect() means, given that there is a frame. */
static enum progress no_room(struct nic_pair *pair, struct buffers *buffers, int ret)
{
	if (ret == -EMSGSIZE)
		return drop(pair, buffers);
	if (ret < 0)
		return BROKEN;
	give_back(pair, buffers);
	return STARVED;
}

/* The buffers, which all are needed, go to the guest with @length bytes in them. */
static enum progress deliver(struct nic_pair *pair, struct buffers *buffers, uint32_t length)
{
	const struct nic_scratch *scratch = pair->scratch;
	uint8_t number[2];

	counter_add(&pair->received.frames, 1);
	counter_add(&pair->received.bytes, length - NET_HEADER_SIZE);
	store_le16(number, (uint16_t)buffers->count);
	iov_copy_to(scratch->segments, buffers->segments, NUM_BUFFERS, number, sizeof(number));
	for (unsigned i = 0; i < buffers->count; i++) {
		const struct virtqueue_chain *chain = &scratch->chains[i];
		uint32_t part = (uint32_t)min_u64(length, chain->writable_bytes);

		virtqueue_push(pair->receive, chain, part);
		length -= part;
	}
	return MORE;
}

static enum progress receive_held(struct nic_pair *pair)
{
	struct buffers buffers = {0};
	uint32_t length = pair->held;
	int ret = collect(pair, &buffers, length);

	if (ret <= 0) {
		if (ret == -EMSGSIZE)
			pair->held = 0;
		return no_room(pair, &buffers, ret);
	}
	pair->held = 0;
	iov_copy_to(pair->scratch->segments, buffers.segments, 0, pair->frame, length);
	return deliver(pair, &buffers, length);
}

static enum progress failed(struct nic_pair *pair, struct buffers *buffers, int error)
{
	if (error == -EMSGSIZE)
		return drop(pair, buffers);
	give_back(pair, buffers);
	return IDLE;
}

/* A frame that no number of buffers can take is still to be got rid of. */
static enum progress discard(struct nic_pair *pair, struct buffers *buffers)
{
	struct iovec rest = {pair->frame, NET_FRAME_MAX};
	int ret;

	give_back(pair, buffers);
	ret = net_receive(pair->nic->net, pair->index, &rest, 1);
	if (ret < 0 && ret != -EMSGSIZE)
		return IDLE;
	return drop(pair, buffers);
}

static enum progress receive_known(struct nic_pair *pair, uint32_t length)
{
	struct buffers buffers = {0};
	int ret = collect(pair, &buffers, length);

	if (ret == -EMSGSIZE)
		return discard(pair, &buffers);
	if (ret <= 0)
		return no_room(pair, &buffers, ret);
	ret = net_receive(pair->nic->net, pair->index, pair->scratch->segments, buffers.segments);
	if (ret < 0)
		return failed(pair, &buffers, ret);
	return deliver(pair, &buffers, (uint32_t)ret);
}

/* The frame is too long for the first buffer: @room bytes of it are there, the rest in ours. */
static enum progress spread(
	struct nic_pair *pair, struct buffers *buffers, uint32_t room, uint32_t length)
{
	const struct iovec *segments = pair->scratch->segments;
	unsigned first = buffers->segments;
	int ret = collect(pair, buffers, length);

	if (ret > 0) {
		iov_copy_to(segments, buffers->segments, room, pair->frame, length - room);
		return deliver(pair, buffers, length);
	}
	if (ret == 0) {
		memmove(pair->frame + room, pair->frame, length - room);
		iov_copy_from(segments, first, 0, pair->frame, room);
		pair->held = length;
	}
	return no_room(pair, buffers, ret);
}

static enum progress receive_unknown(struct nic_pair *pair)
{
	struct nic_scratch *scratch = pair->scratch;
	struct buffers buffers = {0};
	unsigned count;
	uint32_t room;
	int ret = collect(pair, &buffers, 1);

	if (ret <= 0)
		return no_room(pair, &buffers, ret);
	room = (uint32_t)min_u64(buffers.bytes, NET_FRAME_MAX);
	count = buffers.segments;
	if (room < NET_FRAME_MAX)
		scratch->segments[count++] = (struct iovec){pair->frame, NET_FRAME_MAX - room};
	ret = net_receive(pair->nic->net, pair->index, scratch->segments, count);
	if (ret < 0)
		return failed(pair, &buffers, ret);
	if ((uint32_t)ret > room)
		return spread(pair, &buffers, room, (uint32_t)ret);
	return deliver(pair, &buffers, (uint32_t)ret);
}

static enum progress receive_one(struct nic_pair *pair)
{
	int length;

	if (pair->held)
		return receive_held(pair);
	length = net_next_length(pair->nic->net, pair->index);
	if (length == -EMSGSIZE) {
		counter_add(&pair->received.dropped, 1);
		return MORE;
	}
	if (length < 0)
		return IDLE;
	return length ? receive_known(pair, (uint32_t)length) : receive_unknown(pair);
}

/* Kicks are of interest only while we wait for buffers. */
static enum progress receive_burst(struct nic_pair *pair)
{
	enum progress progress = MORE;

	for (unsigned frames = 0; progress == MORE; frames++) {
		if (frames && frames % NIC_STRIDE == 0 && virtio_turn_over(pair->receive))
			break;
		progress = receive_one(pair);
		if (progress == STARVED && virtqueue_kicks_on(pair->receive))
			progress = receive_one(pair);
		if (progress == MORE)
			virtqueue_kicks_off(pair->receive);
	}
	return progress;
}

enum virtio_progress nic_receive(struct nic_pair *pair)
{
	enum progress progress;

	if (!nic_pair_on(pair))
		return VIRTIO_DONE;
	virtqueue_kicks_off(pair->receive);
	progress = receive_burst(pair);
	net_receive_enable(pair->nic->net, pair->index, progress == IDLE || progress == MORE);
	return progress == MORE ? VIRTIO_MORE : VIRTIO_DONE;
}
