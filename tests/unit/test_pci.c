/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration space, BARs that move, INTx. */
#include "fake_host.h"

#include "base/checked.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct moves {
	unsigned mapped, unmapped;
	uint64_t last;
};

struct card {
	struct pci_function function; /* first */
	struct moves moves[PCI_BARS];
	uint64_t register_value;
};

struct rig {
	struct fake_machine machine;
	struct card cards[3];
};

static uint64_t register_read(void *device, uint64_t offset, unsigned size)
{
	return ((struct card *)device)->register_value + offset;
}

static void register_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	((struct card *)device)->register_value = value;
}

static const struct bus_ops register_ops = {.read = register_read, .write = register_write};

static void moved(struct pci_function *function, unsigned bar, bool mapped, uint64_t address)
{
	struct moves *moves = &((struct card *)function)->moves[bar];

	moves->mapped += mapped;
	moves->unmapped += !mapped;
	moves->last = address;
}

static const struct pci_ids ids = {.vendor = 0x1234,
	.device = 0x5678,
	.subsystem_vendor = 0x9abc,
	.subsystem = 0xdef0,
	.class_code = 0x020304,
	.revision = 5,
	.intx = true};

/* BAR 0: 32 bits, 1: ports, 2 and 3: 64 bits. */
static void add_card(struct rig *rig, unsigned index)
{
	struct card *card = &rig->cards[index];
	struct error err;

	pci_init(&card->function, &ids);
	assert_int_equal(pci_add_capability(&card->function, 0x09, 6), 0x40);
	assert_int_equal(pci_add_capability(&card->function, 0x0a, 4), 0x48);
	pci_describe_bar(&card->function, 0, PCI_BAR_MEMORY32, 0x3000, &register_ops, card, "a");
	pci_describe_bar(&card->function, 1, PCI_BAR_PORT, 0x20, &register_ops, card, "b");
	pci_describe_bar(
		&card->function, 2, PCI_BAR_MEMORY64, 1ULL << 33, &register_ops, card, "c");
	for (unsigned i = 0; i < PCI_BARS; i++)
		card->function.bars[i].moved = moved;
	assert_int_equal(pci_add(rig->machine.place.pci, &card->function, &err), 0);
	assert_int_equal(card->function.slot, index + 1);
	card->register_value = 0x100 * (index + 1);
}

static void rig_init(struct rig *rig)
{
	memset(rig, 0, sizeof(*rig));
	fake_machine_init(&rig->machine);
	for (unsigned i = 0; i < ARRAY_SIZE(rig->cards); i++)
		add_card(rig, i);
}

static void rig_free(struct rig *rig)
{
	for (unsigned i = 0; i < ARRAY_SIZE(rig->cards); i++)
		pci_remove(&rig->cards[i].function);
	fake_machine_free(&rig->machine);
}

static uint32_t get(struct rig *rig, unsigned slot, unsigned offset, unsigned size)
{
	return fake_guest_config_read(&rig->machine, slot, offset, size);
}

static void put(struct rig *rig, unsigned slot, unsigned offset, unsigned size, uint32_t value)
{
	fake_guest_config_write(&rig->machine, slot, offset, size, value);
}

static void test_header(void **state)
{
	struct rig rig;

	(void)state;
	rig_init(&rig);
	assert_int_equal(get(&rig, 0, 8, 4) >> 8, 0x060000); /* host bridge */
	assert_int_equal(get(&rig, 1, 0, 4), 0x56781234);
	assert_int_equal(get(&rig, 1, 8, 4), 0x02030405);
	assert_int_equal(get(&rig, 1, 0x2c, 4), 0xdef09abc);
	assert_int_equal(get(&rig, 1, 0x3d, 1), 1);
	assert_int_equal(get(&rig, 1, 0x3c, 1), pci_slot_gsi(1));
	assert_int_equal(get(&rig, 1, 0x34, 1), 0x48);
	assert_int_equal(get(&rig, 1, 0x48, 2), 0x400a);
	assert_int_equal(get(&rig, 1, 0x40, 2), 0x0009);
	assert_int_equal(get(&rig, 1, 6, 2) & 0x10, 0x10);
	put(&rig, 1, 0, 4, 0);
	assert_int_equal(get(&rig, 1, 0, 4), 0x56781234);
	assert_int_equal(get(&rig, 1, 0x100, 4), 0); /* no extended capabilities */
	assert_int_equal(get(&rig, 1, 0xffc, 4), 0);
	assert_int_equal(get(&rig, 9, 0, 4), 0xffffffff);
	assert_int_equal(get(&rig, 9, 0, 2), 0xffff);
	rig_free(&rig);
}

