/* SPDX-License-Identifier: Apache-2.0 */
/* Frames that the driver of an 82540EM sends: whole and in pieces, checksums put in, large ones cut
 * into segments, and others of the thread that have their turns meanwhile. */
#include "device_stats.h"
#include "e1000_rig.h"

#include "base/bytes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void test_transmit(void **state)
{
	uint8_t got[2048], *data;
	struct e1000_rig rig;

	e1000_rig_init(&rig);
	card_rings_up(&rig, 0);
	data = rig.machine.ram + CARD_TX_DATA;
	card_pattern(data, 1514, 3);
	card_describe(&rig, CARD_TX_DATA, 1514 | EOP_RS, 0, 0);
	card_go(&rig);
	assert_int_equal(network_takes(&rig, got, sizeof(got)), 1514);
	assert_memory_equal(got, data, 1514);
	/* In three pieces, over the end of the ring. */
	for (unsigned round = 0; round < 20; round++) {
		card_describe(&rig, CARD_TX_DATA, 7, 0, 0);
		card_describe(&rig, CARD_TX_DATA + 7, 0, 0, 0);
		card_describe(&rig, CARD_TX_DATA + 7, 193, 0, 0);
		card_describe(&rig, CARD_TX_DATA + 200, 300 | EOP_RS, 0, 0);
		card_go(&rig);
		assert_int_equal(network_takes(&rig, got, sizeof(got)), 500);
		assert_memory_equal(got, data, 500);
	}
	/* A short one is padded with zeroes. */
	card_describe(&rig, CARD_TX_DATA, 20 | EOP_RS, 0, 0);
	card_go(&rig);
	assert_int_equal(network_takes(&rig, got, sizeof(got)), 60);
	assert_memory_equal(got, data, 20);
	for (unsigned i = 20; i < 60; i++)
		assert_int_equal(got[i], 0);
	card_settle(&rig);
	assert_int_equal(card_get(&rig, E1000_TDH), card_get(&rig, E1000_TDT));
	assert_true(
		card_transmit_descriptor(&rig, rig.transmit_tail + CARD_COUNT - 1)[12] & TXD_DD);
	assert_int_equal(card_get(&rig, E1000_ICR) & 3, ICR_TXDW | ICR_TXQE);
	assert_int_equal(card_get(&rig, E1000_GPTC), 22);
	assert_int_equal(card_get(&rig, E1000_GPTC), 0);
	assert_int_equal(card_get(&rig, E1000_GOTCL), 1518 + 20 * 504 + 64);
	assert_int_equal(card_get(&rig, E1000_GOTCL + 4), 0);
	assert_int_equal(card_get(&rig, E1000_GOTCL), 0);
	assert_int_equal(device_stat(rig.device, NULL, "frames_sent"), 22);
	e1000_rig_free(&rig);
}

static void expect_right(const uint8_t *frame, uint32_t length)
{
	struct e1000_verdict verdict =
		e1000_verify(frame, length, RXCSUM_IPOFL | RXCSUM_TUOFL, false);

	assert_int_equal(verdict.status, RXD_IPCS | RXD_TCPCS);
	assert_int_equal(verdict.errors, 0);
}

static void test_checksum_insertion(void **state)
{
	uint8_t got[2048], *data;
	struct e1000_rig rig;

	e1000_rig_init(&rig);
	card_rings_up(&rig, 0);
	data = rig.machine.ram + CARD_TX_DATA;
	for (unsigned payload = 0; payload < 1000; payload += 333) {
		card_tcp_frame(data, payload, 20 + payload);
		card_context(&rig, 0, 0, 0);
		card_describe(&rig, CARD_TX_DATA,
			(54 + payload) | TXD_DEXT | TXD_DTYP_DATA | EOP_RS, 3, 0);
		card_go(&rig);
		assert_true(network_takes(&rig, got, sizeof(got)) >= 54 + payload);
		expect_right(got, 54 + payload);
	}
	/* Asked for nothing, nothing is inserted. */
	card_describe(&rig, CARD_TX_DATA, 200 | TXD_DEXT | TXD_DTYP_DATA | EOP_RS, 0, 0);
	card_go(&rig);
	assert_int_equal(network_takes(&rig, got, sizeof(got)), 200);
	assert_memory_equal(got, data, 200);
	/* The legacy form: from a start to the end of the frame. */
	memset(data, 0, 64);
	card_describe(&rig, CARD_TX_DATA, 64 | EOP_RS | TXD_IC | 30U << 16, 20, 0);
	card_go(&rig);
	assert_int_equal(network_takes(&rig, got, sizeof(got)), 64);
	assert_int_equal(got[30] << 8 | got[31], 0xffff);
	/* Outside the frame: nothing happens to it, or to anything else. */
	card_describe(&rig, CARD_TX_DATA, 64 | EOP_RS | TXD_IC | 63U << 16, 200, 0);
	card_describe(&rig, CARD_TX_DATA, 64 | EOP_RS | TXD_IC | 63U << 16, 0, 0);
	card_go(&rig);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(network_takes(&rig, got, sizeof(got)), 64);
		assert_memory_equal(got, data, 64);
	}
	e1000_rig_free(&rig);
}

