/* SPDX-License-Identifier: Apache-2.0 */
/* Files and folders that the guest has open. */
#include "base/checked.h"
#include "oci/share_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* What an open may ask for. */
#define FLAGS (O_ACCMODE | O_APPEND | O_TRUNC | O_SYNC | O_DSYNC)

/* Opens what a node is, which is no link. */
static int reopen(const struct share_node *node, int flags)
{
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", node->fd);
	fd = open(path, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

static int answer_open(
	struct share_server *server, struct share_request *request, int fd, DIR *list)
{
	struct fuse_open_out *out = share_body(request, sizeof(*out));
	const int handle = share_handle_add(server, fd, list);

	out->fh = (uint64_t)handle;
	return handle < 0 ? handle : 0;
}

int share_open(struct share_server *server, struct share_request *request)
{
	const struct fuse_open_in *in = (const void *)request->body;
	const struct share_node *node = share_node(server, request->head->nodeid);
	int flags = (int)in->flags & FLAGS, fd;

	if (!node || !S_ISREG(node->mode))
		return node ? -ENXIO : -ESTALE;
	if (server->readonly && ((flags & O_ACCMODE) != O_RDONLY || flags & O_TRUNC))
		return -EROFS;
	/* Where to append the guest's kernel says, as it says where to write. */
	fd = reopen(node, flags & ~O_APPEND);
	return fd < 0 ? fd : answer_open(server, request, fd, NULL);
}

int share_create(struct share_server *server, struct share_request *request)
{
	const struct fuse_create_in *in = (const void *)request->body;
	const struct share_node *parent = share_node(server, request->head->nodeid);
	size_t at = sizeof(*in);
	const char *name = share_name(request, &at);
	struct fuse_entry_out *entry = share_body(request, sizeof(*entry));
	const int flags = (int)in->flags & FLAGS & ~O_APPEND;
	int fd, path, ret;

	if (!parent || !name)
		return parent ? -EINVAL : -ESTALE;
	/* What another has made meanwhile the guest is told of, and opens it. */
	fd = openat(parent->fd, name,
		flags | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, in->mode & 07777);
	if (fd < 0)
		return -errno;
	ret = share_own(parent->fd, name, request);
	path = openat(parent->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (ret == 0 && path < 0)
		ret = -errno;
	if (ret == 0)
		ret = share_node_add(server, path, entry);
	else if (path >= 0)
		close(path);
	if (ret < 0) {
		close(fd);
		return ret;
	}
	ret = answer_open(server, request, fd, NULL);
	if (ret < 0)
		share_node_forget(server, entry->nodeid, 1);
	return ret;
}

int share_release(struct share_server *server, struct share_request *request)
{
	const struct fuse_release_in *in = (const void *)request->body;
	struct share_handle *handle = share_handle(server, in->fh);

	if (!handle)
		return -EBADF;
	share_handle_close(handle);
	return 0;
}

int share_read(struct share_server *server, struct share_request *request)
{
	const struct fuse_read_in *in = (const void *)request->body;
	const struct share_handle *handle = share_handle(server, in->fh);
	ssize_t got;

	if (!handle || handle->fd < 0)
		return -EBADF;
	got = pread(handle->fd, request->out, min_u64(in->size, SHARE_DATA_MAX), (off_t)in->offset);
	if (got < 0)
		return -errno;
	request->out_length = (size_t)got;
	return 0;
}

int share_write(struct share_server *server, struct share_request *request)
{
	const struct fuse_write_in *in = (const void *)request->body;
	const struct share_handle *handle = share_handle(server, in->fh);
	struct fuse_write_out *out = share_body(request, sizeof(*out));
	ssize_t written;

	if (!handle || handle->fd < 0)
		return -EBADF;
	if (in->size != request->length - sizeof(*in))
		return -EINVAL;
	written = pwrite(handle->fd, request->body + sizeof(*in), in->size, (off_t)in->offset);
	if (written < 0)
		return -errno;
	out->size = (uint32_t)written;
	return 0;
}

int share_sync(struct share_server *server, struct share_request *request)
{
	const struct fuse_fsync_in *in = (const void *)request->body;
	const struct share_handle *handle = share_handle(server, in->fh);
	int fd;

	if (!handle || (handle->fd < 0 && !handle->list))
		return -EBADF;
	fd = handle->list ? dirfd(handle->list) : handle->fd;
	return (in->fsync_flags & 1 ? fdatasync(fd) : fsync(fd)) < 0 ? -errno : 0;
}

int share_allocate(struct share_server *server, struct share_request *request)
{
	const struct fuse_fallocate_in *in = (const void *)request->body;
	const struct share_handle *handle = share_handle(server, in->fh);

	if (!handle || handle->fd < 0)
		return -EBADF;
	if (in->offset > INT64_MAX || in->length > INT64_MAX)
		return -EINVAL;
	return fallocate(handle->fd, (int)in->mode, (off_t)in->offset, (off_t)in->length) < 0
		       ? -errno
		       : 0;
}

int share_opendir(struct share_server *server, struct share_request *request)
{
	const struct share_node *node = share_node(server, request->head->nodeid);
	DIR *list;
	int fd;

	if (!node || !S_ISDIR(node->mode))
		return node ? -ENOTDIR : -ESTALE;
	fd = reopen(node, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return fd;
	list = fdopendir(fd);
	if (!list) {
		close(fd);
		return -ENOMEM;
	}
	return answer_open(server, request, -1, list);
}

/* Whole entries, as many as there is room for. */
int share_readdir(struct share_server *server, struct share_request *request)
{
	const struct fuse_read_in *in = (const void *)request->body;
	const struct share_handle *handle = share_handle(server, in->fh);
	const size_t room = min_u64(in->size, SHARE_DATA_MAX);
	const struct dirent *entry;
	size_t length, size;

	if (!handle || !handle->list)
		return -EBADF;
	seekdir(handle->list, (long)in->offset);
	while ((entry = readdir(handle->list))) {
		struct fuse_dirent *out = (void *)(request->out + request->out_length);

		length = strlen(entry->d_name);
		size = FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + length);
		if (size > room - request->out_length)
			break;
		memset(out, 0, size);
		out->ino = entry->d_ino;
		out->off = (uint64_t)telldir(handle->list);
		out->namelen = (uint32_t)length;
		out->type = entry->d_type;
		memcpy(out->name, entry->d_name, length);
		request->out_length += size;
	}
	return 0;
}
