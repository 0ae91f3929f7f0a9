/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Landlock (Documentation/userspace-api/landlock.rst): files, TCP and abstract sockets, as far as
 * this kernel's version of it goes. Numbers are our own where Debian 12's headers lack them.
 */
#include "base/checked.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "sandbox/private.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ACCESS_REFER    (1ULL << 13) /* version 2 */
#define ACCESS_TRUNCATE (1ULL << 14) /* 3 */
#define ACCESS_DEVICE   (1ULL << 15) /* 5: ioctl() on devices opened from then on */
#define ACCESS_TCP      3ULL         /* 4: bind and connect */
#define SCOPE_ABSTRACT  1ULL         /* 6 */

/* What a rule for a file, not for a directory, may name. */
#define FILE_ACCESS                                                                                \
	(LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE |                               \
		LANDLOCK_ACCESS_FS_WRITE_FILE | ACCESS_TRUNCATE | ACCESS_DEVICE)

/* Files and directories, but nothing that is a door to elsewhere (devices, sockets, links). */
#define KEEP_ACCESS                                                                                \
	(LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR |                              \
		LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_FILE |                   \
		LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |                      \
		LANDLOCK_ACCESS_FS_MAKE_DIR | ACCESS_REFER | ACCESS_TRUNCATE)

/* The kernel takes as much of it as its version knows. */
struct ruleset {
	uint64_t files, net, scoped;
};

static const size_t sizes[] = {0, 8, 8, 8, 16, 16, 24};

int landlock_version(void)
{
	const long version =
		syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	return version < 0 ? 0 : (int)version;
}

static uint64_t files_of(int version)
{
	uint64_t files = ACCESS_REFER - 1;

	if (version >= 2)
		files |= ACCESS_REFER;
	if (version >= 3)
		files |= ACCESS_TRUNCATE;
	if (version >= 5)
		files |= ACCESS_DEVICE;
	return files;
}

static int make_ruleset(int version, const struct sandbox_options *options, uint64_t *handled)
{
	const struct ruleset ruleset = {.files = options->files ? files_of(version) : 0,
		.net = options->calls ? 0 : ACCESS_TCP,
		.scoped = SCOPE_ABSTRACT};
	const size_t size = sizes[min_u64((uint64_t)version, ARRAY_SIZE(sizes) - 1)];
	const long fd = syscall(SYS_landlock_create_ruleset, &ruleset, size, 0);

	*handled = ruleset.files;
	return fd < 0 ? -errno : (int)fd;
}

static uint64_t rights(unsigned access)
{
	uint64_t found = 0;

	if (access & SANDBOX_READ)
		found |= LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
	if (access & (SANDBOX_WRITE | SANDBOX_MAKE))
		found |= LANDLOCK_ACCESS_FS_WRITE_FILE | ACCESS_TRUNCATE;
	if (access & SANDBOX_MAKE)
		found |= LANDLOCK_ACCESS_FS_MAKE_REG;
	if (access & SANDBOX_KEEP)
		found |= KEEP_ACCESS;
	if (access & (SANDBOX_MAKE | SANDBOX_REMOVE))
		found |= LANDLOCK_ACCESS_FS_REMOVE_FILE;
	return found;
}

static bool is_mount_root(int fd)
{
	struct statx status;

	return statx(fd, "", AT_EMPTY_PATH, STATX_TYPE, &status) < 0 ||
	       status.stx_attributes & STATX_ATTR_MOUNT_ROOT;
}

/* 9p makes a file anew in memory for each look at it, so that no rule fits it later; a mount's root
 * alone stays. Closes @fd. */
static int mount_root(const char *path, int fd)
{
	while (fd >= 0 && !is_mount_root(fd)) {
		int parent = openat(fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);

		close(fd);
		fd = parent;
	}
	log_info("sandbox: %s is on 9p: all of that mount is as open as it has to be", path);
	return fd;
}

/* The number of the mount that @fd is in; -1: nobody tells. */
static int mount_of(int fd)
{
	_cleanup_fclose_ FILE *file = NULL;
	char path[64], line[128];
	int id;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "mnt_id: %d", &id) == 1)
			return id;
	return -1;
}

/* By proc(5): statfs(2) tells the kind that the server has behind it. */
static bool is_9p(int fd)
{
	_cleanup_fclose_ FILE *file = fopen("/proc/self/mountinfo", "re");
	_cleanup_free_ char *line = NULL;
	const int wanted = mount_of(fd);
	size_t room = 0;
	int id;

	while (file && getline(&line, &room, file) > 0)
		if (sscanf(line, "%d ", &id) == 1 && id == wanted)
			return strstr(line, " - 9p ") != NULL;
	return false;
}

/* -errno: nothing is to be named. */
static int open_path(const char *path)
{
	int fd = open(path, O_PATH | O_CLOEXEC);
	struct stat status;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &status) == 0 && S_ISDIR(status.st_mode) && is_9p(fd))
		return mount_root(path, fd);
	return fd;
}

/* Nothing is there, or another user's duet (--user) has no way to it, as into root's cache: it
 * needs no rule then. */
static bool needs_none(const struct sandbox_path *path, int ret)
{
	return ret == -ENOENT || ret == -ENOTDIR ||
	       ((ret == -EACCES || ret == -EPERM) && !(path->access & SANDBOX_KEEP));
}

static int add_path(int ruleset, uint64_t handled, const struct sandbox_path *path)
{
	_cleanup_close_ int fd = open_path(path->path);
	struct landlock_path_beneath_attr rule = {
		.allowed_access = rights(path->access) & handled, .parent_fd = fd};
	struct stat status;

	if (fd < 0)
		return needs_none(path, fd) ? 0 : fd;
	if (fstat(fd, &status) == 0 && !S_ISDIR(status.st_mode))
		rule.allowed_access &= FILE_ACCESS;
	if (!rule.allowed_access)
		return 0;
	return syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0
		       ? -errno
		       : 0;
}

int landlock_enter(int version, const struct sandbox_options *options, struct error *err)
{
	/* Of what is to be limited this kernel knows nothing. */
	const bool nothing = !options->files && version < LANDLOCK_SCOPES &&
			     (options->calls || version < LANDLOCK_TCP);
	uint64_t handled;
	_cleanup_close_ int ruleset = nothing ? -1 : make_ruleset(version, options, &handled);
	int ret = ruleset < 0 ? ruleset : 0;

	if (nothing)
		return 0;
	for (unsigned i = 0; options->files && ret == 0 && i < options->path_count; i++) {
		ret = add_path(ruleset, handled, &options->paths[i]);
		if (ret < 0)
			return error_errno(
				err, -ret, "--sandbox: Landlock: %s", options->paths[i].path);
	}
	if (ret == 0 && syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
		ret = -errno;
	return ret < 0 ? error_errno(err, -ret, "--sandbox: Landlock") : 0;
}
