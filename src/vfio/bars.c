/* SPDX-License-Identifier: Apache-2.0 */
/*
 * BARs: what may be mapped is mapped into the guest, so that it reaches the hardware without an
 * exit. The pages of the MSI-X table and its pending bits come to user space, where both are
 * emulated; so does what is no whole page, and ports.
 */
#include "base/bytes.h"
#include "base/checked.h"
#include "pci/registers.h"
#include "vfio/internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define BAR_INDEX       7U /* in the registers of the MSI-X capability */
#define BAR_FLAGS_WIDTH 6U

struct span {
	uint64_t start, end;
};

/* Of the MSI-X table (@pba false) or the pending bits in this BAR; empty when they are elsewhere.
 */
static struct span msix_span(const struct vfio_bar *bar, bool pba)
{
	const struct vfio_function *vfio = bar->owner;
	uint32_t where = pba ? vfio->config.msix_pba : vfio->config.msix_table;
	uint64_t vectors = msix_vectors(&vfio->function);
	uint64_t length = pba ? align_up(vectors, 64) / 8 : vectors * MSIX_ENTRY_LENGTH;
	uint64_t start = where & ~BAR_INDEX;

	if (!vectors || (where & BAR_INDEX) != bar->index)
		return (struct span){0, 0};
	return (struct span){start, start + length};
}

static bool inside(const struct span *span, uint64_t offset, unsigned size)
{
	return offset >= span->start && offset < span->end && size <= span->end - offset;
}

static bool touches(const struct span *span, uint64_t offset, unsigned size)
{
	return offset < span->end && span->start < offset + size;
}

static uint64_t read_hardware(struct vfio_bar *bar, uint64_t offset, unsigned size)
{
	struct vfio_hardware *hardware = bar->owner->hardware;
	uint8_t bytes[8];

	if (hardware->ops->bar_read(hardware, bar->index, offset, bytes, size) < 0)
		return UINT64_MAX;
	return load_le(bytes, size);
}

static uint64_t bar_read(void *device, uint64_t offset, unsigned size)
{
	struct vfio_bar *bar = device;
	struct span table = msix_span(bar, false), pba = msix_span(bar, true);

	atomic_fetch_add_explicit(&bar->reads, 1, memory_order_relaxed);
	if (inside(&table, offset, size))
		return msix_read(&bar->owner->function, offset - table.start, size);
	if (inside(&pba, offset, size))
		return msix_read_pending(&bar->owner->function, offset - pba.start, size);
	/* The hardware's own table is the host kernel's. */
	if (touches(&table, offset, size) || touches(&pba, offset, size))
		return 0;
	return read_hardware(bar, offset, size);
}

static void bar_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	struct vfio_bar *bar = device;
	struct vfio_hardware *hardware = bar->owner->hardware;
	struct span table = msix_span(bar, false), pba = msix_span(bar, true);
	uint8_t bytes[8];

	atomic_fetch_add_explicit(&bar->writes, 1, memory_order_relaxed);
	if (inside(&table, offset, size)) {
		msix_write(&bar->owner->function, offset - table.start, size, value);
		return;
	}
	if (touches(&table, offset, size) || touches(&pba, offset, size))
		return;
	store_le(bytes, size, value);
	hardware->ops->bar_write(hardware, bar->index, offset, bytes, size);
}

static const struct bus_ops bar_ops = {.read = bar_read, .write = bar_write};

static void place(struct vfio_bar *bar, struct vfio_window *window, uint64_t address)
{
	struct vfio_function *vfio = bar->owner;
	struct bus_host *host = vfio->place.host;
	int ret = host->ops->window_add(host, address + window->area.offset, window->memory,
		window->area.length, &window->window);

	window->in_place = ret == 0;
	/* It still works, by way of user space. */
	if (ret < 0)
		log_guest(&vfio->guest_log, vfio->function.device.name,
			"BAR %u at 0x%llx cannot be mapped into the guest: %s", bar->index,
			(unsigned long long)address, strerror(-ret));
}

static void take_away(struct vfio_bar *bar, struct vfio_window *window)
{
	struct bus_host *host = bar->owner->place.host;

	if (window->in_place)
		host->ops->window_remove(host, window->window);
	window->in_place = false;
}

static void moved(struct pci_function *function, unsigned index, bool mapped, uint64_t address)
{
	struct vfio_bar *bar = &vfio_function_of(function)->bars[index];

	for (unsigned i = 0; i < bar->window_count; i++) {
		if (mapped)
			place(bar, &bar->windows[i], address);
		else
			take_away(bar, &bar->windows[i]);
	}
}