static void test_segmentation(void **state)
{
	uint8_t got[2048], *data;
	struct e1000_rig rig;
	uint32_t done = 0;

	e1000_rig_init(&rig);
	card_rings_up(&rig, 0);
	data = rig.machine.ram + CARD_TX_DATA;
	card_tcp_frame(data, 4001, 0);
	card_be16(data + 16, 0);
	card_context(&rig, TXD_TSE | 4001, 54, 1000);
	card_describe(&rig, CARD_TX_DATA, 54 | TXD_DEXT | TXD_DTYP_DATA | TXD_TSE, 3, 0);
	card_describe(
		&rig, CARD_TX_DATA + 54, 4001 | TXD_DEXT | TXD_DTYP_DATA | TXD_TSE | EOP_RS, 3, 0);
	card_go(&rig);
	for (unsigned i = 0; i < 5; i++) {
		uint32_t part = i < 4 ? 1000 : 1, length = network_takes(&rig, got, sizeof(got));

		/* Padding ends at passt's stream. */
		assert_int_equal(length, 54 + part);
		expect_right(got, length);
		assert_int_equal(got[16] << 8 | got[17], 40 + part);
		assert_int_equal(got[18] << 8 | got[19], 0x1000 + i);
		assert_int_equal((unsigned)got[38] << 24 | got[39] << 16 | got[40] << 8 | got[41],
			0xfff0 + done);
		assert_int_equal(got[47], i < 4 ? 0x10 : 0x19);
		assert_memory_equal(got + 54, data + 54 + done, part);
		done += part;
	}
	assert_true(network_is_silent(&rig));
	assert_int_equal(card_get(&rig, E1000_TSCTC), 1);
	assert_int_equal(card_get(&rig, E1000_GPTC), 5);
	/* Impossible ones: a segment size of 0, headers longer than all of it. */
	card_context(&rig, TXD_TSE, 54, 0);
	card_describe(&rig, CARD_TX_DATA, 500 | TXD_DEXT | TXD_DTYP_DATA | TXD_TSE | EOP_RS, 3, 0);
	card_context(&rig, TXD_TSE, 255, 100);
	card_describe(&rig, CARD_TX_DATA, 254 | TXD_DEXT | TXD_DTYP_DATA | TXD_TSE | EOP_RS, 3, 0);
	card_context(&rig, TXD_TSE, 3, 100);
	card_describe(&rig, CARD_TX_DATA, 254 | TXD_DEXT | TXD_DTYP_DATA | TXD_TSE | EOP_RS, 3, 0);
	card_go(&rig);
	assert_true(network_is_silent(&rig));
	assert_int_equal(card_get(&rig, E1000_TSCTFC), 3);
	assert_int_equal(device_stat(rig.device, NULL, "dropped"), 3);
	e1000_rig_free(&rig);
}

static void nothing(struct loop_task *task)
{
}

/* One doorbell, 254 packets of 255 segments (which go round, where nobody takes them): others of
 * the same thread have their turns all the while. */
static void test_turns(void **state)
{
	enum {
		RING = 256,
		PACKETS = 254,
		SEGMENTS = 255
	};
	const uint32_t lower =
		(54 + SEGMENTS * SEGMENTS) | TXD_DEXT | TXD_DTYP_DATA | TXD_TSE | EOP_RS;
	struct loop_task other = {.run = nothing};
	unsigned turns = 0;
	struct e1000_rig rig;

	e1000_rig_init(&rig);
	card_rings_up(&rig, 0x40);
	card_put(&rig, E1000_TDLEN, RING * 16);
	card_tcp_frame(rig.machine.ram + CARD_TX_DATA, SEGMENTS * SEGMENTS, 0);
	card_context(&rig, TXD_TSE | SEGMENTS * SEGMENTS, 54, SEGMENTS);
	for (unsigned i = 1; i <= PACKETS; i++) {
		uint8_t *at = rig.machine.ram + CARD_TX_RING + 16UL * i;

		store_le64(at, CARD_TX_DATA);
		store_le32(at + 8, lower);
		store_le32(at + 12, 3U << 8);
	}
	card_put(&rig, E1000_TDT, PACKETS + 1);
	while (device_stat(rig.device, NULL, "frames_sent") < PACKETS * SEGMENTS) {
		loop_call(rig.machine.place.io, &other);
		turns++;
	}
	/* They take some tens of milliseconds. */
	assert_true(turns >= 5);
	e1000_rig_free(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_transmit),
		cmocka_unit_test(test_checksum_insertion),
		cmocka_unit_test(test_segmentation),
		cmocka_unit_test(test_turns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
