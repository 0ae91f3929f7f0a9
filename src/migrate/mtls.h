/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS 1.3 below a channel, each side with a certificate that the other one checks against its own
 * authority. A struct mtls may serve many streams at once, one thread each.
 */
#ifndef DUET_MIGRATE_MTLS_H
#define DUET_MIGRATE_MTLS_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct channel;
struct mtls;
struct mtls_stream;

/* Files in PEM: this side's certificate and key, and the authority whose certificates it takes. */
struct mtls_files {
	const char *cert, *key, *ca;
};

/* All three are named, or -EINVAL; nothing is opened. @what: who needs them, for the message. */
int mtls_check(const struct mtls_files *files, const char *what, struct error *err);

/* All three, or -EINVAL; messages name the option. */
int mtls_new(struct mtls **tls, const struct mtls_files *files, struct error *err);
void mtls_free(struct mtls *tls); /* null is allowed */

/* The handshake, as the channel waits; channel->tls is to be ended also after a failure. */
int mtls_begin(const struct mtls *tls, struct channel *channel, bool listens, struct error *err);
void mtls_end(struct mtls_stream *stream); /* null is allowed */
/* The other side has shown who it is. */
bool mtls_is_up(const struct mtls_stream *stream);
/* As send() and recv(), errors as negative errnos; -EAGAIN: @events say what to wait for. */
ssize_t mtls_put(struct mtls_stream *stream, const void *bytes, size_t length, short *events);
ssize_t mtls_take(struct mtls_stream *stream, void *bytes, size_t length, short *events);

#endif
