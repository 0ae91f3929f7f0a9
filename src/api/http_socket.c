/* SPDX-License-Identifier: Apache-2.0 */
#include "api/http_private.h"
#include "base/cleanup.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

static int cannot_bind(const char *path, int error, struct error *err)
{
	if (error == EADDRINUSE)
		return error_set(err, error,
			"--api-sock %s: is there already; remove it if no other duet listens "
			"there, or name another path",
			path);
	return error_errno(err, error,
		"--api-sock %s: cannot be made; name a path in a directory that you may write to",
		path);
}

static int set_address(struct sockaddr_un *address, const char *path, struct error *err)
{
	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	/* An empty one would be a name of the kernel's choice, which no file guards. */
	if (!*path)
		return error_set(err, EINVAL, "--api-sock: the path is empty; name a file");
	if (strlen(path) >= sizeof(address->sun_path))
		return error_set(err, ENAMETOOLONG,
			"--api-sock %s: a socket's path has at most %zu characters; name a shorter "
			"one",
			path, sizeof(address->sun_path) - 1);
	memcpy(address->sun_path, path, strlen(path));
	return 0;
}

/* The file gets its mode when it is made, from the socket: there is no moment at which others could
 * connect, and no umask to change under other threads. */
static int bind_and_listen(int fd, const char *path, struct error *err)
{
	struct sockaddr_un address;
	int ret = set_address(&address, path, err);

	if (ret < 0)
		return ret;
	if (fchmod(fd, 0600) < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return cannot_bind(path, errno, err);
	if (listen(fd, HTTP_CONNECTIONS) < 0) {
		ret = cannot_bind(path, errno, err);
		unlink(path);
		return ret;
	}
	return 0;
}

int http_socket_open(struct http_socket *out, const char *path, struct error *err)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	_cleanup_free_ char *copy = strdup(path);
	struct stat status;
	int ret;

	if (fd < 0 || !copy)
		return error_errno(err, copy ? errno : ENOMEM, "--api-sock %s", path);
	ret = bind_and_listen(fd, path, err);
	if (ret < 0)
		return ret;
	*out = (struct http_socket){.fd = steal_fd(&fd), .path = copy};
	copy = NULL;
	if (lstat(path, &status) == 0) {
		out->device = status.st_dev;
		out->inode = status.st_ino;
	}
	return 0;
}

void http_socket_close(struct http_socket *socket)
{
	struct stat status;

	if (lstat(socket->path, &status) == 0 && status.st_dev == socket->device &&
		status.st_ino == socket->inode)
		unlink(socket->path);
	close(socket->fd);
	free(socket->path);
}
