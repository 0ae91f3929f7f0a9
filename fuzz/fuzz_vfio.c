/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A host function with any configuration space, and a hostile guest at it: configuration writes,
 * BARs put anywhere, accesses to their trapped parts, interrupts, resets. Nothing but the command
 * register's bus mastering may reach the hardware's configuration space.
 */
#include "base/log.h"
#include "input.h"
#include "pci/registers.h"
#include "vfio_rig.h"

#include <stdio.h>
#include <stdlib.h>

#define SLOT 1

static void must(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "fuzz: %s\n", what);
	abort();
}

static void invent(struct fake_function *hardware, struct input *input)
{
	uint8_t shape = (uint8_t)input_number(input, 1);

	fake_function_init(hardware);
	input_bytes(input, hardware->config, PCI_CONFIG_SIZE);
	if (!(shape & 1))
		hardware->config[PCI_REG_HEADER_TYPE] &= 0x80;
	if (!(shape & 2))
		hardware->config[PCI_REG_STATUS] |= PCI_STS_CAPABILITIES;
	hardware->mappable = !(shape & 4);
	for (unsigned i = 0; i < PCI_BARS; i++) {
		unsigned log = (unsigned)input_number(input, 1) & 15;

		hardware->sizes[i] = log ? min_u64(1ULL << log, FAKE_BAR_SIZE) : 0;
	}
}

static void touch_bar(struct fake_machine *machine, const struct pci_function *function,
	struct input *input, uint8_t what)
{
	const struct pci_bar *bar = &function->bars[what >> 4 & 7 ? (what >> 4 & 7) % PCI_BARS : 0];
	struct bus *bus = bar->kind == PCI_BAR_PORT ? machine->place.ports : machine->place.mmio;
	uint64_t value, at = bar->address + input_number(input, 2) % (bar->size + 8);
	unsigned size = input_size(input);

	if (what & 0x80)
		bus_write(bus, at, size, input_number(input, 8));
	else
		bus_read(bus, at, size, &value);
}

static void step(struct fake_machine *machine, struct fake_function *hardware,
	struct device *device, struct input *input)
{
	uint8_t what = (uint8_t)input_number(input, 1);
	unsigned offset;

	switch (what & 7) {
	case 0:
	case 1:
	case 2:
		offset = (unsigned)input_number(input, 1);
		fake_guest_config_write(
			machine, SLOT, offset, input_size(input), (uint32_t)input_number(input, 4));
		break;
	case 3:
		offset = (unsigned)input_number(input, 1);
		fake_guest_config_read(machine, SLOT, offset, input_size(input));
		break;
	case 4:
		touch_bar(machine, (struct pci_function *)device, input, what);
		break;
	case 5:
		if (hardware->count)
			fake_function_interrupt(
				hardware, (unsigned)input_number(input, 2) % hardware->count);
		break;
	case 6:
		hardware->fail = what & 8 ? (int)(what >> 4) - 8 : 0;
		fake_host_end_line(&machine->host, pci_slot_gsi(SLOT));
		break;
	default:
		if (what & 8)
			device->ops->reset(device);
		break;
	}
}

static void check(const struct fake_function *hardware)
{
	const uint8_t allowed = PCI_CMD_MEMORY | PCI_CMD_IO | PCI_CMD_MASTER;

	for (unsigned at = 0; at < PCI_CONFIG_SIZE; at++)
		must(at == PCI_REG_COMMAND ? !(hardware->config_touched[at] & ~allowed)
					   : !hardware->config_touched[at],
			"a write reached the hardware's configuration space");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fake_machine machine;
	struct input input = {data, size};
	struct fake_function hardware;
	struct device *device;
	struct error err;

	if (!machine.io)
		log_set_level(LOG_LEVEL_ERROR);
	/* Windows are never given back, so each function has a machine of its own. */
	fake_machine_init(&machine);
	invent(&hardware, &input);
	must(vfio_new_on(&device, "vfio0", &hardware.hardware, "0000:01:10.0", &err) == 0, "new");
	if (device->ops->realize(device, &machine.place, &err) == 0) {
		device->ops->start(device, &err);
		while (input.left)
			step(&machine, &hardware, device, &input);
		fake_stop(device);
		check(&hardware);
	}
	device->ops->free(device);
	must(!fake_host_windows(&machine.host), "a window is left");
	must(!fake_host_routes(&machine.host), "a route is left");
	must(!machine.host.eoi_watches, "a watch is left");
	fake_function_free(&hardware);
	fake_machine_free(&machine);
	return 0;
}
