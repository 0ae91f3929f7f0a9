/* SPDX-License-Identifier: Apache-2.0 */
/*
 * passt's stream: each frame behind its length, four bytes big-endian, without virtio's header.
 * Both directions go through a buffer, so that one system call moves several small frames.
 */
#include "backend/passt_private.h"
#include "base/checked.h"
#include "base/iov.h"

#include <endian.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* #syscalls io: sendto sendmsg recvfrom */

#define LENGTH_SIZE 4U
#define FRAME_MAX   (NET_FRAME_MAX - NET_HEADER_SIZE) /* without the header */
#define FRAME_MIN   14U                               /* an Ethernet header */
#define FRAME_FULL  60U                               /* to which Ethernet fills up a shorter one */
#define IPV4_HEADER 20U
#define IPV6_HEADER 40U
/* Larger frames are sent from the guest's buffers if nothing is waiting before them. */
#define COPY_MAX 4096U
#define SEGMENTS 64U /* of a frame that is sent so */

static void passt_close(struct net *net)
{
	struct passt *passt = container_of(net, struct passt, net);

	passt_end(passt);
	free(passt);
}

static void passt_set_offloads(struct net *net, unsigned offloads)
{
	/* It has none. */
}

static void passt_set_queues(struct net *net, unsigned count)
{
	/* It has one. */
}

static int lost(struct net *net)
{
	char why[256];

	passt_last_words(container_of(net, struct passt, net), why, sizeof(why));
	return net_set_gone(net, why);
}

