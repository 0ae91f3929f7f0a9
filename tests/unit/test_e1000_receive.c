/* SPDX-License-Identifier: Apache-2.0 */
/* Frames that come to the driver of an 82540EM: buffers of all sizes, filters, checksums, and what
 * waits for room or for the wire. */
#include "device_stats.h"
#include "e1000_rig.h"

#include "base/bytes.h"
#include "base/checked.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void test_receive(void **state)
{
	static const struct {
		uint32_t rctl;
		unsigned size;
	} sizes[] = {{0, 2048}, {0x10000, 1024}, {0x20000, 512}, {0x30000, 256},
		{RCTL_BSEX | 0x10000, 16384}, {RCTL_BSEX | 0x20000, 8192},
		{RCTL_BSEX | 0x30000, 4096}};
	uint8_t frame[1514];
	struct e1000_rig rig;

	e1000_rig_init(&rig);
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		uint32_t left = 1514 + 4, at = 0;
		uint16_t length;
		uint8_t status;

		card_put(&rig, E1000_RCTL, 0);
		card_rings_up(&rig, sizes[i].rctl);
		card_pattern(frame, sizeof(frame), i);
		memset(frame, 0xff, 6);
		network_sends(&rig, frame, sizeof(frame));
		do {
			status = card_await_receive(&rig, &length);
			assert_int_equal(length, min_u64(left, sizes[i].size));
			if (at + length <= sizeof(frame))
				assert_memory_equal(card_received(&rig), frame + at, length);
			at += length;
			left -= length;
		} while (!(status & RXD_EOP));
		assert_int_equal(left, 0);
	}
	assert_int_equal(card_get(&rig, E1000_PRC64 + 20), ARRAY_SIZE(sizes));
	assert_int_equal(card_get(&rig, E1000_BPRC), ARRAY_SIZE(sizes));
	e1000_rig_free(&rig);
}

static void test_receive_filter(void **state)
{
	uint8_t frame[60] = {2, 0, 0, 1, 2, 3};
	struct e1000_rig rig;
	uint16_t length;

	e1000_rig_init(&rig);
	card_rings_up(&rig, RCTL_SECRC);
	network_sends(&rig, frame, 60); /* its own */
	frame[5] = 4;
	network_sends(&rig, frame, 60); /* another's */
	memcpy(frame, "\1\0\x5e\0\0\xfb", 6);
	network_sends(&rig, frame, 60); /* a group's, not joined */
	memset(frame, 0xff, 6);
	network_sends(&rig, frame, 30); /* everybody's */
	card_await_receive(&rig, &length);
	assert_memory_equal(card_received(&rig), "\2\0\0\1\2\3", 6);
	assert_int_equal(card_await_receive(&rig, &length), RXD_DD | RXD_EOP | RXD_IXSM);
	assert_int_equal(length, 60);
	assert_memory_equal(card_received(&rig), frame, 6);
	/* The group is joined: bits 15:4 of its last two bytes. */
	card_put(&rig, E1000_MTA + 4 * (0xfb0 / 32), 1U << 0xfb0 % 32);
	memcpy(frame, "\1\0\x5e\0\0\xfb", 6);
	network_sends(&rig, frame, 60);
	assert_int_equal(card_await_receive(&rig, &length), RXD_DD | RXD_EOP | RXD_IXSM | RXD_PIF);
	card_put(&rig, E1000_RCTL, RCTL_EN | RCTL_UPE | RCTL_SECRC);
	memcpy(frame, "\4\0\x5e\0\0\xfb", 6);
	network_sends(&rig, frame, 60);
	card_await_receive(&rig, &length);
	assert_memory_equal(card_received(&rig), frame, 6);
	assert_int_equal(device_stat(rig.device, NULL, "filtered"), 2);
	e1000_rig_free(&rig);
}

