/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's start: what the kernel does not do by itself. */
#include "oci/agent/box_private.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "oci/netlink.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define LOOPBACK 1 /* the first link of any namespace */

static const struct {
	const char *type, *at;
} mounts[] = {
	{"proc", "/proc"},
	{"sysfs", "/sys"},
	{"devtmpfs", "/dev"},
	{"cgroup2", "/sys/fs/cgroup"},
};

/* In the order of their names; what is there already, or has no hardware, is none of our concern.
 */
static int load_modules(struct error *err)
{
	struct dirent **list = NULL;
	const int count = scandir("/modules", &list, NULL, alphasort);
	char path[300];

	if (count < 0)
		return error_errno(err, errno, "/modules");
	for (int i = 0; i < count; i++) {
		_cleanup_close_ int fd = -1;

		snprintf(path, sizeof(path), "/modules/%s", list[i]->d_name);
		fd = *list[i]->d_name == '.' ? -1 : open(path, O_RDONLY | O_CLOEXEC);
		if (fd >= 0 && syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST)
			fprintf(stderr, "duet-agent: module %s: %s\n", path, strerror(errno));
		/* Its memory is the container's. */
		if (fd >= 0)
			unlink(path);
		free(list[i]);
	}
	free(list);
	return 0;
}

int box_boot(struct error *err)
{
	for (unsigned i = 0; i < ARRAY_SIZE(mounts); i++)
		if (mount(mounts[i].type, mounts[i].at, mounts[i].type, 0, NULL) < 0 &&
			errno != EBUSY)
			return error_errno(err, errno, "%s", mounts[i].at);
	return load_modules(err);
}

int box_configure_links(const struct setup *setup, struct error *err)
{
	_cleanup_close_ int fd = netlink_open();
	int ret = fd < 0 ? fd : netlink_up(fd, LOOPBACK);

	if (ret < 0)
		return error_errno(err, -ret, "the loopback link");
	for (uint32_t i = 0; i < setup->link_count; i++) {
		ret = netlink_configure(fd, &setup->links[i]);
		if (ret < 0)
			return error_errno(err, -ret, "the network %s", setup->links[i].name);
	}
	return 0;
}
