/* SPDX-License-Identifier: Apache-2.0 */
/* The container's file system: the disk, a layer of memory over it, and what config.json mounts. */
#include "oci/agent/box.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "oci/agent/inside.h"
#include "oci/agent/share.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define DISK   "/run/disk"
#define LAYER  "/run/layer"
#define FILES  "/run/files"
#define SYSCTL "/proc/sys/"

static int mount_layers(const struct setup *setup, struct error *err)
{
	static const char *const folders[] = {DISK, LAYER, BOX_ROOT, FILES};

	for (unsigned i = 0; i < ARRAY_SIZE(folders); i++)
		if (mkdir(folders[i], 0755) < 0)
			return error_errno(err, errno, "%s", folders[i]);
	if (mount("/dev/vda", DISK, setup->root_type, MS_RDONLY | MS_NODEV, NULL) < 0)
		return error_errno(err, errno, "the container's disk");
	if (mount("layer", LAYER, "tmpfs", 0, "mode=755") < 0 || mkdir(LAYER "/up", 0755) < 0 ||
		mkdir(LAYER "/work", 0755) < 0)
		return error_errno(err, errno, "the container's layer of memory");
	/* What mke2fs puts into every disk of its own is none of the container's. */
	if (strcmp(setup->root_type, "ext4") == 0)
		mknod(LAYER "/up/lost+found", S_IFCHR, makedev(0, 0));
	if (mount("root", BOX_ROOT, "overlay", MS_NODEV,
		    "lowerdir=" DISK ",upperdir=" LAYER "/up,workdir=" LAYER "/work") < 0)
		return error_errno(err, errno, "the container's root");
	return 0;
}

/* ---- one mount ---- */

static int mount_kernel(const struct mount *mount_, const char *at)
{
	const bool cgroup = strncmp(mount_->type, "cgroup", 6) == 0;

	/* The guest has the one hierarchy alone; what was said of others is not its. */
	return mount_at(mount_->source ? mount_->source : mount_->type, at,
		cgroup ? "cgroup2" : mount_->type, mount_->flags, cgroup ? NULL : mount_->data);
}

/* The bits that a bind mount takes only when it is there. */
static int restrict_bind(const char *at, uint64_t flags)
{
	const uint64_t bits = flags & (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC);

	return bits ? mount_at(NULL, at, NULL, MS_REMOUNT | MS_BIND | bits, NULL) : 0;
}

static int mount_file(const struct mount *mount_, const char *at, uint32_t number)
{
	char path[64];
	int ret;

	snprintf(path, sizeof(path), FILES "/%u", number);
	ret = write_file(path, mount_->content.bytes, mount_->content.length);
	if (ret < 0)
		return ret;
	if (chown(path, mount_->uid, mount_->gid) < 0 || chmod(path, mount_->mode & 07777) < 0)
		return -errno;
	return mount_at(path, at, NULL, MS_BIND, NULL);
}

static int mount_kind(const struct mount *mount_, const char *at, uint32_t number)
{
	if (mount_->kind == MOUNT_KERNEL)
		return mount_->type ? mount_kernel(mount_, at) : -EINVAL;
	return mount_->kind == MOUNT_FILE ? mount_file(mount_, at, number)
					  : share_mount(mount_, at);
}

/* What is said of a mount that is there. */
static int restrict_mount(int root, const struct mount *mount_)
{
	_cleanup_close_ int fd = inside_open(root, mount_->destination);
	char at[32];
	int ret = fd < 0 ? fd : 0;

	inside_name(fd, at);
	if (ret == 0 && mount_->kind != MOUNT_KERNEL)
		ret = restrict_bind(at, mount_->flags);
	if (ret == 0 && mount_->propagation)
		ret = mount_at(NULL, at, NULL, mount_->propagation, NULL);
	return ret;
}

static int mount_one(int root, const struct mount *mount_, uint32_t number)
{
	_cleanup_close_ int fd = inside_make(root, mount_->destination, mount_->is_file);
	char at[32];

	if (fd < 0)
		return fd;
	return mount_kind(mount_, inside_name(fd, at), number) ?: restrict_mount(root, mount_);
}

static int mount_all(int root, const struct setup *setup, struct error *err)
{
	int ret;

	for (uint32_t i = 0; i < setup->mount_count; i++) {
		const struct mount *mount_ = &setup->mounts[i];

		ret = mount_one(root, mount_, i);
		if (ret < 0)
			return error_errno(err, -ret, "mount at %s", mount_->destination);
	}
	return 0;
}

/* ---- devices ---- */

static const struct {
	const char *name;
	unsigned major, minor;
} devices[] = {
	{"null", 1, 3},
	{"zero", 1, 5},
	{"full", 1, 7},
	{"random", 1, 8},
	{"urandom", 1, 9},
	{"tty", 5, 0},
};

static const struct {
	const char *name, *target;
} links[] = {
	{"fd", "/proc/self/fd"},
	{"stdin", "/proc/self/fd/0"},
	{"stdout", "/proc/self/fd/1"},
	{"stderr", "/proc/self/fd/2"},
	{"ptmx", "pts/ptmx"},
};

/* Of the guest's own, where the folder is of a disk on which devices are dead. */
static int bind_device(const char *name, const char *path)
{
	char own[32];
	int fd = open(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666);

	if (fd >= 0)
		close(fd);
	snprintf(own, sizeof(own), "/dev/%s", name);
	return mount(own, path, NULL, MS_BIND, NULL);
}

