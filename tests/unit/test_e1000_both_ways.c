/* SPDX-License-Identifier: Apache-2.0 */
/* What holds of frames both to and from an 82540EM: VLAN tags, loopback, bus mastering, rings that
 * are no memory, the network's policy. */
#include "device_stats.h"
#include "e1000_rig.h"
#include "frames.h"

#include "base/bytes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void test_vlan(void **state)
{
	uint8_t frame[100], got[2048];
	struct e1000_rig rig;
	uint16_t length;

	e1000_rig_init(&rig);
	card_rings_up(&rig, RCTL_VFE | RCTL_SECRC);
	card_put(&rig, E1000_CTRL, CTRL_SLU | CTRL_VME);
	card_pattern(rig.machine.ram + CARD_TX_DATA, 100, 1);
	card_describe(&rig, CARD_TX_DATA, 100 | EOP_RS | TXD_VLE, 0, 0xa123);
	card_go(&rig);
	assert_int_equal(network_takes(&rig, got, sizeof(got)), 104);
	assert_memory_equal(got, rig.machine.ram + CARD_TX_DATA, 12);
	assert_memory_equal(got + 12, "\x81\0\xa1\x23", 4);
	assert_memory_equal(got + 16, rig.machine.ram + CARD_TX_DATA + 12, 88);
	/* Only the VLAN that is let in; its tag comes beside the frame. */
	card_put(&rig, E1000_VFTA + 4 * (0x123 / 32), 1U << 0x123 % 32);
	card_pattern(frame, sizeof(frame), 4);
	memset(frame, 0xff, 6);
	memcpy(frame + 12, "\x81\0\0\x05", 4);
	network_sends(&rig, frame, 100);
	memcpy(frame + 14, "\xa1\x23", 2);
	network_sends(&rig, frame, 100);
	assert_true(card_await_receive(&rig, &length) & RXD_VP);
	assert_int_equal(length, 96);
	assert_int_equal(load_le16(rig.machine.ram + CARD_RX_RING + 14), 0xa123);
	assert_memory_equal(card_received(&rig), frame, 12);
	assert_memory_equal(card_received(&rig) + 12, frame + 16, 84);
	assert_int_equal(device_stat(rig.device, NULL, "filtered"), 1);
	e1000_rig_free(&rig);
}

/* Without bus mastering there is no DMA, and afterwards nothing is lost. */
static void test_bus_mastering(void **state)
{
	uint8_t frame[100] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, got[200];
	struct e1000_rig rig;
	uint16_t length;

	e1000_rig_init(&rig);
	card_rings_up(&rig, RCTL_SECRC);
	fake_guest_config_write(&rig.machine, CARD_SLOT, 4, 2, 3);
	card_describe(&rig, CARD_TX_DATA, sizeof(frame) | EOP_RS, 0, 0);
	card_go(&rig);
	network_sends(&rig, frame, sizeof(frame));
	assert_true(network_is_silent(&rig));
	assert_int_equal(card_get(&rig, E1000_TDH), 0);
	assert_int_equal(card_get(&rig, E1000_RDH), 0);
	fake_guest_config_write(&rig.machine, CARD_SLOT, 4, 2, 7);
	assert_int_equal(network_takes(&rig, got, sizeof(got)), sizeof(frame));
	card_await_receive(&rig, &length);
	assert_int_equal(length, sizeof(frame));
	rig.device->ops->reset(rig.device);
	fake_guest_config_write(&rig.machine, CARD_SLOT, 4, 2, 3);
	card_rings_up(&rig, RCTL_SECRC);
	card_describe(&rig, CARD_TX_DATA, sizeof(frame) | EOP_RS, 0, 0);
	card_go(&rig);
	assert_true(network_is_silent(&rig));
	e1000_rig_free(&rig);
}

static void loop_one(struct e1000_rig *rig)
{
	uint16_t length;

	memset(rig->machine.ram + CARD_TX_DATA, 0xff, 200);
	card_describe(rig, CARD_TX_DATA, 200 | EOP_RS, 0, 0);
	card_go(rig);
	assert_true(card_await_receive(rig, &length) & RXD_EOP);
	assert_int_equal(length, 204);
	assert_memory_equal(card_received(rig), rig->machine.ram + CARD_TX_DATA, 200);
}

static void test_loopback(void **state)
{
	struct e1000_rig rig;

	e1000_rig_init(&rig);
	card_rings_up(&rig, 0x40);
	loop_one(&rig);
	card_put(&rig, E1000_RCTL, RCTL_EN | RCTL_BAM);
	card_phy_put(&rig, 0, 0x4140);
	loop_one(&rig);
	assert_true(network_is_silent(&rig));
	e1000_rig_free(&rig);
}