static int map_area(struct vfio_bar *bar, uint64_t start, uint64_t end, struct error *err)
{
	struct vfio_hardware *hardware = bar->owner->hardware;
	struct vfio_window *window = &bar->windows[bar->window_count];

	start = align_up(start, MEMORY_PAGE);
	end &= ~(MEMORY_PAGE - 1);
	if (start >= end || bar->window_count == VFIO_AREAS_MAX)
		return 0;
	window->area = (struct vfio_area){start, end - start};
	window->memory = hardware->ops->map(hardware, bar->index, &window->area);
	if (!window->memory)
		return error_errno(err, errno, "--device vfio,host=%s: BAR %u cannot be mapped",
			bar->owner->host, bar->index);
	bar->window_count++;
	return 0;
}

/* The area without the pages of @holes, which are in order. */
static int map_around(struct vfio_bar *bar, const struct vfio_area *area, const struct span *holes,
	unsigned count, struct error *err)
{
	uint64_t at = area->offset, end = area->offset + area->length;
	int ret = 0;

	for (unsigned i = 0; ret == 0 && i < count; i++) {
		uint64_t start = holes[i].start & ~(MEMORY_PAGE - 1);

		if (holes[i].start == holes[i].end || start >= end)
			continue;
		ret = map_area(bar, at, min_u64(start, end), err);
		if (align_up(holes[i].end, MEMORY_PAGE) > at)
			at = align_up(holes[i].end, MEMORY_PAGE);
	}
	return ret == 0 ? map_area(bar, at, end, err) : ret;
}

static int map_windows(struct vfio_bar *bar, const struct vfio_bar_info *info, struct error *err)
{
	struct span holes[2] = {msix_span(bar, false), msix_span(bar, true)};
	int ret = 0;

	if (holes[1].start < holes[0].start) {
		struct span swap = holes[0];

		holes[0] = holes[1];
		holes[1] = swap;
	}
	for (unsigned i = 0; ret == 0 && i < info->area_count; i++)
		if (range_within(info->areas[i].offset, info->areas[i].length, info->size))
			ret = map_around(bar, &info->areas[i], holes, ARRAY_SIZE(holes), err);
	return ret;
}

static bool msix_fits(const struct vfio_bar *bar)
{
	return msix_span(bar, false).end <= bar->size && msix_span(bar, true).end <= bar->size;
}

static int init_bar(struct vfio_function *vfio, unsigned index, struct error *err)
{
	struct vfio_bar *bar = &vfio->bars[index];
	uint32_t flags = vfio->config.bars[index];
	enum pci_bar_kind kind = PCI_BAR_MEMORY32;
	struct vfio_bar_info info = {0};
	int ret = vfio->hardware->ops->bar_info(vfio->hardware, index, &info);

	if (ret < 0)
		return error_errno(err, -ret, "--device vfio,host=%s: BAR %u", vfio->host, index);
	bar->owner = vfio;
	bar->index = index;
	bar->size = info.size;
	if (!msix_fits(bar))
		return error_set(err, EINVAL,
			"--device vfio,host=%s: its MSI-X table lies outside its BAR %u",
			vfio->host, index);
	if (!info.size)
		return 0;
	if (flags & PCI_BAR_FLAG_PORT)
		kind = PCI_BAR_PORT;
	else if ((flags & BAR_FLAGS_WIDTH) == PCI_BAR_FLAG_64)
		kind = PCI_BAR_MEMORY64;
	if (!is_power_of_two(info.size) || info.size < (kind == PCI_BAR_PORT ? 4 : 16) ||
		(kind == PCI_BAR_MEMORY64 && index == PCI_BARS - 1))
		return error_set(err, EINVAL,
			"--device vfio,host=%s: BAR %u of 0x%llx bytes is none of PCI's",
			vfio->host, index, (unsigned long long)info.size);
	snprintf(bar->name, sizeof(bar->name), "%s bar%u", vfio->function.device.name, index);
	vfio->function.bars[index].prefetchable =
		kind != PCI_BAR_PORT && (flags & PCI_BAR_FLAG_PREFETCHABLE);
	pci_describe_bar(&vfio->function, index, kind, info.size, &bar_ops, bar, bar->name);
	vfio->function.bars[index].moved = moved;
	return kind == PCI_BAR_PORT ? 0 : map_windows(bar, &info, err);
}

int vfio_bars_init(struct vfio_function *vfio, struct error *err)
{
	int ret = 0;

	for (unsigned i = 0; ret == 0 && i < PCI_BARS; i++) {
		ret = init_bar(vfio, i, err);
		/* The next register is this one's upper half. */
		i += vfio->function.bars[i].kind == PCI_BAR_MEMORY64;
	}
	return ret;
}

void vfio_bars_free(struct vfio_function *vfio)
{
	struct vfio_hardware *hardware = vfio->hardware;

	for (unsigned i = 0; i < PCI_BARS; i++) {
		struct vfio_bar *bar = &vfio->bars[i];

		while (bar->window_count) {
			const struct vfio_window *window = &bar->windows[--bar->window_count];

			hardware->ops->unmap(hardware, window->memory, window->area.length);
		}
	}
}
