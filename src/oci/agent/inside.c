/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/agent/inside.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static int open_at(int root, const char *path, unsigned long long flags)
{
	const struct open_how how = {
		.flags = flags | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
	const int fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));

	return fd < 0 ? -errno : fd;
}

int inside_open(int root, const char *path)
{
	return open_at(root, path, O_PATH);
}

/* @name in @parent, both there or made. */
static int make_one(int parent, const char *name, bool is_file)
{
	_cleanup_close_ int fd = -1;

	if (!is_file)
		return mkdirat(parent, name, 0755) < 0 && errno != EEXIST ? -errno : 0;
	fd = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	return fd < 0 && errno != EEXIST ? -errno : 0;
}

/* The part of @path before its last name; that it is there has been seen to. */
static int open_parent(int root, char *path, char **name)
{
	char *slash = strrchr(path, '/');

	*name = slash ? slash + 1 : path;
	if (!slash || slash == path)
		return open_at(root, "/", O_PATH | O_DIRECTORY);
	*slash = 0;
	return open_at(root, path, O_PATH | O_DIRECTORY);
}

static int make_path(int root, const char *path, size_t length, bool is_file)
{
	_cleanup_free_ char *copy = strndup(path, length);
	_cleanup_close_ int parent = -1, there = copy ? open_at(root, copy, O_PATH) : -ENOMEM;
	char *name;

	if (there != -ENOENT)
		return there < 0 ? there : 0;
	parent = open_parent(root, copy, &name);
	if (parent < 0)
		return parent;
	/* Of a link that leads nowhere what it names would have to be made: it is not. */
	return *name && strcmp(name, "..") != 0 ? make_one(parent, name, is_file) : -ENOENT;
}

int inside_make(int root, const char *path, bool is_file)
{
	const size_t length = strlen(path);
	int ret = 0;

	for (size_t end = 1; end <= length && ret == 0; end++)
		if (end == length || (path[end] == '/' && path[end - 1] != '/'))
			ret = make_path(root, path, end, is_file && end == length);
	return ret < 0 ? ret : inside_open(root, path);
}

const char *inside_name(int fd, char name[32])
{
	snprintf(name, 32, "/proc/self/fd/%d", fd);
	return name;
}

int mount_at(
	const char *source, const char *at, const char *type, unsigned long flags, const char *data)
{
	return mount(source, at, type, flags, data) < 0 ? -errno : 0;
}

int write_file(const char *path, const void *bytes, size_t length)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0)
		return -errno;
	return write(fd, bytes, length) == (ssize_t)length ? 0 : -(errno ? errno : EIO);
}
