/* SPDX-License-Identifier: Apache-2.0 */
/* What is connected: the table, the host's sockets, how connections begin and end. */
#include "virtio/devices/vsock_private.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>

/* #syscalls main io: poll shutdown */

#define FIRST_PORT    (1U << 30)           /* of those that are given to the host's connections */
#define ACCEPT_PAUSE  100000000U           /* ns, when there are no descriptors */
#define TELL_FORWARDS (VSOCK_HELD_MAX / 2) /* bytes, before the guest is told of them */

/* ---- waits ---- */

static void wait_done(struct loop_op *op, int32_t res, uint32_t flags)
{
	struct vsock_wait *wait = container_of(op, struct vsock_wait, op);
	struct virtio_device *device = &wait->vsock->virtio;

	(void)flags;
	wait->armed = false;
	virtio_end(device, &device->queues[VSOCK_RECEIVE]);
	wait->ready(wait, res > 0 ? (uint32_t)res : 0);
}

/* It goes with the loop's next wait: no system call of its own. */
static void wait_for(struct vsock_wait *wait, int fd, uint32_t events)
{
	struct virtio_device *device = &wait->vsock->virtio;
	struct io_uring_sqe *sqe;

	if (wait->armed || !wait->vsock->active || fd < 0)
		return;
	wait->armed = true;
	wait->op.done = wait_done;
	virtio_begin(device, &device->queues[VSOCK_RECEIVE]);
	sqe = loop_sqe(device->io);
	io_uring_prep_poll_add(sqe, fd, events);
	loop_submit(device->io, sqe, &wait->op);
}

static void wait_cancel(struct vsock_wait *wait)
{
	if (wait->armed)
		loop_cancel(wait->vsock->virtio.io, &wait->op);
}

/* ---- the table ---- */

static unsigned bucket_of(uint32_t host_port, uint32_t guest_port)
{
	return (host_port * 31 + guest_port) * 2654435761U >> 24;
}

struct vsock_connection *vsock_connection_find(
	const struct vsock *vsock, uint32_t host_port, uint32_t guest_port)
{
	struct vsock_connection *at = vsock->buckets[bucket_of(host_port, guest_port)];

	while (at && (at->host_port != host_port || at->guest_port != guest_port))
		at = at->bucket;
	return at;
}

void vsock_connection_hash(struct vsock_connection *connection)
{
	struct vsock_connection **bucket =
		&connection->vsock
			 ->buckets[bucket_of(connection->host_port, connection->guest_port)];

	connection->bucket = *bucket;
	*bucket = connection;
	connection->hashed = true;
}

static void unhash(struct vsock_connection *connection)
{
	struct vsock_connection **at =
		&connection->vsock
			 ->buckets[bucket_of(connection->host_port, connection->guest_port)];

	if (!connection->hashed)
		return;
	while (*at != connection)
		at = &(*at)->bucket;
	*at = connection->bucket;
	connection->hashed = false;
}

static void unlink_connection(struct vsock_connection *connection)
{
	struct vsock *vsock = connection->vsock;

	if (connection->before)
		connection->before->behind = connection->behind;
	else
		vsock->all = connection->behind;
	if (connection->behind)
		connection->behind->before = connection->before;
	vsock->count--;
	atomic_store_explicit(&vsock->connections, vsock->count, memory_order_relaxed);
}

static void free_if_unused(struct vsock_connection *connection)
{
	if (connection->state == VSOCK_GONE && !connection->in.armed && !connection->out.armed) {
		unlink_connection(connection);
		free(connection);
	}
}

/* ---- the end ---- */

/* The struct stays, and counts, as long as the kernel has a wait of it. */
void vsock_connection_leave(struct vsock_connection *connection)
{
	unhash(connection);
	vsock_unqueue(connection);
	loop_timer_stop(&connection->patience);
	connection->owes = 0;
	if (connection->stream.held && connection->host_done != VSOCK_NEITHER) {
		connection->state = VSOCK_DRAINING;
		return;
	}
	wait_cancel(&connection->in);
	wait_cancel(&connection->out);
	vsock_stream_close(&connection->stream);
	connection->state = VSOCK_GONE;
	free_if_unused(connection);
}

