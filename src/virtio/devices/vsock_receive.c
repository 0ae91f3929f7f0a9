/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packets to the guest: one in each of its buffers, from the connections in turn, each one packet
 * at a time. The host's bytes go from the socket straight into guest memory.
 */
#include "virtio/devices/vsock_private.h"

#include <errno.h>

#define BIT(op) (1U << (op))

/* ---- who has something ---- */

static bool has_something(const struct vsock_connection *connection)
{
	return connection->owes || (connection->readable && vsock_connection_may_read(connection) &&
					   vsock_connection_credit(connection));
}

static void enqueue(struct vsock_connection *connection)
{
	struct vsock *vsock = connection->vsock;

	if (connection->queued || !has_something(connection))
		return;
	connection->queued = true;
	connection->next = NULL;
	*vsock->last = connection;
	vsock->last = &connection->next;
}

static struct vsock_connection *dequeue(struct vsock *vsock)
{
	struct vsock_connection *connection = vsock->first;

	if (!connection)
		return NULL;
	vsock->first = connection->next;
	if (!vsock->first)
		vsock->last = &vsock->first;
	connection->queued = false;
	return connection;
}

void vsock_unqueue(struct vsock_connection *connection)
{
	struct vsock *vsock = connection->vsock;
	struct vsock_connection **at = &vsock->first;

	if (!connection->queued)
		return;
	while (*at != connection)
		at = &(*at)->next;
	*at = connection->next;
	if (!*at)
		vsock->last = at;
	connection->queued = false;
}

void vsock_speak_soon(struct vsock *vsock)
{
	if (!vsock->active || vsock->waking)
		return;
	vsock->waking = true;
	loop_post(vsock->virtio.io, &vsock->speak);
}

void vsock_wake(struct vsock_connection *connection)
{
	enqueue(connection);
	if (connection->queued)
		vsock_speak_soon(connection->vsock);
}

void vsock_owe(struct vsock_connection *connection, enum vsock_op op)
{
	connection->owes |= BIT(op);
	vsock_wake(connection);
}

void vsock_speak(struct loop_task *task)
{
	struct vsock *vsock = container_of(task, struct vsock, speak);
	struct virtio_device *device = &vsock->virtio;

	vsock->waking = false;
	virtio_turn(device, &device->queues[VSOCK_RECEIVE]);
	if (vsock->stalled && vsock->reply_count < VSOCK_REPLIES)
		virtio_turn(device, &device->queues[VSOCK_TRANSMIT]);
}

/* ---- packets ---- */

static void put_header(const struct virtqueue_chain *chain, const struct vsock_header *header)
{
	uint8_t bytes[VSOCK_HEADER];

	store_le64(bytes, header->src_cid);
	store_le64(bytes + 8, header->dst_cid);
	store_le32(bytes + 16, header->src_port);
	store_le32(bytes + 20, header->dst_port);
	store_le32(bytes + 24, header->length);
	store_le16(bytes + 28, header->type);
	store_le16(bytes + 30, header->op);
	store_le32(bytes + 32, header->flags);
	store_le32(bytes + 36, header->buf_alloc);
	store_le32(bytes + 40, header->fwd_cnt);
	iov_copy_to(chain->segments, chain->writable, 0, bytes, sizeof(bytes));
}

static uint32_t say(struct vsock_connection *connection, const struct virtqueue_chain *chain,
	enum vsock_op op, uint32_t length)
{
	const struct vsock_header header = {.src_cid = VSOCK_HOST_CID,
		.dst_cid = connection->vsock->cid,
		.src_port = connection->host_port,
		.dst_port = connection->guest_port,
		.length = length,
		.type = VSOCK_TYPE_STREAM,
		.op = (uint16_t)op,
		.flags = op == VSOCK_OP_SHUTDOWN ? connection->host_done : 0,
		.buf_alloc = VSOCK_HELD_MAX,
		.fwd_cnt = connection->forwarded};

	/* Each packet says what an update would. */
	connection->told = connection->forwarded;
	connection->owes &= ~BIT(VSOCK_OP_CREDIT_UPDATE);
	put_header(chain, &header);
	return VSOCK_HEADER + length;
}

/* What is owed first: the order is that of the numbers, and an end comes behind its data. */
static uint32_t say_owed(struct vsock_connection *connection, const struct virtqueue_chain *chain)
{
	enum vsock_op op = (enum vsock_op)__builtin_ctz(connection->owes);
	uint32_t written;

	connection->owes &= ~BIT(op);
	written = say(connection, chain, op, 0);
	if (op == VSOCK_OP_REQUEST)
		connection->asked = true;
	if (op == VSOCK_OP_RST)
		vsock_connection_leave(connection);
	else
		enqueue(connection);
	return written;
}

