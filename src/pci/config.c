/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration space of one function, and BARs that follow it. */
#include "base/bytes.h"
#include "base/checked.h"
#include "pci/internal.h"
#include "pci/registers.h"

static uint16_t command(const struct pci_function *function)
{
	return load_le16(function->config + PCI_REG_COMMAND);
}

static uint64_t programmed_address(const struct pci_function *function, unsigned index)
{
	const struct pci_bar *bar = &function->bars[index];
	const uint8_t *config = function->config + PCI_REG_BAR0 + 4 * index;
	uint64_t address = load_le32(config);

	if (bar->kind == PCI_BAR_MEMORY64)
		address |= (uint64_t)load_le32(config + 4) << 32;
	return address & ~(bar->size - 1);
}

static bool decodes(const struct pci_function *function, const struct pci_bar *bar)
{
	return command(function) & (bar->kind == PCI_BAR_PORT ? PCI_CMD_IO : PCI_CMD_MEMORY);
}

struct bus *pci_bar_bus(const struct pci_function *function, const struct pci_bar *bar)
{
	const struct device_place *place = &function->bus->place;

	return bar->kind == PCI_BAR_PORT ? place->ports : place->mmio;
}

static void unmap_bar(struct pci_function *function, unsigned index)
{
	struct pci_bar *bar = &function->bars[index];

	if (bar->moved)
		bar->moved(function, index, false, bar->address);
	if (bar->range.ops)
		bus_unmap(pci_bar_bus(function, bar), &bar->range);
	bar->mapped = false;
}

static bool place_is_free(const struct pci_function *function, const struct pci_bar *bar)
{
	if (bar->kind == PCI_BAR_PORT)
		return bar->address <= 0x10000 - bar->size;
	return !memory_overlaps(function->bus->place.memory, GPA(bar->address), bar->size);
}

static void map_bar(struct pci_function *function, unsigned index)
{
	struct pci_bus *bus = function->bus;
	struct pci_bar *bar = &function->bars[index];

	if (!place_is_free(function, bar) ||
		(bar->range.ops && bus_map(pci_bar_bus(function, bar), &bar->range, bar->address,
					   bar->size) < 0)) {
		atomic_fetch_add_explicit(&bus->misplaced, 1, memory_order_relaxed);
		log_guest(&bus->guest_log, function->device.name,
			"BAR %u put at 0x%llx, which is not free; it stays unmapped", index,
			(unsigned long long)bar->address);
		return;
	}
	bar->mapped = true;
	if (bar->moved)
		bar->moved(function, index, true, bar->address);
}

/* True when a place became free. */
static bool unmap_stale(struct pci_function *function)
{
	bool freed = false;

	for (unsigned i = 0; i < PCI_BARS; i++) {
		struct pci_bar *bar = &function->bars[i];

		if (!bar->mapped)
			continue;
		if (decodes(function, bar) && bar->address == programmed_address(function, i))
			continue;
		unmap_bar(function, i);
		freed = true;
	}
	return freed;
}

static void map_wanted(struct pci_function *function)
{
	for (unsigned i = 0; i < PCI_BARS; i++) {
		struct pci_bar *bar = &function->bars[i];

		if (bar->kind == PCI_BAR_NONE || bar->mapped)
			continue;
		bar->address = programmed_address(function, i);
		if (decodes(function, bar))
			map_bar(function, i);
	}
}

void pci_update_bars(struct pci_function *function)
{
	struct pci_bus *bus = function->bus;
	bool freed = unmap_stale(function);

	map_wanted(function);
	/* Two BARs that change places: the one that came too early gets its own now. */
	for (unsigned slot = 0; freed && slot < PCI_SLOTS; slot++)
		if (bus->functions[slot] && bus->functions[slot] != function)
			map_wanted(bus->functions[slot]);
}

uint32_t pci_plain_read(struct pci_function *function, unsigned offset, unsigned size)
{
	uint32_t value = (uint32_t)load_le(function->config + offset, size);

	/* The one bit that is not the configuration space's own: INTx waits (2.2.6, 6.2.3). */
	if (offset <= PCI_REG_STATUS && offset + size > PCI_REG_STATUS &&
		atomic_load_explicit(&function->intx_level, memory_order_relaxed))
		value |= (uint32_t)PCI_STS_INTERRUPT << 8 * (PCI_REG_STATUS - offset);
	return value;
}

static bool touches(unsigned offset, unsigned size, unsigned at, unsigned length)
{
	return offset < at + length && at < offset + size;
}

void pci_plain_write(struct pci_function *function, unsigned offset, unsigned size, uint32_t value)
{
	for (unsigned i = 0; i < size; i++) {
		uint8_t byte = (uint8_t)(value >> 8 * i);
		uint8_t writable = function->writable[offset + i];
		uint8_t *config = &function->config[offset + i];

		*config = (uint8_t)((*config & ~writable) | (byte & writable));
		*config &= (uint8_t) ~(byte & function->write_1_clear[offset + i]);
	}
	if (touches(offset, size, PCI_REG_COMMAND, 2) ||
		touches(offset, size, PCI_REG_BAR0, 4 * PCI_BARS))
		pci_update_bars(function);
	if (touches(offset, size, PCI_REG_COMMAND, 2))
		pci_update_intx(function, command(function) & PCI_CMD_INTX_DISABLE);
	if (function->msix)
		msix_control_written(function);
}

static uint32_t read_function(struct pci_function *function, unsigned offset, unsigned size)
{
	if (offset + size > PCI_CONFIG_SIZE)
		return 0; /* no extended capabilities */
	if (function->pci_ops && function->pci_ops->config_read)
		return function->pci_ops->config_read(function, offset, size);
	return pci_plain_read(function, offset, size);
}

static void write_function(
	struct pci_function *function, unsigned offset, unsigned size, uint32_t value)
{
	const struct pci_function_ops *ops = function->pci_ops;

	if (offset + size > PCI_CONFIG_SIZE)
		return;
	if (ops && ops->config_write)
		ops->config_write(function, offset, size, value);
	else
		pci_plain_write(function, offset, size, value);
	if (ops && ops->config_written)
		ops->config_written(function, offset, size);
}

static bool access_legal(unsigned slot, unsigned offset, unsigned size)
{
	return slot < PCI_SLOTS && (size == 1 || size == 2 || size == 4) &&
	       (offset & 3) + size <= 4;
}

uint32_t pci_config_read(struct pci_bus *bus, unsigned slot, unsigned offset, unsigned size)
{
	uint32_t value = UINT32_MAX;

	if (!access_legal(slot, offset, size))
		return value;
	pthread_mutex_lock(&bus->lock);
	if (bus->functions[slot])
		value = read_function(bus->functions[slot], offset, size);
	pthread_mutex_unlock(&bus->lock);
	return size == 4 ? value : value & ((1U << 8 * size) - 1);
}

void pci_config_write(
	struct pci_bus *bus, unsigned slot, unsigned offset, unsigned size, uint32_t value)
{
	if (!access_legal(slot, offset, size))
		return;
	pthread_mutex_lock(&bus->lock);
	if (bus->functions[slot])
		write_function(bus->functions[slot], offset, size, value);
	pthread_mutex_unlock(&bus->lock);
}
