/* SPDX-License-Identifier: Apache-2.0 */
/* Paths, and how a connection begins. */
#include "backend/vsock.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/socket_file.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

/* #syscalls main io: accept4 socket(0 = AF_UNIX) connect recvfrom sendto */

#define BACKLOG  128
#define GREETING "CONNECT "

struct vsock_host {
	int fd;
	struct socket_file file;
	char path[VSOCK_PATH_MAX + 1];
};

/* The mode is that of the file from its first moment on: no other user gets in between. */
static int listen_at(int fd, const struct sockaddr_un *address)
{
	if (fchmod(fd, 0600) < 0 || bind(fd, (const void *)address, sizeof(*address)) < 0 ||
		listen(fd, BACKLOG) < 0)
		return -errno;
	return 0;
}

static int make_socket(struct vsock_host *host, struct error *err)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int ret;

	strcpy(address.sun_path, host->path);
	host->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (host->fd < 0)
		return error_errno(err, errno, "--vsock path=%s", host->path);
	ret = listen_at(host->fd, &address);
	if (ret == -EADDRINUSE)
		return error_set(err, EADDRINUSE,
			"--vsock path=%s: the file exists; remove it, or name another", host->path);
	if (ret < 0)
		return error_errno(err, -ret,
			"--vsock path=%s: no socket can be made there; name one in a directory "
			"that you may write to",
			host->path);
	socket_file_keep(&host->file, host->path);
	return 0;
}

int vsock_host_open(struct vsock_host **out, const char *path, struct error *err)
{
	struct vsock_host *host;
	int ret;

	if (!*path || strlen(path) > VSOCK_PATH_MAX)
		return error_set(err, ENAMETOOLONG,
			"--vsock path=%.*s: a socket's path has 1 to %d characters", VSOCK_PATH_MAX,
			path, VSOCK_PATH_MAX);
	host = calloc(1, sizeof(*host));
	if (!host)
		return error_errno(err, ENOMEM, "--vsock");
	strcpy(host->path, path);
	ret = make_socket(host, err);
	if (ret < 0) {
		vsock_host_close(host);
		return ret;
	}
	*out = host;
	return 0;
}

void vsock_host_close(struct vsock_host *host)
{
	if (!host)
		return;
	socket_file_remove(&host->file);
	cleanup_close(&host->fd);
	free(host);
}

int vsock_host_fd(const struct vsock_host *host)
{
	return host->fd;
}

int vsock_host_accept(const struct vsock_host *host)
{
	int fd = accept4(host->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* A unix socket connects at once or not at all. */
int vsock_host_connect(const struct vsock_host *host, uint32_t port)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), ret;

	if (fd < 0)
		return -errno;
	snprintf(address.sun_path, sizeof(address.sun_path), "%s_%u", host->path, port);
	if (connect(fd, (const void *)&address, sizeof(address)) == 0)
		return fd;
	ret = -errno;
	close(fd);
	return ret;
}

/* Of a line that ends with \n. */
static int parse_greeting(const char *line, uint32_t *port)
{
	char *end;
	unsigned long number;

	if (strncasecmp(line, GREETING, strlen(GREETING)) != 0)
		return -EPROTO;
	line += strlen(GREETING);
	if (!isdigit((unsigned char)*line))
		return -EPROTO;
	errno = 0;
	number = strtoul(line, &end, 10);
	if (errno || number > UINT32_MAX || end[strspn(end, " \r")] != '\n')
		return -EPROTO;
	*port = (uint32_t)number;
	return 1;
}

/* Looked at first: what comes behind the line is the guest's. What is part of it is taken, so that
 * the socket is readable only when more of it is there. */
int vsock_read_greeting(int fd, struct vsock_greeting *greeting, uint32_t *port)
{
	char *to = greeting->text + greeting->length;
	size_t room = sizeof(greeting->text) - 1 - greeting->length;
	ssize_t got = recv(fd, to, room, MSG_PEEK | MSG_DONTWAIT);
	const char *end;

	if (got < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -EPROTO;
	end = memchr(to, '\n', (size_t)got);
	if (!end && (got == 0 || (size_t)got == room))
		return -EPROTO;
	got = recv(fd, to, end ? (size_t)(end - to) + 1 : (size_t)got, MSG_DONTWAIT);
	if (got <= 0)
		return -EPROTO;
	greeting->length += (unsigned)got;
	greeting->text[greeting->length] = 0;
	return end ? parse_greeting(greeting->text, port) : 0;
}

int vsock_write_greeting(int fd, uint32_t port)
{
	char line[32];
	int length = snprintf(line, sizeof(line), "OK %u\n", port);

	/* The socket is empty: it takes all of this. */
	return send(fd, line, (size_t)length, MSG_DONTWAIT | MSG_NOSIGNAL) == length ? 0 : -EPIPE;
}
