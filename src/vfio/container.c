/* SPDX-License-Identifier: Apache-2.0 */
/* Container and groups: whose DMA goes through which translation (type 1 IOMMU v2). */
#include "base/checked.h"
#include "vfio/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define GROUP_WAIT_MS  2000
#define GROUP_PAUSE_MS 10

static int request(int fd, unsigned long number, void *argument)
{
	int ret = ioctl(fd, number, argument);

	return ret < 0 ? -errno : ret;
}

static int request_value(int fd, unsigned long number, unsigned long value)
{
	int ret = ioctl(fd, number, value);

	return ret < 0 ? -errno : ret;
}

void vfio_container_init(struct vfio_container *container)
{
	*container = (struct vfio_container){.fd = -1};
}

static int open_container(struct vfio_container *container, const char *host, struct error *err)
{
	if (container->fd >= 0)
		return 0;
	container->fd = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	if (container->fd < 0)
		return error_errno(err, errno,
			"--device vfio,host=%s: /dev/vfio/vfio cannot be opened (modprobe "
			"vfio-pci, "
			"or run as root)",
			host);
	if (request_value(container->fd, VFIO_GET_API_VERSION, 0) == VFIO_API_VERSION &&
		request_value(container->fd, VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU) > 0)
		return 0;
	return error_set(err, ENOTSUP,
		"--device vfio,host=%s: this host's VFIO has no type 1 IOMMU; modprobe "
		"vfio_iommu_type1",
		host);
}

/* The kernel lets go of a group a moment after the process that had it is gone (its last reference
 * is put by a worker): a machine that is started right after another one's end must not fail. */
static int open_patiently(const char *path)
{
	static const struct timespec pause = {.tv_nsec = GROUP_PAUSE_MS * 1000000L};
	int fd = open(path, O_RDWR | O_CLOEXEC);

	for (unsigned i = 0; fd < 0 && errno == EBUSY && i < GROUP_WAIT_MS / GROUP_PAUSE_MS; i++) {
		nanosleep(&pause, NULL);
		fd = open(path, O_RDWR | O_CLOEXEC);
	}
	return fd;
}

static int open_group(struct vfio_group *group, const char *host, struct error *err)
{
	char path[32];

	snprintf(path, sizeof(path), "/dev/vfio/%u", group->number);
	group->fd = open_patiently(path);
	if (group->fd >= 0)
		return 0;
	switch (errno) {
	case EBUSY:
		return error_set(err, EBUSY,
			"--device vfio,host=%s: %s is in use: another machine has a function of "
			"this IOMMU group; end that one first (fuser %s names it)",
			host, path, path);
	case EACCES:
	case EPERM:
		return error_set(err, errno,
			"--device vfio,host=%s: %s: permission denied; chown it to this user, or "
			"run as root",
			host, path);
	default:
		return error_errno(err, errno, "--device vfio,host=%s: %s", host, path);
	}
}

static int check_viable(const struct vfio_group *group, const char *host, struct error *err)
{
	struct vfio_group_status status = {.argsz = sizeof(status)};
	char others[256];
	int ret = request(group->fd, VFIO_GROUP_GET_STATUS, &status);

	if (ret < 0)
		return error_errno(err, -ret, "--device vfio,host=%s: VFIO_GROUP_GET_STATUS", host);
	if (status.flags & VFIO_GROUP_FLAGS_VIABLE)
		return 0;
	vfio_sysfs_others(group->number, host, others, sizeof(others));
	return error_set(err, EBUSY,
		"--device vfio,host=%s: its IOMMU group %u also holds %s; hand these to vfio-pci "
		"too, or unbind them",
		host, group->number, others[0] ? others : "functions of other drivers");
}

/* The first group brings the IOMMU in; later ones join it. */
static int attach(struct vfio_container *container, struct vfio_group *group, const char *host,
	struct error *err)
{
	int ret = request(group->fd, VFIO_GROUP_SET_CONTAINER, &container->fd);

	if (ret == 0 && container->users == 0)
		ret = request_value(container->fd, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU);
	if (ret == -EPERM)
		return error_set(err, EPERM,
			"--device vfio,host=%s: this host's IOMMU does not remap interrupts, so a "
			"guest could forge them; switch interrupt remapping on (firmware; "
			"intremap=on), or accept that: echo Y "
			">/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts",
			host);
	return ret < 0 ? error_errno(err, -ret, "--device vfio,host=%s: IOMMU group %u", host,
				 group->number)
		       : 0;
}

