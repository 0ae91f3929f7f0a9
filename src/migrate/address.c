/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/address.h"

#include "migrate/channel.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/*
 * #syscalls main: socket(0 = AF_UNIX) connect setsockopt getsockopt poll
 * #syscalls arrive: accept4 setsockopt poll
 * #syscalls caller: socket(0 = AF_INET) socket(0 = AF_INET6)
 */

#define SOCKET_FLAGS (SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK)
#define CONNECT_S    10

static int wrong(const char *text, const char *what, struct error *err)
{
	return error_set(err, EINVAL,
		"%s %.300s: no address; write tcp:HOST:PORT, tcp:[ADDRESS]:PORT or unix:PATH", what,
		text);
}

/* HOST:PORT, the host in brackets when it has colons. Numbers alone: a name would be looked up by
 * parts of the C library that are not in a static program. */
static bool split(struct address *address, const char *at)
{
	const char *end = at, *colon = strrchr(at, ':');
	size_t length;

	if (!colon || !colon[1] || strlen(colon + 1) >= sizeof(address->port))
		return false;
	end = colon;
	if (*at == '[') {
		at++;
		if (end[-1] != ']')
			return false;
		end--;
	}
	length = end > at ? (size_t)(end - at) : 0;
	if (!length || length >= sizeof(address->host))
		return false;
	memcpy(address->host, at, length);
	strcpy(address->port, colon + 1);
	return strspn(address->port, "0123456789") == strlen(address->port);
}

struct place {
	union {
		struct sockaddr any;
		struct sockaddr_in four;
		struct sockaddr_in6 six;
		struct sockaddr_un file;
	} at;
	socklen_t size;
};

static int find_tcp(const struct address *address, struct place *place, struct error *err)
{
	const char *host = strcmp(address->host, "localhost") == 0 ? "127.0.0.1" : address->host;
	const unsigned long port = strtoul(address->port, NULL, 10);

	if (port >= 1 && port <= UINT16_MAX &&
		inet_pton(AF_INET, host, &place->at.four.sin_addr) == 1) {
		place->at.four.sin_family = AF_INET;
		place->at.four.sin_port = htons((uint16_t)port);
		place->size = sizeof(place->at.four);
		return 0;
	}
	if (port >= 1 && port <= UINT16_MAX &&
		inet_pton(AF_INET6, host, &place->at.six.sin6_addr) == 1) {
		place->at.six.sin6_family = AF_INET6;
		place->at.six.sin6_port = htons((uint16_t)port);
		place->size = sizeof(place->at.six);
		return 0;
	}
	return error_set(err, EINVAL,
		"%s: no address and port; write both in numbers, as tcp:192.0.2.1:4000 or "
		"tcp:[2001:db8::1]:4000",
		address->text);
}

static int find(const struct address *address, struct place *place, struct error *err)
{
	*place = (struct place){.size = 0};
	if (!address->is_unix)
		return find_tcp(address, place, err);
	place->at.file.sun_family = AF_UNIX;
	memcpy(place->at.file.sun_path, address->path, sizeof(address->path));
	place->size = sizeof(place->at.file);
	return 0;
}

int address_parse(struct address *address, const char *text, const char *what, struct error *err)
{
	struct place place;

	*address = (struct address){.text = text};
	if (strncmp(text, "unix:", 5) == 0) {
		address->is_unix = true;
		if (!text[5] || strlen(text + 5) >= sizeof(address->path))
			return wrong(text, what, err);
		strcpy(address->path, text + 5);
		return 0;
	}
	if (strncmp(text, "tcp:", 4) != 0 || !split(address, text + 4))
		return wrong(text, what, err);
	return find(address, &place, err) < 0 ? error_prefix(err, "%s ", what) : 0;
}

bool address_is_local(const struct address *address)
{
	struct place place;

	if (find(address, &place, NULL) < 0)
		return false;
	if (place.at.any.sa_family == AF_INET)
		return ntohl(place.at.four.sin_addr.s_addr) >> 24 == 127;
	return place.at.any.sa_family == AF_UNIX || IN6_IS_ADDR_LOOPBACK(&place.at.six.sin6_addr);
}

static int failed(const struct address *address, int fd, int code, struct error *err)
{
	if (fd >= 0)
		close(fd);
	if (code == EADDRINUSE)
		return error_set(err, code,
			"%s: is taken already; if no other duet waits there%s, or name another",
			address->text, address->is_unix ? " remove the file" : " wait a minute");
	if (code == ENOENT)
		return error_set(
			err, code, "%s: its directory is not there; make it first", address->text);
	return error_errno(err, code, "%s", address->text);
}

static int not_connected(const struct address *address, int fd, int code, struct error *err)
{
	if (code != ECONNREFUSED && code != ENOENT)
		return failed(address, fd, code, err);
	if (fd >= 0)
		close(fd);
	return error_set(err, code,
		"%s: nobody waits there; start duet run --incoming %s there first", address->text,
		address->text);
}

/* Small messages go at once; a host that is gone is noticed though nothing is to be sent, or what
 * was sent last is on its way. */
static void tune(int fd)
{
	const int on = 1, idle = 10, between = 5, count = 4, limit = CHANNEL_PATIENCE_S * 1000;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &between, sizeof(between));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &limit, sizeof(limit));
}

static int finish_connect(const struct address *address, int fd, int stop, struct error *err)
{
	socklen_t size = sizeof(int);
	int code = 0, ret = channel_wait(fd, POLLOUT, stop, CONNECT_S, err);

	if (ret < 0) {
		close(fd);
		return ret == -ETIMEDOUT
			       ? error_set(err, ETIMEDOUT, "%s: nobody answers", address->text)
			       : ret;
	}
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &size);
	return code ? not_connected(address, fd, code, err) : fd;
}

int address_connect(const struct address *address, int stop, struct error *err)
{
	struct place to;
	int fd, ret = find(address, &to, err);

	if (ret < 0)
		return ret;
	fd = socket(to.at.any.sa_family, SOCKET_FLAGS, 0);
	if (fd < 0)
		return failed(address, fd, errno, err);
	if (!address->is_unix)
		tune(fd);
	if (connect(fd, &to.at.any, to.size) == 0)
		return fd;
	if (errno != EINPROGRESS)
		return not_connected(address, fd, errno, err);
	return finish_connect(address, fd, stop, err);
}

int address_listen(struct address *address, struct error *err)
{
	struct place at;
	const int on = 1;
	int fd, ret = find(address, &at, err);

	if (ret < 0)
		return ret;
	fd = socket(at.at.any.sa_family, SOCKET_FLAGS, 0);
	if (fd < 0)
		return failed(address, fd, errno, err);
	if (address->is_unix)
		fchmod(fd, 0600); /* the file's, when it is made */
	else
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, &at.at.any, at.size) < 0 || listen(fd, WIRE_STREAMS_MAX) < 0)
		return failed(address, fd, errno, err);
	if (address->is_unix)
		socket_file_keep(&address->file, address->path);
	return fd;
}

int address_accept(int listening, int stop, unsigned patience, struct error *err)
{
	for (;;) {
		int ret = channel_wait(listening, POLLIN, stop, patience, err);
		int fd = ret == 0 ? accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)
				  : ret;

		if (ret < 0)
			return ret;
		if (fd >= 0) {
			tune(fd);
			return fd;
		}
		if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR)
			return error_errno(err, errno, "--incoming");
	}
}

void address_close(struct address *address, int listening)
{
	if (listening < 0)
		return;
	close(listening);
	socket_file_remove(&address->file);
}