static void test_receive_checksum(void **state)
{
	uint8_t frame[554];
	struct e1000_rig rig;
	uint16_t length;

	e1000_rig_init(&rig);
	card_rings_up(&rig, RCTL_SECRC);
	card_put(&rig, E1000_RXCSUM, RXCSUM_IPOFL | RXCSUM_TUOFL | 14);
	card_tcp_frame(frame, 500, 520);
	e1000_insert_checksum(frame, 554, 14, 24, 33);
	e1000_insert_checksum(frame, 554, 34, 50, 0);
	network_sends(&rig, frame, 554);
	assert_int_equal(
		card_await_receive(&rig, &length), RXD_DD | RXD_EOP | RXD_IPCS | RXD_TCPCS);
	assert_int_equal(rig.machine.ram[CARD_RX_RING + 13], 0);
	assert_int_equal(
		load_le16(rig.machine.ram + CARD_RX_RING + 10), e1000_sum(frame + 14, 540));
	frame[300] ^= 1;
	network_sends(&rig, frame, 554);
	card_await_receive(&rig, &length);
	assert_int_equal(rig.machine.ram[CARD_RX_RING + 16 + 13], RXD_TCPE);
	frame[300] ^= 1;
	frame[22]--;
	network_sends(&rig, frame, 554);
	card_await_receive(&rig, &length);
	assert_int_equal(rig.machine.ram[CARD_RX_RING + 32 + 13], RXD_IPE);
	e1000_rig_free(&rig);
}

/* Frames wait for descriptors; one that is too long is dropped; those of a jumbo size come. */
static void test_receive_waits(void **state)
{
	uint8_t frame[9000] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	struct e1000_rig rig;
	uint16_t length;

	e1000_rig_init(&rig);
	card_rings_up(&rig, RCTL_SECRC);
	network_sends(&rig, frame, sizeof(frame));
	network_sends(&rig, frame, 100);
	card_await_receive(&rig, &length);
	assert_int_equal(length, 100);
	assert_int_equal(card_get(&rig, E1000_ROC), 1);
	card_put(&rig, E1000_RCTL, RCTL_EN | RCTL_BAM | RCTL_SECRC | RCTL_LPE);
	card_put(&rig, E1000_RDT, 4);
	network_sends(&rig, frame, sizeof(frame));
	while (!card_get(&rig, E1000_RNBC))
		card_settle(&rig);
	assert_int_equal(card_get(&rig, E1000_RDH), 1);
	assert_int_equal(rig.machine.ram[CARD_RX_RING + 16 + 12], 0);
	card_put(&rig, E1000_RDT, 6);
	for (unsigned i = 0; i < 4; i++) {
		assert_false(card_await_receive(&rig, &length) & RXD_EOP);
		assert_int_equal(length, 2048);
	}
	assert_true(card_await_receive(&rig, &length) & RXD_EOP);
	assert_int_equal(length, 9000 - 8192);
	e1000_rig_free(&rig);
}

#define PHY_JOINED 0x1140 /* what its control register is after a reset */

static void end_by_write(struct e1000_rig *rig)
{
	card_phy_put(rig, 0, PHY_JOINED);
}

static void end_by_reset(struct e1000_rig *rig)
{
	card_put(rig, E1000_CTRL, card_get(rig, E1000_CTRL) | CTRL_PHY_RST);
}

/* The PHY cuts the wire by @control; what comes meanwhile is there when @end has joined it again.
 */
static void receive_after(uint16_t control, void (*end)(struct e1000_rig *rig))
{
	uint8_t frame[100] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	struct e1000_rig rig;
	uint16_t length;

	e1000_rig_init(&rig);
	card_rings_up(&rig, RCTL_SECRC);
	for (unsigned i = 0; i < 2; i++) {
		card_phy_put(&rig, 0, control);
		assert_int_equal(card_phy_get(&rig, 0), control);
		network_sends(&rig, frame, sizeof(frame));
		card_settle(&rig);
		assert_int_equal(card_get(&rig, E1000_RDH), i);
		end(&rig);
		assert_int_equal(card_phy_get(&rig, 0), PHY_JOINED);
		card_await_receive(&rig, &length);
		assert_int_equal(length, sizeof(frame));
	}
	e1000_rig_free(&rig);
}

static void test_receive_after_power_down(void **state)
{
	(void)state;
	receive_after(0x1940, end_by_write);
}

static void test_receive_after_loopback(void **state)
{
	(void)state;
	receive_after(0x5140, end_by_write);
}

static void test_phy_reset_ends_a_power_down(void **state)
{
	(void)state;
	receive_after(0x1940, end_by_reset);
}

static void test_phy_reset_ends_a_loopback(void **state)
{
	(void)state;
	receive_after(0x5140, end_by_reset);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_receive),
		cmocka_unit_test(test_receive_filter),
		cmocka_unit_test(test_receive_checksum),
		cmocka_unit_test(test_receive_waits),
		cmocka_unit_test(test_receive_after_power_down),
		cmocka_unit_test(test_receive_after_loopback),
		cmocka_unit_test(test_phy_reset_ends_a_power_down),
		cmocka_unit_test(test_phy_reset_ends_a_loopback),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