static void test_functions_and_widths(void **state)
{
	struct rig rig;

	(void)state;
	rig_init(&rig);
	assert_int_equal(fake_guest_read(&rig.machine, FAKE_ECAM + 0x8000 + 0x1000, 4), 0xffffffff);
	assert_true(fake_guest_read(&rig.machine, FAKE_ECAM + 0x8000, 8) == UINT64_MAX);
	assert_int_equal(get(&rig, 1, 1, 2), 0x7812);
	assert_int_equal(get(&rig, 1, 3, 2), 0xffff); /* across a word */
	assert_int_equal(get(&rig, 1, 0xfff, 1), 0);
	rig_free(&rig);
}

static uint32_t port_get(struct rig *rig, uint32_t address, unsigned port, unsigned size)
{
	uint64_t value;

	bus_write(rig->machine.place.ports, 0xcf8, 4, address);
	bus_read(rig->machine.place.ports, port, size, &value);
	return (uint32_t)value;
}

static void test_ports(void **state)
{
	struct rig rig;
	uint64_t value;

	(void)state;
	rig_init(&rig);
	assert_int_equal(port_get(&rig, 0x80000800, 0xcfc, 4), 0x56781234);
	assert_int_equal(port_get(&rig, 0x80000800, 0xcfe, 2), 0x5678);
	assert_int_equal(port_get(&rig, 0x80000808, 0xcff, 1), 0x02);
	assert_int_equal(port_get(&rig, 0x00000800, 0xcfc, 4), 0xffffffff); /* not enabled */
	assert_int_equal(port_get(&rig, 0x80010800, 0xcfc, 4), 0xffffffff); /* bus 1 */
	assert_int_equal(port_get(&rig, 0x80000900, 0xcfc, 4), 0xffffffff); /* function 1 */
	bus_write(rig.machine.place.ports, 0xcf8, 4, 0x8000083c);
	bus_write(rig.machine.place.ports, 0xcf8, 2, 0); /* only 32 bits select */
	bus_write(rig.machine.place.ports, 0xcfc, 1, 0x77);
	bus_read(rig.machine.place.ports, 0xcf8, 4, &value);
	assert_int_equal(value, 0x8000083c);
	assert_int_equal(get(&rig, 1, 0x3c, 1), 0x77);
	rig_free(&rig);
}

static void test_sizing(void **state)
{
	struct rig rig;
	uint32_t before;

	(void)state;
	rig_init(&rig);
	before = get(&rig, 1, 0x10, 4);
	assert_int_equal(before & 0x3fff, 0); /* aligned to its size */
	put(&rig, 1, 0x10, 4, 0xffffffff);
	assert_int_equal(get(&rig, 1, 0x10, 4), 0xffffc000); /* 0x3000 rounded up */
	put(&rig, 1, 0x14, 4, 0xffffffff);
	assert_int_equal(get(&rig, 1, 0x14, 4), 0xffffffe1);
	put(&rig, 1, 0x18, 4, 0xffffffff);
	put(&rig, 1, 0x1c, 4, 0xffffffff);
	assert_int_equal(get(&rig, 1, 0x18, 4), 0x4);
	assert_int_equal(get(&rig, 1, 0x1c, 4), 0xfffffffe);
	put(&rig, 1, 0x20, 4, 0xffffffff);
	assert_int_equal(get(&rig, 1, 0x20, 4), 0);
	assert_int_equal(rig.cards[0].moves[0].mapped, 0); /* decoding is off */
	rig_free(&rig);
}

