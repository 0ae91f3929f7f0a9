/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/store.h"

#include "base/cleanup.h"
#include "oci/text.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#define WEEK_S (7 * 24 * 3600)

/* Its last use is its date. */
static bool is_there(const char *path)
{
	return utimensat(AT_FDCWD, path, NULL, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Locks too: who waits for one finds out that it is not the file of the name any more. */
static void drop_old(const char *cache)
{
	DIR *list = opendir(cache);
	const struct dirent *entry;
	struct stat info;

	while (list && (entry = readdir(list)))
		if (fstatat(dirfd(list), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) == 0 &&
			S_ISREG(info.st_mode) && info.st_mtime < time(NULL) - WEEK_S)
			unlinkat(dirfd(list), entry->d_name, 0);
	if (list)
		closedir(list);
}

static int make_cache(const char *cache, struct error *err)
{
	struct stat info;

	if (mkdir(cache, 0700) < 0 && errno != EEXIST)
		return error_errno(
			err, errno, "the cache %s (DUET_OCI_CACHE names another)", cache);
	if (lstat(cache, &info) < 0 || !S_ISDIR(info.st_mode))
		return error_set(err, ENOTDIR, "the cache %s is no directory", cache);
	/* What guests boot must not be another user's. */
	if (info.st_uid != geteuid() || info.st_mode & 022)
		return error_set(err, EPERM,
			"the cache %s can be written by others than this user; make it its own, "
			"mode "
			"0700",
			cache);
	return 0;
}

static int take_lock(const char *path, struct error *err)
{
	struct stat held, there;
	int fd;

	for (;;) {
		fd = open(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (fd < 0 || flock(fd, LOCK_EX) < 0)
			break;
		if (fstat(fd, &held) == 0 && stat(path, &there) == 0 && held.st_ino == there.st_ino)
			return fd;
		close(fd);
	}
	error_errno(err, errno, "%s", path);
	if (fd >= 0)
		close(fd);
	return -1;
}

static int make(const struct store_make *what, const char *path, struct error *err)
{
	_cleanup_free_ char *fresh = text_format("%s.%d", path, (int)getpid());
	int ret;

	if (!fresh)
		return error_set(err, ENOMEM, "there is no memory");
	unlink(fresh);
	ret = what->make(what->opaque, fresh, err);
	if (ret == 0 && rename(fresh, path) < 0)
		ret = error_errno(err, errno, "%s", path);
	if (ret < 0)
		unlink(fresh);
	return ret;
}

int store_get(const struct store_make *what, char **path, struct error *err)
{
	_cleanup_free_ char *name = text_format("%s/%s", what->cache, what->name);
	_cleanup_free_ char *lock = text_format("%s/.%s.lock", what->cache, what->name);
	_cleanup_close_ int fd = -1;
	int ret = make_cache(what->cache, err);

	if (ret < 0)
		return ret;
	if (!name || !lock)
		return error_set(err, ENOMEM, "there is no memory");
	if (!is_there(name)) {
		fd = take_lock(lock, err);
		if (fd < 0)
			return -EIO;
		ret = is_there(name) ? 0 : make(what, name, err);
		unlink(lock);
		drop_old(what->cache);
	}
	if (ret == 0) {
		*path = name;
		name = NULL;
	}
	return ret;
}

int read_whole(const char *path, size_t most, char **bytes, size_t *length, struct error *err)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat info;
	ssize_t got = 1;

	*length = 0;
	if (fd < 0 || fstat(fd, &info) < 0)
		return error_errno(err, errno, "%s", path);
	if (!S_ISREG(info.st_mode))
		return error_set(err, EINVAL, "%s is no plain file", path);
	if ((uint64_t)info.st_size > most)
		return error_set(err, EFBIG, "%s is larger than %zu bytes", path, most);
	*bytes = malloc((size_t)info.st_size + 1);
	while (*bytes && got > 0 && *length < (size_t)info.st_size) {
		got = read(fd, *bytes + *length, (size_t)info.st_size - *length);
		*length += got > 0 ? (size_t)got : 0;
	}
	if (!*bytes || got < 0)
		return error_errno(err, *bytes ? errno : ENOMEM, "%s", path);
	(*bytes)[*length] = 0;
	return 0;
}
