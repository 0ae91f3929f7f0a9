/* SPDX-License-Identifier: Apache-2.0 */
/* A host function by VFIO's device descriptor. */
#include "vfio/hardware.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "vfio/internal.h"

#include <errno.h>
#include <linux/vfio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/*
 * #syscalls main vcpu io: ioctl(VFIO_DEVICE_SET_IRQS) ioctl(VFIO_DEVICE_RESET)
 * #syscalls main vcpu io: pread64 pwrite64
 */

struct region {
	uint64_t offset, size; /* in the descriptor's own address space */
	uint32_t flags;
};

struct function {
	struct vfio_hardware hardware; /* first */
	int fd;
	uint32_t flags; /* VFIO_DEVICE_FLAGS_* */
	struct region config, bars[PCI_BARS];
};

static struct function *function_of(struct vfio_hardware *hardware)
{
	return (struct function *)hardware;
}

static int request(const struct function *function, unsigned long number, void *argument)
{
	int ret = ioctl(function->fd, number, argument);

	return ret < 0 ? -errno : ret;
}

static int read_region(const struct function *function, const struct region *region,
	uint64_t offset, void *to, unsigned size)
{
	ssize_t ret;

	if (!range_within(offset, size, region->size))
		return -EINVAL;
	ret = pread(function->fd, to, size, (off_t)(region->offset + offset));
	if (ret < 0)
		return -errno;
	return ret == (ssize_t)size ? 0 : -EIO;
}

static int write_region(const struct function *function, const struct region *region,
	uint64_t offset, const void *from, unsigned size)
{
	ssize_t ret;

	if (!range_within(offset, size, region->size))
		return -EINVAL;
	ret = pwrite(function->fd, from, size, (off_t)(region->offset + offset));
	if (ret < 0)
		return -errno;
	return ret == (ssize_t)size ? 0 : -EIO;
}

static int config_read(struct vfio_hardware *hardware, unsigned offset, void *to, unsigned size)
{
	const struct function *function = function_of(hardware);

	return read_region(function, &function->config, offset, to, size);
}

static int config_write(
	struct vfio_hardware *hardware, unsigned offset, const void *from, unsigned size)
{
	const struct function *function = function_of(hardware);

	return write_region(function, &function->config, offset, from, size);
}

static int bar_read(
	struct vfio_hardware *hardware, unsigned bar, uint64_t offset, void *to, unsigned size)
{
	const struct function *function = function_of(hardware);

	return read_region(function, &function->bars[bar], offset, to, size);
}

static int bar_write(struct vfio_hardware *hardware, unsigned bar, uint64_t offset,
	const void *from, unsigned size)
{
	const struct function *function = function_of(hardware);

	return write_region(function, &function->bars[bar], offset, from, size);
}

/* The description of a region with its capabilities, to be freed; null without memory or region. */
static struct vfio_region_info *region_info(const struct function *function, unsigned index)
{
	struct vfio_region_info *info, probe = {.argsz = sizeof(probe), .index = index};

	if (request(function, VFIO_DEVICE_GET_REGION_INFO, &probe) < 0 ||
		probe.argsz < sizeof(probe))
		return NULL;
	info = calloc(1, probe.argsz);
	if (!info)
		return NULL;
	info->argsz = probe.argsz;
	info->index = index;
	if (request(function, VFIO_DEVICE_GET_REGION_INFO, info) == 0)
		return info;
	free(info);
	return NULL;
}

static const struct vfio_info_cap_header *find_capability(
	const struct vfio_region_info *info, unsigned id)
{
	unsigned at = info->flags & VFIO_REGION_INFO_FLAG_CAPS ? info->cap_offset : 0;

	while (at && range_within(at, sizeof(struct vfio_info_cap_header), info->argsz)) {
		const struct vfio_info_cap_header *header = (const void *)((const char *)info + at);

		if (header->id == id)
			return header;
		if (header->next <= at)
			break;
		at = header->next;
	}
	return NULL;
}

/* Which parts may be mapped: all of it, unless the kernel names them. */
static void find_areas(const struct vfio_region_info *info, struct vfio_bar_info *bar)
{
	const struct vfio_region_info_cap_sparse_mmap *sparse =
		(const void *)find_capability(info, VFIO_REGION_INFO_CAP_SPARSE_MMAP);

	if (!(info->flags & VFIO_REGION_INFO_FLAG_MMAP))
		return;
	if (!sparse) {
		bar->areas[bar->area_count++] = (struct vfio_area){0, info->size};
		return;
	}
	for (unsigned i = 0; i < sparse->nr_areas && i < VFIO_AREAS_MAX; i++)
		bar->areas[bar->area_count++] =
			(struct vfio_area){sparse->areas[i].offset, sparse->areas[i].size};
}

