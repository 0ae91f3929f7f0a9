/* SPDX-License-Identifier: Apache-2.0 */
#include "base/nowait.h"

#include "base/checked.h"
#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* A regular file would get a position of its own that way, the master of a pseudo-terminal would be
 * that of a new one. */
static int open_again(int fd)
{
	char path[32];
	int number;

	if (ioctl(fd, TIOCGPTN, &number) == 0)
		return -1;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

static enum nowait_kind kind_of(int fd)
{
	struct stat stat;

	if (fstat(fd, &stat) < 0)
		return NOWAIT_POLLED;
	if (S_ISFIFO(stat.st_mode) || S_ISCHR(stat.st_mode))
		return NOWAIT_OWN;
	if (S_ISSOCK(stat.st_mode))
		return NOWAIT_SOCKET;
	return S_ISREG(stat.st_mode) ? NOWAIT_FILE : NOWAIT_POLLED;
}

void nowait_open(struct nowait *to, int fd)
{
	to->kind = kind_of(fd);
	to->fd = to->kind == NOWAIT_OWN ? open_again(fd) : fd;
	if (to->fd >= 0)
		return;
	to->fd = fd;
	to->kind = isatty(fd) ? NOWAIT_TERMINAL : NOWAIT_POLLED;
}

void nowait_close(struct nowait *to)
{
	if (to->kind == NOWAIT_OWN)
		close(to->fd);
	*to = (struct nowait){.fd = -1, .kind = NOWAIT_POLLED};
}

/* #syscalls all: write sendto poll */
bool nowait_room(const struct nowait *to, int milliseconds)
{
	struct pollfd poll_fd = {.fd = to->fd, .events = POLLOUT};

	return poll(&poll_fd, 1, milliseconds) == 1;
}

/* @room: once there is some, so much of it is there. */
static ssize_t write_polled(const struct nowait *to, const void *bytes, size_t length, size_t room)
{
	if (!nowait_room(to, 0)) {
		errno = EAGAIN;
		return -1;
	}
	return write(to->fd, bytes, min_u64(length, room));
}

/* Of more than it has room for a terminal takes what it can, and waits with the rest. */
static ssize_t write_bytewise(const struct nowait *to, const uint8_t *bytes, size_t length)
{
	size_t written = 0;

	while (written < length && write_polled(to, bytes + written, 1, 1) == 1)
		written++;
	return written || !length ? (ssize_t)written : -1;
}

static ssize_t write_once(const struct nowait *to, const void *bytes, size_t length)
{
	switch (to->kind) {
	case NOWAIT_SOCKET:
		return send(to->fd, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL);
	case NOWAIT_TERMINAL:
		return write_bytewise(to, bytes, length);
	case NOWAIT_POLLED:
		return write_polled(to, bytes, length, PIPE_BUF);
	default:
		return write(to->fd, bytes, length);
	}
}

ssize_t nowait_write(const struct nowait *to, const void *bytes, size_t length)
{
	ssize_t written;

	do {
		written = write_once(to, bytes, length);
	} while (written < 0 && errno == EINTR);
	return written < 0 ? -errno : written;
}

size_t nowait_last(const struct nowait *to, const void *bytes, size_t length, int each, int all)
{
	const uint64_t until = clock_ns() + (uint64_t)all * MS_NS;
	size_t taken = 0;

	while (taken < length) {
		ssize_t written = nowait_write(to, (const char *)bytes + taken, length - taken);

		if (written > 0)
			taken += (size_t)written;
		else if (written != -EAGAIN || clock_ns() >= until || !nowait_room(to, each))
			break;
	}
	return taken;
}
