/* SPDX-License-Identifier: Apache-2.0 */
/* Describing a function, putting it on the bus, resetting it. */
#include "base/bytes.h"
#include "base/checked.h"
#include "pci/internal.h"
#include "pci/registers.h"

#include <errno.h>
#include <string.h>

#define COMMAND_WRITABLE                                                                           \
	(PCI_CMD_IO | PCI_CMD_MEMORY | PCI_CMD_MASTER | PCI_CMD_PARITY | PCI_CMD_SERR |            \
		PCI_CMD_INTX_DISABLE)
#define STATUS_WRITE_1_CLEAR 0xf900

void pci_init(struct pci_function *function, const struct pci_ids *ids)
{
	uint8_t *config = function->config;

	store_le16(config + PCI_REG_VENDOR, ids->vendor);
	store_le16(config + PCI_REG_DEVICE, ids->device);
	store_le16(config + PCI_REG_SUBSYSTEM_VENDOR, ids->subsystem_vendor);
	store_le16(config + PCI_REG_SUBSYSTEM, ids->subsystem);
	config[PCI_REG_REVISION] = ids->revision;
	for (unsigned i = 0; i < 3; i++)
		config[PCI_REG_CLASS + i] = (uint8_t)(ids->class_code >> 8 * i);
	config[PCI_REG_INTERRUPT_PIN] = ids->intx;
	store_le16(function->writable + PCI_REG_COMMAND, COMMAND_WRITABLE);
	store_le16(function->write_1_clear + PCI_REG_STATUS, STATUS_WRITE_1_CLEAR);
	function->writable[PCI_REG_CACHE_LINE] = 0xff;
	function->writable[PCI_REG_LATENCY] = 0xff;
	function->writable[PCI_REG_INTERRUPT_LINE] = 0xff;
	function->next_capability = PCI_HEADER_END;
}

int pci_add_capability(struct pci_function *function, uint8_t id, unsigned length)
{
	unsigned at = function->next_capability;
	uint8_t *config = function->config;

	length = (unsigned)align_up(length, 4);
	if (length < 2 || length > PCI_CONFIG_SIZE - at)
		return -ENOSPC;
	config[at] = id;
	config[at + 1] = config[PCI_REG_CAPABILITIES];
	config[PCI_REG_CAPABILITIES] = (uint8_t)at;
	config[PCI_REG_STATUS] |= PCI_STS_CAPABILITIES;
	function->next_capability = at + length;
	return (int)at;
}

static uint64_t legal_size(enum pci_bar_kind kind, uint64_t size)
{
	uint64_t legal = kind == PCI_BAR_PORT ? 4 : 16;

	while (legal < size)
		legal *= 2;
	return legal;
}

static uint32_t bar_flags(const struct pci_bar *bar)
{
	if (bar->kind == PCI_BAR_PORT)
		return PCI_BAR_FLAG_PORT;
	return (bar->kind == PCI_BAR_MEMORY64 ? PCI_BAR_FLAG_64 : 0) |
	       (bar->prefetchable ? PCI_BAR_FLAG_PREFETCHABLE : 0);
}

void pci_describe_bar(struct pci_function *function, unsigned index, enum pci_bar_kind kind,
	uint64_t size, const struct bus_ops *ops, void *device, const char *name)
{
	struct pci_bar *bar = &function->bars[index];
	unsigned at = PCI_REG_BAR0 + 4 * index;
	uint64_t mask;

	bar->kind = kind;
	bar->size = legal_size(kind, size);
	bar->range.name = name;
	bar->range.ops = ops;
	bar->range.device = device;
	mask = ~(bar->size - 1);
	store_le32(function->writable + at, (uint32_t)mask);
	if (kind == PCI_BAR_MEMORY64)
		store_le32(function->writable + at + 4, (uint32_t)(mask >> 32));
}

static int take(struct pci_window *window, uint64_t size, uint64_t *address)
{
	uint64_t start = align_up(window->next, size);

	if (start < window->next || !range_within(start, size, window->end))
		return -ENOSPC;
	*address = start;
	window->next = start + size;
	return 0;
}

