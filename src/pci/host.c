/* SPDX-License-Identifier: Apache-2.0 */
/* The host bridge: slot 0, the 0xcf8/0xcfc window (PCI Local Bus 3.0, 3.2.2.3.2) and ECAM. */
#include "base/checked.h"
#include "pci/internal.h"
#include "pci/registers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ADDRESS_PORT   0xcf8
#define DATA_PORT      0xcfc
#define ADDRESS_ENABLE 0x80000000U
#define ADDRESS_FIXED  0x7f000003U /* reads as zero */

/* A generic host bridge without quirks in any operating system: Red Hat's vendor number, which
 * QEMU's project gives to generic devices. */
static const struct pci_ids bridge_ids = {
	.vendor = 0x1b36,
	.device = 0x0008,
	.subsystem_vendor = 0x1af4,
	.subsystem = 0x1100,
	.class_code = 0x060000,
};

static uint64_t read_address(void *device, uint64_t offset, unsigned size)
{
	struct pci_bus *bus = device;
	uint32_t address;

	if (size != 4)
		return UINT64_MAX;
	pthread_mutex_lock(&bus->lock);
	address = bus->address;
	pthread_mutex_unlock(&bus->lock);
	return address;
}

static void write_address(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	struct pci_bus *bus = device;

	if (size != 4)
		return;
	pthread_mutex_lock(&bus->lock);
	bus->address = (uint32_t)value & ~ADDRESS_FIXED;
	pthread_mutex_unlock(&bus->lock);
}

/* False: not enabled, or a bus or function that does not exist. */
static bool selected(struct pci_bus *bus, unsigned *slot, unsigned *word)
{
	uint32_t address;

	pthread_mutex_lock(&bus->lock);
	address = bus->address;
	pthread_mutex_unlock(&bus->lock);
	*slot = address >> 11 & 31;
	*word = address & 0xfc;
	return (address & ADDRESS_ENABLE) && (address >> 16 & 0xff) == 0 && (address >> 8 & 7) == 0;
}

static uint64_t read_data(void *device, uint64_t offset, unsigned size)
{
	unsigned slot, word;

	if (!selected(device, &slot, &word))
		return UINT64_MAX;
	return pci_config_read(device, slot, word + (unsigned)offset, size);
}

static void write_data(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	unsigned slot, word;

	if (selected(device, &slot, &word))
		pci_config_write(device, slot, word + (unsigned)offset, size, (uint32_t)value);
}

static uint64_t read_ecam(void *device, uint64_t offset, unsigned size)
{
	if ((offset >> 12 & 7) || size > 4)
		return UINT64_MAX;
	return pci_config_read(device, (unsigned)(offset >> 15) & 31, offset & 0xfff, size);
}

static void write_ecam(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	if ((offset >> 12 & 7) == 0 && size <= 4)
		pci_config_write(device, (unsigned)(offset >> 15) & 31, offset & 0xfff, size,
			(uint32_t)value);
}

static const struct bus_ops address_ops = {.read = read_address, .write = write_address};
static const struct bus_ops data_ops = {.read = read_data, .write = write_data};
static const struct bus_ops ecam_ops = {.read = read_ecam, .write = write_ecam};

int pci_host_map(struct pci_bus *bus, const struct pci_windows *windows, struct error *err)
{
	int ret;

	/* The reset port 0xcf9 is a byte inside the address register, by PC tradition. */
	bus->address_range = (struct bus_range){
		.name = "pci address", .ops = &address_ops, .device = bus, .holes = true};
	bus->data_range = (struct bus_range){.name = "pci data", .ops = &data_ops, .device = bus};
	bus->ecam_range = (struct bus_range){.name = "pci ecam", .ops = &ecam_ops, .device = bus};
	ret = bus_map(bus->place.ports, &bus->address_range, ADDRESS_PORT, 4);
	if (ret == 0)
		ret = bus_map(bus->place.ports, &bus->data_range, DATA_PORT, 4);
	if (ret == 0)
		ret = bus_map(bus->place.mmio, &bus->ecam_range, windows->ecam, 1U << 20);
	return ret < 0 ? error_errno(err, -ret, "PCI host bridge") : 0;
}

static void unmap(struct bus *bus, struct bus_range *range)
{
	if (range->mapped)
		bus_unmap(bus, range);
}

int pci_bus_new(struct pci_bus **out, const struct device_place *place,
	const struct pci_windows *windows, struct error *err)
{
	struct pci_bus *bus = calloc(1, sizeof(*bus));
	int ret;

	if (!bus)
		return error_errno(err, ENOMEM, "PCI host bridge");
	pthread_mutex_init(&bus->lock, NULL);
	pthread_mutex_init(&bus->intx_lock, NULL);
	bus->place = *place;
	bus->place.pci = bus;
	bus->memory32 =
		(struct pci_window){windows->memory32, windows->memory32 + windows->memory32_size};
	bus->memory64 =
		(struct pci_window){windows->memory64, windows->memory64 + windows->memory64_size};
	bus->ports =
		(struct pci_window){windows->ports, (uint64_t)windows->ports + windows->ports_size};
	strcpy(bus->bridge.device.name, "pci-host");
	pci_init(&bus->bridge, &bridge_ids);
	ret = pci_add(bus, &bus->bridge, err);
	if (ret == 0)
		ret = pci_host_map(bus, windows, err);
	if (ret < 0) {
		pci_bus_free(bus);
		return ret;
	}
	*out = bus;
	return 0;
}

void pci_bus_free(struct pci_bus *bus)
{
	if (!bus)
		return;
	unmap(bus->place.ports, &bus->address_range);
	unmap(bus->place.ports, &bus->data_range);
	unmap(bus->place.mmio, &bus->ecam_range);
	pthread_mutex_destroy(&bus->lock);
	pthread_mutex_destroy(&bus->intx_lock);
	free(bus);
}

void pci_bus_reset(struct pci_bus *bus)
{
	pci_reset(&bus->bridge);
	pthread_mutex_lock(&bus->lock);
	bus->address = 0;
	pthread_mutex_unlock(&bus->lock);
}

void pci_bus_save(struct pci_bus *bus, struct state_writer *writer)
{
	pci_save(&bus->bridge, writer);
	state_put_u32(writer, bus->address);
}

int pci_bus_restore(struct pci_bus *bus, struct state_reader *reader, struct error *err)
{
	int ret = pci_restore(&bus->bridge, reader, err);

	bus->address = state_get_u32(reader) & ~ADDRESS_FIXED;
	return ret;
}

uint64_t pci_misplaced_bars(const struct pci_bus *bus)
{
	return atomic_load_explicit(&bus->misplaced, memory_order_relaxed);
}
