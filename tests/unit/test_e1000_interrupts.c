/* SPDX-License-Identifier: Apache-2.0 */
/* The interrupts of an 82540EM: causes and masks, and what puts them off. */
#include "device_stats.h"
#include "e1000_rig.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void test_interrupts(void **state)
{
	struct e1000_rig rig;

	e1000_rig_init(&rig);
	card_put(&rig, E1000_ICS, 0xff);
	assert_false(fake_host_line(&rig.machine.host, pci_slot_gsi(CARD_SLOT)));
	card_put(&rig, E1000_IMS, 0x10);
	assert_true(fake_host_line(&rig.machine.host, pci_slot_gsi(CARD_SLOT)));
	card_put(&rig, E1000_IMC, 0x10);
	assert_false(fake_host_line(&rig.machine.host, pci_slot_gsi(CARD_SLOT)));
	card_put(&rig, E1000_IMS, 0x10);
	assert_int_equal(card_get(&rig, E1000_ICR), 0xff);
	assert_false(fake_host_line(&rig.machine.host, pci_slot_gsi(CARD_SLOT)));
	assert_int_equal(card_get(&rig, E1000_ICR), 0);
	assert_int_equal(card_get(&rig, E1000_IMS), 0x10);
	assert_int_equal(device_stat(rig.device, NULL, "interrupts"), 2);
	e1000_rig_free(&rig);
}

/* With an interval of 16 ms the second interrupt comes, and comes no sooner. */
static void test_throttling(void **state)
{
	struct e1000_rig rig;
	uint64_t began;

	e1000_rig_init(&rig);
	card_put(&rig, E1000_IMS, 1);
	card_put(&rig, E1000_ITR, 62500);
	began = clock_ns();
	card_put(&rig, E1000_ICS, 1);
	assert_true(fake_host_line(&rig.machine.host, pci_slot_gsi(CARD_SLOT)));
	card_get(&rig, E1000_ICR);
	card_put(&rig, E1000_ICS, 1);
	assert_true(card_await_line(&rig, true));
	assert_true(clock_ns() - began >= 16000000);
	/* A shorter interval holds at once. */
	card_get(&rig, E1000_ICR);
	card_put(&rig, E1000_ITR, 0);
	card_put(&rig, E1000_ICS, 1);
	assert_true(fake_host_line(&rig.machine.host, pci_slot_gsi(CARD_SLOT)));
	assert_int_equal(device_stat(rig.device, NULL, "throttle"), 0);
	assert_int_equal(device_stat(rig.device, NULL, "interrupts"), 3);
	e1000_rig_free(&rig);
}

/* RDTR and TIDV put the causes off, and the absolute timers bound that. */
static void test_delays(void **state)
{
	uint8_t frame[60] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, got[100];
	struct e1000_rig rig;
	uint64_t began;
	uint16_t length;

	e1000_rig_init(&rig);
	card_rings_up(&rig, 0);
	card_put(&rig, E1000_IMS, ICR_RXT0 | ICR_TXDW);
	card_put(&rig, E1000_RDTR, 65000);
	card_put(&rig, E1000_RADV, 10000);
	began = clock_ns();
	network_sends(&rig, frame, 60);
	card_await_receive(&rig, &length);
	assert_true(card_await_line(&rig, true));
	assert_true(clock_ns() - began >= 10240000);
	assert_int_equal(card_get(&rig, E1000_ICR) & ICR_RXT0, ICR_RXT0);
	/* FPD: now. */
	card_put(&rig, E1000_RADV, 0);
	network_sends(&rig, frame, 60);
	card_await_receive(&rig, &length);
	card_settle(&rig);
	assert_int_equal(card_get(&rig, E1000_ICR) & ICR_RXT0, 0);
	card_put(&rig, E1000_RDTR, RDTR_FPD | 65000);
	assert_int_equal(card_get(&rig, E1000_ICR) & ICR_RXT0, ICR_RXT0);
	card_put(&rig, E1000_TIDV, 10000);
	began = clock_ns();
	card_describe(&rig, CARD_TX_DATA, 60 | EOP_RS | TXD_IDE, 0, 0);
	card_go(&rig);
	network_takes(&rig, got, sizeof(got));
	assert_true(card_await_line(&rig, true));
	assert_true(clock_ns() - began >= 10240000);
	/* Without IDE at once. */
	card_get(&rig, E1000_ICR);
	card_put(&rig, E1000_TIDV, 65535);
	card_describe(&rig, CARD_TX_DATA, 60 | EOP_RS, 0, 0);
	card_go(&rig);
	assert_true(card_await_line(&rig, true));
	e1000_rig_free(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_interrupts),
		cmocka_unit_test(test_throttling),
		cmocka_unit_test(test_delays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