static int make_device(const char *path, unsigned device, bool alive)
{
	if (!alive)
		return bind_device(devices[device].name, path);
	unlink(path);
	if (mknod(path, S_IFCHR | 0666, makedev(devices[device].major, devices[device].minor)) < 0)
		return -1;
	return chmod(path, 0666);
}

static bool has_own_dev(const struct setup *setup)
{
	for (uint32_t i = 0; i < setup->mount_count; i++)
		if (setup->mounts[i].kind == MOUNT_KERNEL &&
			strcmp(setup->mounts[i].destination, "/dev") == 0)
			return true;
	return false;
}

static int make_devices(int root, const struct setup *setup, struct error *err)
{
	_cleanup_close_ int dev = inside_make(root, "/dev", false);
	const bool alive = has_own_dev(setup);
	char path[64], at[32];

	if (dev < 0)
		return error_errno(err, -dev, "/dev");
	for (unsigned i = 0; i < ARRAY_SIZE(devices); i++) {
		snprintf(path, sizeof(path), "%s/%s", inside_name(dev, at), devices[i].name);
		if (make_device(path, i, alive) < 0)
			return error_errno(err, errno, "/dev/%s", devices[i].name);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(links); i++) {
		snprintf(path, sizeof(path), "%s/%s", inside_name(dev, at), links[i].name);
		if (symlink(links[i].target, path) < 0 && errno != EEXIST)
			return error_errno(err, errno, "/dev/%s", links[i].name);
	}
	return 0;
}

/* ---- what is hidden, and what may not be written ---- */

static int mask(int root, const char *path)
{
	_cleanup_close_ int fd = inside_open(root, path);
	struct stat info;
	char at[32];

	if (fd < 0)
		return fd == -ENOENT || fd == -ENOTDIR ? 0 : fd;
	if (fstat(fd, &info) < 0)
		return -errno;
	inside_name(fd, at);
	if (S_ISDIR(info.st_mode))
		return mount_at("masked", at, "tmpfs", MS_RDONLY, "nr_inodes=2,size=4k");
	return mount_at("/dev/null", at, NULL, MS_BIND, NULL);
}

static int protect(int root, const char *path)
{
	_cleanup_close_ int fd = inside_open(root, path);
	char at[32];

	if (fd < 0)
		return fd == -ENOENT || fd == -ENOTDIR ? 0 : fd;
	if (mount(inside_name(fd, at), at, NULL, MS_BIND | MS_REC, NULL) < 0)
		return -errno;
	cleanup_close(&fd);
	fd = inside_open(root, path);
	return fd < 0 ? fd : restrict_bind(inside_name(fd, at), MS_RDONLY);
}

static int hide(int root, const struct setup *setup, struct error *err)
{
	int ret;

	for (uint32_t i = 0; i < setup->masked.count; i++) {
		ret = mask(root, setup->masked.items[i]);
		if (ret < 0)
			return error_errno(err, -ret, "hiding %s", setup->masked.items[i]);
	}
	for (uint32_t i = 0; i < setup->readonly.count; i++) {
		ret = protect(root, setup->readonly.items[i]);
		if (ret < 0)
			return error_errno(
				err, -ret, "making %s read-only", setup->readonly.items[i]);
	}
	return 0;
}

static int set_sysctls(const struct setup *setup, struct error *err)
{
	char path[256];
	int ret;

	for (uint32_t i = 0; i < setup->sysctl.count; i += 2) {
		const char *name = setup->sysctl.items[i], *value = setup->sysctl.items[i + 1];

		if (snprintf(path, sizeof(path), SYSCTL "%s", name) >= (int)sizeof(path))
			return error_set(err, ENAMETOOLONG, "sysctl %s", name);
		/* With a slash in it they are separated by slashes, and dots are parts of names. */
		for (char *at = strchr(name, '/') ? NULL : path + strlen(SYSCTL); at && *at; at++)
			if (*at == '.')
				*at = '/';
		ret = write_file(path, value, strlen(value));
		if (ret < 0)
			return error_errno(err, -ret, "sysctl %s", name);
	}
	return 0;
}

static int protect_root(struct error *err)
{
	const int ret = restrict_bind(BOX_ROOT, MS_RDONLY | MS_NODEV);

	return ret < 0 ? error_errno(err, -ret, "making the root read-only") : 0;
}

static int enter_root(const struct setup *setup, struct error *err)
{
	if (chdir(BOX_ROOT) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 ||
		chdir("/") < 0)
		return error_errno(err, errno, "entering the root");
	if (setup->propagation && mount(NULL, "/", NULL, setup->propagation, NULL) < 0)
		return error_errno(err, errno, "the propagation of the root");
	return 0;
}

int box_make_root(const struct setup *setup, struct error *err)
{
	_cleanup_close_ int root = -1;
	int cwd;
	int ret;

	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return error_errno(err, errno, "private mounts");
	ret = mount_layers(setup, err);
	if (ret < 0)
		return ret;
	root = open(BOX_ROOT, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return error_errno(err, errno, BOX_ROOT);
	ret = mount_all(root, setup, err) ?: make_devices(root, setup, err) ?: hide(root, setup, err)
		?: set_sysctls(setup, err);
	if (ret < 0)
		return ret;
	/* As other runtimes do it: a place to begin in that is not there is made. */
	cwd = inside_make(root, setup->process.cwd, false);
	if (cwd >= 0)
		close(cwd);
	ret = setup->root_readonly ? protect_root(err) : 0;
	return ret ?: enter_root(setup, err);
}