static void test_decoding(void **state)
{
	struct card *card;
	struct rig rig;
	uint64_t address, ports, value;

	(void)state;
	rig_init(&rig);
	card = &rig.cards[0];
	address = get(&rig, 1, 0x10, 4);
	ports = get(&rig, 1, 0x14, 4) & ~3U;
	put(&rig, 1, 4, 2, 2);
	assert_int_equal(fake_guest_read(&rig.machine, address + 8, 4), 0x108);
	assert_false(bus_read(rig.machine.place.ports, ports, 1, &value));
	put(&rig, 1, 4, 2, 1);
	assert_int_equal(fake_guest_read(&rig.machine, address + 8, 4), 0xffffffff);
	assert_true(bus_read(rig.machine.place.ports, ports, 2, &value));
	assert_int_equal(card->moves[0].mapped, 1);
	assert_int_equal(card->moves[0].unmapped, 1);
	put(&rig, 1, 4, 2, 3);
	put(&rig, 1, 0x14, 4, 0x12345601); /* beyond 16 bits */
	assert_false(bus_read(rig.machine.place.ports, ports, 1, &value));
	rig_free(&rig);
}

static void test_wide_bar_by_halves(void **state)
{
	struct card *card;
	struct rig rig;

	(void)state;
	rig_init(&rig);
	card = &rig.cards[0];
	put(&rig, 1, 4, 2, 2);
	put(&rig, 1, 0x18, 4, 0);
	put(&rig, 1, 0x1c, 4, 0x40);
	assert_true(card->moves[2].last == 0x4000000000);
	assert_int_equal(fake_guest_read(&rig.machine, 0x4000000010, 4), 0x110);
	assert_int_equal(card->moves[2].mapped, card->moves[2].unmapped + 1);
	rig_free(&rig);
}

/* Onto RAM, configuration space or another's BAR: unmapped and counted, until it moves on. */
static void test_misplaced(void **state)
{
	uint32_t first, second;
	struct rig rig;

	(void)state;
	rig_init(&rig);
	first = get(&rig, 1, 0x10, 4);
	second = get(&rig, 2, 0x10, 4);
	put(&rig, 1, 4, 2, 2);
	put(&rig, 2, 4, 2, 2);
	put(&rig, 1, 0x10, 4, 0x4000);
	put(&rig, 1, 0x10, 4, FAKE_ECAM);
	assert_int_equal(get(&rig, 1, 0, 4), 0x56781234);
	assert_int_equal(pci_misplaced_bars(rig.machine.place.pci), 2);
	assert_int_equal(rig.cards[0].moves[0].mapped, 1);
	/* Two change places: the one that came too early gets its own when the other has left. */
	put(&rig, 1, 0x10, 4, second);
	assert_int_equal(fake_guest_read(&rig.machine, second, 4), 0x200);
	put(&rig, 2, 0x10, 4, first);
	assert_int_equal(fake_guest_read(&rig.machine, second, 4), 0x100);
	assert_int_equal(fake_guest_read(&rig.machine, first, 4), 0x200);
	rig_free(&rig);
}

static void test_reset(void **state)
{
	uint32_t before;
	struct rig rig;

	(void)state;
	rig_init(&rig);
	before = get(&rig, 1, 0x10, 4);
	put(&rig, 1, 4, 2, 0x402);
	put(&rig, 1, 0x10, 4, 0xd0000000);
	put(&rig, 1, 0x3c, 1, 3);
	pci_set_intx(&rig.cards[0].function, true);
	pci_reset(&rig.cards[0].function);
	assert_int_equal(get(&rig, 1, 0x10, 4), before);
	assert_int_equal(get(&rig, 1, 4, 4) & 0xffff, 0);
	assert_int_equal(get(&rig, 1, 6, 2) & 8, 0);
	assert_int_equal(fake_guest_read(&rig.machine, 0xd0000000, 4), 0xffffffff);
	rig_free(&rig);
}

static void test_intx(void **state)
{
	struct fake_host *host;
	unsigned gsi = pci_slot_gsi(1);
	struct rig rig;

	(void)state;
	rig_init(&rig);
	host = &rig.machine.host;
	pci_set_intx(&rig.cards[0].function, true);
	pci_set_intx(&rig.cards[0].function, true);
	assert_true(fake_host_line(host, gsi));
	assert_int_equal(get(&rig, 1, 6, 2) & 8, 8);
	assert_int_equal(get(&rig, 1, 4, 4) >> 16 & 8, 8);
	assert_false(fake_host_line(host, pci_slot_gsi(2)));
	put(&rig, 1, 4, 2, 0x400);
	assert_false(fake_host_line(host, gsi));
	assert_int_equal(get(&rig, 1, 6, 2) & 8, 8); /* still asks */
	put(&rig, 1, 4, 2, 0);
	assert_true(fake_host_line(host, gsi));
	pci_set_intx(&rig.cards[0].function, false);
	assert_false(fake_host_line(host, gsi));
	assert_int_equal(host->raised[gsi], 2);
	rig_free(&rig);
}

