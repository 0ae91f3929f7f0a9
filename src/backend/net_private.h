/* SPDX-License-Identifier: Apache-2.0 */
/* What net.c and net_open.c give the kinds of back end, and what they give them. */
#ifndef DUET_BACKEND_NET_PRIVATE_H
#define DUET_BACKEND_NET_PRIVATE_H

#include "backend/net.h"

#include <stdatomic.h>

struct net_ops {
	int (*ready)(struct net *net, struct error *err); /* may be null */
	void (*close)(struct net *net);
	void (*set_offloads)(struct net *net, unsigned offloads);
	void (*set_queues)(struct net *net, unsigned count);
	int (*send)(struct net *net, unsigned queue, const struct iovec *segments, unsigned count);
	/* -EAGAIN: something is left. May be null. */
	int (*flush)(struct net *net, unsigned queue);
	int (*next_length)(struct net *net, unsigned queue); /* may be null */
	int (*receive)(
		struct net *net, unsigned queue, const struct iovec *segments, unsigned count);
};

enum net_watch_state {
	NET_WATCH_OFF,
	NET_WATCH_ON,
	NET_WATCH_LEAVING, /* removed, the loop has not yet let go of it */
};

/* One direction of one queue. Switching off is lazy: most often it is wanted again before anything
 * happens, and a wake-up that nobody wanted is what takes it off the loop. */
struct net_watch {
	struct loop_watch watch;
	struct net *net;
	unsigned queue;
	enum net_watch_state state;
	bool wanted;
};

struct net_queue {
	int fd;
	struct net_watch in, out;
};

struct net_gate;

struct net {
	const struct net_ops *ops;       /* the gate's while a policy is in force */
	_Atomic(struct net_gate *) gate; /* null: there never was a policy */
	unsigned offloads;               /* what it can do */
	unsigned queues_count;           /* opened */
	unsigned active;                 /* used by the guest */
	bool is_tap, gone, detaching;
	struct loop *loop; /* null while not attached */
	const struct net_events *events;
	void *opaque;
	void (*detached)(void *opaque);
	struct net_queue *queues;
};

/* Fill @net's own part and @queues descriptors of -1. */
int net_init(struct net *net, const struct net_ops *ops, unsigned queues, struct error *err);
/* Says it once, in the log (@why: one line) and to the model. Returns -EPIPE. */
int net_set_gone(struct net *net, const char *why);

/* gate.c: not attached any more; null is allowed. The net's functions are its own again. */
void net_gate_free(struct net *net);
/* The net is taken off its loop: nobody waits for the buckets any more. */
void net_gate_rest(struct net *net);
/* What was refused with -EAGAIN just now waits for a bucket, and not for the descriptor. */
bool net_gate_holds(const struct net *net, unsigned queue);

int tap_open(struct net **net, const struct net_options *options, struct error *err);
int passt_open(struct net **net, const struct net_options *options, struct error *err);
/* The other end of @fd speaks passt's protocol (tests). @fd belongs to the net from now on. */
int passt_open_stream(struct net **net, int fd, struct error *err);

#endif