static int place_bar(struct pci_bus *bus, struct pci_function *function, unsigned index)
{
	struct pci_bar *bar = &function->bars[index];
	uint8_t *config = function->config + PCI_REG_BAR0 + 4 * index;
	uint64_t address;
	int ret;

	if (bar->kind == PCI_BAR_NONE)
		return 0;
	if (bar->kind == PCI_BAR_PORT)
		ret = take(&bus->ports, bar->size, &address);
	else if (bar->kind == PCI_BAR_MEMORY64)
		ret = take(&bus->memory64, bar->size, &address);
	else
		ret = take(&bus->memory32, bar->size, &address);
	/* A machine without a window above 4 GiB, or one that is full. */
	if (ret < 0 && bar->kind == PCI_BAR_MEMORY64)
		ret = take(&bus->memory32, bar->size, &address);
	if (ret < 0)
		return ret;
	store_le32(config, (uint32_t)address | bar_flags(bar));
	if (bar->kind == PCI_BAR_MEMORY64)
		store_le32(config + 4, (uint32_t)(address >> 32));
	bar->address = address;
	return 0;
}

void pci_want_slot(struct device *device, unsigned slot)
{
	((struct pci_function *)device)->slot = slot;
}

static int slot_for(const struct pci_bus *bus, unsigned wanted)
{
	if (wanted)
		return wanted >= PCI_SLOTS || bus->functions[wanted] ? -EBUSY : (int)wanted;
	for (int slot = 0; slot < PCI_SLOTS; slot++)
		if (!bus->functions[slot])
			return slot;
	return -ENOSPC;
}

int pci_add(struct pci_bus *bus, struct pci_function *function, struct error *err)
{
	int slot;

	pthread_mutex_lock(&bus->lock);
	slot = slot_for(bus, function->slot);
	if (slot < 0) {
		pthread_mutex_unlock(&bus->lock);
		if (slot == -EBUSY)
			return error_set(err, EBUSY, "%s: PCI slot %u is taken; give it another",
				function->device.name, function->slot);
		return error_set(err, ENOSPC, "%s: all %d PCI slots are taken; use fewer devices",
			function->device.name, PCI_SLOTS);
	}
	for (unsigned i = 0; i < PCI_BARS; i++) {
		if (place_bar(bus, function, i) == 0)
			continue;
		pthread_mutex_unlock(&bus->lock);
		return error_set(err, ENOSPC,
			"%s: no address space left for its BAR %u of 0x%llx bytes",
			function->device.name, i, (unsigned long long)function->bars[i].size);
	}
	function->bus = bus;
	function->slot = (unsigned)slot;
	if (function->config[PCI_REG_INTERRUPT_PIN])
		function->config[PCI_REG_INTERRUPT_LINE] = (uint8_t)pci_slot_gsi(function->slot);
	memcpy(function->initial, function->config, sizeof(function->initial));
	bus->functions[slot] = function;
	pthread_mutex_unlock(&bus->lock);
	return 0;
}

/* Nothing of the guest's reaches it from here on. */
static void take_off(struct pci_function *function)
{
	struct pci_bus *bus = function->bus;

	pci_set_intx(function, false);
	pthread_mutex_lock(&bus->lock);
	store_le16(function->config + PCI_REG_COMMAND, 0);
	pci_update_bars(function);
	bus->functions[function->slot] = NULL;
	pthread_mutex_unlock(&bus->lock);
	for (unsigned i = 0; i < PCI_BARS; i++)
		bus_wait_unused(
			pci_bar_bus(function, &function->bars[i]), &function->bars[i].range);
}

void pci_remove(struct pci_function *function)
{
	if (function->bus)
		take_off(function);
	msix_free(function);
	function->bus = NULL;
}

void pci_reset(struct pci_function *function)
{
	struct pci_bus *bus = function->bus;

	pci_set_intx(function, false);
	pthread_mutex_lock(&bus->lock);
	memcpy(function->config, function->initial, sizeof(function->config));
	pci_update_bars(function);
	pci_update_intx(function, false);
	if (function->msix)
		msix_reset(function);
	pthread_mutex_unlock(&bus->lock);
}