static int passt_flush(struct net *net, unsigned queue)
{
	struct passt_buffer *out = &container_of(net, struct passt, net)->out;

	while (out->start < out->end) {
		ssize_t sent = send(net->queues[0].fd, out->bytes + out->start,
			out->end - out->start, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			return errno == EAGAIN ? -EAGAIN : lost(net);
		out->start += (size_t)sent;
	}
	out->start = out->end = 0;
	return 0;
}

/* Room for @length bytes behind what is waiting. */
static bool make_room(struct passt_buffer *buffer, size_t length)
{
	if (sizeof(buffer->bytes) - buffer->end >= length)
		return true;
	if (sizeof(buffer->bytes) - (buffer->end - buffer->start) < length)
		return false;
	memmove(buffer->bytes, buffer->bytes + buffer->start, buffer->end - buffer->start);
	buffer->end -= buffer->start;
	buffer->start = 0;
	return true;
}

static void keep(struct passt_buffer *out, const struct iovec *segments, unsigned count,
	size_t skip, size_t length)
{
	iov_copy_from(segments, count, skip, out->bytes + out->end, length);
	out->end += length;
}

/* The frame by itself; what the socket does not take is kept, so that frames stay whole. */
static int send_direct(
	struct net *net, const struct iovec *segments, unsigned count, uint32_t length)
{
	struct passt *passt = container_of(net, struct passt, net);
	uint32_t prefix = htobe32(length);
	struct iovec pieces[SEGMENTS + 1] = {{&prefix, sizeof(prefix)}};
	struct msghdr message = {.msg_iov = pieces, .msg_iovlen = 1};
	size_t skip = NET_HEADER_SIZE;
	ssize_t sent;

	for (unsigned i = 0; i < count; i++) {
		size_t part = min_u64(skip, segments[i].iov_len);

		skip -= part;
		if (segments[i].iov_len > part)
			pieces[message.msg_iovlen++] = (struct iovec){
				(char *)segments[i].iov_base + part, segments[i].iov_len - part};
	}
	do {
		sent = sendmsg(net->queues[0].fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (sent < 0 && errno == EINTR);
	if (sent < 0)
		return errno == EAGAIN ? -EAGAIN : lost(net);
	if ((size_t)sent < LENGTH_SIZE + (size_t)length)
		keep(&passt->out, pieces, (unsigned)message.msg_iovlen, (size_t)sent,
			LENGTH_SIZE + (size_t)length - (size_t)sent);
	return 0;
}

/* Without offloads offered, a header asks for nothing (5.1.6.2); what it asks cannot be done. */
static bool plain_frame(const struct iovec *segments, unsigned count, uint64_t total)
{
	uint8_t header[2]; /* flags, gso_type */

	if (total < NET_HEADER_SIZE + FRAME_MIN || total > NET_FRAME_MAX)
		return false;
	iov_copy_from(segments, count, 0, header, sizeof(header));
	return header[0] == 0 && header[1] == 0;
}

/*
 * @length without Ethernet's padding. Drivers of real cards pad short frames, Linux's e1000 by
 * itself; but passt 2023-03 (Debian 12) passes over an IP packet that ends before its frame, such
 * as each bare ACK.
 */
static uint32_t unpadded(const struct iovec *segments, unsigned count, uint32_t length)
{
	uint8_t start[20]; /* the Ethernet header, and as far as the lengths of IP */
	uint32_t type, needed = length;

	if (length > FRAME_FULL || length < sizeof(start))
		return length;
	iov_copy_from(segments, count, NET_HEADER_SIZE, start, sizeof(start));
	type = (uint32_t)start[12] << 8 | start[13];
	if (type == ETH_P_IP)
		needed = FRAME_MIN + ((uint32_t)start[16] << 8 | start[17]);
	else if (type == ETH_P_IPV6)
		needed = FRAME_MIN + IPV6_HEADER + ((uint32_t)start[18] << 8 | start[19]);
	return needed < length && needed >= FRAME_MIN + IPV4_HEADER ? needed : length;
}

static int passt_send(struct net *net, unsigned queue, const struct iovec *segments, unsigned count)
{
	struct passt_buffer *out = &container_of(net, struct passt, net)->out;
	uint64_t total = 0;
	uint32_t length, prefix;
	int ret;

	for (unsigned i = 0; i < count; i++)
		total += segments[i].iov_len;
	if (!plain_frame(segments, count, total))
		return -EINVAL;
	length = unpadded(segments, count, (uint32_t)total - NET_HEADER_SIZE);
	if (length > COPY_MAX && count <= SEGMENTS) {
		ret = passt_flush(net, queue);
		return ret < 0 ? ret : send_direct(net, segments, count, length);
	}
	if (!make_room(out, LENGTH_SIZE + length)) {
		ret = passt_flush(net, queue);
		if (ret == -EPIPE || !make_room(out, LENGTH_SIZE + length))
			return ret;
	}
	prefix = htobe32(length);
	memcpy(out->bytes + out->end, &prefix, sizeof(prefix));
	out->end += sizeof(prefix);
	keep(out, segments, count, NET_HEADER_SIZE, length);
	return 0;
}

/* Reads as much as the buffer holds. */
static int fill_buffer(struct net *net)
{
	struct passt_buffer *in = &container_of(net, struct passt, net)->in;
	ssize_t got;

	if (in->start == in->end)
		in->start = in->end = 0;
	make_room(in, min_u64(LENGTH_SIZE + FRAME_MAX, sizeof(in->bytes) - (in->end - in->start)));
	do {
		got = recv(net->queues[0].fd, in->bytes + in->end, sizeof(in->bytes) - in->end,
			MSG_DONTWAIT);
	} while (got < 0 && errno == EINTR);
	if (got < 0 && errno == EAGAIN)
		return -EAGAIN;
	if (got <= 0)
		return lost(net);
	in->end += (size_t)got;
	return 0;
}

/* The length of the frame that is completely in the buffer, else -EAGAIN. */
static int complete_frame(struct net *net)
{
	const struct passt_buffer *in = &container_of(net, struct passt, net)->in;
	size_t have = in->end - in->start;
	uint32_t length;

	if (have < LENGTH_SIZE)
		return -EAGAIN;
	memcpy(&length, in->bytes + in->start, sizeof(length));
	length = be32toh(length);
	/* There is no way to find the next frame behind a wrong length. */
	if (length > FRAME_MAX)
		return net_set_gone(net, "passt sent a frame longer than 64 KiB");
	return have - LENGTH_SIZE >= length ? (int)length : -EAGAIN;
}

static int passt_next_length(struct net *net, unsigned queue)
{
	struct passt_buffer *in = &container_of(net, struct passt, net)->in;
	int length, ret;

	while ((length = complete_frame(net)) < 0) {
		ret = length == -EAGAIN ? fill_buffer(net) : length;
		if (ret < 0)
			return -EAGAIN;
	}
	if (length >= (int)FRAME_MIN)
		return length + NET_HEADER_SIZE;
	/* Shorter than its own header: nobody wants it. */
	in->start += LENGTH_SIZE + (size_t)length;
	return -EMSGSIZE;
}

static int passt_receive(
	struct net *net, unsigned queue, const struct iovec *segments, unsigned count)
{
	static const uint8_t header[NET_HEADER_SIZE];
	struct passt_buffer *in = &container_of(net, struct passt, net)->in;
	int total = passt_next_length(net, queue);
	const uint8_t *frame = in->bytes + in->start + LENGTH_SIZE;
	size_t length, moved;

	if (total < 0)
		return net->gone ? -EPIPE : total;
	length = (size_t)total - NET_HEADER_SIZE;
	moved = iov_copy_to(segments, count, 0, header, sizeof(header));
	moved += iov_copy_to(segments, count, NET_HEADER_SIZE, frame, length);
	in->start += LENGTH_SIZE + length;
	return moved == (size_t)total ? total : -EMSGSIZE;
}

static const struct net_ops passt_ops = {
	.ready = passt_ready,
	.close = passt_close,
	.set_offloads = passt_set_offloads,
	.set_queues = passt_set_queues,
	.send = passt_send,
	.flush = passt_flush,
	.next_length = passt_next_length,
	.receive = passt_receive,
};

int passt_new(struct passt **out, struct error *err)
{
	struct passt *passt = calloc(1, sizeof(*passt));
	int ret;

	if (!passt)
		return error_errno(err, ENOMEM, "--net user");
	passt->pid = passt->pid_fd = -1;
	passt->words_fd = -1;
	passt->net.ops = &passt_ops;
	ret = net_init(&passt->net, &passt_ops, 1, err);
	if (ret < 0) {
		net_close(&passt->net);
		return ret;
	}
	*out = passt;
	return 0;
}

int passt_open_stream(struct net **out, int fd, struct error *err)
{
	struct passt *passt = NULL;
	int ret = passt_new(&passt, err);

	if (!passt) {
		close(fd);
		return ret;
	}
	passt->net.queues[0].fd = fd;
	*out = &passt->net;
	return 0;
}
