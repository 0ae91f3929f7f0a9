/* SPDX-License-Identifier: Apache-2.0 */
/* The server on its loop: who connects, how many, for how long, and libmicrohttpd's turns. */
#include "base/checked.h"
#include "base/clock.h"
#include "http/private.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/*
 * #syscalls main: accept4 sendto recvfrom shutdown read
 * What libmicrohttpd does.
 * #syscalls main: epoll_wait epoll_ctl sendmsg setsockopt getsockopt getsockname
 * #syscalls main: fcntl(1 = F_GETFL) fcntl(1 = F_SETFL, 2 & O_ASYNC = 0)
 */

/* Of a connection, for a request's head and an answer's. */
#define HEAD_MEMORY 8192
/* Clients taken in one turn. */
#define ACCEPT_MOST 32
/* Until the next try when the host has no descriptor for a client. */
#define RETRY_NS (100 * MS_NS)

/* As Firecracker says it. */
#define FULL_BODY "{ \"error\": \"Too many open connections\" }"
#define FULL_HEAD "HTTP/1.1 503 \r\nServer: %s\r\nConnection: close\r\nContent-Length: 40\r\n\r\n"
_Static_assert(sizeof(FULL_BODY) - 1 == 40, "Content-Length of the answer to one too many");

static void turn_task(struct loop_task *task)
{
	struct http_server *server = container_of(task, struct http_server, turn);

	server->posted = false;
	if (http_server_turn(server))
		http_server_post(server);
}

void http_server_post(struct http_server *server)
{
	if (server->posted)
		return;
	server->posted = true;
	server->turn.run = turn_task;
	loop_post(server->loop, &server->turn);
}

static void refuse(const struct http_server *server, int fd)
{
	char text[256];
	int length = snprintf(text, sizeof(text), FULL_HEAD FULL_BODY, server->options.name);

	/* Whoever does not read it will see that it was closed. */
	if (send(fd, text, (size_t)length, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		(void)0;
	close(fd);
}

void http_server_adopt(struct http_server *server, int fd)
{
	const struct sockaddr_un address = {.sun_family = AF_UNIX};

	/* One that has closed may still be counted. */
	if (server->count == HTTP_CONNECTIONS)
		MHD_run(server->daemon);
	if (server->count == HTTP_CONNECTIONS)
		refuse(server, fd);
	else
		/* Closes it when there is no memory for it. */
		MHD_add_connection(
			server->daemon, fd, (const struct sockaddr *)&address, sizeof(sa_family_t));
}

static void try_again(struct loop_timer *timer)
{
	http_server_post(container_of(timer, struct http_server, retry));
}

/* True: there may be more. */
static bool accept_some(struct http_server *server)
{
	for (unsigned i = 0; i < ACCEPT_MOST; i++) {
		int fd = accept4(server->socket.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0) {
			http_server_adopt(server, fd);
			continue;
		}
		if (errno == EINTR || errno == ECONNABORTED)
			continue;
		/* The watch tells of those who come, not of those who had to wait. */
		if (errno != EAGAIN)
			loop_timer_after(server->loop, &server->retry, RETRY_NS);
		return false;
	}
	return true;
}

bool http_server_turn(struct http_server *server)
{
	MHD_UNSIGNED_LONG_LONG wait;
	bool more = accept_some(server);

	MHD_run(server->daemon);
	/* Without a limit of its own on time it waits either not at all or for a descriptor. */
	return MHD_get_timeout(server->daemon, &wait) == MHD_YES || more;
}

static void listening_ready(struct loop_watch *watch, uint32_t events)
{
	http_server_post(container_of(watch, struct http_server, listening));
}

static void epoll_ready(struct loop_watch *watch, uint32_t events)
{
	http_server_post(container_of(watch, struct http_server, epoll));
}

/* What libmicrohttpd finds closed it ends by itself. */
static void out_of_patience(struct loop_timer *timer)
{
	struct http_client *client = container_of(timer, struct http_client, patience);
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(client->connection, MHD_CONNECTION_INFO_CONNECTION_FD);

	if (info)
		shutdown(info->connect_fd, SHUT_RDWR);
	http_server_post(client->server);
}

void http_client_wait(struct http_client *client)
{
	loop_timer_after(client->server->loop, &client->patience,
		client->server->options.patience_ms * MS_NS);
}

struct http_client *http_client_of(struct MHD_Connection *connection)
{
	return MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)
		->socket_context;
}

static struct http_client *client_take(
	struct http_server *server, struct MHD_Connection *connection)
{
	struct http_client *client = server->clients;

	while (client->connection)
		client++;
	client->server = server;
	client->connection = connection;
	client->patience.expired = out_of_patience;
	server->count++;
	http_client_wait(client);
	return client;
}

static void connection_changed(void *opaque, struct MHD_Connection *connection, void **context,
	enum MHD_ConnectionNotificationCode code)
{
	struct http_server *server = opaque;
	struct http_client *client = *context;

	if (code == MHD_CONNECTION_NOTIFY_STARTED) {
		*context = client_take(server, connection);
		return;
	}
	loop_timer_stop(&client->patience);
	client->connection = NULL;
	server->count--;
}

/* A request's first line is there. */
static void *request_begun(void *opaque, const char *uri, struct MHD_Connection *connection)
{
	http_client_wait(http_client_of(connection));
	return NULL;
}

/* A path is compared as it came. */
static size_t leave_escaped(void *opaque, struct MHD_Connection *connection, char *text)
{
	return strlen(text);
}

static const char *where(const struct http_options *options)
{
	return options->address ? options->address : options->path;
}

/* No listening socket of its own: it would be closed to those who come while it is full, and they
 * are to be told so. No limit on time of its own: that is one on silence, not on slowness. */
static int start_daemon(struct http_server *server, struct error *err)
{
	server->daemon =
		MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET |
					 MHD_ALLOW_SUSPEND_RESUME | MHD_USE_SUPPRESS_DATE_NO_CLOCK,
			0, NULL, NULL, http_call_handle, server, MHD_OPTION_CONNECTION_LIMIT,
			(unsigned)HTTP_CONNECTIONS, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
			(size_t)HEAD_MEMORY, MHD_OPTION_NOTIFY_CONNECTION, connection_changed,
			server, MHD_OPTION_NOTIFY_COMPLETED, http_call_completed, server,
			MHD_OPTION_URI_LOG_CALLBACK, request_begun, server,
			MHD_OPTION_UNESCAPE_CALLBACK, leave_escaped, server, MHD_OPTION_END);
	if (server->daemon)
		return 0;
	return error_set(err, ENOMEM,
		"%s %s: the HTTP server cannot be started for want of memory or "
		"descriptors; see ulimit -n",
		server->options.option, where(&server->options));
}

