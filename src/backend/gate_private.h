/* SPDX-License-Identifier: Apache-2.0 */
/* The gate before a network's back end: gate.c lets frames through, gate_change.c exchanges the
 * policy and tells what was counted. */
#ifndef DUET_BACKEND_GATE_PRIVATE_H
#define DUET_BACKEND_GATE_PRIVATE_H

#include "backend/net_private.h"

#define GATE_PIECES 1024 /* of one frame, IOV_MAX */

/* One of the main thread's list. */
struct gate_policy {
	struct gate_policy *next; /* newer */
	struct net_policy *policy;
};

/* One direction; the I/O loop's but for the counts. */
struct gate_lane {
	struct net_gate *gate;
	enum net_direction direction;
	bool filters, limits;
	struct bucket_pair buckets;
	struct loop_timer timer; /* the bucket has a token again */
	uint32_t held;           /* queues that wait for it */
	unsigned first;          /* of them, who goes first next time */
	bool late;               /* those who waited are being called */
	struct net_counts verdicts[NET_VERDICTS];
};

struct net_gate {
	struct net *net;
	const struct net_ops *inner; /* the back end's own */
	struct gate_lane lanes[NET_DIRECTIONS];
	struct net_policy *policy; /* in force; the I/O loop's */

	/* The exchange. Policies are adopted in their order, so that the main thread may free those
	 * before the one in force. */
	struct gate_policy *first, **last; /* main thread */
	_Atomic(struct gate_policy *) newest, in_force;
	struct loop *io; /* main thread: where @adopt may be posted */
	struct loop_task adopt;
	_Atomic bool posted;

	/* Of the frame at the gate: to the guest, all of it; from the guest, a copy of its
	 * beginning and what is to be sent. */
	uint8_t frame[NET_FRAME_MAX];
	struct iovec pieces[GATE_PIECES];
};

/* gate.c */
extern const struct net_ops gate_ops;
/* Who waited looks again. */
void gate_wake(struct gate_lane *lane);
void gate_expired(struct loop_timer *timer);

#endif
