/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What server.c (the server on its loop), call.c (a request and its answer) and socket.c (the
 * listening socket) share. Main thread.
 */
#ifndef DUET_HTTP_PRIVATE_H
#define DUET_HTTP_PRIVATE_H

#include "base/socket_file.h"
#include "http/server.h"

#include <microhttpd.h>
#include <sys/stat.h>

struct http_socket {
	int fd;
	char *path; /* null: an address */
	struct socket_file file;
};

/* One connection. */
struct http_client {
	struct http_server *server;
	struct MHD_Connection *connection; /* null: nobody's */
	/* Runs but while an answer is awaited: from the connection or the answer before to the
	 * request's first line, from there to its end, and from the answer to its last byte. */
	struct loop_timer patience;
};

struct http_server {
	struct http_options options;
	struct loop *loop;
	struct MHD_Daemon *daemon;
	struct http_socket socket;
	struct loop_watch listening, epoll;
	unsigned watches; /* those that the loop has not let go of */
	struct loop_task turn;
	bool posted;
	struct loop_timer retry; /* no descriptor was to be had for a client */
	struct http_client clients[HTTP_CONNECTIONS];
	unsigned count;
};

/* server.c */
/* Some work is there for libmicrohttpd that no descriptor tells of. */
void http_server_post(struct http_server *server);
/* Does what there is to do, but no more than a turn's worth; true: there is more. */
bool http_server_turn(struct http_server *server);
/* A connection of its own from now on; one too many is told so and closed. */
void http_server_adopt(struct http_server *server, int fd);
/* Its time begins anew. */
void http_client_wait(struct http_client *client);
struct http_client *http_client_of(struct MHD_Connection *connection);

/* call.c: what libmicrohttpd calls for a request. */
enum MHD_Result http_call_handle(void *server, struct MHD_Connection *connection, const char *url,
	const char *method, const char *version, const char *data, size_t *size, void **call);
void http_call_completed(void *server, struct MHD_Connection *connection, void **call,
	enum MHD_RequestTerminationCode how);
/* Those that wait for their answer go on, to their end: before the daemon is stopped. */
void http_call_release(struct MHD_Connection *connection);

/* socket.c */
/* Listens, at a path for its owner alone. */
int http_socket_open(
	struct http_socket *socket, const struct http_options *options, struct error *err);
void http_socket_close(struct http_socket *socket);

#endif
