/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/container.h"

#include "base/cleanup.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

int container_check_id(const char *id, struct error *err)
{
	const size_t length = strlen(id);
	bool good = length && length <= CONTAINER_ID_MAX && *id != '.';

	for (const char *at = id; *at && good; at++)
		good = isalnum((unsigned char)*at) || strchr("_+-.", *at);
	if (good)
		return 0;
	return error_set(err, EINVAL,
		"the container's id must be 1 to %d letters, digits and _+-. that begin with no "
		"dot",
		CONTAINER_ID_MAX);
}

/* The state folder and its parents. */
static int make_root(const char *root, struct error *err)
{
	_cleanup_free_ char *path = strdup(root);

	if (!path || *root != '/')
		return error_set(err, EINVAL, "--root %s: name an absolute path", root);
	for (char *at = path; at;) {
		at = strchr(at + 1, '/');
		if (at)
			*at = 0;
		if (mkdir(path, 0711) < 0 && errno != EEXIST)
			return error_errno(err, errno, "--root %s", root);
		if (at)
			*at = '/';
	}
	return 0;
}

static int open_dir(struct container *container, bool lock, struct error *err)
{
	_cleanup_close_ int root = open(container->root, O_PATH | O_DIRECTORY | O_CLOEXEC);

	container->dir = root < 0 ? -1
				  : openat(root, container->id,
					    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (container->dir < 0 && errno == ENOENT)
		return error_set(err, ENOENT, "container %s does not exist", container->id);
	if (container->dir < 0 || (lock && flock(container->dir, LOCK_EX) < 0))
		return error_errno(err, errno, "container %s", container->id);
	return 0;
}

static int begin(struct container *container, const char *root, const char *id, struct error *err)
{
	int ret;

	*container = (struct container){.dir = -1, .root = root};
	ret = container_check_id(id, err);
	if (ret == 0)
		strcpy(container->id, id);
	return ret;
}

int container_make(struct container *container, const char *root, const char *id, struct error *err)
{
	char path[PATH_MAX];
	int ret = begin(container, root, id, err) ?: make_root(root, err);

	if (ret < 0)
		return ret;
	if (snprintf(path, sizeof(path), "%s/%s", root, id) >= (int)sizeof(path))
		return error_set(err, ENAMETOOLONG, "--root %s: it is too long", root);
	if (mkdir(path, 0700) < 0)
		return errno == EEXIST ? error_set(err, EEXIST, "container %s exists already", id)
				       : error_errno(err, errno, "%s", path);
	container->created = (int64_t)time(NULL);
	return open_dir(container, true, err);
}

static int take_identity(const json_t *json, const char *name, struct identity *identity)
{
	json_int_t pid = 0, began = 0;

	if (json_unpack((json_t *)(uintptr_t)json, "{s:{s:I,s:I}}", name, "pid", &pid, "began",
		    &began) < 0)
		return -EINVAL;
	*identity = (struct identity){.pid = (pid_t)pid, .began = (uint64_t)began};
	return 0;
}

static int take_text(const json_t *json, const char *name, char **text)
{
	const char *value = json_string_value(json_object_get(json, name));

	*text = value ? strdup(value) : NULL;
	return value && !*text ? -ENOMEM : 0;
}

static const char *const status_names[] = {"creating", "created", "running", "stopped"};

static int take(struct container *container, const json_t *json)
{
	const char *status = json_string_value(json_object_get(json, "status"));
	unsigned i = 0;

	while (status && i < 4 && strcmp(status, status_names[i]) != 0)
		i++;
	if (!status || i == 4)
		return -EINVAL;
	container->status = (enum container_status)i;
	container->created = json_integer_value(json_object_get(json, "created"));
	container->annotations = json_incref(json_object_get(json, "annotations"));
	return take_identity(json, "keeper", &container->keeper)
		?: take_identity(json, "machine", &container->machine)
		?: take_text(json, "bundle", &container->bundle)
		?: take_text(json, "network", &container->network)
		?: take_text(json, "cgroup", &container->cgroup)
		?: take_text(json, "ociVersion", &container->version);
}

int container_open(
	struct container *container, const char *root, const char *id, bool lock, struct error *err)
{
	_cleanup_free_ char *text = NULL;
	size_t length = 0;
	json_t *json;
	int ret = begin(container, root, id, err) ?: open_dir(container, lock, err);

	if (ret < 0)
		return ret;
	ret = container_read(container, "state.json", 1U << 20, &text, &length, err);
	/* Whoever was making it was killed before it had a state. */
	if (ret == -ENOENT) {
		container->status = CONTAINER_STOPPED;
		return 0;
	}
	json = ret < 0 ? NULL : json_loadb(text, length, 0, NULL);
	if (ret == 0 && (!json || take(container, json) < 0))
		ret = error_set(err, EINVAL,
			"%s/%s/state.json is damaged; duet-oci delete --force %s removes it", root,
			id, id);
	json_decref(json);
	return ret;
}

void container_close(struct container *container)
{
	if (container->dir >= 0)
		close(container->dir);
	free(container->bundle);
	free(container->network);
	free(container->cgroup);
	free(container->version);
	json_decref(container->annotations);
	*container = (struct container){.dir = -1};
}

int container_store(const struct container *container, struct error *err)
{
	_cleanup_free_ char *text = NULL;
	json_t *json = json_pack(
		"{s:s, s:I, s:{s:I,s:I}, s:{s:I,s:I}, s:s?, s:s?, s:s?, s:s?, s:O?}", "status",
		status_names[container->status], "created", (json_int_t)container->created,
		"keeper", "pid", (json_int_t)container->keeper.pid, "began",
		(json_int_t)container->keeper.began, "machine", "pid",
		(json_int_t)container->machine.pid, "began", (json_int_t)container->machine.began,
		"bundle", container->bundle, "network", container->network, "cgroup",
		container->cgroup, "ociVersion", container->version, "annotations",
		container->annotations);

	text = json ? json_dumps(json, JSON_INDENT(1)) : NULL;
	json_decref(json);
	if (!text)
		return error_set(err, ENOMEM, "there is no memory for the container's state");
	return container_write(container, "state.json", text, strlen(text), err);
}

int container_remove(struct container *container, struct error *err)
{
	DIR *list = container->dir < 0 ? NULL : fdopendir(dup(container->dir));
	const struct dirent *entry;
	char path[PATH_MAX];

	while (list && (entry = readdir(list)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			unlinkat(container->dir, entry->d_name, 0);
	if (list)
		closedir(list);
	snprintf(path, sizeof(path), "%s/%s", container->root, container->id);
	if (rmdir(path) < 0 && errno != ENOENT)
		return error_errno(err, errno, "%s", path);
	return 0;
}

enum container_status container_status(const struct container *container)
{
	return identity_is_alive(&container->keeper) ? container->status : CONTAINER_STOPPED;
}

const char *container_status_name(enum container_status status)
{
	return status_names[status];
}

json_t *container_state(const struct container *container)
{
	const enum container_status status = container_status(container);
	const json_int_t pid = status == CONTAINER_STOPPED ? 0 : container->keeper.pid;
	const char *version = container->version ? container->version : "1.0.2";

	return json_pack("{s:s, s:s, s:s, s:I, s:s, s:O*}", "ociVersion", version, "id",
		container->id, "status", status_names[status], "pid", pid, "bundle",
		container->bundle ? container->bundle : "", "annotations", container->annotations);
}

int container_read(const struct container *container, const char *name, size_t most, char **text,
	size_t *length, struct error *err)
{
	_cleanup_close_ int fd = openat(container->dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	struct stat info;
	ssize_t got;

	if (fd < 0 || fstat(fd, &info) < 0)
		return error_errno(err, errno, "%s/%s/%s", container->root, container->id, name);
	if ((uint64_t)info.st_size > most)
		return error_set(err, EFBIG, "%s is larger than %zu bytes", name, most);
	*text = malloc((size_t)info.st_size + 1);
	got = *text ? pread(fd, *text, (size_t)info.st_size, 0) : -1;
	if (got < 0)
		return error_errno(err, *text ? errno : ENOMEM, "%s", name);
	(*text)[got] = 0;
	*length = (size_t)got;
	return 0;
}

int container_write(const struct container *container, const char *name, const char *text,
	size_t length, struct error *err)
{
	char fresh[64];
	_cleanup_close_ int fd = -1;

	snprintf(fresh, sizeof(fresh), "%s.new", name);
	fd = openat(
		container->dir, fresh, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, text, length) != (ssize_t)length ||
		renameat(container->dir, fresh, container->dir, name) < 0)
		return error_errno(err, errno ? errno : ENOSPC, "%s/%s/%s", container->root,
			container->id, name);
	return 0;
}
