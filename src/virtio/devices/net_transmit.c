/* SPDX-License-Identifier: Apache-2.0 */
/* Frames from the guest (virtio 1.2, 5.1.6.2): straight from its buffers to the back end. */
#include "virtio/devices/net_private.h"

#include <errno.h>

/* -EAGAIN: the back end takes no more now. */
static int send_chain(struct nic_pair *pair, const struct virtqueue_chain *chain)
{
	int ret = -EINVAL;

	if (chain->readable_bytes >= NIC_FRAME_MIN && chain->readable_bytes <= NET_FRAME_MAX)
		ret = net_send(pair->nic->net, pair->index, chain->segments, chain->readable);
	if (ret == -EAGAIN)
		return ret;
	if (ret < 0) {
		counter_add(&pair->transmitted.dropped, 1);
		return 0;
	}
	counter_add(&pair->transmitted.frames, 1);
	counter_add(&pair->transmitted.bytes, chain->readable_bytes - NET_HEADER_SIZE);
	return 0;
}

/* 1: there may be more; 0: the ring is empty, or the back end full; negative: broken. */
static int transmit_burst(struct nic_pair *pair)
{
	struct virtqueue_chain chain = {
		.segments = pair->scratch->segments, .capacity = NIC_SEGMENTS};

	for (unsigned frames = 1;; frames++) {
		int ret = virtqueue_pop(pair->transmit, &chain);

		if (ret == 0 && virtqueue_kicks_on(pair->transmit))
			ret = virtqueue_pop(pair->transmit, &chain);
		if (ret <= 0)
			return ret;
		if (send_chain(pair, &chain) == -EAGAIN) {
			/* The back end tells when to go on; kicks would not help. */
			virtqueue_unpop(pair->transmit, &chain);
			virtqueue_kicks_off(pair->transmit);
			return 0;
		}
		virtqueue_push(pair->transmit, &chain, 0);
		if (frames % NIC_STRIDE == 0 && virtio_turn_over(pair->transmit))
			return 1;
	}
}

enum virtio_progress nic_transmit(struct nic_pair *pair)
{
	struct nic *nic = pair->nic;
	int ret;

	/* Frames wait until the back end has followed. */
	if (pair->index < nic->pairs && !nic_pair_on(pair))
		return VIRTIO_DONE;
	virtqueue_kicks_off(pair->transmit);
	ret = transmit_burst(pair);
	net_flush(nic->net, pair->index);
	return ret > 0 ? VIRTIO_MORE : VIRTIO_DONE;
}
