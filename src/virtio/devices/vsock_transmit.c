/* SPDX-License-Identifier: Apache-2.0 */
/* Packets from the guest (virtio 1.2, 5.10.6). */
#include "virtio/devices/vsock_private.h"

#include <errno.h>

/* Of the copy: what the guest writes there later is not looked at. */
static bool get_header(const struct virtqueue_chain *chain, struct vsock_header *header)
{
	uint8_t bytes[VSOCK_HEADER];

	if (iov_copy_from(chain->segments, chain->readable, 0, bytes, sizeof(bytes)) <
		sizeof(bytes))
		return false;
	*header = (struct vsock_header){.src_cid = load_le64(bytes),
		.dst_cid = load_le64(bytes + 8),
		.src_port = load_le32(bytes + 16),
		.dst_port = load_le32(bytes + 20),
		.length = load_le32(bytes + 24),
		.type = load_le16(bytes + 28),
		.op = load_le16(bytes + 30),
		.flags = load_le32(bytes + 32),
		.buf_alloc = load_le32(bytes + 36),
		.fwd_cnt = load_le32(bytes + 40)};
	return true;
}

/* The guest connects. */
static void request(struct vsock *vsock, const struct vsock_header *header)
{
	struct vsock_connection *connection = NULL;
	int fd = vsock->count < VSOCK_CONNECTIONS
			 ? vsock_host_connect(vsock->host, header->dst_port)
			 : -EMFILE;

	if (fd >= 0)
		connection = vsock_connection_new(vsock, VSOCK_OPEN, fd);
	else
		vsock_count(vsock, VSOCK_REFUSED, 1);
	if (!connection) {
		vsock_reply_reset(vsock, header);
		return;
	}
	connection->host_port = header->dst_port;
	connection->guest_port = header->src_port;
	connection->peer_alloc = header->buf_alloc;
	connection->peer_forwarded = header->fwd_cnt;
	connection->asked = true;
	vsock_connection_hash(connection);
	vsock_count(vsock, VSOCK_FROM_GUEST, 1);
	vsock_owe(connection, VSOCK_OP_RESPONSE);
	vsock_connection_watch(connection);
}

static void violation(struct vsock_connection *connection)
{
	vsock_count(connection->vsock, VSOCK_VIOLATIONS, 1);
	vsock_connection_end(connection, true);
}

/* The guest takes a connection of the host's. */
static void response(struct vsock_connection *connection)
{
	if (connection->state != VSOCK_ASKING || !connection->asked) {
		violation(connection);
		return;
	}
	if (vsock_write_greeting(connection->stream.fd, connection->host_port) < 0) {
		vsock_connection_end(connection, true);
		return;
	}
	loop_timer_stop(&connection->patience);
	connection->state = VSOCK_OPEN;
	connection->readable = true;
	vsock_count(connection->vsock, VSOCK_FROM_HOST, 1);
	vsock_wake(connection);
}

static void data(struct vsock_connection *connection, const struct vsock_header *header,
	const struct virtqueue_chain *chain)
{
	ssize_t sent;

	if (connection->state != VSOCK_OPEN || (connection->guest_done & VSOCK_NO_SEND) ||
		header->length > VSOCK_HELD_MAX - connection->stream.held) {
		violation(connection);
		return;
	}
	if (connection->host_done & VSOCK_NO_RECEIVE) {
		connection->forwarded += header->length;
		vsock_connection_moved(connection, 0);
		return;
	}
	sent = vsock_stream_send(&connection->stream, chain->segments, chain->readable,
		VSOCK_HEADER, header->length);
	if (sent == -ENOMEM)
		vsock_connection_end(connection, true);
	else
		vsock_connection_moved(connection, sent);
}

static void guest_shuts(struct vsock_connection *connection, const struct vsock_header *header)
{
	if (connection->state != VSOCK_OPEN || (header->flags & ~VSOCK_NEITHER)) {
		violation(connection);
		return;
	}
	connection->guest_done |= header->flags;
	vsock_connection_guest_ends(connection);
}

/* What is about to be reset hears nothing but the other's RST. */
static void converse(struct vsock_connection *connection, const struct vsock_header *header,
	const struct virtqueue_chain *chain)
{
	bool more = header->buf_alloc != connection->peer_alloc ||
		    header->fwd_cnt != connection->peer_forwarded;

	if (connection->state == VSOCK_CLOSING) {
		if (header->op == VSOCK_OP_RST)
			vsock_connection_leave(connection);
		return;
	}
	connection->answered = true;
	connection->peer_alloc = header->buf_alloc;
	connection->peer_forwarded = header->fwd_cnt;
	if (more)
		vsock_wake(connection);
	switch (header->op) {
	case VSOCK_OP_RESPONSE:
		response(connection);
		break;
	case VSOCK_OP_RST:
		vsock_connection_end(connection, false);
		break;
	case VSOCK_OP_SHUTDOWN:
		guest_shuts(connection, header);
		break;
	case VSOCK_OP_RW:
		data(connection, header, chain);
		break;
	case VSOCK_OP_CREDIT_UPDATE:
		break;
	case VSOCK_OP_CREDIT_REQUEST:
		vsock_owe(connection, VSOCK_OP_CREDIT_UPDATE);
		break;
	default:
		violation(connection); /* a second REQUEST, or nothing that is known */
		break;
	}
}

static void packet(struct vsock *vsock, const struct virtqueue_chain *chain)
{
	struct vsock_connection *connection;
	struct vsock_header header;

	vsock_count(vsock, VSOCK_PACKETS_OUT, 1);
	/* From somebody else, for somebody else, or longer than it is: there is nobody to answer.
	 */
	if (!get_header(chain, &header) || header.src_cid != vsock->cid ||
		header.dst_cid != VSOCK_HOST_CID ||
		header.length > chain->readable_bytes - VSOCK_HEADER) {
		vsock_count(vsock, VSOCK_VIOLATIONS, 1);
		return;
	}
	connection = header.type == VSOCK_TYPE_STREAM
			     ? vsock_connection_find(vsock, header.dst_port, header.src_port)
			     : NULL;
	if (connection)
		converse(connection, &header, chain);
	else if (header.op == VSOCK_OP_REQUEST && header.type == VSOCK_TYPE_STREAM)
		request(vsock, &header);
	else if (header.op != VSOCK_OP_RST)
		vsock_reply_reset(vsock, &header);
}

/* A guest that takes no answers is not listened to. */
enum virtio_progress vsock_transmit(struct vsock *vsock)
{
	struct virtqueue *queue = &vsock->virtio.queues[VSOCK_TRANSMIT];
	struct iovec segments[VSOCK_CHAIN];
	struct virtqueue_chain chain = {.segments = segments, .capacity = VSOCK_CHAIN};

	while (vsock->reply_count < VSOCK_REPLIES) {
		vsock->stalled = false;
		if (virtqueue_pop(queue, &chain) <= 0)
			return VIRTIO_DONE;
		packet(vsock, &chain);
		virtqueue_push(queue, &chain, 0);
		if (virtio_turn_over(queue))
			return VIRTIO_MORE;
	}
	vsock->stalled = true;
	return VIRTIO_DONE;
}
