/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Network back ends: tap and passt ("user"). Frames carry a struct virtio_net_hdr_v1 (12 bytes) in
 * front, in both directions, whatever the back end.
 *
 * Threads: open/close on the main thread; all else on the I/O loop given to net_attach().
 */
#ifndef DUET_BACKEND_NET_H
#define DUET_BACKEND_NET_H

#include "base/error.h"
#include "base/loop.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

struct net;

#define NET_HEADER_SIZE 12
#define NET_FRAME_MAX   (65536 + 64) /* with segmentation offload, header included */

enum net_kind {
	NET_TAP,
	NET_USER,
};

struct net_options {
	enum net_kind kind;
	const char *ifname;  /* tap */
	const char *passt;   /* program, null: from PATH */
	const char *forward; /* user: tcp ports to forward, passt's syntax; may be null */
	unsigned queues;     /* tap: queue pairs */
};

struct net_events {
	/* Frames may be readable (again). The model calls net_receive() until -EAGAIN. */
	void (*readable)(void *opaque);
	/* net_send() said -EAGAIN before and would take frames again. */
	void (*writable)(void *opaque);
	/* The back end is gone (passt died, tap removed): link down; frames are dropped from now
	 * on. */
	void (*gone)(void *opaque);
};

/* Messages name --net and the remedy: tap absent, no permission, passt not installed, ... */
int net_open(struct net **net, const struct net_options *options, struct error *err);
void net_close(struct net *net);
void net_attach(struct net *net, struct loop *loop, const struct net_events *events, void *opaque);
/* Guest features negotiated: which offloads frames to the guest may carry (TUN_F_* bits). 0 before.
 */
unsigned net_offloads(const struct net *net);              /* what the back end can do, TUN_F_* */
void net_set_offloads(struct net *net, unsigned offloads); /* what the guest takes */
/* One frame: header and data in @segments. 0 sent or dropped (counted), -EAGAIN: later. */
int net_send(struct net *net, const struct iovec *segments, unsigned count);
/* One frame into @segments; its length, or -EAGAIN, -EPIPE. A frame longer than the segments is cut
 * and dropped (returns -EMSGSIZE). */
int net_receive(struct net *net, const struct iovec *segments, unsigned count);
/* Whether polling for readability is on: off while the guest has no buffers, so that an idle or
 * stuck guest costs nothing. */
void net_receive_enable(struct net *net, bool enable);
int net_fd(const struct net *net); /* the tap's descriptor (vhost-net); -1 for others */
bool net_is_gone(const struct net *net);

#endif
