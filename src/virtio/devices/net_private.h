/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-net: what net.c (life, configuration), net_receive.c, net_transmit.c, net_control.c,
 * net_settings.c and net_vhost.c share. */
#ifndef DUET_VIRTIO_DEVICES_NET_PRIVATE_H
#define DUET_VIRTIO_DEVICES_NET_PRIVATE_H

#include "backend/net.h"
#include "backend/vhost.h"
#include "virtio/devices.h"
#include "virtio/devices/common.h"

#define VIRTIO_NET_F_CSUM                0
#define VIRTIO_NET_F_GUEST_CSUM          1
#define VIRTIO_NET_F_CTRL_GUEST_OFFLOADS 2
#define VIRTIO_NET_F_MTU                 3
#define VIRTIO_NET_F_MAC                 5
#define VIRTIO_NET_F_GUEST_TSO4          7
#define VIRTIO_NET_F_GUEST_TSO6          8
#define VIRTIO_NET_F_GUEST_ECN           9
#define VIRTIO_NET_F_HOST_TSO4           11
#define VIRTIO_NET_F_HOST_TSO6           12
#define VIRTIO_NET_F_HOST_ECN            13
#define VIRTIO_NET_F_MRG_RXBUF           15
#define VIRTIO_NET_F_STATUS              16
#define VIRTIO_NET_F_CTRL_VQ             17
#define VIRTIO_NET_F_CTRL_RX             18
#define VIRTIO_NET_F_GUEST_ANNOUNCE      21
#define VIRTIO_NET_F_MQ                  22
#define VIRTIO_NET_F_STANDBY             62

#define NIC_QUEUE_SIZE  256
#define NIC_CONFIG_SIZE 20
#define NIC_SEGMENTS    1024 /* of one frame, IOV_MAX */
#define NIC_MERGE_MAX   64   /* buffers for one frame: 64 KiB in buffers of 1 KiB */
#define NIC_FRAME_MIN   (NET_HEADER_SIZE + 14)
#define NIC_STRIDE      8 /* frames between two looks at the clock */

struct nic;

struct nic_counts {
	_Atomic uint64_t frames, bytes, dropped;
};

/* For the frame being moved. */
struct nic_scratch {
	struct virtqueue_chain chains[NIC_MERGE_MAX];
	struct iovec segments[NIC_SEGMENTS + 1];
};

/* A pair of queues, and all that moves their frames: of one loop. */
struct nic_pair {
	struct nic *nic;
	unsigned index;
	struct virtqueue *receive, *transmit; /* null when they do not belong to the pair */
	struct nic_counts received, transmitted;
	struct nic_scratch *scratch;
	/* A frame taken from the back end that the guest's buffers were too few for; also where the
	 * part of a frame goes that does not fit into its first buffer. NET_FRAME_MAX bytes. */
	uint8_t *frame;
	uint32_t held;  /* its length; 0: none */
	bool in_kernel; /* its rings are vhost's now */
};

struct nic {
	struct virtio_device virtio;
	struct net *net;
	bool offloads, standby;
	uint16_t mtu;
	uint8_t config[NIC_CONFIG_SIZE]; /* all but the status */
	_Atomic bool link_up;
	_Atomic bool announce; /* the driver is to say where its addresses are */
	unsigned pairs_max;
	/* I/O loop from here on. */
	unsigned pairs;          /* the driver's choice, which the back end follows */
	uint64_t guest_offloads; /* VIRTIO_NET_F_GUEST_* the driver takes now */
	bool guest_offloads_set; /* by command, else by negotiation */
	unsigned offloads_told;  /* to the back end, TUN_F_* */
	struct loop_timer rest;  /* before the back end follows another step */
	struct loop_timer end;   /* before vhost gives back another pair */
	struct vhost **vhosts;   /* one for each pair; null without vhost */
	_Atomic bool kernel;     /* activated with vhost: the loop moves no frames */
	struct loop_watch fault; /* while it is: what the kernel met in some ring */
	int fault_fd;            /* eventfd; -1 without vhost */
	void *memory;            /* one mapping: the pairs' scratch and frames */
	size_t memory_size;
	struct nic_pair *own;
};

/* net_receive.c, net_transmit.c: a turn. */
enum virtio_progress nic_receive(struct nic_pair *pair);
enum virtio_progress nic_transmit(struct nic_pair *pair);
/* Whether the driver uses the pair, and the back end follows already. */
static inline bool nic_pair_on(const struct nic_pair *pair)
{
	const struct nic *nic = pair->nic;

	return pair->index < nic->pairs && pair->index < net_queues_on(nic->net);
}
/* Of a queue that belongs to a pair (not null). */
static inline void nic_turn(struct nic *nic, struct virtqueue *queue)
{
	if (queue)
		virtio_turn(&nic->virtio, queue);
}
/* Without VIRTIO_NET_F_MQ there is one pair, and the control queue follows it (5.1.2). */
static inline unsigned nic_control_index(const struct nic *nic)
{
	return virtio_has(&nic->virtio, VIRTIO_NET_F_MQ) ? 2 * nic->pairs_max : 2;
}
/* net.c: at rest, the last step; a tap's queue is only there for vhost while it is attached. */
void nic_detach(struct nic *nic);
/* net_control.c: one command, so that those behind it come one in each of the next rounds. */
enum virtio_progress nic_control(struct nic *nic, struct virtqueue *queue);

/* net_vhost.c; what open made is freed by close, also when it failed. */
int nic_vhost_open(struct nic *nic, struct error *err);
void nic_vhost_close(struct nic *nic);
/* At activation, when queues are handed over: the first pair, and what the kernel tells of faults.
 * Ends when at rest: all pairs are taken back, one a round, then nic_detach(). */
int nic_vhost_begin(struct nic *nic);
void nic_vhost_end(struct loop_timer *timer); /* of nic->end */
/* Hands over the rings of one pair in use that is not yet; 0: there is none. A negative errno: the
 * device cannot go on. */
int nic_vhost_start_one(struct nic *nic);
/* Of those from pair @first on: whether there is any; takes one back, if there is. */
bool nic_vhost_holds(const struct nic *nic, unsigned first);
bool nic_vhost_stop_one(struct nic *nic, unsigned first);
void nic_vhost_vector_changed(struct nic *nic, unsigned index);

/* net_settings.c: what the driver chose. Tells the back end at once what frames it takes; false: it
 * knew. */
bool nic_tell_offloads(struct nic *nic);
void nic_set_pairs(struct nic *nic, unsigned pairs);
/* The back end follows the driver's choices, step by step. */
void nic_follow(struct nic *nic);
void nic_rested(struct loop_timer *timer); /* of nic->rest */

#endif