static struct vfio_group *find(struct vfio_container *container, unsigned number)
{
	for (unsigned i = 0; i < VFIO_GROUPS_MAX; i++)
		if (container->groups[i].users && container->groups[i].number == number)
			return &container->groups[i];
	return NULL;
}

static struct vfio_group *find_free(struct vfio_container *container)
{
	for (unsigned i = 0; i < VFIO_GROUPS_MAX; i++)
		if (!container->groups[i].users)
			return &container->groups[i];
	return NULL;
}

static void close_container(struct vfio_container *container)
{
	if (container->mapped)
		memory_pin(container->mapped, false);
	if (container->fd >= 0)
		close(container->fd);
	vfio_container_init(container);
}

static int join_new(
	struct vfio_container *container, unsigned number, const char *host, struct error *err)
{
	struct vfio_group *group = find_free(container);
	int ret;

	if (!group)
		return error_set(err, ENOSPC, "--device vfio,host=%s: more than %d IOMMU groups",
			host, VFIO_GROUPS_MAX);
	*group = (struct vfio_group){.number = number, .fd = -1};
	ret = open_group(group, host, err);
	if (ret == 0)
		ret = check_viable(group, host, err);
	if (ret == 0)
		ret = attach(container, group, host, err);
	if (ret < 0 && group->fd >= 0)
		close(group->fd);
	return ret;
}

int vfio_container_join(
	struct vfio_container *container, unsigned number, const char *host, struct error *err)
{
	struct vfio_group *group = find(container, number);
	int ret = open_container(container, host, err);

	if (ret == 0 && !group) {
		ret = join_new(container, number, host, err);
		group = find_free(container);
	}
	if (ret < 0) {
		if (container->users == 0)
			close_container(container);
		return ret;
	}
	group->users++;
	container->users++;
	ret = ioctl(group->fd, VFIO_GROUP_GET_DEVICE_FD, host);
	if (ret >= 0)
		return ret;
	ret = error_errno(err, errno, "--device vfio,host=%s: VFIO does not open it", host);
	vfio_container_leave(container, number, NULL);
	return ret;
}

void vfio_container_leave(
	struct vfio_container *container, unsigned number, struct bus_host *bus_host)
{
	struct vfio_group *group = find(container, number);

	if (--group->users == 0) {
		if (group->known && bus_host)
			bus_host->ops->vfio_group(bus_host, group->fd, false);
		close(group->fd);
	}
	if (--container->users == 0)
		close_container(container);
}

static int map_error(int code, uint64_t size, const char *host, struct error *err)
{
	struct rlimit limit = {0};

	getrlimit(RLIMIT_MEMLOCK, &limit);
	if (code != ENOMEM)
		return error_errno(err, code,
			"--device vfio,host=%s: guest memory cannot be mapped for its DMA", host);
	return error_set(err, ENOMEM,
		"--device vfio,host=%s: %llu MiB of guest memory must be locked for its DMA, and "
		"this user may lock %llu KiB; raise the limit (ulimit -l, LimitMEMLOCK=), give "
		"the guest less --memory, or run as root",
		host, (unsigned long long)(size >> 20), (unsigned long long)(limit.rlim_cur >> 10));
}

static int map_memory(struct vfio_container *container, struct memory *memory, const char *host,
	struct error *err)
{
	const struct memory_region *region;

	for (unsigned i = 0; (region = memory_region(memory, i)); i++) {
		struct vfio_iommu_type1_dma_map map = {.argsz = sizeof(map),
			.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
			.vaddr = (uintptr_t)region->mapped_at,
			.iova = region->base.value,
			.size = region->size};
		int ret = request(container->fd, VFIO_IOMMU_MAP_DMA, &map);

		if (ret < 0)
			return map_error(-ret, memory_size(memory), host, err);
	}
	container->mapped = memory;
	memory_pin(memory, true);
	return 0;
}

int vfio_container_map(struct vfio_container *container, unsigned number,
	const struct device_place *place, const char *host, struct error *err)
{
	struct vfio_group *group = find(container, number);
	int ret = container->mapped ? 0 : map_memory(container, place->memory, host, err);

	if (ret < 0 || group->known)
		return ret;
	ret = place->host->ops->vfio_group(place->host, group->fd, true);
	if (ret < 0)
		return error_errno(err, -ret,
			"--device vfio,host=%s: KVM does not take its IOMMU group %u", host,
			number);
	group->known = true;
	return 0;
}
