/* SPDX-License-Identifier: Apache-2.0 */
#include "driver.h"

#include "machine/internal.h"
#include "tiny.h"
#include "virtio/virtio.h"

#include "../unit/virtio_registers.h"

#define STATUS_DRIVER      3 /* with ACKNOWLEDGE */
#define STATUS_FEATURES_OK 8
#define STATUS_DRIVER_OK   4

#define COMMAND           4 /* of PCI */
#define COMMAND_ALL       7 /* ports, memory, bus master */
#define VENDOR_VIRTIO     0x1af4
#define CAPABILITY_VENDOR 9
#define COMMON            1 /* cfg_type */

#define ENTRIES   16
#define RING_SIZE 0x3000U /* a page for each part */

struct driver {
	struct machine *machine;
	unsigned slot;
	uint64_t common;
	uint32_t *rings; /* the next free address */
};

static uint64_t config_place(const struct driver *driver, unsigned offset)
{
	return driver->machine->windows.ecam + (driver->slot << 15) + offset;
}

static uint64_t config_read(const struct driver *driver, unsigned offset, unsigned size)
{
	uint64_t value;

	CHECK(bus_read(driver->machine->mmio, config_place(driver, offset), size, &value));
	return value;
}

static uint64_t get(const struct driver *driver, unsigned offset, unsigned size)
{
	uint64_t value;

	CHECK(bus_read(driver->machine->mmio, driver->common + offset, size, &value));
	return value;
}

static void put(const struct driver *driver, unsigned offset, unsigned size, uint64_t value)
{
	CHECK(bus_write(driver->machine->mmio, driver->common + offset, size, value));
}

static void put_address(const struct driver *driver, unsigned offset, uint64_t address)
{
	put(driver, offset, 4, address);
	put(driver, offset + 4, 4, 0);
}

static uint64_t bar(const struct driver *driver, unsigned number)
{
	uint64_t low = config_read(driver, 0x10 + 4 * number, 4);
	uint64_t high = low & 4 ? config_read(driver, 0x14 + 4 * number, 4) : 0;

	return high << 32 | (low & ~15ULL);
}

/* False: no virtio device is there. */
static bool find(struct driver *driver)
{
	if (config_read(driver, 0, 2) != VENDOR_VIRTIO)
		return false;
	CHECK(bus_write(driver->machine->mmio, config_place(driver, COMMAND), 2, COMMAND_ALL));
	for (uint64_t at = config_read(driver, 0x34, 1); at;
		at = config_read(driver, (unsigned)at + 1, 1)) {
		unsigned place = (unsigned)at;

		if (config_read(driver, place, 1) == CAPABILITY_VENDOR &&
			config_read(driver, place + 3, 1) == COMMON)
			driver->common = bar(driver, (unsigned)config_read(driver, place + 4, 1)) +
					 config_read(driver, place + 8, 4);
	}
	CHECK(driver->common);
	return true;
}

static void negotiate(const struct driver *driver)
{
	put(driver, COMMON_STATUS, 1, STATUS_DRIVER);
	for (unsigned half = 0; half < 2; half++) {
		put(driver, COMMON_DEVICE_FEATURE_SELECT, 4, half);
		put(driver, COMMON_DRIVER_FEATURE_SELECT, 4, half);
		put(driver, COMMON_DRIVER_FEATURE, 4, get(driver, COMMON_DEVICE_FEATURE, 4));
	}
	put(driver, COMMON_STATUS, 1, STATUS_DRIVER | STATUS_FEATURES_OK);
	CHECK(get(driver, COMMON_STATUS, 1) == (STATUS_DRIVER | STATUS_FEATURES_OK));
}

static void set_up_queue(const struct driver *driver, unsigned queue)
{
	const uint32_t at = *driver->rings;

	*driver->rings += RING_SIZE;
	put(driver, COMMON_QUEUE_SELECT, 2, queue);
	CHECK(get(driver, COMMON_QUEUE_SIZE, 2) >= ENTRIES);
	put(driver, COMMON_QUEUE_SIZE, 2, ENTRIES);
	put_address(driver, COMMON_QUEUE_DESCRIPTORS, at);
	put_address(driver, COMMON_QUEUE_DRIVER, at + RING_SIZE / 3);
	put_address(driver, COMMON_QUEUE_DEVICE, at + 2 * (RING_SIZE / 3));
	put(driver, COMMON_QUEUE_ENABLE, 2, 1);
}

void driver_bring_up(struct machine *machine)
{
	uint32_t rings = DRIVER_RINGS;

	for (unsigned slot = 1; slot < MACHINE_SLOTS; slot++) {
		struct driver driver = {.machine = machine, .slot = slot, .rings = &rings};

		if (!find(&driver))
			continue;
		negotiate(&driver);
		for (unsigned i = 0; i < get(&driver, COMMON_NUM_QUEUES, 2); i++)
			set_up_queue(&driver, i);
		put(&driver, COMMON_STATUS, 1,
			STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_DRIVER_OK);
	}
}

unsigned driver_count_up(const struct machine *machine)
{
	const struct machine_config *config = machine_config(machine);
	unsigned count = 0;

	for (struct device *device = machine->devices; device; device = device->next) {
		const struct device_config *record = machine_config_find(config, device->name);

		if (record && device_is_virtio(record))
			count += virtio_pci_model(device)->queues[0].enabled;
	}
	return count;
}