/* 0: nothing came of it. */
static uint32_t relay(struct vsock_connection *connection, const struct virtqueue_chain *chain)
{
	uint64_t room =
		min_u64(chain->writable_bytes - VSOCK_HEADER, vsock_connection_credit(connection));
	ssize_t got;
	uint32_t written;

	got = vsock_stream_receive(
		&connection->stream, chain->segments, chain->writable, VSOCK_HEADER, room);
	if (got == -EAGAIN) {
		connection->readable = false;
		vsock_connection_watch(connection);
		return 0;
	}
	if (got <= 0) {
		vsock_connection_host_ends(connection);
		return 0;
	}
	connection->sent += (uint32_t)got;
	vsock_count(connection->vsock, VSOCK_BYTES_IN, (uint64_t)got);
	written = say(connection, chain, VSOCK_OP_RW, (uint32_t)got);
	if (!vsock_connection_credit(connection))
		connection->owes |= BIT(VSOCK_OP_CREDIT_REQUEST);
	enqueue(connection);
	return written;
}

static uint32_t reply(struct vsock *vsock, const struct virtqueue_chain *chain)
{
	put_header(chain, &vsock->replies[vsock->reply_from]);
	vsock->reply_from = (vsock->reply_from + 1) % VSOCK_REPLIES;
	vsock->reply_count--;
	return VSOCK_HEADER;
}

/* 0: there is nothing to say after all. */
static uint32_t fill(struct vsock *vsock, const struct virtqueue_chain *chain)
{
	struct vsock_connection *connection;
	uint32_t written = 0;

	if (vsock->reply_count)
		return reply(vsock, chain);
	while (written == 0 && (connection = dequeue(vsock)) != NULL) {
		if (connection->owes)
			written = say_owed(connection, chain);
		else if (has_something(connection))
			written = relay(connection, chain);
	}
	return written;
}

void vsock_reply_reset(struct vsock *vsock, const struct vsock_header *header)
{
	unsigned at = (vsock->reply_from + vsock->reply_count++) % VSOCK_REPLIES;

	vsock->replies[at] = (struct vsock_header){.src_cid = VSOCK_HOST_CID,
		.dst_cid = vsock->cid,
		.src_port = header->dst_port,
		.dst_port = header->src_port,
		.type = header->type,
		.op = VSOCK_OP_RST};
	vsock_speak_soon(vsock);
}

/* ---- turns ---- */

static bool is_silent(const struct vsock *vsock)
{
	return !vsock->reply_count && !vsock->first;
}

/* False: no buffer, or nothing for it. */
static bool speak_once(struct vsock *vsock, struct virtqueue *queue)
{
	struct iovec segments[VSOCK_CHAIN];
	struct virtqueue_chain chain = {.segments = segments, .capacity = VSOCK_CHAIN};
	uint32_t written;

	if (virtqueue_pop(queue, &chain) <= 0)
		return false;
	/* One without room for data would never get any. */
	if (chain.readable || chain.writable_bytes <= VSOCK_HEADER) {
		virtio_needs_reset(&vsock->virtio, "receive buffer not writable, or too small");
		return false;
	}
	written = fill(vsock, &chain);
	if (!written) {
		virtqueue_unpop(queue, &chain);
		return false;
	}
	vsock_count(vsock, VSOCK_PACKETS_IN, 1);
	virtqueue_push(queue, &chain, written);
	return true;
}

/* Kicks are of interest only while there is something to say and no buffer for it. */
enum virtio_progress vsock_receive(struct vsock *vsock)
{
	struct virtqueue *queue = &vsock->virtio.queues[VSOCK_RECEIVE];
	enum virtio_progress progress = VIRTIO_DONE;

	virtqueue_kicks_off(queue);
	while (!is_silent(vsock) && progress == VIRTIO_DONE) {
		if (!speak_once(vsock, queue) && !is_silent(vsock) &&
			!(virtqueue_kicks_on(queue) && speak_once(vsock, queue)))
			break;
		virtqueue_kicks_off(queue);
		if (virtio_turn_over(queue))
			progress = VIRTIO_MORE;
	}
	if (vsock->stalled && vsock->reply_count < VSOCK_REPLIES)
		vsock_speak_soon(vsock);
	return progress;
}
