/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS 1.3 below a channel, each side with a certificate that the other one checks against its own
 * authority. A struct tls may serve many streams at once, one thread each.
 */
#ifndef DUET_MIGRATE_TLS_H
#define DUET_MIGRATE_TLS_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct channel;
struct tls;
struct tls_stream;

/* Files in PEM: this side's certificate and key, and the authority whose certificates it takes. */
struct tls_files {
	const char *cert, *key, *ca;
};

/* All three, or -EINVAL; messages name the option. */
int tls_new(struct tls **tls, const struct tls_files *files, struct error *err);
void tls_free(struct tls *tls); /* null is allowed */

/* The handshake, as the channel waits; channel->tls is to be ended also after a failure. */
int tls_begin(const struct tls *tls, struct channel *channel, bool listens, struct error *err);
void tls_end(struct tls_stream *stream); /* null is allowed */
/* As send() and recv(), errors as negative errnos; -EAGAIN: @events say what to wait for. */
/* The other side has shown who it is. */
bool tls_is_up(const struct tls_stream *stream);
ssize_t tls_put(struct tls_stream *stream, const void *bytes, size_t length, short *events);
ssize_t tls_take(struct tls_stream *stream, void *bytes, size_t length, short *events);

#endif