/* Slots 1 and 9 share a line: it falls when both let go. */
static void test_shared_line(void **state)
{
	struct card others[PCI_INTX_GSI_COUNT] = {0};
	struct fake_host *host;
	struct error err;
	struct rig rig;

	(void)state;
	rig_init(&rig);
	host = &rig.machine.host;
	for (unsigned i = 0; i < ARRAY_SIZE(others); i++) {
		pci_init(&others[i].function, &ids);
		assert_int_equal(pci_add(rig.machine.place.pci, &others[i].function, &err), 0);
	}
	assert_int_equal(others[5].function.slot, 9);
	pci_set_intx(&rig.cards[0].function, true);
	pci_set_intx(&others[5].function, true);
	pci_set_intx(&rig.cards[0].function, false);
	assert_true(fake_host_line(host, pci_slot_gsi(1)));
	pci_set_intx(&others[5].function, false);
	assert_false(fake_host_line(host, pci_slot_gsi(1)));
	for (unsigned i = 0; i < ARRAY_SIZE(others); i++)
		pci_remove(&others[i].function);
	rig_free(&rig);
}

static void test_full(void **state)
{
	struct card cards[PCI_SLOTS] = {0};
	struct fake_machine machine;
	struct error err;
	unsigned count = 0;

	(void)state;
	fake_machine_init(&machine);
	for (; count < PCI_SLOTS; count++) {
		pci_init(&cards[count].function, &ids);
		if (pci_add(machine.place.pci, &cards[count].function, &err) < 0)
			break;
	}
	assert_int_equal(count, PCI_SLOTS - 1);
	assert_int_equal(err.code, ENOSPC);
	pci_remove(&cards[0].function);
	pci_describe_bar(&cards[31].function, 0, PCI_BAR_MEMORY32, 1U << 29, NULL, NULL, "big");
	assert_int_equal(pci_add(machine.place.pci, &cards[31].function, &err), -ENOSPC);
	for (unsigned i = 1; i < count; i++)
		pci_remove(&cards[i].function);
	fake_machine_free(&machine);
}

static void test_save_and_restore(void **state)
{
	struct rig from, to;
	struct state_writer writer;
	struct state_reader reader;
	struct error err;

	(void)state;
	rig_init(&from);
	rig_init(&to);
	put(&from, 1, 0x10, 4, 0xd0000000);
	put(&from, 1, 4, 2, 2);
	pci_set_intx(&from.cards[0].function, true);
	state_writer_init(&writer);
	state_section_begin(&writer, "card", 1);
	pci_save(&from.cards[0].function, &writer);
	state_section_close(&writer);
	assert_int_equal(state_writer_finish(&writer), 0);
	assert_int_equal(state_reader_init(&reader, writer.bytes, writer.length, &err), 0);
	assert_int_equal(state_section_next(&reader, &err), 1);
	assert_int_equal(pci_restore(&to.cards[0].function, &reader, &err), 0);
	assert_int_equal(state_section_end(&reader, &err), 0);
	assert_int_equal(fake_guest_read(&to.machine, 0xd0000000, 4), 0x100);
	assert_true(fake_host_line(&to.machine.host, pci_slot_gsi(1)));
	/* Into another kind of card. */
	to.cards[1].function.config[2] = 0;
	assert_int_equal(state_reader_init(&reader, writer.bytes, writer.length, &err), 0);
	assert_int_equal(state_section_next(&reader, &err), 1);
	assert_int_equal(pci_restore(&to.cards[1].function, &reader, &err), -EINVAL);
	state_writer_free(&writer);
	rig_free(&from);
	rig_free(&to);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_header),
		cmocka_unit_test(test_functions_and_widths),
		cmocka_unit_test(test_ports),
		cmocka_unit_test(test_sizing),
		cmocka_unit_test(test_decoding),
		cmocka_unit_test(test_wide_bar_by_halves),
		cmocka_unit_test(test_misplaced),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_intx),
		cmocka_unit_test(test_shared_line),
		cmocka_unit_test(test_full),
		cmocka_unit_test(test_save_and_restore),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