static void watch_both(struct http_server *server)
{
	const union MHD_DaemonInfo *info =
		MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD);

	loop_watch(server->loop, &server->listening, server->socket.fd, POLLIN, listening_ready);
	loop_watch(server->loop, &server->epoll, info->epoll_fd, POLLIN, epoll_ready);
	server->watches = 2;
}

int http_server_open(struct http_server **out, struct loop *loop,
	const struct http_options *options, struct error *err)
{
	struct http_server *server = calloc(1, sizeof(*server));
	int ret;

	if (!server)
		return error_errno(err, ENOMEM, "%s %s", options->option, where(options));
	server->options = *options;
	server->loop = loop;
	server->retry.expired = try_again;
	if (!server->options.patience_ms)
		server->options.patience_ms = HTTP_PATIENCE_S * 1000U;
	ret = start_daemon(server, err);
	if (ret == 0) {
		ret = http_socket_open(&server->socket, options, err);
		if (ret < 0)
			MHD_stop_daemon(server->daemon);
	}
	if (ret < 0) {
		free(server);
		return ret;
	}
	watch_both(server);
	*out = server;
	return 0;
}

int http_server_fd(const struct http_server *server)
{
	return server->socket.fd;
}

static void unwatched(struct http_server *server)
{
	if (--server->watches == 0)
		free(server);
}

static void listening_removed(struct loop_watch *watch)
{
	unwatched(container_of(watch, struct http_server, listening));
}

static void epoll_removed(struct loop_watch *watch)
{
	unwatched(container_of(watch, struct http_server, epoll));
}

void http_server_close(struct http_server *server)
{
	if (!server)
		return;
	/* Neither may free it yet. */
	server->watches++;
	loop_unwatch(&server->listening, listening_removed);
	loop_unwatch(&server->epoll, epoll_removed);
	loop_timer_stop(&server->retry);
	for (unsigned i = 0; i < HTTP_CONNECTIONS; i++)
		if (server->clients[i].connection)
			http_call_release(server->clients[i].connection);
	MHD_stop_daemon(server->daemon);
	http_socket_close(&server->socket);
	loop_unpost(server->loop, &server->turn);
	unwatched(server);
}
