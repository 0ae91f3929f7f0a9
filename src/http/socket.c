/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "http/address.h"
#include "http/private.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

static int cannot_bind(const struct http_options *options, int error, struct error *err)
{
	if (error == EADDRINUSE)
		return error_set(err, error,
			"%s %s: is there already; remove it if no other duet listens "
			"there, or name another path",
			options->option, options->path);
	return error_errno(err, error,
		"%s %s: cannot be made; name a path in a directory that you may write to",
		options->option, options->path);
}

static int set_address(
	struct sockaddr_un *address, const struct http_options *options, struct error *err)
{
	const char *path = options->path;

	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	/* An empty one would be a name of the kernel's choice, which no file guards. */
	if (!*path)
		return error_set(
			err, EINVAL, "%s: the path is empty; name a file", options->option);
	if (strlen(path) >= sizeof(address->sun_path))
		return error_set(err, ENAMETOOLONG,
			"%s %s: a socket's path has at most %zu characters; name a shorter "
			"one",
			options->option, path, sizeof(address->sun_path) - 1);
	memcpy(address->sun_path, path, strlen(path));
	return 0;
}

/* The file gets its mode when it is made, from the socket: there is no moment at which others could
 * connect, and no umask to change under other threads. */
static int bind_and_listen(int fd, const struct http_options *options, struct error *err)
{
	struct sockaddr_un address;
	int ret = set_address(&address, options, err);

	if (ret < 0)
		return ret;
	if (fchmod(fd, 0600) < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return cannot_bind(options, errno, err);
	if (listen(fd, HTTP_CONNECTIONS) < 0) {
		ret = cannot_bind(options, errno, err);
		unlink(options->path);
		return ret;
	}
	return 0;
}

static int open_address(
	struct http_socket *out, const struct http_options *options, struct error *err)
{
	struct sockaddr_storage address;
	int length = http_address_parse(options->address, options->option, &address, err);
	_cleanup_close_ int fd = -1;
	const int one = 1;

	if (length < 0)
		return length;
	fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	/* So that it can be started anew while connections of the one before are remembered. */
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
		bind(fd, (struct sockaddr *)&address, (socklen_t)length) < 0 ||
		listen(fd, HTTP_CONNECTIONS) < 0)
		return error_errno(err, errno, "%s %s: cannot listen there; name another port",
			options->option, options->address);
	*out = (struct http_socket){.fd = steal_fd(&fd)};
	return 0;
}

static int open_path(struct http_socket *out, const struct http_options *options, struct error *err)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	_cleanup_free_ char *copy = strdup(options->path);
	int ret;

	if (fd < 0 || !copy)
		return error_errno(
			err, copy ? errno : ENOMEM, "%s %s", options->option, options->path);
	ret = bind_and_listen(fd, options, err);
	if (ret < 0)
		return ret;
	*out = (struct http_socket){.fd = steal_fd(&fd), .path = copy};
	copy = NULL;
	socket_file_keep(&out->file, out->path);
	return 0;
}

int http_socket_open(struct http_socket *out, const struct http_options *options, struct error *err)
{
	return options->address ? open_address(out, options, err) : open_path(out, options, err);
}

void http_socket_close(struct http_socket *socket)
{
	socket_file_remove(&socket->file);
	close(socket->fd);
	free(socket->path);
}