void vsock_connection_end(struct vsock_connection *connection, bool tell)
{
	if (!(connection->guest_done & VSOCK_NO_SEND))
		connection->stream.held = 0;
	if (!tell) {
		vsock_connection_leave(connection);
		return;
	}
	loop_timer_stop(&connection->patience);
	connection->state = VSOCK_CLOSING;
	connection->owes = 0;
	vsock_owe(connection, VSOCK_OP_RST);
	if (connection->stream.held)
		return;
	wait_cancel(&connection->in);
	wait_cancel(&connection->out);
	vsock_stream_close(&connection->stream);
}

void vsock_connection_host_ends(struct vsock_connection *connection)
{
	struct pollfd now = {.fd = connection->stream.fd};

	connection->readable = false;
	if (poll(&now, 1, 0) > 0 && (now.revents & (POLLHUP | POLLERR))) {
		vsock_connection_host_gone(connection);
		return;
	}
	connection->host_done |= VSOCK_NO_SEND;
	vsock_owe(connection, VSOCK_OP_SHUTDOWN);
	vsock_connection_watch(connection);
}

void vsock_connection_host_gone(struct vsock_connection *connection)
{
	connection->readable = false;
	connection->host_done = VSOCK_NEITHER;
	connection->forwarded += connection->stream.held;
	connection->stream.held = 0;
	if (connection->state == VSOCK_DRAINING) {
		vsock_connection_leave(connection);
	} else if (connection->state == VSOCK_OPEN) {
		vsock_owe(connection, VSOCK_OP_SHUTDOWN);
		vsock_connection_be_patient(connection);
	} else if (connection->state == VSOCK_ASKING) {
		vsock_connection_end(connection, connection->asked);
	}
}

/* Nobody reads what the guest sends: it hears of that, and what is on its way is passed over. */
static void host_is_deaf(struct vsock_connection *connection)
{
	connection->forwarded += connection->stream.held;
	connection->stream.held = 0;
	connection->host_done |= VSOCK_NO_RECEIVE;
	if (connection->host_done == VSOCK_NEITHER || connection->state != VSOCK_OPEN)
		vsock_connection_host_gone(connection);
	else
		vsock_owe(connection, VSOCK_OP_SHUTDOWN);
}

static void all_is_sent(struct vsock_connection *connection)
{
	if (connection->guest_done & VSOCK_NO_SEND)
		shutdown(connection->stream.fd, SHUT_WR);
	if (connection->state == VSOCK_DRAINING)
		vsock_connection_leave(connection);
	else if (connection->state == VSOCK_CLOSING)
		vsock_connection_end(connection, true);
}

void vsock_connection_moved(struct vsock_connection *connection, ssize_t sent)
{
	if (sent < 0) {
		host_is_deaf(connection);
		return;
	}
	connection->forwarded += (uint32_t)sent;
	vsock_count(connection->vsock, VSOCK_BYTES_OUT, (uint64_t)sent);
	if (connection->state == VSOCK_OPEN &&
		connection->forwarded - connection->told >= TELL_FORWARDS)
		vsock_owe(connection, VSOCK_OP_CREDIT_UPDATE);
	if (connection->stream.held)
		wait_for(&connection->out, connection->stream.fd, POLLOUT);
	else if (connection->guest_done & VSOCK_NO_SEND)
		all_is_sent(connection);
}

