/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared by vsock.c (life), vsock_connection.c (what is connected), vsock_transmit.c (packets from
 * the guest) and vsock_receive.c (packets to it). All of it on the I/O loop.
 *
 *   host connects --> GREETING --line--> ASKING --RESPONSE--> OPEN
 *   guest's REQUEST, its path answers ----------------------> OPEN
 *   OPEN, ASKING --it is over--> CLOSING (an RST is owed) --> DRAINING (bytes are held for the
 *   host) --> GONE (a wait is still to be cancelled) --> freed
 */
#ifndef DUET_VIRTIO_DEVICES_VSOCK_PRIVATE_H
#define DUET_VIRTIO_DEVICES_VSOCK_PRIVATE_H

#include "backend/vsock.h"
#include "virtio/devices.h"
#include "virtio/devices/common.h"

enum {
	VSOCK_RECEIVE,
	VSOCK_TRANSMIT,
	VSOCK_EVENT,
	VSOCK_QUEUES,
};

#define VSOCK_HOST_CID    2
#define VSOCK_TYPE_STREAM 1
#define VSOCK_HEADER      44 /* bytes before a packet's data */
#define VSOCK_CONNECTIONS 1023
#define VSOCK_BUCKETS     256
#define VSOCK_REPLIES     64 /* to packets of no connection; more, and the guest's packets wait */
#define VSOCK_CHAIN       128

/* 5.10.6, le16 op */
enum vsock_op {
	VSOCK_OP_INVALID,
	VSOCK_OP_REQUEST,
	VSOCK_OP_RESPONSE,
	VSOCK_OP_RST,
	VSOCK_OP_SHUTDOWN,
	VSOCK_OP_RW,
	VSOCK_OP_CREDIT_UPDATE,
	VSOCK_OP_CREDIT_REQUEST,
	VSOCK_OPS,
};

/* Of SHUTDOWN: who says so will not ... any more. */
#define VSOCK_NO_RECEIVE 1U
#define VSOCK_NO_SEND    2U
#define VSOCK_NEITHER    3U

struct vsock_header {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port, length;
	uint16_t type, op;
	uint32_t flags, buf_alloc, fwd_cnt;
};

struct vsock;

/* One wait for a descriptor. It counts as in flight, so a device at rest has none. */
struct vsock_wait {
	struct loop_op op; /* first */
	struct vsock *vsock;
	bool armed;
	/* @events: of poll(2), 0 when it was cancelled. */
	void (*ready)(struct vsock_wait *wait, uint32_t events);
};

enum vsock_state {
	VSOCK_GREETING,
	VSOCK_ASKING,
	VSOCK_OPEN,
	VSOCK_CLOSING,
	VSOCK_DRAINING,
	VSOCK_GONE,
};

struct vsock_connection {
	struct vsock *vsock;
	struct vsock_connection *bucket;          /* next of the same hash */
	struct vsock_connection *before, *behind; /* of all that there are */
	struct vsock_connection *next;            /* of those that have something for the guest */
	bool queued;                              /* is one of them */
	bool hashed;
	bool readable; /* the socket: as far as we know */
	bool asked;    /* the guest knows of it: REQUEST was sent, or came */
	bool answered; /* the guest has sent something since patience was last set */
	enum vsock_state state;
	unsigned owes; /* packets without data for the guest: bit for each enum vsock_op */
	uint32_t host_port, guest_port;
	unsigned host_done, guest_done; /* VSOCK_NO_*: what each has said */
	/* Bytes, modulo 2^32 (5.10.6.3): ours to the guest, and what it says of its buffer; the
	 * guest's that left for the host, and how many of them it was told of. */
	uint32_t sent, peer_alloc, peer_forwarded;
	uint32_t forwarded, told;
	struct vsock_greeting greeting;
	struct vsock_stream stream;
	struct vsock_wait in, out;
	struct loop_timer patience;
};

