/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Network back ends: tap and passt ("user"). Frames carry a struct virtio_net_hdr_v1 (12 bytes) in
 * front, in both directions, whatever the back end.
 *
 * Threads: open, ready and close on the main thread, close only while not attached; all else on
 * the I/O loop given to net_attach(). Segments stay the caller's; nothing keeps a pointer to them.
 *
 * A queue is one of a tap's queue pairs; passt has queue 0 only.
 */
#ifndef DUET_BACKEND_NET_H
#define DUET_BACKEND_NET_H

#include "backend/policy.h"
#include "base/error.h"
#include "base/loop.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

struct net;

#define NET_HEADER_SIZE 12
#define NET_FRAME_MAX   (65536 + 64) /* with segmentation offload, header included */
#define NET_QUEUES_MAX  32

enum net_kind {
	NET_TAP,
	NET_USER,
};

struct net_options {
	enum net_kind kind;
	const char *ifname;  /* tap */
	const char *passt;   /* program, null: from PATH */
	const char *forward; /* user: tcp ports to forward, passt's syntax; may be null */
	unsigned queues;     /* tap: queue pairs; 0 counts as 1 */
};

struct net_events {
	/* Frames may be readable (again). The model calls net_receive() until -EAGAIN. */
	void (*readable)(void *opaque, unsigned queue);
	/* net_send() said -EAGAIN before and would take frames again. */
	void (*writable)(void *opaque, unsigned queue);
	/* The back end is gone (passt died, tap removed): link down; frames are dropped from now
	 * on. May be called from within net_send() and net_receive(). */
	void (*gone)(void *opaque);
	/* net_policed() has changed. May be null. */
	void (*policed)(void *opaque);
};

/* Messages name --net and the remedy: tap absent, no permission, passt not installed, ... */
int net_open(struct net **net, const struct net_options *options, struct error *err);
/* Optional, before net_attach(): waits up to 30 seconds until a passt has started, so that one that
 * cannot is an error with its own words instead of a link that goes down. */
int net_ready(struct net *net, struct error *err);
/* Ends passt and waits for its end. */
void net_close(struct net *net);
void net_attach(struct net *net, struct loop *loop, const struct net_events *events, void *opaque);
/* No event comes after this; @detached is called, perhaps at once, when the loop no longer knows
 * the back end. It may be attached again then. */
void net_detach(struct net *net, void (*detached)(void *opaque));

unsigned net_offloads(const struct net *net);              /* what the back end can do, TUN_F_* */
void net_set_offloads(struct net *net, unsigned offloads); /* what the guest takes; 0 at first */
unsigned net_queues(const struct net *net);
/* The guest uses queues 0 to @count - 1; all of them at first. Each that is switched on or off may
 * take the host milliseconds. Also before net_attach(). */
void net_set_queues(struct net *net, unsigned count);
unsigned net_queues_on(const struct net *net);
bool net_is_gone(const struct net *net);
int net_fd(const struct net *net, unsigned queue); /* the tap's (vhost-net); -1 for others */

/* One frame: header and data in @segments. 0: sent, or kept until net_flush(); -EAGAIN: later;
 * other negative values: it was dropped (not a frame, interface down, back end gone; -EPERM: by the
 * policy). */
int net_send(struct net *net, unsigned queue, const struct iovec *segments, unsigned count);
/* Sends what net_send() kept to send several frames by one system call. */
void net_flush(struct net *net, unsigned queue);

/* Bytes of the next frame with its header, 0 when only net_receive() can tell, -EAGAIN when there
 * is none, -EMSGSIZE: what came was no frame and was dropped, there may be more. */
int net_next_length(struct net *net, unsigned queue);
/* One frame into @segments; its length, or -EAGAIN, -EPIPE (gone), -EMSGSIZE: a frame was dropped,
 * because it is longer than the segments, or none, or by the policy. Where net_next_length() cannot
 * tell the segments must hold NET_FRAME_MAX bytes. */
int net_receive(struct net *net, unsigned queue, const struct iovec *segments, unsigned count);
/* Whether readable() is called: off while the guest has no buffers, so that an idle or stuck guest
 * costs nothing. After switching it on call net_receive() until -EAGAIN. */
void net_receive_enable(struct net *net, unsigned queue, bool enable);

/*
 * What may be sent and received, and how much of it; also while frames go by. Main thread. @policy
 * belongs to the net from now on, also when it fails (-ENOMEM). @io: the loop of net_attach(), on
 * which it comes into force soon; null: at once, for who has not attached it yet. One policy
 * replaces the other, nothing is lost in between: what a limit holds back is still the model's or
 * the host's. What was counted goes on, for rules by their name.
 */
int net_set_policy(struct net *net, struct loop *io, struct net_policy *policy);
/* I/O loop: frames have to come by here, so nobody else may serve the queues. */
bool net_policed(const struct net *net);
/* Main thread, at any time: what was passed and refused, as in struct stats_sink: "policy" has it
 * by direction and reason, "rule:NAME" by rule. Nothing when there never was a policy. */
void net_policy_stats(const struct net *net,
	void (*count)(void *to, const char *group, const char *name, uint64_t value), void *to);

#endif