/* A guest that does neither any more waits for an RST, and needs not wait for slow readers. */
void vsock_connection_guest_ends(struct vsock_connection *connection)
{
	unsigned done = connection->guest_done;

	if ((done & VSOCK_NO_SEND) && !connection->stream.held)
		shutdown(connection->stream.fd, SHUT_WR);
	if (done == VSOCK_NEITHER) {
		vsock_connection_end(connection, true);
	} else if (done & VSOCK_NO_RECEIVE) {
		connection->readable = false;
		shutdown(connection->stream.fd, SHUT_RD);
		vsock_connection_watch(connection);
	}
}

/* ---- patience ---- */

void vsock_connection_be_patient(struct vsock_connection *connection)
{
	connection->answered = false;
	if (connection->vsock->active)
		loop_timer_after(connection->vsock->virtio.io, &connection->patience,
			connection->vsock->patience);
}

/* A host that is gone has left bytes which the guest's program may not have read yet: an RST would
 * take them from it. A driver that answers for it is given more time. */
static void patience_over(struct loop_timer *timer)
{
	struct vsock_connection *connection =
		container_of(timer, struct vsock_connection, patience);
	bool taken = connection->sent == connection->peer_forwarded;

	if (connection->state == VSOCK_OPEN && connection->answered && !taken) {
		vsock_owe(connection, VSOCK_OP_CREDIT_REQUEST);
		vsock_connection_be_patient(connection);
		return;
	}
	vsock_connection_end(connection, connection->asked);
}

/* ---- the host's socket ---- */

uint32_t vsock_connection_credit(const struct vsock_connection *connection)
{
	uint32_t under_way = connection->sent - connection->peer_forwarded;

	return under_way < connection->peer_alloc ? connection->peer_alloc - under_way : 0;
}

bool vsock_connection_may_read(const struct vsock_connection *connection)
{
	return connection->state == VSOCK_OPEN && !(connection->host_done & VSOCK_NO_SEND) &&
	       !(connection->guest_done & VSOCK_NO_RECEIVE);
}

/* poll(2) tells of a hang-up in any case. What a connection is watched for only gets less: while
 * the guest is asked it is not watched, since a wait that is there stays as it is. */
void vsock_connection_watch(struct vsock_connection *connection)
{
	bool reads = vsock_connection_may_read(connection) || connection->state == VSOCK_GREETING;

	if (connection->host_done != VSOCK_NEITHER && connection->state != VSOCK_ASKING)
		wait_for(&connection->in, connection->stream.fd, reads ? POLLIN | POLLRDHUP : 0);
}

static uint32_t free_port(struct vsock *vsock, uint32_t guest_port)
{
	do {
		vsock->last_port = (vsock->last_port + 1) | FIRST_PORT;
	} while (vsock_connection_find(vsock, vsock->last_port, guest_port));
	return vsock->last_port;
}

static void greet(struct vsock_connection *connection)
{
	uint32_t port;
	int ret = vsock_read_greeting(connection->stream.fd, &connection->greeting, &port);

	if (ret < 0) {
		vsock_count(connection->vsock, VSOCK_REFUSED, 1);
		vsock_connection_leave(connection);
	} else if (ret == 0) {
		vsock_connection_watch(connection);
	} else {
		connection->guest_port = port;
		connection->host_port = free_port(connection->vsock, port);
		connection->state = VSOCK_ASKING;
		vsock_connection_hash(connection);
		vsock_owe(connection, VSOCK_OP_REQUEST);
	}
}

static void in_ready(struct vsock_wait *wait, uint32_t events)
{
	struct vsock_connection *connection = container_of(wait, struct vsock_connection, in);
	bool reads = vsock_connection_may_read(connection);

	if (connection->state == VSOCK_GONE) {
		free_if_unused(connection);
	} else if (connection->vsock->active) {
		if (connection->state == VSOCK_GREETING) {
			greet(connection);
		} else if (!reads && (events & POLLHUP)) {
			vsock_connection_host_gone(connection);
		} else if (reads) {
			connection->readable = true;
			vsock_wake(connection);
		} else {
			vsock_connection_watch(connection);
		}
	}
}