/* Rings and buffers that are no memory, heads that never meet their tails. */
static void test_nonsense(void **state)
{
	uint8_t frame[60] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, got[2048];
	struct e1000_rig rig;
	uint16_t length;

	e1000_rig_init(&rig);
	card_rings_up(&rig, 0);
	card_describe(&rig, FAKE_RAM_SIZE - 10, 100 | EOP_RS, 0, 0);
	card_describe(&rig, rig.bar, 100 | EOP_RS, 0, 0);
	card_describe(&rig, UINT64_MAX - 50, 100 | EOP_RS, 0, 0);
	for (unsigned i = 0; i < 3; i++)
		card_describe(&rig, 0, 65535, 0, 0);
	card_describe(&rig, 0, 100 | EOP_RS, 0, 0);
	card_go(&rig);
	assert_true(network_is_silent(&rig));
	assert_int_equal(device_stat(rig.device, NULL, "dropped"), 4);
	assert_int_equal(device_stat(rig.device, NULL, "dma_errors"), 3);
	card_put(&rig, E1000_TDT, CARD_COUNT);
	card_put(&rig, E1000_TDT, 0xffff);
	card_put(&rig, E1000_TDLEN, 0);
	card_put(&rig, E1000_TDT, 3);
	card_put(&rig, E1000_TDLEN, CARD_COUNT * 16);
	card_put(&rig, E1000_TDBAH, 1);
	card_put(&rig, E1000_TDT, rig.transmit_tail + 1);
	card_settle(&rig);
	card_put(&rig, E1000_TDBAH, 0);
	/* Receive buffers: the one is told as an error, the next one serves. */
	store_le64(rig.machine.ram + CARD_RX_RING, rig.bar);
	network_sends(&rig, frame, 60);
	network_sends(&rig, frame, 60);
	card_await_receive(&rig, &length);
	assert_int_equal(length, 0);
	assert_int_equal(rig.machine.ram[CARD_RX_RING + 13] & RXD_RXE, RXD_RXE);
	card_await_receive(&rig, &length);
	assert_int_equal(length, 64);
	card_put(&rig, E1000_RDBAH, 0xffffffff);
	card_put(&rig, E1000_RDH, 0xffff);
	network_sends(&rig, frame, 60);
	card_settle(&rig);
	card_put(&rig, E1000_RDH, 5);
	card_settle(&rig);
	/* And all is well after a reset. */
	card_put(&rig, E1000_CTRL, CTRL_RST);
	card_rings_up(&rig, 0);
	card_describe(&rig, CARD_TX_DATA, 100 | EOP_RS, 0, 0);
	card_go(&rig);
	assert_int_equal(network_takes(&rig, got, sizeof(got)), 100);
	e1000_rig_free(&rig);
}

static void set_policy(struct e1000_rig *rig, const struct net_policy_options *options)
{
	struct net_policy *policy = NULL;

	assert_int_equal(net_policy_new(&policy, options, NULL), 0);
	assert_int_equal(net_set_policy(rig->net, rig->machine.place.io, policy), 0);
	card_settle(rig);
}

static void send_numbered(struct e1000_rig *rig, unsigned number, uint16_t port)
{
	struct frame frame;

	frame_packet(&frame, "10.0.0.2", "10.0.0.3", 17, 1000, port);
	frame_zeroes(&frame, 98 - frame.length);
	frame_be16(&frame, (uint16_t)number);
	memcpy(rig->machine.ram + CARD_TX_DATA + CARD_STRIDE * (number % CARD_COUNT), frame.bytes,
		100);
	card_describe(rig, CARD_TX_DATA + CARD_STRIDE * (number % CARD_COUNT), 100 | EOP_RS, 0, 0);
	card_go(rig);
}

static void expect_numbered(struct e1000_rig *rig, unsigned number)
{
	uint8_t got[2048];

	assert_int_equal(network_takes(rig, got, sizeof(got)), 100);
	assert_int_equal(got[98] << 8 | got[99], number);
}

/* The gate is the same as virtio's; a frame that waits for a token is in the card's buffer. */
static void test_policy(void **state)
{
	static const struct net_rule rules[] = {{.name = "dns",
		.allow = true,
		.directions = {true, true},
		.protocol = 17,
		.destination_ports = {53, 53}}};
	const struct net_policy_options only_53 = {.rules = rules, .rule_count = 1, .deny = true};
	const struct net_policy_options slow = {
		.limits = {[NET_OUT] = {.operations = {.amount = 1, .period = 1ULL << 47}}}};
	const struct net_policy_options none = {0};
	struct frame frame;
	uint16_t length;
	struct e1000_rig rig;

	e1000_rig_init(&rig);
	card_rings_up(&rig, RCTL_UPE);
	set_policy(&rig, &only_53);
	send_numbered(&rig, 1, 54);
	send_numbered(&rig, 2, 53);
	expect_numbered(&rig, 2);
	for (unsigned port = 54; port >= 53; port--) {
		frame_packet(&frame, "10.0.0.3", "10.0.0.2", 17, 1000, (uint16_t)port);
		frame_zeroes(&frame, 100 - frame.length);
		network_sends(&rig, frame.bytes, frame.length);
	}
	card_await_receive(&rig, &length);
	assert_memory_equal(card_received(&rig), frame.bytes, 100);
	/* One goes at once; the others wait, and go on with another policy. */
	set_policy(&rig, &slow);
	for (unsigned i = 3; i < 10; i++)
		send_numbered(&rig, i, 53);
	expect_numbered(&rig, 3);
	assert_true(network_is_silent(&rig));
	set_policy(&rig, &only_53);
	for (unsigned i = 4; i < 10; i++)
		expect_numbered(&rig, i);
	set_policy(&rig, &none);
	send_numbered(&rig, 10, 54);
	expect_numbered(&rig, 10);
	card_settle(&rig);
	assert_int_equal(device_stat(rig.device, "policy", "out_passed_packets"), 8);
	assert_int_equal(device_stat(rig.device, "policy", "out_denied_by_default_packets"), 1);
	assert_int_equal(device_stat(rig.device, "policy", "in_denied_by_default_packets"), 1);
	assert_int_equal(device_stat(rig.device, NULL, "dropped"), 2);
	e1000_rig_free(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vlan),
		cmocka_unit_test(test_bus_mastering),
		cmocka_unit_test(test_loopback),
		cmocka_unit_test(test_nonsense),
		cmocka_unit_test(test_policy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