enum vsock_count {
	VSOCK_FROM_GUEST, /* connections */
	VSOCK_FROM_HOST,
	VSOCK_REFUSED,
	VSOCK_BYTES_IN, /* to the guest */
	VSOCK_BYTES_OUT,
	VSOCK_PACKETS_IN,
	VSOCK_PACKETS_OUT,
	VSOCK_VIOLATIONS, /* packets of the guest's that break a rule */
	VSOCK_COUNTS,
};

struct vsock {
	struct virtio_device virtio; /* first */
	struct vsock_host *host;
	uint64_t cid, patience; /* nanoseconds */
	bool active;
	bool interrupted; /* the driver is to be told that its connections are gone */
	bool stalled;     /* the guest's packets wait for room among the replies */
	bool waking;      /* @speak is posted */
	struct loop_task speak;
	struct vsock_wait listener;
	struct loop_timer listen_again;
	unsigned count;
	uint32_t last_port; /* given to a host's connection */
	struct vsock_connection *all, *buckets[VSOCK_BUCKETS];
	struct vsock_connection *first, **last; /* of those that have something for the guest */
	struct vsock_header replies[VSOCK_REPLIES];
	unsigned reply_from, reply_count;
	_Atomic uint64_t counts[VSOCK_COUNTS], connections;
};

static inline void vsock_count(struct vsock *vsock, enum vsock_count what, uint64_t by)
{
	counter_add(&vsock->counts[what], by);
}

/* vsock_connection.c */
/* Null: there are too many, or no memory; counted as refused. Takes @fd, in any case. */
struct vsock_connection *vsock_connection_new(struct vsock *vsock, enum vsock_state state, int fd);
/* In the table from now on, under its ports. */
void vsock_connection_hash(struct vsock_connection *connection);
struct vsock_connection *vsock_connection_find(
	const struct vsock *vsock, uint32_t host_port, uint32_t guest_port);
/* It is over for the guest; @tell: it does not know yet. What is held still goes to the host
 * when the guest has had its say; the struct may be gone when this returns. */
void vsock_connection_end(struct vsock_connection *connection, bool tell);
/* At once: the RST was sent, or nobody is to hear of one. */
void vsock_connection_leave(struct vsock_connection *connection);
/* How many bytes the guest would still take. */
uint32_t vsock_connection_credit(const struct vsock_connection *connection);
bool vsock_connection_may_read(const struct vsock_connection *connection);
/* The host sends no more, or is gone. */
void vsock_connection_host_ends(struct vsock_connection *connection);
void vsock_connection_host_gone(struct vsock_connection *connection);
/* @sent: what vsock_stream_send() or _flush() returned. */
void vsock_connection_moved(struct vsock_connection *connection, ssize_t sent);
/* The guest said what it does not do any more. */
void vsock_connection_guest_ends(struct vsock_connection *connection);
void vsock_connection_watch(struct vsock_connection *connection);
void vsock_connection_be_patient(struct vsock_connection *connection);
void vsock_connections_start(struct vsock *vsock);
void vsock_connections_stop(struct vsock *vsock);
/* At rest. */
void vsock_connections_drop(struct vsock *vsock);

/* vsock_receive.c */
enum virtio_progress vsock_receive(struct vsock *vsock);
/* The connection may have something for the guest. */
void vsock_wake(struct vsock_connection *connection);
void vsock_owe(struct vsock_connection *connection, enum vsock_op op);
/* Out of the list. */
void vsock_unqueue(struct vsock_connection *connection);
/* RST to what is of no connection. There must be room. */
void vsock_reply_reset(struct vsock *vsock, const struct vsock_header *header);
/* A turn of both queues soon. */
void vsock_speak_soon(struct vsock *vsock);
void vsock_speak(struct loop_task *task);

/* vsock_transmit.c */
enum virtio_progress vsock_transmit(struct vsock *vsock);

#endif