static void out_ready(struct vsock_wait *wait, uint32_t events)
{
	struct vsock_connection *connection = container_of(wait, struct vsock_connection, out);

	(void)events;
	if (connection->state == VSOCK_GONE)
		free_if_unused(connection);
	else if (connection->vsock->active && connection->stream.held)
		vsock_connection_moved(connection, vsock_stream_flush(&connection->stream));
}

struct vsock_connection *vsock_connection_new(struct vsock *vsock, enum vsock_state state, int fd)
{
	struct vsock_connection *connection =
		vsock->count < VSOCK_CONNECTIONS ? calloc(1, sizeof(*connection)) : NULL;

	if (!connection) {
		struct vsock_stream stream = {.fd = fd};

		/* Before the peer hears of it: who looks then finds it counted. */
		vsock_count(vsock, VSOCK_REFUSED, 1);
		vsock_stream_close(&stream);
		return NULL;
	}
	connection->vsock = connection->in.vsock = connection->out.vsock = vsock;
	connection->state = state;
	connection->stream.fd = fd;
	connection->in.ready = in_ready;
	connection->out.ready = out_ready;
	connection->patience.expired = patience_over;
	connection->behind = vsock->all;
	if (vsock->all)
		vsock->all->before = connection;
	vsock->all = connection;
	vsock->count++;
	atomic_store_explicit(&vsock->connections, vsock->count, memory_order_relaxed);
	return connection;
}

/* ---- who connects ---- */

static void listen_on(struct vsock *vsock)
{
	wait_for(&vsock->listener, vsock_host_fd(vsock->host), POLLIN);
}

static void listen_again(struct loop_timer *timer)
{
	listen_on(container_of(timer, struct vsock, listen_again));
}

static void take(struct vsock *vsock, int fd)
{
	struct vsock_connection *connection = vsock_connection_new(vsock, VSOCK_GREETING, fd);

	if (!connection)
		return;
	vsock_connection_be_patient(connection);
	greet(connection);
}

static void somebody_connects(struct vsock_wait *wait, uint32_t events)
{
	struct vsock *vsock = container_of(wait, struct vsock, listener);
	int fd = 0;

	(void)events;
	if (!vsock->active)
		return;
	while (!loop_turn_over(vsock->virtio.io) && (fd = vsock_host_accept(vsock->host)) >= 0)
		take(vsock, fd);
	/* What cannot be taken now stays readable, and would spin. */
	if (fd < 0 && fd != -EAGAIN)
		loop_timer_after(vsock->virtio.io, &vsock->listen_again, ACCEPT_PAUSE);
	else
		listen_on(vsock);
}

/* ---- life ---- */

static void go_on(struct vsock_connection *connection)
{
	enum vsock_state state = connection->state;

	if (state == VSOCK_GREETING || state == VSOCK_ASKING ||
		(state == VSOCK_OPEN && connection->host_done == VSOCK_NEITHER))
		vsock_connection_be_patient(connection);
	if (connection->stream.held)
		wait_for(&connection->out, connection->stream.fd, POLLOUT);
	vsock_connection_watch(connection);
	vsock_wake(connection);
}

void vsock_connections_start(struct vsock *vsock)
{
	vsock->listener.vsock = vsock;
	vsock->listener.ready = somebody_connects;
	vsock->listen_again.expired = listen_again;
	for (struct vsock_connection *at = vsock->all; at; at = at->behind)
		go_on(at);
	listen_on(vsock);
}

void vsock_connections_stop(struct vsock *vsock)
{
	loop_timer_stop(&vsock->listen_again);
	wait_cancel(&vsock->listener);
	for (struct vsock_connection *at = vsock->all; at; at = at->behind) {
		loop_timer_stop(&at->patience);
		wait_cancel(&at->in);
		wait_cancel(&at->out);
	}
}

void vsock_connections_drop(struct vsock *vsock)
{
	while (vsock->all) {
		vsock->all->stream.held = 0;
		vsock_connection_leave(vsock->all);
	}
}
