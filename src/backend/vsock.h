/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's side of a virtio socket device, as hybrid unix sockets. A program that wants the
 * guest's port P connects to PATH, writes "CONNECT P\n", and once the guest has taken the
 * connection reads "OK HOSTPORT\n"; then come the bytes. Who connects in the guest to the host's
 * port P reaches the program that listens at PATH_P.
 *
 * Nothing here waits or needs a loop: the caller polls the descriptors. open and close: the main
 * thread; the rest: one thread at a time, the device's I/O loop.
 */
#ifndef DUET_BACKEND_VSOCK_H
#define DUET_BACKEND_VSOCK_H

#include "base/error.h"

#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#define VSOCK_PATH_MAX 96           /* characters, so that _PORT still fits behind it */
#define VSOCK_HELD_MAX (128U << 10) /* bytes that a stream holds for a slow reader */
#define VSOCK_SEGMENTS 128          /* of a send or receive */

struct vsock_host;

/* Makes the socket @path with mode 0600 and listens. Messages name --vsock, the path and the
 * remedy; -EADDRINUSE: there is a file of the name. */
int vsock_host_open(struct vsock_host **host, const char *path, struct error *err);
/* Removes the socket, unless another has taken its place. Null is allowed. */
void vsock_host_close(struct vsock_host *host);
/* Readable when somebody connects. */
int vsock_host_fd(const struct vsock_host *host);
/* A descriptor, the caller's; -EAGAIN: nobody is there. */
int vsock_host_accept(const struct vsock_host *host);
/* To PATH_@port: a descriptor, the caller's, or a negative errno at once. */
int vsock_host_connect(const struct vsock_host *host, uint32_t port);

/* The line of one who was accepted, as far as it came. Zero-initialise. */
struct vsock_greeting {
	char text[32]; /* "CONNECT 4294967295\n" and some blanks */
	unsigned length;
};
/* Nothing behind the line is read. 1: @port; 0: not there yet, all that came was taken;
 * -EPROTO: it is not such a line, or the end. */
int vsock_read_greeting(int fd, struct vsock_greeting *greeting, uint32_t *port);
/* "OK @port". */
int vsock_write_greeting(int fd, uint32_t port);

/* A connected socket. Zero-initialise but for @fd. */
struct vsock_stream {
	int fd;              /* -1: closed */
	uint32_t from, held; /* of @bytes: a ring */
	uint8_t *bytes;      /* VSOCK_HELD_MAX; null: nothing was ever held */
};

/* @length bytes of @segments from @skip on, all of which must fit beside what is held already: what
 * the socket does not take is held. Returns how many bytes left for the socket, of those held
 * before too. -EPIPE: nobody reads; -ENOMEM. */
ssize_t vsock_stream_send(struct vsock_stream *stream, const struct iovec *segments, unsigned count,
	size_t skip, size_t length);
/* What is held; as above. */
ssize_t vsock_stream_flush(struct vsock_stream *stream);
/* Up to @length bytes into @segments from @skip on. 0: the end; -EAGAIN: nothing now. */
ssize_t vsock_stream_receive(const struct vsock_stream *stream, const struct iovec *segments,
	unsigned count, size_t skip, size_t length);
/* The descriptor; what is held is forgotten. */
void vsock_stream_close(struct vsock_stream *stream);

#endif
