/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/1.1 on a unix socket (or, for a browser, on the loopback interface), by libmicrohttpd on the
 * caller's loop: no thread of its own, nothing that waits. Limits hold whatever a client sends:
 * HTTP_CONNECTIONS at once (one more is told so and closed), a body of at most @body_max bytes, a
 * small head, and HTTP_PATIENCE_S for a request to come and for its answer to be taken. Main
 * thread.
 */
#ifndef DUET_HTTP_SERVER_H
#define DUET_HTTP_SERVER_H

#include "base/error.h"
#include "base/loop.h"
#include "http/exchange.h"

#define HTTP_CONNECTIONS 10
#define HTTP_BODY_MAX    51200 /* unless it was said */
#define HTTP_PATIENCE_S  60

struct http_server;

struct http_options {
	const char *option; /* "--api-sock", which messages name; a constant, as is the next */
	const char *name;   /* what it calls itself in each answer: "Firecracker API" */
	/* Made by it with mode 0600; one that exists is an error. */
	const char *path;
	/* Instead of a path: of the loopback interface (http/address.h). Whoever is on this host
	 * can connect, guests by their networks perhaps, and pages in a browser: who answers asks
	 * for a secret, and looks at the request's host. */
	const char *address;
	/* Of each answer besides what HTTP needs: pairs of a name and a value, ended by null. */
	const char *const *headers;
	size_t body_max;
	unsigned patience_ms; /* 0: HTTP_PATIENCE_S, which a test need not wait for */
	/* May answer at once; must not close the server. */
	void (*request)(void *opaque, const struct request *request, struct exchange *exchange);
	void *opaque;
};

/* Messages name the option, the path and the remedy. */
int http_server_open(struct http_server **server, struct loop *loop,
	const struct http_options *options, struct error *err);
/* Of the listening socket: the address that it got. */
int http_server_fd(const struct http_server *server);
/* Ends all connections and removes the socket. What is not answered yet may still be, and goes
 * nowhere. The loop gives its memory back in its next round. Null is allowed. */
void http_server_close(struct http_server *server);

#endif