static int bar_info(struct vfio_hardware *hardware, unsigned bar, struct vfio_bar_info *info)
{
	struct function *function = function_of(hardware);
	_cleanup_free_ struct vfio_region_info *region =
		region_info(function, VFIO_PCI_BAR0_REGION_INDEX + bar);

	*info = (struct vfio_bar_info){0};
	if (!region)
		return -EIO;
	function->bars[bar] = (struct region){region->offset, region->size, region->flags};
	info->size = region->size;
	find_areas(region, info);
	return 0;
}

static void *map(struct vfio_hardware *hardware, unsigned bar, const struct vfio_area *area)
{
	const struct function *function = function_of(hardware);
	const struct region *region = &function->bars[bar];
	int protection = (region->flags & VFIO_REGION_INFO_FLAG_READ ? PROT_READ : 0) |
			 (region->flags & VFIO_REGION_INFO_FLAG_WRITE ? PROT_WRITE : 0);
	void *memory = mmap(NULL, area->length, protection, MAP_SHARED, function->fd,
		(off_t)(region->offset + area->offset));

	return memory == MAP_FAILED ? NULL : memory;
}

static void unmap(struct vfio_hardware *hardware, void *memory, uint64_t length)
{
	munmap(memory, length);
}

static const unsigned irq_index[] = {
	[VFIO_INTERRUPT_INTX] = VFIO_PCI_INTX_IRQ_INDEX,
	[VFIO_INTERRUPT_MSI] = VFIO_PCI_MSI_IRQ_INDEX,
	[VFIO_INTERRUPT_MSIX] = VFIO_PCI_MSIX_IRQ_INDEX,
};

static int set_irqs(struct vfio_hardware *hardware, enum vfio_interrupt_kind kind,
	const int *eventfds, unsigned count)
{
	size_t size = sizeof(struct vfio_irq_set) + count * sizeof(int32_t);
	_cleanup_free_ struct vfio_irq_set *set = calloc(1, size);

	if (!set)
		return -ENOMEM;
	*set = (struct vfio_irq_set){.argsz = (uint32_t)size,
		.flags = VFIO_IRQ_SET_ACTION_TRIGGER |
			 (count ? VFIO_IRQ_SET_DATA_EVENTFD : VFIO_IRQ_SET_DATA_NONE),
		.index = irq_index[kind],
		.count = count};
	if (count)
		memcpy(set->data, eventfds, count * sizeof(int32_t));
	return request(function_of(hardware), VFIO_DEVICE_SET_IRQS, set);
}

static int unmask(struct vfio_hardware *hardware, int eventfd)
{
	union {
		struct vfio_irq_set set;
		char room[sizeof(struct vfio_irq_set) + sizeof(int32_t)];
	} unmask = {
		.set = {.argsz = sizeof(unmask),
			.flags = VFIO_IRQ_SET_ACTION_UNMASK |
				 (eventfd < 0 ? VFIO_IRQ_SET_DATA_NONE : VFIO_IRQ_SET_DATA_EVENTFD),
			.index = VFIO_PCI_INTX_IRQ_INDEX,
			.count = 1}};

	memcpy(unmask.set.data, &eventfd, sizeof(eventfd));
	return request(function_of(hardware), VFIO_DEVICE_SET_IRQS, &unmask);
}

static int reset(struct vfio_hardware *hardware)
{
	const struct function *function = function_of(hardware);

	if (!(function->flags & VFIO_DEVICE_FLAGS_RESET))
		return -ENOTSUP;
	return request(function, VFIO_DEVICE_RESET, NULL);
}

static void close_function(struct vfio_hardware *hardware)
{
	close(function_of(hardware)->fd);
	free(hardware);
}

static const struct vfio_hardware_ops vfio_ops = {
	.config_read = config_read,
	.config_write = config_write,
	.bar_info = bar_info,
	.bar_read = bar_read,
	.bar_write = bar_write,
	.map = map,
	.unmap = unmap,
	.set_irqs = set_irqs,
	.unmask = unmask,
	.reset = reset,
	.close = close_function,
};

static int look(struct function *function)
{
	struct vfio_device_info info = {.argsz = sizeof(info)};
	struct vfio_region_info region = {
		.argsz = sizeof(region), .index = VFIO_PCI_CONFIG_REGION_INDEX};
	int ret = request(function, VFIO_DEVICE_GET_INFO, &info);

	if (ret == 0 && !(info.flags & VFIO_DEVICE_FLAGS_PCI))
		ret = -ENOTSUP;
	if (ret == 0)
		ret = request(function, VFIO_DEVICE_GET_REGION_INFO, &region);
	function->flags = info.flags;
	function->config = (struct region){region.offset, region.size, region.flags};
	return ret;
}

int vfio_hardware_new(struct vfio_hardware **hardware, int fd, const char *host, struct error *err)
{
	struct function *function = calloc(1, sizeof(*function));
	int ret = -ENOMEM;

	if (function) {
		function->hardware.ops = &vfio_ops;
		function->fd = fd;
		ret = look(function);
	}
	if (ret < 0) {
		close(fd);
		free(function);
		return error_errno(
			err, -ret, "--device vfio,host=%s: VFIO does not describe it", host);
	}
	*hardware = &function->hardware;
	return 0;
}
