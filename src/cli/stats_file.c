/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/stats_file.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/leftover.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/stat.h>

/*
 * #syscalls main: openat newfstatat fstat unlink rename fcntl(1 = F_GETPIPE_SZ)
 * #syscalls main: fcntl(1 = F_SETPIPE_SZ) poll
 */

static int cannot_write(const char *path, int error, struct error *err)
{
	return error_errno(
		err, error, "--stats %s: cannot be written; make room or name another file", path);
}

static int cannot_create(const char *path, int error, struct error *err)
{
	return error_errno(err, error,
		"--stats %s: cannot be created; name a file in a directory you may write to", path);
}

/* Whether @path is, or is to be, a file of that very name. */
static bool is_replaced(const char *path)
{
	struct stat status;

	return lstat(path, &status) < 0 || S_ISREG(status.st_mode);
}

static int wait_for_reader(int fd, uint64_t until)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};
	const uint64_t now = clock_ns();

	if (now >= until || poll(&poll_fd, 1, (int)((until - now) / 1000000) + 1) == 0)
		return -ETIMEDOUT;
	return 0;
}

static int write_all(int fd, const char *text, size_t length)
{
	const uint64_t until = clock_ns() + STATS_FILE_PATIENCE_MS * MS_NS;
	int ret = 0;

	while (length && ret == 0) {
		ssize_t written = write(fd, text, length);

		if (written > 0) {
			text += written;
			length -= (size_t)written;
		} else if (written == 0) {
			ret = -EIO;
		} else if (errno == EAGAIN) {
			ret = wait_for_reader(fd, until);
		} else if (errno != EINTR) {
			ret = -errno;
		}
	}
	return ret;
}

static int write_text(int fd, const char *text, size_t length)
{
	int ret = write_all(fd, text, length);

	return ret < 0 ? ret : write_all(fd, "\n", 1);
}

/* Its name can be foretold: what is there already, of an earlier process or somebody else's, is not
 * opened. */
static int create_beside(const char *beside)
{
	unlink(beside);
	return open(beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
}

/* The text of what becomes @path, or is only tried. */
static int write_beside(
	const char *beside, const char *path, const char *text, size_t length, struct error *err)
{
	_cleanup_close_ int fd = create_beside(beside);
	int ret;

	if (fd < 0)
		return cannot_create(path, errno, err);
	ret = write_text(fd, text, length);
	if (ret == 0 && close(steal_fd(&fd)) < 0)
		ret = -errno;
	return ret < 0 ? cannot_write(path, -ret, err) : 0;
}

/* The file beside, while it is there. */
struct beside {
	struct leftover leftover;
	const char *path;
};

static void remove_beside(struct leftover *leftover)
{
	unlink(container_of(leftover, struct beside, leftover)->path);
}

static int replace(
	const char *path, const char *text, size_t length, bool only_try, struct error *err)
{
	_cleanup_free_ char *beside = NULL;
	struct beside file = {.path = NULL};
	int ret;

	if (asprintf(&beside, "%s.%d.tmp", path, (int)getpid()) < 0) {
		beside = NULL;
		return error_errno(err, ENOMEM, "--stats %s", path);
	}
	file.path = beside;
	leftover_add(&file.leftover, remove_beside);
	ret = write_beside(beside, path, text, length, err);
	if (ret == 0 && !only_try && rename(beside, path) < 0)
		ret = error_errno(err, errno, "--stats %s: cannot be replaced", path);
	if (ret < 0 || only_try)
		unlink(beside);
	leftover_forget(&file.leftover);
	return ret;
}

static int open_through(const char *path, struct error *err)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0666);

	if (fd >= 0)
		return fd;
	if (errno == ENXIO)
		return error_errno(err, ENXIO,
			"--stats %s: nobody reads it; start its reader before duet", path);
	return cannot_create(path, errno, err);
}

/* Room for all of it spares a FIFO's reader any hurry; it need not be granted. */
static void widen(int fd, size_t length)
{
	const int size = fcntl(fd, F_GETPIPE_SZ);

	if (size >= 0 && (size_t)size < length)
		fcntl(fd, F_SETPIPE_SZ, length);
}

static int write_through(const char *path, const char *text, size_t length, struct error *err)
{
	_cleanup_close_ int fd = open_through(path, err);
	int ret;

	if (fd < 0)
		return fd;
	widen(fd, length + 1);
	ret = write_text(fd, text, length);
	if (ret == -ETIMEDOUT)
		return error_errno(err, ETIMEDOUT,
			"--stats %s: its reader does not take it all; let it read on", path);
	return ret < 0 ? cannot_write(path, -ret, err) : 0;
}

int stats_file_write(const char *path, const char *text, size_t length, struct error *err)
{
	if (is_replaced(path))
		return replace(path, text, length, false, err);
	return write_through(path, text, length, err);
}

/* Not opened: its reader would take the close for the end. */
static int check_through(const char *path, struct error *err)
{
	_cleanup_close_ int fd = -1;

	if (faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) == 0)
		return 0;
	if (errno != ENOENT)
		return cannot_write(path, errno, err);
	fd = open_through(path, err);
	return fd < 0 ? fd : 0;
}

int stats_file_check(const char *path, struct error *err)
{
	struct stat status;

	if (stat(path, &status) == 0 && S_ISDIR(status.st_mode))
		return error_set(
			err, EISDIR, "--stats %s: is a directory; name a file in it", path);
	if (is_replaced(path))
		return replace(path, "", 0, true, err);
	return check_through(path, err);
}
