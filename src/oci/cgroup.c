/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/cgroup.h"

#include "base/cleanup.h"
#include "oci/text.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <linux/magic.h>

#define ROOT           "/sys/fs/cgroup"
#define DEFAULT_PERIOD 100000

int cgroup_find(const char *path, char **folder, struct error *err)
{
	struct statfs info;

	*folder = NULL;
	if (!path || !*path)
		return 0;
	if (strchr(path, ':'))
		return error_set(err, EINVAL,
			"cgroupsPath %s is a unit of systemd's, which duet-oci does not ask; let "
			"the "
			"engine make cgroups itself (podman --cgroup-manager cgroupfs)",
			path);
	if (strstr(path, ".."))
		return error_set(err, EINVAL, "cgroupsPath %s leads out of its tree", path);
	/* A host of the first hierarchy has none for us; limits of CPUs are the guest's number of
	 * them then. */
	if (statfs(ROOT, &info) < 0 || info.f_type != CGROUP2_SUPER_MAGIC)
		return 0;
	*folder = text_format(ROOT "/%s", path + (*path == '/'));
	return *folder ? 0 : error_set(err, ENOMEM, "there is no memory");
}

/* Negative errno. */
static int put(const char *folder, const char *file, const char *text)
{
	_cleanup_free_ char *path = text_format("%s/%s", folder, file);
	_cleanup_close_ int fd = path ? open(path, O_WRONLY | O_CLOEXEC) : -1;

	if (fd < 0)
		return path ? -errno : -ENOMEM;
	return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

/* Each folder on the way, which lets those below have controllers where the host does. */
static int make(const char *folder)
{
	_cleanup_free_ char *path = strdup(folder);
	int code = 0;

	if (!path)
		return -ENOMEM;
	for (char *at = path + strlen(ROOT); at;) {
		at = strchr(at + 1, '/');
		if (at)
			*at = 0;
		if (mkdir(path, 0755) < 0 && errno != EEXIST)
			code = errno;
		if (at) {
			put(path, "cgroup.subtree_control", "+cpu");
			put(path, "cgroup.subtree_control", "+cpuset");
			*at = '/';
		}
	}
	return -code;
}

static int limit(const char *folder, const struct resources *resources, struct error *err)
{
	char text[64];
	int ret = 0;

	if (resources->cpu_quota > 0) {
		snprintf(text, sizeof(text), "%lld %llu", (long long)resources->cpu_quota,
			(unsigned long long)(resources->cpu_period ? resources->cpu_period
								   : DEFAULT_PERIOD));
		ret = put(folder, "cpu.max", text);
	}
	if (ret == 0 && resources->cpu_shares >= 2) {
		/* 2 to 262144 of the first hierarchy, 1 to 10000 of the second. */
		snprintf(text, sizeof(text), "%llu",
			(unsigned long long)(1 + (resources->cpu_shares - 2) * 9999 / 262142));
		ret = put(folder, "cpu.weight", text);
	}
	if (ret == 0 && resources->cpus && *resources->cpus)
		ret = put(folder, "cpuset.cpus", resources->cpus);
	return ret < 0 ? error_errno(err, -ret, "the CPU limits of %s", folder) : 0;
}

int cgroup_enter(const char *folder, const struct resources *resources, struct error *err)
{
	int ret;

	if (!folder)
		return 0;
	ret = make(folder);
	if (ret < 0)
		return error_errno(err, -ret, "%s", folder);
	ret = limit(folder, resources, err);
	if (ret < 0)
		return ret;
	ret = put(folder, "cgroup.procs", "0");
	return ret < 0 ? error_errno(err, -ret, "%s", folder) : 0;
}

void cgroup_remove(const char *folder)
{
	if (folder && rmdir(folder) < 0)
		errno = 0; /* it is the engine's, or somebody is in it */
}
