/* SPDX-License-Identifier: Apache-2.0 */
/* The control queue (virtio 1.2, 5.1.6.5). */
#include "virtio/devices/net_private.h"

#include <errno.h>

#define CTRL_RX            0
#define CTRL_RX_LAST       5
#define CTRL_MAC           1
#define CTRL_MAC_TABLE_SET 0
#define CTRL_ANNOUNCE      3
#define CTRL_ANNOUNCE_ACK  0
#define CTRL_MQ            4
#define CTRL_MQ_PAIRS_SET  0
#define CTRL_OFFLOADS      5
#define CTRL_OFFLOADS_SET  0
#define CTRL_HEADER        2
#define CTRL_ACK_OK        0
#define CTRL_ACK_ERROR     1

static size_t read_data(const struct virtqueue_chain *chain, void *to, size_t length)
{
	return iov_copy_from(chain->segments, chain->readable, CTRL_HEADER, to, length);
}

static bool set_pairs(struct nic *nic, const struct virtqueue_chain *chain)
{
	uint8_t data[2];
	uint16_t pairs;

	if (!virtio_has(&nic->virtio, VIRTIO_NET_F_MQ) ||
		read_data(chain, data, sizeof(data)) != sizeof(data))
		return false;
	pairs = load_le16(data);
	if (pairs < 1 || pairs > nic->pairs_max)
		return false;
	nic_set_pairs(nic, pairs);
	nic_follow(nic);
	return true;
}

static bool set_offloads(struct nic *nic, const struct virtqueue_chain *chain)
{
	uint8_t data[8];
	uint64_t wanted;

	if (!virtio_has(&nic->virtio, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) ||
		read_data(chain, data, sizeof(data)) != sizeof(data))
		return false;
	wanted = load_le64(data);
	if (wanted & ~nic->virtio.negotiated)
		return false;
	nic->guest_offloads = wanted;
	nic->guest_offloads_set = true;
	nic_follow(nic);
	return true;
}

/* The driver has begun to (5.1.6.5.4). */
static bool announced(struct nic *nic)
{
	if (!virtio_has(&nic->virtio, VIRTIO_NET_F_GUEST_ANNOUNCE))
		return false;
	atomic_store(&nic->announce, false);
	return true;
}

/* Filters are the back end's business: it gives what concerns this guest, so a driver's wishes are
 * accepted and more than it asked for may come (5.1.6.5.1: best effort). */
static bool run_command(struct nic *nic, const struct virtqueue_chain *chain)
{
	uint8_t header[CTRL_HEADER];

	iov_copy_from(chain->segments, chain->readable, 0, header, sizeof(header));
	switch (header[0]) {
	case CTRL_RX:
		return header[1] <= CTRL_RX_LAST && chain->readable_bytes > CTRL_HEADER;
	case CTRL_MAC:
		return header[1] == CTRL_MAC_TABLE_SET;
	case CTRL_ANNOUNCE:
		return header[1] == CTRL_ANNOUNCE_ACK && announced(nic);
	case CTRL_MQ:
		return header[1] == CTRL_MQ_PAIRS_SET && set_pairs(nic, chain);
	case CTRL_OFFLOADS:
		return header[1] == CTRL_OFFLOADS_SET && set_offloads(nic, chain);
	default:
		return false;
	}
}

/* 1: one was answered; 0: there is none, or none that can be answered yet; negative: the device
 * needs a reset. */
static int answer_one(struct nic *nic, struct virtqueue *queue)
{
	struct iovec segments[32];
	struct virtqueue_chain chain = {.segments = segments, .capacity = ARRAY_SIZE(segments)};
	int ret = virtqueue_pop(queue, &chain);
	uint8_t ack;

	if (ret <= 0)
		return ret;
	if (chain.readable_bytes < CTRL_HEADER || chain.writable_bytes == 0) {
		virtio_needs_reset(&nic->virtio, "command without header or answer");
		return -EPROTO;
	}
	ack = run_command(nic, &chain) ? CTRL_ACK_OK : CTRL_ACK_ERROR;
	/* It is run again, to no other end, when the pairs that it gives up are back. */
	if (nic_vhost_holds(nic, nic->pairs)) {
		virtqueue_unpop(queue, &chain);
		return 0;
	}
	iov_copy_to(&segments[chain.readable], chain.writable, 0, &ack, sizeof(ack));
	virtqueue_push(queue, &chain, sizeof(ack));
	return 1;
}

enum virtio_progress nic_control(struct nic *nic, struct virtqueue *queue)
{
	return answer_one(nic, queue) > 0 ? VIRTIO_MORE : VIRTIO_DONE;
}
