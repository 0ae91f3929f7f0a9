/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/volumes.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "oci/store.h"
#include "oci/text.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define FILE_MAX (1U << 20)
/* The agent's port is below. */
#define FIRST_PORT 2000

/* An engine's own files, which it writes before the container starts. */
static const char *const managed[] = {"/etc/hosts", "/etc/hostname", "/etc/resolv.conf",
	"/run/.containerenv", "/.dockerenv", "/etc/mtab"};

static bool is_managed(const char *path)
{
	for (unsigned i = 0; i < ARRAY_SIZE(managed); i++)
		if (strcmp(path, managed[i]) == 0)
			return true;
	return false;
}

static int take_file(struct mount *mount, const struct stat *info, struct error *err)
{
	char *bytes = NULL;
	size_t length = 0;
	int ret = read_whole(mount->source, FILE_MAX, &bytes, &length, err);

	mount->content = (struct blob){(uint8_t *)bytes, (uint32_t)length};
	mount->kind = MOUNT_FILE;
	mount->mode = info->st_mode & 07777;
	mount->uid = info->st_uid;
	mount->gid = info->st_gid;
	return ret;
}

static int refuse(const struct mount *mount, const struct stat *info, struct error *err)
{
	return error_set(err, EINVAL,
		"the volume %s is a %s, whose other end is in the host's kernel", mount->source,
		S_ISSOCK(info->st_mode)   ? "socket"
		: S_ISFIFO(info->st_mode) ? "pipe"
					  : "device");
}

/* Memory that an engine has for the host's processes: the guest's are in another memory. */
static int take_shm(struct mount *mount)
{
	free(mount->type);
	free(mount->source);
	mount->kind = MOUNT_KERNEL;
	mount->type = strdup("tmpfs");
	mount->source = strdup("shm");
	mount->flags =
		(mount->flags & ~(uint64_t)(MS_BIND | MS_REC)) | MS_NOSUID | MS_NODEV | MS_NOEXEC;
	return mount->type && mount->source ? 0 : -ENOMEM;
}

static int make_absolute(struct mount *mount, const char *bundle)
{
	char *path = *mount->source == '/' ? NULL : text_format("%s/%s", bundle, mount->source);

	if (*mount->source == '/')
		return 0;
	free(mount->source);
	mount->source = path;
	return path ? 0 : -ENOMEM;
}

static int prepare(struct mount *mount, const char *bundle, uint32_t port, struct error *err)
{
	struct stat info;

	if (make_absolute(mount, bundle) < 0)
		return error_set(err, ENOMEM, "there is no memory");
	if (strcmp(mount->destination, "/dev/shm") == 0 && take_shm(mount) == 0)
		return 0;
	if (stat(mount->source, &info) < 0)
		return error_errno(err, errno, "the volume %s", mount->source);
	mount->is_file = S_ISREG(info.st_mode);
	if (mount->is_file && info.st_size <= FILE_MAX &&
		(mount->flags & MS_RDONLY || is_managed(mount->destination)))
		return take_file(mount, &info, err);
	if (!mount->is_file && !S_ISDIR(info.st_mode))
		return refuse(mount, &info, err);
	mount->kind = MOUNT_SHARE;
	mount->port = port;
	return 0;
}

int volumes_prepare(struct setup *setup, const char *bundle, struct error *err)
{
	uint32_t shares = 0;
	int ret = 0;

	for (uint32_t i = 0; i < setup->mount_count && ret == 0; i++) {
		struct mount *mount = &setup->mounts[i];

		if (!mount->is_bind)
			continue;
		ret = prepare(mount, bundle, FIRST_PORT + shares, err);
		shares += ret == 0 && mount->kind == MOUNT_SHARE;
		if (shares > SETUP_SHARES_MAX)
			ret = error_set(
				err, E2BIG, "there are more than %d volumes", SETUP_SHARES_MAX);
	}
	return ret;
}
