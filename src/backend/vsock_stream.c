/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes from and to a program of the host's. */
#include "backend/vsock.h"
#include "base/checked.h"
#include "base/iov.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* #syscalls main io: sendmsg recvmsg */

/* @length bytes of @segments from @skip on, as a message of at most VSOCK_SEGMENTS pieces. */
static size_t slice(struct iovec *pieces, const struct iovec *segments, unsigned count, size_t skip,
	size_t length)
{
	size_t used = 0;

	for (unsigned i = 0; i < count && length && used < VSOCK_SEGMENTS; i++) {
		size_t past = min_u64(skip, segments[i].iov_len);
		size_t part = min_u64(segments[i].iov_len - past, length);

		skip -= past;
		if (part)
			pieces[used++] = (struct iovec){(char *)segments[i].iov_base + past, part};
		length -= part;
	}
	return used;
}

/* How much the socket took, 0 when it is full. */
static ssize_t put(int fd, struct iovec *pieces, size_t count)
{
	const struct msghdr message = {.msg_iov = pieces, .msg_iovlen = count};
	ssize_t sent;

	do {
		sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (sent < 0 && errno == EINTR);
	if (sent < 0)
		return errno == EAGAIN ? 0 : -EPIPE;
	return sent;
}

ssize_t vsock_stream_flush(struct vsock_stream *stream)
{
	uint32_t first = (uint32_t)min_u64(stream->held, VSOCK_HELD_MAX - stream->from);
	struct iovec pieces[2];
	ssize_t sent;

	if (!stream->held)
		return 0;
	pieces[0] = (struct iovec){stream->bytes + stream->from, first};
	pieces[1] = (struct iovec){stream->bytes, stream->held - first};
	sent = put(stream->fd, pieces, ARRAY_SIZE(pieces));
	if (sent <= 0)
		return sent;
	stream->from = (uint32_t)(stream->from + sent) % VSOCK_HELD_MAX;
	stream->held -= (uint32_t)sent;
	if (!stream->held)
		stream->from = 0;
	return sent;
}

static int hold(struct vsock_stream *stream, const struct iovec *segments, unsigned count,
	size_t skip, size_t length)
{
	uint32_t to = (stream->from + stream->held) % VSOCK_HELD_MAX;
	size_t first = min_u64(length, VSOCK_HELD_MAX - to);

	if (!stream->bytes)
		stream->bytes = malloc(VSOCK_HELD_MAX);
	if (!stream->bytes)
		return -ENOMEM;
	iov_copy_from(segments, count, skip, stream->bytes + to, first);
	iov_copy_from(segments, count, skip + first, stream->bytes, length - first);
	stream->held += (uint32_t)length;
	return 0;
}

ssize_t vsock_stream_send(struct vsock_stream *stream, const struct iovec *segments, unsigned count,
	size_t skip, size_t length)
{
	struct iovec pieces[VSOCK_SEGMENTS];
	ssize_t sent = vsock_stream_flush(stream), direct = 0;
	int ret;

	if (sent >= 0 && !stream->held)
		direct = put(stream->fd, pieces, slice(pieces, segments, count, skip, length));
	if (sent < 0 || direct < 0)
		return -EPIPE;
	if ((size_t)direct < length) {
		ret = hold(stream, segments, count, skip + (size_t)direct, length - (size_t)direct);
		if (ret < 0)
			return ret;
	}
	return sent + direct;
}

ssize_t vsock_stream_receive(const struct vsock_stream *stream, const struct iovec *segments,
	unsigned count, size_t skip, size_t length)
{
	struct iovec pieces[VSOCK_SEGMENTS];
	struct msghdr message = {
		.msg_iov = pieces, .msg_iovlen = slice(pieces, segments, count, skip, length)};
	ssize_t got;

	do {
		got = recvmsg(stream->fd, &message, MSG_DONTWAIT);
	} while (got < 0 && errno == EINTR);
	return got < 0 ? -errno : got;
}

void vsock_stream_close(struct vsock_stream *stream)
{
	if (stream->fd >= 0)
		close(stream->fd);
	free(stream->bytes);
	*stream = (struct vsock_stream){.fd = -1};
}
