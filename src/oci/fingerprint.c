/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/fingerprint.h"

#include "base/checked.h"
#include "base/cleanup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define DEPTH_MAX 512 /* a descriptor each */
#define FILES_MAX 10000000

struct walk {
	struct fingerprint *fingerprint;
	struct sha256 sha;
	struct error *err;
	unsigned depth;
};

static int walk_directory(struct walk *walk, int dir);

static void add_number(struct walk *walk, uint64_t number)
{
	sha256_add(&walk->sha, &number, sizeof(number));
}

static void add_time(struct walk *walk, const struct timespec *time)
{
	add_number(walk, (uint64_t)time->tv_sec);
	add_number(walk, (uint64_t)time->tv_nsec);
}

static void add_file(struct walk *walk, const struct stat *info)
{
	add_number(walk, (uint64_t)info->st_size);
	if (!info->st_size)
		return;
	add_number(walk, info->st_ino);
	add_time(walk, &info->st_mtim);
	add_time(walk, &info->st_ctim);
	walk->fingerprint->bytes += align_up((uint64_t)info->st_size, 4096);
}

static int add_link(struct walk *walk, int dir, const char *name)
{
	char target[PATH_MAX] = "";

	if (readlinkat(dir, name, target, sizeof(target) - 1) < 0)
		return error_errno(walk->err, errno, "%s", name);
	sha256_add_text(&walk->sha, target);
	return 0;
}

static int add_directory(struct walk *walk, int dir, const char *name)
{
	int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), ret;

	if (fd < 0)
		return error_errno(walk->err, errno, "%s", name);
	walk->fingerprint->bytes += 4096;
	walk->depth++;
	ret = walk_directory(walk, fd);
	walk->depth--;
	add_number(walk, UINT64_MAX); /* its end */
	return ret;
}

static int add_entry(struct walk *walk, int dir, const char *name)
{
	struct stat info;

	if (fstatat(dir, name, &info, AT_SYMLINK_NOFOLLOW) < 0)
		return error_errno(walk->err, errno, "%s", name);
	if (walk->fingerprint->files++ > FILES_MAX)
		return error_set(walk->err, EFBIG, "has more than %d files", FILES_MAX);
	sha256_add_text(&walk->sha, name);
	add_number(walk, info.st_mode);
	add_number(walk, info.st_uid);
	add_number(walk, info.st_gid);
	if (S_ISREG(info.st_mode))
		add_file(walk, &info);
	else if (S_ISCHR(info.st_mode) || S_ISBLK(info.st_mode))
		add_number(walk, info.st_rdev);
	else if (S_ISLNK(info.st_mode))
		return add_link(walk, dir, name);
	else if (S_ISDIR(info.st_mode))
		return add_directory(walk, dir, name);
	return 0;
}

static int in_order(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* In an order that does not depend on the file system. */
static int list_names(DIR *list, char ***names, size_t *count)
{
	const struct dirent *entry;
	char **grown;

	while ((entry = readdir(list))) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (*count % 256 == 0) {
			grown = realloc(*names, (*count + 256) * sizeof(*grown));
			if (!grown)
				return -ENOMEM;
			*names = grown;
		}
		(*names)[*count] = strdup(entry->d_name);
		if (!(*names)[(*count)++])
			return -ENOMEM;
	}
	if (*count)
		qsort(*names, *count, sizeof(**names), in_order);
	return 0;
}

/* Closes @dir. */
static int walk_directory(struct walk *walk, int dir)
{
	DIR *list = fdopendir(dir);
	char **names = NULL;
	size_t count = 0;
	int ret;

	if (!list) {
		close(dir);
		return error_errno(walk->err, errno, "a directory");
	}
	if (walk->depth > DEPTH_MAX)
		ret = error_set(walk->err, ELOOP, "is deeper than %d directories", DEPTH_MAX);
	else if (list_names(list, &names, &count) < 0)
		ret = error_set(walk->err, ENOMEM, "there is no memory");
	else
		ret = 0;
	for (size_t i = 0; i < count; i++) {
		if (ret == 0)
			ret = add_entry(walk, dirfd(list), names[i]);
		free(names[i]);
	}
	free(names);
	closedir(list);
	return ret;
}

int fingerprint_take(const char *path, struct fingerprint *fingerprint, struct error *err)
{
	struct walk walk = {.fingerprint = fingerprint, .err = err};
	struct stat info;
	uint8_t digest[SHA256_SIZE];
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), ret;

	*fingerprint = (struct fingerprint){0};
	if (fd < 0 || fstat(fd, &info) < 0) {
		ret = error_errno(err, errno, "%s", path);
		if (fd >= 0)
			close(fd);
		return ret;
	}
	sha256_begin(&walk.sha);
	add_number(&walk, info.st_mode);
	add_number(&walk, info.st_uid);
	add_number(&walk, info.st_gid);
	ret = walk_directory(&walk, fd);
	sha256_end(&walk.sha, digest);
	sha256_text(digest, fingerprint->text);
	return ret < 0 ? error_prefix(err, "%s: ", path) : 0;
}
