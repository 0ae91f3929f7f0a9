/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/target.h"

#include "base/cleanup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * #syscalls main: access openat newfstatat fstat mkdir getdents64 lseek fsync
 * #syscalls main: rename renameat2 unlink rmdir
 */

static char *join(const char *one, const char *other)
{
	char *text;

	return asprintf(&text, "%s%s", one, other) < 0 ? NULL : text;
}

char *snapshot_state_of(const char *directory)
{
	return join(directory, "/state");
}

char *snapshot_memory_of(const char *directory)
{
	return join(directory, "/memory");
}

/* ---- one thing takes another's place ---- */

static int name_it(struct successor *it, const char *name)
{
	it->name = strdup(name);
	/* "DIR/.new" would be in it, not beside it. */
	for (size_t end = it->name ? strlen(it->name) : 0; end > 1 && it->name[end - 1] == '/';)
		it->name[--end] = 0;
	it->new = it->name ? join(it->name, ".new") : NULL;
	return it->new ? 0 : -ENOMEM;
}

/* What some file systems cannot do at once is done in three steps. */
static int exchange(const char *one, const char *other)
{
	_cleanup_free_ char *aside = NULL;

	if (renameat2(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -errno;
	aside = join(other, ".old");
	if (!aside)
		return -ENOMEM;
	if (renameat2(AT_FDCWD, other, AT_FDCWD, aside, RENAME_NOREPLACE) < 0 &&
		(errno != EINVAL || access(aside, F_OK) == 0 || rename(other, aside) < 0))
		return -errno;
	if (rename(one, other) == 0)
		return rename(aside, one) == 0 ? 0 : -errno;
	rename(aside, other);
	return -errno;
}

static int replace(struct successor *it)
{
	int ret = exchange(it->new, it->name);

	if (ret == -ENOENT) {
		ret = rename(it->new, it->name) < 0 ? -errno : 0;
		it->made = ret < 0;
	} else if (ret == 0) {
		it->replaced = true;
	}
	return ret;
}

static void undo(struct successor *it)
{
	if (it->replaced && exchange(it->new, it->name) == 0)
		it->replaced = false;
	else if (!it->made && rename(it->name, it->new) == 0)
		it->made = true;
}

static void forget(struct successor *it)
{
	free(it->name);
	free(it->new);
	*it = (struct successor){0};
}

/* ---- opened ---- */

/* By errno. */
static int not_made(const char *name, struct error *err)
{
	if (errno != EEXIST)
		return error_errno(err, errno, "%s", name);
	return error_set(err, EEXIST,
		"%s: is there already; remove it, unless another snapshot is being written there",
		name);
}

static int make_file(struct successor *it, const char *name, int *fd, struct error *err)
{
	if (name_it(it, name) < 0)
		return error_errno(err, ENOMEM, "snapshot");
	/* The guest's memory is nobody else's. */
	*fd = open(it->new, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (*fd >= 0) {
		it->made = true;
		return 0;
	}
	return not_made(it->new, err);
}

static bool is_kind(const char *name, mode_t kind)
{
	struct stat stat;

	return lstat(name, &stat) == 0 && (stat.st_mode & S_IFMT) == kind;
}

static bool is_snapshots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, "state") == 0 ||
	       strcmp(name, "memory") == 0;
}

/* It will be removed: a directory with anything else in it is not ours. */
static int check_old(const char *directory, struct error *err)
{
	DIR *list = opendir(directory);
	const struct dirent *entry;
	int ret = 0;

	if (!list)
		return errno == ENOENT ? 0 : error_errno(err, errno, "%s", directory);
	while (ret == 0 && (entry = readdir(list)))
		if (!is_snapshots(entry->d_name))
			ret = error_set(err, ENOTEMPTY,
				"%s: has other files (%s); name a directory that is a snapshot's "
				"alone",
				directory, entry->d_name);
	closedir(list);
	return ret;
}

static int make_directory(struct successor *it, const char *name, struct error *err)
{
	int ret;

	if (name_it(it, name) < 0)
		return error_errno(err, ENOMEM, "snapshot");
	if (is_kind(it->name, S_IFLNK))
		return error_set(err, EINVAL, "%s: is a link; name the directory itself", it->name);
	ret = check_old(it->name, err);
	if (ret < 0)
		return ret;
	if (mkdir(it->new, 0700) == 0) {
		it->made = true;
		return 0;
	}
	return not_made(it->new, err);
}

/* In a new directory the names need not be new. */
static int open_in_directory(struct snapshot_target *target, struct error *err)
{
	_cleanup_free_ char *state = snapshot_state_of(target->directory.new),
			    *memory = snapshot_memory_of(target->directory.new);
	int ret;

	if (!state || !memory)
		return error_errno(err, ENOMEM, "snapshot");
	ret = make_file(&target->state, state, &target->state_fd, err);
	if (ret == 0)
		ret = make_file(&target->memory, memory, &target->memory_fd, err);
	return ret;
}

int snapshot_target_open(
	struct snapshot_target *target, const struct snapshot_place *place, struct error *err)
{
	int ret;

	*target = (struct snapshot_target){.state_fd = -1, .memory_fd = -1};
	if (place->directory) {
		ret = make_directory(&target->directory, place->directory, err);
		return ret < 0 ? ret : open_in_directory(target, err);
	}
	if (is_kind(place->state, S_IFDIR) || is_kind(place->memory, S_IFDIR))
		return error_set(err, EISDIR, "%s or %s: is a directory; name a file", place->state,
			place->memory);
	if (strcmp(place->state, place->memory) == 0)
		return error_set(
			err, EINVAL, "%s: state and memory need a file each", place->state);
	ret = make_file(&target->state, place->state, &target->state_fd, err);
	return ret < 0 ? ret : make_file(&target->memory, place->memory, &target->memory_fd, err);
}

/* ---- committed ---- */

static int sync_directory_of(const char *name)
{
	_cleanup_free_ char *directory = strdup(name);
	_cleanup_close_ int fd = -1;
	char *slash;

	if (!directory)
		return -ENOMEM;
	slash = strrchr(directory, '/');
	if (slash)
		slash[slash == directory] = 0;
	fd = open(slash ? directory : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	/* Not every file system can. */
	return fd < 0 || (fsync(fd) < 0 && errno != EINVAL) ? -errno : 0;
}

static int finish_files(struct snapshot_target *target)
{
	if (fsync(target->memory_fd) < 0 || fsync(target->state_fd) < 0)
		return -errno;
	return 0;
}

/* What cannot be made sure of is taken back. */
static int replace_surely(struct successor *it)
{
	int ret = replace(it);

	if (ret < 0)
		return ret;
	ret = sync_directory_of(it->name);
	if (ret < 0)
		undo(it);
	return ret;
}

/* The memory first: its marks tell that it is not that of an old state. */
static int replace_files(struct snapshot_target *target)
{
	int ret = replace_surely(&target->memory);

	if (ret < 0)
		return ret;
	ret = replace_surely(&target->state);
	if (ret < 0)
		undo(&target->memory);
	return ret;
}

int snapshot_target_commit(struct snapshot_target *target, struct error *err)
{
	const char *name = target->directory.name ? target->directory.name : target->state.name;
	int ret = finish_files(target);

	if (ret == 0)
		ret = replace_files(target);
	if (ret == 0 && target->directory.name)
		ret = replace_surely(&target->directory);
	return ret < 0 ? error_errno(err, -ret, "%s", name) : 0;
}

/* ---- closed ---- */

static void drop_file(struct successor *it)
{
	if (it->made || it->replaced)
		unlink(it->new);
	forget(it);
}

static void drop_directory(struct successor *it)
{
	_cleanup_free_ char *state = it->new ? snapshot_state_of(it->new) : NULL,
			    *memory = it->new ? snapshot_memory_of(it->new) : NULL;

	if ((it->made || it->replaced) && state && memory) {
		unlink(state);
		unlink(memory);
		rmdir(it->new);
	}
	forget(it);
}

void snapshot_target_close(struct snapshot_target *target)
{
	drop_file(&target->state);
	drop_file(&target->memory);
	drop_directory(&target->directory);
	if (target->state_fd >= 0)
		close(target->state_fd);
	if (target->memory_fd >= 0)
		close(target->memory_fd);
}
