/* SPDX-License-Identifier: Apache-2.0 */
#include "base/checked.h"
#include "base/cleanup.h"
#include "oci/share_private.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>

#define MINOR 31

void *share_body(struct share_request *request, size_t size)
{
	uint8_t *out = request->out + request->out_length;

	memset(out, 0, size);
	request->out_length += size;
	return out;
}

const char *share_name(const struct share_request *request, size_t *at)
{
	const char *name = (const char *)request->body + *at;
	const size_t length = *at < request->length ? strnlen(name, request->length - *at) : 0;

	if (!length || length == request->length - *at || length > NAME_MAX || strchr(name, '/') ||
		strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return NULL;
	*at += length + 1;
	return name;
}

int share_own(int dir, const char *name, const struct share_request *request)
{
	int code;

	if (fchownat(dir, name, request->head->uid, request->head->gid, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	code = errno;
	/* One that nobody can own is none. */
	unlinkat(dir, name, request->head->opcode == FUSE_MKDIR ? AT_REMOVEDIR : 0);
	return -code;
}

static int do_init(struct share_server *server, struct share_request *request)
{
	const struct fuse_init_in *in = (const void *)request->body;
	struct fuse_init_out *out = (void *)request->out;

	if (in->major != FUSE_KERNEL_VERSION || in->minor < MINOR)
		return -EPROTO;
	*out = (struct fuse_init_out){.major = FUSE_KERNEL_VERSION,
		.minor = MINOR,
		.max_readahead = in->max_readahead,
		.flags = in->flags & (FUSE_ASYNC_READ | FUSE_ATOMIC_O_TRUNC | FUSE_BIG_WRITES),
		.max_background = 16,
		.congestion_threshold = 12,
		.max_write = SHARE_DATA_MAX,
		.time_gran = 1};
	request->out_length = sizeof(*out);
	return 0;
}

/* A child of the request's node, looked up. */
static int enter(struct share_server *server, const struct share_node *parent, const char *name,
	struct share_request *request)
{
	const int fd = openat(parent->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	int ret = fd < 0 ? -errno : share_node_add(server, fd, (void *)request->out);

	if (ret == 0)
		request->out_length = sizeof(struct fuse_entry_out);
	return ret;
}

/* The request's node, a folder, and the name at @at; null: there is none of the two. */
static const struct share_node *folder(struct share_server *server,
	const struct share_request *request, size_t at, const char **name)
{
	const struct share_node *node = share_node(server, request->head->nodeid);

	*name = share_name(request, &at);
	return *name && node && S_ISDIR(node->mode) ? node : NULL;
}

static int do_lookup(struct share_server *server, struct share_request *request)
{
	const char *name;
	const struct share_node *parent = folder(server, request, 0, &name);

	return parent ? enter(server, parent, name, request) : -ENOENT;
}

static int do_forget(struct share_server *server, struct share_request *request)
{
	const struct fuse_forget_in *in = (const void *)request->body;

	share_node_forget(server, request->head->nodeid, in->nlookup);
	return 0;
}

static int do_batch_forget(struct share_server *server, struct share_request *request)
{
	const struct fuse_batch_forget_in *in = (const void *)request->body;
	const struct fuse_forget_one *one = (const void *)(in + 1);
	const size_t count = min_u64(in->count, (request->length - sizeof(*in)) / sizeof(*one));

	for (size_t i = 0; i < count; i++)
		share_node_forget(server, one[i].nodeid, one[i].nlookup);
	return 0;
}

static int answer_attributes(const struct share_node *node, struct share_request *request)
{
	struct fuse_attr_out *out = share_body(request, sizeof(*out));
	struct stat info;

	if (fstatat(node->fd, "", &info, AT_EMPTY_PATH) < 0)
		return -errno;
	out->attr_valid = 1;
	share_attributes(&info, &out->attr);
	return 0;
}

static int do_getattr(struct share_server *server, struct share_request *request)
{
	const struct share_node *node = share_node(server, request->head->nodeid);

	return node ? answer_attributes(node, request) : -ESTALE;
}

static int set_times(const char *path, const struct fuse_setattr_in *in)
{
	const struct timespec times[2] = {
		{.tv_sec = (time_t)in->atime,
			.tv_nsec = in->valid & FATTR_ATIME_NOW ? UTIME_NOW
				   : in->valid & FATTR_ATIME   ? (long)in->atimensec
							       : UTIME_OMIT},
		{.tv_sec = (time_t)in->mtime,
			.tv_nsec = in->valid & FATTR_MTIME_NOW ? UTIME_NOW
				   : in->valid & FATTR_MTIME   ? (long)in->mtimensec
							       : UTIME_OMIT}};

	return utimensat(AT_FDCWD, path, times, 0);
}

static int set_attributes(const struct share_node *node, const struct fuse_setattr_in *in)
{
	const uint32_t valid = in->valid;
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", node->fd);
	if (valid & FATTR_SIZE && (!S_ISREG(node->mode) || truncate(path, (off_t)in->size) < 0))
		return S_ISREG(node->mode) ? -errno : -EINVAL;
	if (valid & (FATTR_UID | FATTR_GID) &&
		fchownat(node->fd, "", valid & FATTR_UID ? in->uid : (uid_t)-1,
			valid & FATTR_GID ? in->gid : (gid_t)-1, AT_EMPTY_PATH) < 0)
		return -errno;
	/* A link's mode is nobody's. */
	if (valid & FATTR_MODE && (S_ISLNK(node->mode) || chmod(path, in->mode & 07777) < 0))
		return S_ISLNK(node->mode) ? -EOPNOTSUPP : -errno;
	if (valid & (FATTR_ATIME | FATTR_MTIME) && !S_ISLNK(node->mode) && set_times(path, in) < 0)
		return -errno;
	return 0;
}

static int do_setattr(struct share_server *server, struct share_request *request)
{
	const struct share_node *node = share_node(server, request->head->nodeid);
	int ret = node ? set_attributes(node, (const void *)request->body) : -ESTALE;

	return ret ?: answer_attributes(node, request);
}

static int do_readlink(struct share_server *server, struct share_request *request)
{
	const struct share_node *node = share_node(server, request->head->nodeid);
	const ssize_t length = node ? readlinkat(node->fd, "", (char *)request->out, PATH_MAX) : -1;

	if (length < 0)
		return node ? -errno : -ESTALE;
	request->out_length = (size_t)length;
	return 0;
}

static int do_mkdir(struct share_server *server, struct share_request *request)
{
	const struct fuse_mkdir_in *in = (const void *)request->body;
	const char *name;
	const struct share_node *parent = folder(server, request, sizeof(*in), &name);

	if (!parent)
		return -ENOENT;
	if (mkdirat(parent->fd, name, in->mode & 07777) < 0)
		return -errno;
	return share_own(parent->fd, name, request) ?: enter(server, parent, name, request);
}

static int do_mknod(struct share_server *server, struct share_request *request)
{
	const struct fuse_mknod_in *in = (const void *)request->body;
	const char *name;
	const struct share_node *parent = folder(server, request, sizeof(*in), &name);

	if (!parent)
		return -ENOENT;
	/* Neither devices, which would be the host's, nor what is none of the types. */
	if (!S_ISREG(in->mode) && !S_ISFIFO(in->mode) && !S_ISSOCK(in->mode))
		return -EPERM;
	if (mknodat(parent->fd, name, in->mode, 0) < 0)
		return -errno;
	return share_own(parent->fd, name, request) ?: enter(server, parent, name, request);
}

static int do_symlink(struct share_server *server, struct share_request *request)
{
	const char *name, *target;
	const struct share_node *parent = folder(server, request, 0, &name);
	const size_t at = parent ? strlen(name) + 1 : 0;

	if (!parent)
		return -ENOENT;
	target = (const char *)request->body + at;
	if (at >= request->length || !memchr(target, 0, request->length - at))
		return -EINVAL;
	if (symlinkat(target, parent->fd, name) < 0)
		return -errno;
	return share_own(parent->fd, name, request) ?: enter(server, parent, name, request);
}

static int do_link(struct share_server *server, struct share_request *request)
{
	const struct fuse_link_in *in = (const void *)request->body;
	const struct share_node *node = share_node(server, in->oldnodeid);
	const char *name;
	const struct share_node *parent = folder(server, request, sizeof(*in), &name);
	char path[32];

	if (!parent || !node)
		return -ENOENT;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", node->fd);
	/* The last link alone is followed, which is ours. */
	if (linkat(AT_FDCWD, path, parent->fd, name, AT_SYMLINK_FOLLOW) < 0)
		return -errno;
	return enter(server, parent, name, request);
}

static int do_unlink(struct share_server *server, struct share_request *request)
{
	const char *name;
	const struct share_node *parent = folder(server, request, 0, &name);
	const int flags = request->head->opcode == FUSE_RMDIR ? AT_REMOVEDIR : 0;

	if (!parent)
		return -ENOENT;
	return unlinkat(parent->fd, name, flags) < 0 ? -errno : 0;
}

static int do_rename(struct share_server *server, struct share_request *request)
{
	const struct fuse_rename2_in *in = (const void *)request->body;
	const bool second = request->head->opcode == FUSE_RENAME2;
	size_t at = second ? sizeof(*in) : sizeof(struct fuse_rename_in);
	const struct share_node *from = share_node(server, request->head->nodeid),
				*to = share_node(server, in->newdir);
	const char *old = share_name(request, &at), *fresh = old ? share_name(request, &at) : NULL;
	const uint32_t flags = second ? in->flags : 0;

	if (!from || !to || !fresh || !S_ISDIR(from->mode) || !S_ISDIR(to->mode))
		return -ENOENT;
	/* RENAME_WHITEOUT makes a device. */
	if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE))
		return -EINVAL;
	return renameat2(from->fd, old, to->fd, fresh, flags) < 0 ? -errno : 0;
}

static int do_statfs(struct share_server *server, struct share_request *request)
{
	const struct share_node *node = share_node(server, request->head->nodeid);
	struct fuse_statfs_out *out = (void *)request->out;
	struct statvfs info;

	if (!node || fstatvfs(node->fd, &info) < 0)
		return node ? -errno : -ESTALE;
	*out = (struct fuse_statfs_out){.st = {.blocks = info.f_blocks,
						.bfree = info.f_bfree,
						.bavail = info.f_bavail,
						.files = info.f_files,
						.ffree = info.f_ffree,
						.bsize = (uint32_t)info.f_bsize,
						.namelen = NAME_MAX,
						.frsize = (uint32_t)info.f_frsize}};
	request->out_length = sizeof(*out);
	return 0;
}

static int do_nothing(struct share_server *server, struct share_request *request)
{
	return 0;
}

static const struct {
	int (*run)(struct share_server *server, struct share_request *request);
	size_t least; /* bytes of its body */
	bool changes, silent;
} requests[] = {
	[FUSE_LOOKUP] = {do_lookup, 1, false, false},
	[FUSE_FORGET] = {do_forget, sizeof(struct fuse_forget_in), false, true},
	[FUSE_GETATTR] = {do_getattr, 0, false, false},
	[FUSE_SETATTR] = {do_setattr, sizeof(struct fuse_setattr_in), true, false},
	[FUSE_READLINK] = {do_readlink, 0, false, false},
	[FUSE_SYMLINK] = {do_symlink, 1, true, false},
	[FUSE_MKNOD] = {do_mknod, sizeof(struct fuse_mknod_in), true, false},
	[FUSE_MKDIR] = {do_mkdir, sizeof(struct fuse_mkdir_in), true, false},
	[FUSE_UNLINK] = {do_unlink, 1, true, false},
	[FUSE_RMDIR] = {do_unlink, 1, true, false},
	[FUSE_RENAME] = {do_rename, sizeof(struct fuse_rename_in), true, false},
	[FUSE_LINK] = {do_link, sizeof(struct fuse_link_in), true, false},
	[FUSE_OPEN] = {share_open, sizeof(struct fuse_open_in), false, false},
	[FUSE_READ] = {share_read, sizeof(struct fuse_read_in), false, false},
	[FUSE_WRITE] = {share_write, sizeof(struct fuse_write_in), true, false},
	[FUSE_STATFS] = {do_statfs, 0, false, false},
	[FUSE_RELEASE] = {share_release, sizeof(struct fuse_release_in), false, false},
	[FUSE_FSYNC] = {share_sync, sizeof(struct fuse_fsync_in), false, false},
	[FUSE_FLUSH] = {do_nothing, 0, false, false},
	[FUSE_INIT] = {do_init, sizeof(struct fuse_init_in), false, false},
	[FUSE_OPENDIR] = {share_opendir, sizeof(struct fuse_open_in), false, false},
	[FUSE_READDIR] = {share_readdir, sizeof(struct fuse_read_in), false, false},
	[FUSE_RELEASEDIR] = {share_release, sizeof(struct fuse_release_in), false, false},
	[FUSE_FSYNCDIR] = {share_sync, sizeof(struct fuse_fsync_in), false, false},
	[FUSE_CREATE] = {share_create, sizeof(struct fuse_create_in), true, false},
	[FUSE_INTERRUPT] = {do_nothing, 0, false, true},
	[FUSE_DESTROY] = {do_nothing, 0, false, false},
	[FUSE_BATCH_FORGET] = {do_batch_forget, sizeof(struct fuse_batch_forget_in), false, true},
	[FUSE_FALLOCATE] = {share_allocate, sizeof(struct fuse_fallocate_in), true, false},
	[FUSE_RENAME2] = {do_rename, sizeof(struct fuse_rename2_in), true, false},
};

int share_answer(struct share_server *server, const uint8_t *bytes, size_t length,
	uint8_t answer[SHARE_ANSWER_MAX])
{
	struct fuse_out_header *out = (void *)answer;
	struct share_request request = {.head = (const void *)bytes,
		.body = bytes + sizeof(*request.head),
		.length = length - sizeof(*request.head),
		.out = answer + sizeof(*out)};
	const uint32_t code = length < sizeof(*request.head) ? 0 : request.head->opcode;
	int ret = -ENOSYS;

	if (length < sizeof(*request.head) || request.head->len != length)
		return -EBADMSG;
	if (code < ARRAY_SIZE(requests) && requests[code].run) {
		if (request.length < requests[code].least)
			return -EBADMSG;
		ret = server->readonly && requests[code].changes
			      ? -EROFS
			      : requests[code].run(server, &request);
		if (requests[code].silent)
			return 0;
	}
	if (ret < 0)
		request.out_length = 0;
	*out = (struct fuse_out_header){.len = (uint32_t)(sizeof(*out) + request.out_length),
		.error = ret,
		.unique = request.head->unique};
	return (int)out->len;
}
