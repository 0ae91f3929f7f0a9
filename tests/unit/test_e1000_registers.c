/* SPDX-License-Identifier: Apache-2.0 */
/* The 82540EM's registers as a driver finds and sets them: in memory and at ports, the EEPROM, the
 * PHY and its link. */
#include "device_stats.h"
#include "e1000_rig.h"

#include "base/checked.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

static void test_registers(void **state)
{
	/* What the driver's self-test writes and wants to read. */
	static const struct {
		unsigned offset;
		uint32_t mask, written;
	} patterns[] = {
		{0x28, 0xffffffff, 0xffffffff},
		{0x2c, 0xffff, 0xffffffff},
		{0x30, 0xffff, 0xffffffff},
		{0x38, 0xffff, 0xffffffff},
		{E1000_RDTR, 0xffff, 0xffffffff},
		{E1000_RDBAH, 0xffffffff, 0xffffffff},
		{E1000_RDLEN, 0xfff80, 0xfffff},
		{E1000_RDH, 0xffff, 0xffff},
		{E1000_RDT, 0xffff, 0xffff},
		{0x2168, 0xfff8, 0xfff8},
		{0x170, 0xffff, 0xffff},
		{0x410, 0x3fffffff, 0x3fffffff},
		{E1000_TDBAH, 0xffffffff, 0xffffffff},
		{E1000_TDLEN, 0xfff80, 0xfffff},
		{E1000_RDBAL, 0xfffffff0, 0xffffffff},
		{0x178, 0xc000ffff, 0xffff},
		{E1000_TDBAL, 0xfffffff0, 0xffffffff},
		{E1000_TIDV, 0xffff, 0xffff},
		{E1000_RA + 4, 0x8003ffff, 0xffffffff},
		{E1000_RA + 0x7c, 0x8003ffff, 0xffffffff},
		{E1000_MTA, 0xffffffff, 0xffffffff},
		{E1000_MTA + 127 * 4, 0xffffffff, 0xffffffff},
	};
	static const uint32_t tests[] = {0x5a5a5a5a, 0xa5a5a5a5, 0, 0xffffffff};
	struct e1000_rig rig;
	uint32_t status;

	e1000_rig_init(&rig);
	for (unsigned i = 0; i < ARRAY_SIZE(patterns); i++)
		for (unsigned t = 0; t < ARRAY_SIZE(tests); t++) {
			card_put(&rig, patterns[i].offset, patterns[i].written & tests[t]);
			assert_int_equal(card_get(&rig, patterns[i].offset),
				patterns[i].written & tests[t] & patterns[i].mask);
		}
	card_put(&rig, E1000_RCTL, 0xffffffff);
	assert_int_equal(card_get(&rig, E1000_RCTL), 0x06dfb3fe);
	card_put(&rig, E1000_RCTL, 0);
	status = card_get(&rig, E1000_STATUS);
	card_put(&rig, E1000_STATUS, ~status);
	assert_int_equal(card_get(&rig, E1000_STATUS), status);
	assert_int_equal(card_get(&rig, E1000_PBA), 0x100030);
	assert_int_equal(card_get(&rig, 0x1fffc), 0);
	assert_int_equal(fake_guest_read(&rig.machine, rig.bar + E1000_PBA + 2, 2), 0x10);
	assert_int_equal(device_stat(rig.device, "registers", "RCTL write"), 2);
	assert_int_equal(device_stat(rig.device, "registers", "MTA read"), 8);
	assert_int_equal(device_stat(rig.device, "registers", "unknown read"), 1);
	assert_int_equal(device_stat_or_zero(rig.device, "registers", "TCTL read"), 0);
	e1000_rig_free(&rig);
}

static void test_ports(void **state)
{
	uint64_t value;
	struct e1000_rig rig;

	e1000_rig_init(&rig);
	bus_write(rig.machine.place.ports, rig.ports, 4, 0x38);
	bus_write(rig.machine.place.ports, rig.ports + 4, 4, 0x88a8);
	assert_int_equal(card_get(&rig, 0x38), 0x88a8);
	bus_read(rig.machine.place.ports, rig.ports + 4, 4, &value);
	assert_int_equal(value, 0x88a8);
	/* As the driver resets it. */
	bus_write(rig.machine.place.ports, rig.ports, 4, E1000_CTRL);
	bus_write(rig.machine.place.ports, rig.ports + 4, 4, CTRL_RST);
	assert_int_equal(card_get(&rig, 0x38), 0x8100);
	assert_int_equal(card_get(&rig, E1000_CTRL) & CTRL_RST, 0);
	bus_write(rig.machine.place.ports, rig.ports, 4, 0xfffffffc);
	bus_read(rig.machine.place.ports, rig.ports + 4, 4, &value);
	assert_int_equal(value, 0);
	e1000_rig_free(&rig);
}

