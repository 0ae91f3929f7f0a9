/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration space through both windows, BARs put anywhere, the MSI-X table, saved state. */
#include "base/log.h"
#include "fake_host.h"
#include "input.h"

#include <stdlib.h>

struct card {
	struct pci_function function; /* first */
	uint64_t mapped[PCI_BARS];    /* 0: not */
};

struct rig {
	struct fake_machine machine;
	struct card cards[2];
};

static uint64_t bar_read(void *device, uint64_t offset, unsigned size)
{
	if (offset + size > 0x1000)
		abort();
	return offset;
}

static void bar_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	if (offset + size > 0x1000)
		abort();
}

static const struct bus_ops bar_ops = {.read = bar_read, .write = bar_write};

/* Each map is followed by the unmap of the same place. */
static void moved(struct pci_function *function, unsigned bar, bool mapped, uint64_t address)
{
	uint64_t *now = &((struct card *)function)->mapped[bar];

	if (mapped ? *now != 0 : *now != address + 1)
		abort();
	*now = mapped ? address + 1 : 0;
}

static void add_card(struct rig *rig, struct card *card)
{
	static const struct pci_ids ids = {.vendor = 1, .device = 2, .intx = true};
	struct error err;

	pci_init(&card->function, &ids);
	pci_describe_bar(&card->function, 0, PCI_BAR_MEMORY32, 0x1000, &bar_ops, card, "a");
	pci_describe_bar(&card->function, 2, PCI_BAR_PORT, 0x20, &bar_ops, card, "b");
	pci_describe_bar(&card->function, 4, PCI_BAR_MEMORY64, 0x1000, &bar_ops, card, "c");
	for (unsigned i = 0; i < PCI_BARS; i += 2)
		card->function.bars[i].moved = moved;
	if (msix_add(&card->function, 40, 1, 4096, &err) < 0 ||
		pci_add(rig->machine.place.pci, &card->function, &err) < 0)
		abort();
}

static void save_and_restore(struct rig *rig, struct input *input)
{
	struct pci_function *function = &rig->cards[input_number(input, 1) & 1].function;
	struct state_writer saved, changed;
	struct state_reader reader;
	struct error err;
	size_t at;

	state_writer_init(&saved);
	state_section_begin(&saved, "card", 1);
	pci_save(function, &saved);
	at = saved.section + 14 + input_number(input, 2) % (saved.length - saved.section - 14);
	input_bytes(input, saved.bytes + at, min_u64(8, saved.length - at));
	state_writer_init(&changed);
	state_section_begin(&changed, "card", 1);
	state_put_bytes(
		&changed, saved.bytes + saved.section + 14, saved.length - saved.section - 14);
	state_section_close(&changed);
	state_writer_finish(&changed);
	if (state_reader_init(&reader, changed.bytes, changed.length, &err) < 0 ||
		state_section_next(&reader, &err) != 1)
		abort();
	pci_restore(function, &reader, &err);
	state_writer_free(&saved);
	state_writer_free(&changed);
}

static uint64_t some_address(struct rig *rig, struct input *input)
{
	uint8_t which = (uint8_t)input_number(input, 1);
	const struct pci_function *function = &rig->cards[which & 1].function;

	return function->bars[which >> 1 & 3].address + input_number(input, 2) % 0x1100;
}

static void step(struct rig *rig, struct input *input)
{
	struct device_place *place = &rig->machine.place;
	uint8_t what = (uint8_t)input_number(input, 1);
	uint64_t value;

	switch (what % 8) {
	case 0:
	case 1:
		fake_guest_config_write(&rig->machine, 1 + (what >> 7),
			(unsigned)input_number(input, 1), input_size(input),
			(uint32_t)input_number(input, 4));
		break;
	case 2:
		bus_read(
			place->mmio, FAKE_ECAM + input_number(input, 3), input_size(input), &value);
		break;
	case 3:
		bus_write(place->ports, 0xcf8 + (what >> 5), input_size(input),
			input_number(input, 4) | 0x80000000);
		break;
	case 4:
		bus_read(place->ports, 0xcf8 + (what >> 5), input_size(input), &value);
		break;
	case 5:
		bus_write(place->mmio, some_address(rig, input), input_size(input),
			input_number(input, 8));
		bus_read(place->mmio, some_address(rig, input), input_size(input), &value);
		break;
	case 6:
		pci_set_intx(&rig->cards[what >> 7].function, what & 0x40);
		msix_notify(&rig->cards[what >> 7].function, (unsigned)input_number(input, 2));
		break;
	default:
		save_and_restore(rig, input);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct rig rig;
	struct input input = {data, size};

	if (!rig.machine.io) {
		log_set_level(LOG_LEVEL_ERROR);
		fake_machine_init(&rig.machine);
		add_card(&rig, &rig.cards[0]);
		add_card(&rig, &rig.cards[1]);
	}
	while (input.left)
		step(&rig, &input);
	for (unsigned i = 0; i < 2; i++)
		pci_reset(&rig.cards[i].function);
	if (fake_host_routes(&rig.machine.host))
		abort();
	return 0;
}
