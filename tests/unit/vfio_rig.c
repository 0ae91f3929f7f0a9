/* SPDX-License-Identifier: Apache-2.0 */
#include "vfio_rig.h"

#include "base/bytes.h"
#include "base/checked.h"
#include "pci/registers.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void fail(const char *what)
{
	fprintf(stderr, "fake function: %s\n", what);
	abort();
}

static struct fake_function *fake_of(struct vfio_hardware *hardware)
{
	return (struct fake_function *)hardware;
}

static int config_read(struct vfio_hardware *hardware, unsigned offset, void *to, unsigned size)
{
	memcpy(to, fake_of(hardware)->config + offset, size);
	return 0;
}

static int config_write(
	struct vfio_hardware *hardware, unsigned offset, const void *from, unsigned size)
{
	struct fake_function *fake = fake_of(hardware);

	for (unsigned i = 0; i < size; i++) {
		fake->config[offset + i] = ((const uint8_t *)from)[i];
		fake->config_touched[offset + i] |= ((const uint8_t *)from)[i];
	}
	return 0;
}

static int bar_info(struct vfio_hardware *hardware, unsigned bar, struct vfio_bar_info *info)
{
	struct fake_function *fake = fake_of(hardware);

	*info = (struct vfio_bar_info){.size = fake->sizes[bar]};
	if (fake->mappable && info->size >= MEMORY_PAGE)
		info->areas[info->area_count++] = (struct vfio_area){0, info->size};
	return 0;
}

static void check(const struct fake_function *fake, unsigned bar, uint64_t offset, uint64_t size)
{
	if (bar >= PCI_BARS || !range_within(offset, size, fake->sizes[bar]))
		fail("access outside a BAR");
}

static int bar_read(
	struct vfio_hardware *hardware, unsigned bar, uint64_t offset, void *to, unsigned size)
{
	check(fake_of(hardware), bar, offset, size);
	memcpy(to, fake_of(hardware)->memory[bar] + offset, size);
	return 0;
}

static int bar_write(struct vfio_hardware *hardware, unsigned bar, uint64_t offset,
	const void *from, unsigned size)
{
	check(fake_of(hardware), bar, offset, size);
	memcpy(fake_of(hardware)->memory[bar] + offset, from, size);
	return 0;
}

static void *map(struct vfio_hardware *hardware, unsigned bar, const struct vfio_area *area)
{
	struct fake_function *fake = fake_of(hardware);

	check(fake, bar, area->offset, area->length);
	fake->maps++;
	return fake->memory[bar] + area->offset;
}

static void unmap(struct vfio_hardware *hardware, void *memory, uint64_t length)
{
	if (!fake_of(hardware)->maps--)
		fail("unmapped what was not mapped");
}

static int set_irqs(struct vfio_hardware *hardware, enum vfio_interrupt_kind kind,
	const int *eventfds, unsigned count)
{
	struct fake_function *fake = fake_of(hardware);

	if (count && fake->count)
		fail("two kinds of interrupts at once");
	if (count && (fake->fail < 0 || (fake->fail > 0 && count > (unsigned)fake->fail)))
		return fake->fail;
	if (count)
		memcpy(fake->eventfds, eventfds, count * sizeof(int));
	fake->kind = count ? kind : VFIO_INTERRUPT_NONE;
	fake->count = count;
	return 0;
}

static int unmask(struct vfio_hardware *hardware, int eventfd)
{
	atomic_fetch_add(&fake_of(hardware)->unmasks, 1);
	return 0;
}

static int reset(struct vfio_hardware *hardware)
{
	struct fake_function *fake = fake_of(hardware);

	if (fake->count)
		fail("reset with interrupts on");
	fake->resets++;
	return fake->reset_result;
}

static void close_function(struct vfio_hardware *hardware)
{
	struct fake_function *fake = fake_of(hardware);

	if (fake->maps || fake->count)
		fail("closed in use");
	fake->closed = true;
}

static const struct vfio_hardware_ops fake_ops = {
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

void fake_function_init(struct fake_function *fake)
{
	memset(fake, 0, sizeof(*fake));
	fake->hardware.ops = &fake_ops;
	fake->mappable = true;
	for (unsigned i = 0; i < PCI_BARS; i++) {
		fake->memory[i] = mmap(NULL, FAKE_BAR_SIZE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (fake->memory[i] == MAP_FAILED)
			fail("memory");
	}
	store_le16(fake->config + PCI_REG_VENDOR, 0x8086);
	store_le16(fake->config + PCI_REG_DEVICE, 0x10ca);
}

void fake_function_free(struct fake_function *fake)
{
	if (!fake->closed)
		fail("not closed");
	for (unsigned i = 0; i < PCI_BARS; i++)
		munmap(fake->memory[i], FAKE_BAR_SIZE);
}

void fake_function_capability(
	struct fake_function *fake, unsigned at, const uint8_t *bytes, unsigned length)
{
	memcpy(fake->config + at, bytes, length);
	fake->config[at + 1] = fake->config[PCI_REG_CAPABILITIES];
	fake->config[PCI_REG_CAPABILITIES] = (uint8_t)at;
	fake->config[PCI_REG_STATUS] |= PCI_STS_CAPABILITIES;
}

void fake_function_interrupt(struct fake_function *fake, unsigned vector)
{
	static const uint64_t one = 1;

	if (vector >= fake->count || write(fake->eventfds[vector], &one, sizeof(one)) < 0)
		fail("nobody awaits this interrupt");
}