static void shift_out(struct e1000_rig *rig, uint32_t value, unsigned bits)
{
	while (bits--) {
		uint32_t pins = 0x42 | (value >> bits & 1) << 2;

		card_put(rig, E1000_EECD, pins);
		card_put(rig, E1000_EECD, pins | 1);
		card_put(rig, E1000_EECD, pins);
	}
}

static uint16_t microwire_read(struct e1000_rig *rig, unsigned address)
{
	unsigned value = 0;

	card_put(rig, E1000_EECD, 0x42);
	shift_out(rig, 0x180 | address, 9);
	assert_int_equal(card_get(rig, E1000_EECD) & 8, 0);
	for (unsigned i = 0; i < 16; i++) {
		card_put(rig, E1000_EECD, 0x43);
		value = value << 1 | (card_get(rig, E1000_EECD) >> 3 & 1);
		card_put(rig, E1000_EECD, 0x42);
	}
	card_put(rig, E1000_EECD, 0x40);
	return (uint16_t)value;
}

static void test_eeprom(void **state)
{
	struct e1000_rig rig;
	uint16_t sum = 0;

	e1000_rig_init(&rig);
	card_put(&rig, E1000_EECD, 0x40);
	assert_int_equal(
		card_get(&rig, E1000_EECD) & 0x3c0, 0x1c0); /* granted, present, 64 words */
	for (unsigned i = 0; i < 64; i++) {
		uint16_t word = microwire_read(&rig, i);

		card_put(&rig, E1000_EERD, i << 8 | 1);
		assert_int_equal(card_get(&rig, E1000_EERD), (uint32_t)word << 16 | i << 8 | 0x10);
		sum = (uint16_t)(sum + word);
	}
	assert_int_equal(sum, 0xbaba);
	assert_int_equal(microwire_read(&rig, 0), 0x0002);
	assert_int_equal(microwire_read(&rig, 2), 0x0302);
	/* Written only after it was allowed. */
	for (unsigned allowed = 0; allowed < 2; allowed++) {
		card_put(&rig, E1000_EECD, 0x42);
		if (allowed)
			shift_out(&rig, 0x130, 9);
		card_put(&rig, E1000_EECD, 0x40);
		card_put(&rig, E1000_EECD, 0x42);
		shift_out(&rig, 0x140 | 8, 9);
		shift_out(&rig, 0x1234, 16);
		card_put(&rig, E1000_EECD, 0x40);
		card_put(&rig, E1000_EECD, 0x42);
		assert_int_equal(card_get(&rig, E1000_EECD) & 8, 8);
		card_put(&rig, E1000_EECD, 0x40);
		assert_int_equal(microwire_read(&rig, 8), allowed ? 0x1234 : 0);
	}
	e1000_rig_free(&rig);
}

static void test_phy_and_link(void **state)
{
	struct e1000_rig rig;

	e1000_rig_init(&rig);
	assert_int_equal(card_phy_get(&rig, 2), 0x0141);
	assert_int_equal(card_phy_get(&rig, 3) & 0xfff0, 0x0c20);
	assert_int_equal(card_phy_get(&rig, 1) & 0x24, 0x24);
	card_put(&rig, E1000_MDIC, 0x08000000 | 2 << 21);
	assert_int_equal(card_get(&rig, E1000_MDIC) & 0x50000000, 0x50000000);
	assert_int_equal(card_get(&rig, E1000_STATUS) & STATUS_LU, 0);
	card_put(&rig, E1000_CTRL, CTRL_SLU);
	assert_int_equal(
		card_get(&rig, E1000_STATUS) & 0xc3, STATUS_LU | STATUS_FD | STATUS_SPEED_1G);
	assert_int_equal(card_get(&rig, E1000_ICR), ICR_LSC);
	card_phy_put(&rig, 0, 0x1340);
	assert_int_equal(card_phy_get(&rig, 0), 0x1140);
	assert_int_equal(card_get(&rig, E1000_ICR), ICR_LSC);
	card_phy_put(&rig, 0, 0x1940);
	assert_int_equal(card_get(&rig, E1000_STATUS) & STATUS_LU, 0);
	card_phy_put(&rig, 0, 0x1140);
	/* That it was lost is told once. */
	assert_int_equal(card_phy_get(&rig, 1) & 4, 0);
	assert_int_equal(card_phy_get(&rig, 1) & 4, 4);
	/* The back end goes away. */
	card_put(&rig, E1000_IMS, ICR_LSC);
	card_get(&rig, E1000_ICR);
	card_rings_up(&rig, 0);
	card_get(&rig, E1000_ICR);
	close(rig.other);
	rig.other = -1;
	assert_true(card_await_line(&rig, true));
	assert_int_equal(card_get(&rig, E1000_STATUS) & STATUS_LU, 0);
	assert_true(card_get(&rig, E1000_ICR) & ICR_LSC);
	assert_int_equal(card_phy_get(&rig, 1) & 4, 0);
	e1000_rig_free(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_registers),
		cmocka_unit_test(test_ports),
		cmocka_unit_test(test_eeprom),
		cmocka_unit_test(test_phy_and_link),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
