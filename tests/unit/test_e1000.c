/* SPDX-License-Identifier: Apache-2.0 */
/* The 82540EM as a driver sees it, with the other end of passt's stream in the test's hand. */
#include "board_fixture.h"
#include "device_stats.h"
#include "fake_host.h"

#include "backend/net_private.h"
#include "base/bytes.h"
#include "base/checked.h"
#include "base/clock.h"
#include "emulated/e1000/private.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "frames.h"

int passt_open_stream(struct net **net, int fd, struct error *err);

#define SLOT    1
#define RX_RING 0x10000U
#define TX_RING 0x20000U
#define RX_DATA 0x100000U
#define TX_DATA 0x200000U
#define COUNT   32U
#define STRIDE  0x4000U /* of buffers */
#define EOP_RS  (TXD_EOP | TXD_RS)

struct rig {
	struct fake_machine machine;
	struct device *device;
	struct net *net; /* the device's */
	int other;
	uint64_t bar, ports;
	unsigned transmit_tail, receive_next;
};

static uint32_t get(struct rig *rig, unsigned offset)
{
	return (uint32_t)fake_guest_read(&rig->machine, rig->bar + offset, 4);
}

static void put(struct rig *rig, unsigned offset, uint32_t value)
{
	fake_guest_write(&rig->machine, rig->bar + offset, 4, value);
}

static void make(struct rig *rig)
{
	struct e1000_options options = {.mac = {2, 0, 0, 1, 2, 3}};
	struct error err = {0};
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	rig->other = pair[1];
	assert_int_equal(passt_open_stream(&options.net, pair[0], &err), 0);
	rig->net = options.net;
	assert_int_equal(e1000_new(&rig->device, "net0", &options, &err), 0);
}

static void rig_init(struct rig *rig)
{
	struct error err = {0};

	memset(rig, 0, sizeof(*rig));
	fake_machine_init(&rig->machine);
	make(rig);
	assert_int_equal(rig->device->ops->realize(rig->device, &rig->machine.place, &err), 0);
	rig->device->ops->reset(rig->device);
	assert_int_equal(rig->device->ops->start(rig->device, &err), 0);
	fake_guest_config_write(&rig->machine, SLOT, 4, 2, 7);
	rig->bar = fake_guest_config_read(&rig->machine, SLOT, 0x10, 4) & ~15U;
	rig->ports = fake_guest_config_read(&rig->machine, SLOT, 0x14, 4) & ~3U;
}

static void rig_free(struct rig *rig)
{
	fake_stop(rig->device);
	rig->device->ops->free(rig->device);
	assert_false(fake_host_line(&rig->machine.host, pci_slot_gsi(SLOT)));
	fake_machine_free(&rig->machine);
	close(rig->other);
}

static void nothing(struct loop_task *task)
{
}

/* What was posted to the loop before has been done. */
static void settle(struct rig *rig)
{
	struct loop_task barrier = {.run = nothing};

	for (unsigned i = 0; i < 3; i++)
		loop_call(rig->machine.place.io, &barrier);
}

static void rings_up(struct rig *rig, uint32_t rctl)
{
	put(rig, E1000_CTRL, get(rig, E1000_CTRL) | CTRL_SLU);
	put(rig, E1000_RDBAL, RX_RING);
	put(rig, E1000_RDLEN, COUNT * 16);
	put(rig, E1000_RDH, 0);
	put(rig, E1000_TDBAL, TX_RING);
	put(rig, E1000_TDLEN, COUNT * 16);
	put(rig, E1000_TDH, 0);
	put(rig, E1000_TDT, 0);
	memset(rig->machine.ram + RX_RING, 0, COUNT * 16);
	for (unsigned i = 0; i < COUNT; i++)
		store_le64(rig->machine.ram + RX_RING + 16UL * i, RX_DATA + STRIDE * i);
	put(rig, E1000_TCTL, TCTL_EN | TCTL_PSP);
	put(rig, E1000_RDT, COUNT - 1);
	put(rig, E1000_RCTL, RCTL_EN | RCTL_BAM | rctl);
	rig->transmit_tail = rig->receive_next = 0;
}

static void fill(uint8_t *bytes, size_t length, unsigned seed)
{
	for (size_t i = 0; i < length; i++)
		bytes[i] = (uint8_t)(i * 11 + i / 256 + seed);
}

static void network_sends(struct rig *rig, const uint8_t *frame, uint32_t length)
{
	uint32_t prefix = htonl(length);

	assert_int_equal(send(rig->other, &prefix, 4, 0), 4);
	assert_int_equal(send(rig->other, frame, length, 0), length);
}

static uint32_t network_takes(struct rig *rig, uint8_t *to, size_t room)
{
	struct pollfd readable = {.fd = rig->other, .events = POLLIN};
	uint32_t length;

	assert_int_equal(poll(&readable, 1, 5000), 1);
	assert_int_equal(recv(rig->other, &length, 4, MSG_WAITALL), 4);
	length = ntohl(length);
	assert_true(length <= room);
	assert_int_equal(recv(rig->other, to, length, MSG_WAITALL), length);
	return length;
}

static bool network_is_silent(struct rig *rig)
{
	uint8_t byte;

	settle(rig);
	return recv(rig->other, &byte, 1, MSG_DONTWAIT) < 0;
}

static uint8_t *transmit_descriptor(struct rig *rig, unsigned index)
{
	return rig->machine.ram + TX_RING + 16UL * (index % COUNT);
}

static void describe(
	struct rig *rig, uint64_t buffer, uint32_t lower, uint8_t options, uint16_t special)
{
	uint8_t *at = transmit_descriptor(rig, rig->transmit_tail);

	store_le64(at, buffer);
	store_le32(at + 8, lower);
	store_le32(at + 12, (uint32_t)options << 8 | (uint32_t)special << 16);
	rig->transmit_tail = (rig->transmit_tail + 1) % COUNT;
}

static void go(struct rig *rig)
{
	put(rig, E1000_TDT, rig->transmit_tail);
}

/* Waits for the next receive descriptor; its status. */
static uint8_t await_receive(struct rig *rig, uint16_t *length)
{
	const struct timespec step = {.tv_nsec = 500000};
	uint8_t *at = rig->machine.ram + RX_RING + 16UL * rig->receive_next;
	_Atomic uint8_t *status = (_Atomic uint8_t *)at + 12;

	for (unsigned i = 0; i < 10000 && !(atomic_load(status) & RXD_DD); i++)
		nanosleep(&step, NULL);
	assert_true(atomic_load(status) & RXD_DD);
	*length = load_le16(at + 8);
	rig->receive_next = (rig->receive_next + 1) % COUNT;
	return at[12];
}

static const uint8_t *received(const struct rig *rig)
{
	return rig->machine.ram + RX_DATA + STRIDE * ((rig->receive_next + COUNT - 1) % COUNT);
}

static bool await_line(struct rig *rig, bool level)
{
	const struct timespec step = {.tv_nsec = 500000};

	for (unsigned i = 0; i < 10000; i++) {
		if (fake_host_line(&rig->machine.host, pci_slot_gsi(SLOT)) == level)
			return true;
		nanosleep(&step, NULL);
	}
	return false;
}

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
	struct rig rig;
	uint32_t status;

	rig_init(&rig);
	for (unsigned i = 0; i < ARRAY_SIZE(patterns); i++)
		for (unsigned t = 0; t < ARRAY_SIZE(tests); t++) {
			put(&rig, patterns[i].offset, patterns[i].written & tests[t]);
			assert_int_equal(get(&rig, patterns[i].offset),
				patterns[i].written & tests[t] & patterns[i].mask);
		}
	put(&rig, E1000_RCTL, 0xffffffff);
	assert_int_equal(get(&rig, E1000_RCTL), 0x06dfb3fe);
	put(&rig, E1000_RCTL, 0);
	status = get(&rig, E1000_STATUS);
	put(&rig, E1000_STATUS, ~status);
	assert_int_equal(get(&rig, E1000_STATUS), status);
	assert_int_equal(get(&rig, E1000_PBA), 0x100030);
	assert_int_equal(get(&rig, 0x1fffc), 0);
	assert_int_equal(fake_guest_read(&rig.machine, rig.bar + E1000_PBA + 2, 2), 0x10);
	assert_int_equal(device_stat(rig.device, "registers", "RCTL write"), 2);
	assert_int_equal(device_stat(rig.device, "registers", "MTA read"), 8);
	assert_int_equal(device_stat(rig.device, "registers", "unknown read"), 1);
	assert_int_equal(device_stat_or_zero(rig.device, "registers", "TCTL read"), 0);
	rig_free(&rig);
}

static void test_ports(void **state)
{
	uint64_t value;
	struct rig rig;

	rig_init(&rig);
	bus_write(rig.machine.place.ports, rig.ports, 4, 0x38);
	bus_write(rig.machine.place.ports, rig.ports + 4, 4, 0x88a8);
	assert_int_equal(get(&rig, 0x38), 0x88a8);
	bus_read(rig.machine.place.ports, rig.ports + 4, 4, &value);
	assert_int_equal(value, 0x88a8);
	/* As the driver resets it. */
	bus_write(rig.machine.place.ports, rig.ports, 4, E1000_CTRL);
	bus_write(rig.machine.place.ports, rig.ports + 4, 4, CTRL_RST);
	assert_int_equal(get(&rig, 0x38), 0x8100);
	assert_int_equal(get(&rig, E1000_CTRL) & CTRL_RST, 0);
	bus_write(rig.machine.place.ports, rig.ports, 4, 0xfffffffc);
	bus_read(rig.machine.place.ports, rig.ports + 4, 4, &value);
	assert_int_equal(value, 0);
	rig_free(&rig);
}

static void shift_out(struct rig *rig, uint32_t value, unsigned bits)
{
	while (bits--) {
		uint32_t pins = 0x42 | (value >> bits & 1) << 2;

		put(rig, E1000_EECD, pins);
		put(rig, E1000_EECD, pins | 1);
		put(rig, E1000_EECD, pins);
	}
}

static uint16_t microwire_read(struct rig *rig, unsigned address)
{
	unsigned value = 0;

	put(rig, E1000_EECD, 0x42);
	shift_out(rig, 0x180 | address, 9);
	assert_int_equal(get(rig, E1000_EECD) & 8, 0);
	for (unsigned i = 0; i < 16; i++) {
		put(rig, E1000_EECD, 0x43);
		value = value << 1 | (get(rig, E1000_EECD) >> 3 & 1);
		put(rig, E1000_EECD, 0x42);
	}
	put(rig, E1000_EECD, 0x40);
	return (uint16_t)value;
}

static void test_eeprom(void **state)
{
	struct rig rig;
	uint16_t sum = 0;

	rig_init(&rig);
	put(&rig, E1000_EECD, 0x40);
	assert_int_equal(get(&rig, E1000_EECD) & 0x3c0, 0x1c0); /* granted, present, 64 words */
	for (unsigned i = 0; i < 64; i++) {
		uint16_t word = microwire_read(&rig, i);

		put(&rig, E1000_EERD, i << 8 | 1);
		assert_int_equal(get(&rig, E1000_EERD), (uint32_t)word << 16 | i << 8 | 0x10);
		sum = (uint16_t)(sum + word);
	}
	assert_int_equal(sum, 0xbaba);
	assert_int_equal(microwire_read(&rig, 0), 0x0002);
	assert_int_equal(microwire_read(&rig, 2), 0x0302);
	/* Written only after it was allowed. */
	for (unsigned allowed = 0; allowed < 2; allowed++) {
		put(&rig, E1000_EECD, 0x42);
		if (allowed)
			shift_out(&rig, 0x130, 9);
		put(&rig, E1000_EECD, 0x40);
		put(&rig, E1000_EECD, 0x42);
		shift_out(&rig, 0x140 | 8, 9);
		shift_out(&rig, 0x1234, 16);
		put(&rig, E1000_EECD, 0x40);
		put(&rig, E1000_EECD, 0x42);
		assert_int_equal(get(&rig, E1000_EECD) & 8, 8);
		put(&rig, E1000_EECD, 0x40);
		assert_int_equal(microwire_read(&rig, 8), allowed ? 0x1234 : 0);
	}
	rig_free(&rig);
}

static uint16_t phy_get(struct rig *rig, unsigned reg)
{
	put(rig, E1000_MDIC, 0x08000000 | 1 << 21 | reg << 16);
	assert_int_equal(get(rig, E1000_MDIC) & 0x50000000, 0x10000000);
	return (uint16_t)get(rig, E1000_MDIC);
}

static void phy_put(struct rig *rig, unsigned reg, uint16_t value)
{
	put(rig, E1000_MDIC, 0x04000000 | 1 << 21 | reg << 16 | value);
}

static void test_phy_and_link(void **state)
{
	struct rig rig;

	rig_init(&rig);
	assert_int_equal(phy_get(&rig, 2), 0x0141);
	assert_int_equal(phy_get(&rig, 3) & 0xfff0, 0x0c20);
	assert_int_equal(phy_get(&rig, 1) & 0x24, 0x24);
	put(&rig, E1000_MDIC, 0x08000000 | 2 << 21);
	assert_int_equal(get(&rig, E1000_MDIC) & 0x50000000, 0x50000000);
	assert_int_equal(get(&rig, E1000_STATUS) & STATUS_LU, 0);
	put(&rig, E1000_CTRL, CTRL_SLU);
	assert_int_equal(get(&rig, E1000_STATUS) & 0xc3, STATUS_LU | STATUS_FD | STATUS_SPEED_1G);
	assert_int_equal(get(&rig, E1000_ICR), ICR_LSC);
	phy_put(&rig, 0, 0x1340);
	assert_int_equal(phy_get(&rig, 0), 0x1140);
	assert_int_equal(get(&rig, E1000_ICR), ICR_LSC);
	phy_put(&rig, 0, 0x1940);
	assert_int_equal(get(&rig, E1000_STATUS) & STATUS_LU, 0);
	phy_put(&rig, 0, 0x1140);
	/* That it was lost is told once. */
	assert_int_equal(phy_get(&rig, 1) & 4, 0);
	assert_int_equal(phy_get(&rig, 1) & 4, 4);
	/* The back end goes away. */
	put(&rig, E1000_IMS, ICR_LSC);
	get(&rig, E1000_ICR);
	rings_up(&rig, 0);
	get(&rig, E1000_ICR);
	close(rig.other);
	rig.other = -1;
	assert_true(await_line(&rig, true));
	assert_int_equal(get(&rig, E1000_STATUS) & STATUS_LU, 0);
	assert_true(get(&rig, E1000_ICR) & ICR_LSC);
	assert_int_equal(phy_get(&rig, 1) & 4, 0);
	rig_free(&rig);
}

static void test_transmit(void **state)
{
	uint8_t got[2048], *data;
	struct rig rig;

	rig_init(&rig);
	rings_up(&rig, 0);
	data = rig.machine.ram + TX_DATA;
	fill(data, 1514, 3);
	describe(&rig, TX_DATA, 1514 | EOP_RS, 0, 0);
	go(&rig);
	assert_int_equal(network_takes(&rig, got, sizeof(got)), 1514);
	assert_memory_equal(got, data, 1514);
	/* In three pieces, over the end of the ring. */
	for (unsigned round = 0; round < 20; round++) {
		describe(&rig, TX_DATA, 7, 0, 0);
		describe(&rig, TX_DATA + 7, 0, 0, 0);
		describe(&rig, TX_DATA + 7, 193, 0, 0);
		describe(&rig, TX_DATA + 200, 300 | EOP_RS, 0, 0);
		go(&rig);
		assert_int_equal(network_takes(&rig, got, sizeof(got)), 500);
		assert_memory_equal(got, data, 500);
	}
	/* A short one is padded with zeroes. */
	describe(&rig, TX_DATA, 20 | EOP_RS, 0, 0);
	go(&rig);
	assert_int_equal(network_takes(&rig, got, sizeof(got)), 60);
	assert_memory_equal(got, data, 20);
	for (unsigned i = 20; i < 60; i++)
		assert_int_equal(got[i], 0);
	settle(&rig);
	assert_int_equal(get(&rig, E1000_TDH), get(&rig, E1000_TDT));
	assert_true(transmit_descriptor(&rig, rig.transmit_tail + COUNT - 1)[12] & TXD_DD);
	assert_int_equal(get(&rig, E1000_ICR) & 3, ICR_TXDW | ICR_TXQE);
	assert_int_equal(get(&rig, E1000_GPTC), 22);
	assert_int_equal(get(&rig, E1000_GPTC), 0);
	assert_int_equal(get(&rig, E1000_GOTCL), 1518 + 20 * 504 + 64);
	assert_int_equal(get(&rig, E1000_GOTCL + 4), 0);
	assert_int_equal(get(&rig, E1000_GOTCL), 0);
	assert_int_equal(device_stat(rig.device, NULL, "frames_sent"), 22);
	rig_free(&rig);
}

static void be16(uint8_t *to, unsigned value)
{
	to[0] = (uint8_t)(value >> 8);
	to[1] = (uint8_t)value;
}

/* Ethernet, IPv4 and TCP headers of 54 bytes before @payload bytes; checksums as a driver leaves
 * them, @pseudo the length in the pseudo header. */
static void tcp_frame(uint8_t *frame, uint32_t payload, uint32_t pseudo)
{
	fill(frame, 54 + payload, 9);
	memset(frame, 0xff, 6);
	be16(frame + 12, 0x0800);
	memset(frame + 14, 0, 40);
	frame[14] = 0x45;
	be16(frame + 16, 40 + payload);
	be16(frame + 18, 0x1000);
	frame[22] = 64;
	frame[23] = 6;
	memcpy(frame + 26, "\x0a\0\0\1\x0a\0\0\2", 8);
	be16(frame + 34, 1000);
	be16(frame + 36, 2000);
	be16(frame + 40, 0xfff0);
	frame[46] = 0x50;
	frame[47] = 0x19; /* FIN PSH ACK */
	be16(frame + 50, e1000_fold((uint64_t)e1000_sum(frame + 26, 8) + 6 + pseudo));
}

static void expect_right(const uint8_t *frame, uint32_t length)
{
	struct e1000_verdict verdict =
		e1000_verify(frame, length, RXCSUM_IPOFL | RXCSUM_TUOFL, false);

	assert_int_equal(verdict.status, RXD_IPCS | RXD_TCPCS);
	assert_int_equal(verdict.errors, 0);
}

static void context(struct rig *rig, uint32_t lower, unsigned hdr_len, unsigned mss)
{
	uint8_t *at = transmit_descriptor(rig, rig->transmit_tail);

	memset(at, 0, 16);
	at[0] = 14;
	at[1] = 24;
	store_le16(at + 2, 33);
	at[4] = 34;
	at[5] = 50;
	store_le32(at + 8, lower | TXD_DEXT | TXD_TUCMD_IP | TXD_TUCMD_TCP);
	at[13] = (uint8_t)hdr_len;
	store_le16(at + 14, (uint16_t)mss);
	rig->transmit_tail = (rig->transmit_tail + 1) % COUNT;
}

static void test_checksum_insertion(void **state)
{
	uint8_t got[2048], *data;
	struct rig rig;

	rig_init(&rig);
	rings_up(&rig, 0);
	data = rig.machine.ram + TX_DATA;
	for (unsigned payload = 0; payload < 1000; payload += 333) {
		tcp_frame(data, payload, 20 + payload);
		context(&rig, 0, 0, 0);
		describe(&rig, TX_DATA, (54 + payload) | TXD_DEXT | TXD_DTYP_DATA | EOP_RS, 3, 0);
		go(&rig);
		assert_true(network_takes(&rig, got, sizeof(got)) >= 54 + payload);
		expect_right(got, 54 + payload);
	}
	/* Asked for nothing, nothing is inserted. */
	describe(&rig, TX_DATA, 200 | TXD_DEXT | TXD_DTYP_DATA | EOP_RS, 0, 0);
	go(&rig);
	assert_int_equal(network_takes(&rig, got, sizeof(got)), 200);
	assert_memory_equal(got, data, 200);
	/* The legacy form: from a start to the end of the frame. */
	memset(data, 0, 64);
	describe(&rig, TX_DATA, 64 | EOP_RS | TXD_IC | 30U << 16, 20, 0);
	go(&rig);
	assert_int_equal(network_takes(&rig, got, sizeof(got)), 64);
	assert_int_equal(got[30] << 8 | got[31], 0xffff);
	/* Outside the frame: nothing happens to it, or to anything else. */
	describe(&rig, TX_DATA, 64 | EOP_RS | TXD_IC | 63U << 16, 200, 0);
	describe(&rig, TX_DATA, 64 | EOP_RS | TXD_IC | 63U << 16, 0, 0);
	go(&rig);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(network_takes(&rig, got, sizeof(got)), 64);
		assert_memory_equal(got, data, 64);
	}
	rig_free(&rig);
}

static void test_segmentation(void **state)
{
	uint8_t got[2048], *data;
	struct rig rig;
	uint32_t done = 0;

	rig_init(&rig);
	rings_up(&rig, 0);
	data = rig.machine.ram + TX_DATA;
	tcp_frame(data, 4001, 0);
	be16(data + 16, 0);
	context(&rig, TXD_TSE | 4001, 54, 1000);
	describe(&rig, TX_DATA, 54 | TXD_DEXT | TXD_DTYP_DATA | TXD_TSE, 3, 0);
	describe(&rig, TX_DATA + 54, 4001 | TXD_DEXT | TXD_DTYP_DATA | TXD_TSE | EOP_RS, 3, 0);
	go(&rig);
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
	assert_int_equal(get(&rig, E1000_TSCTC), 1);
	assert_int_equal(get(&rig, E1000_GPTC), 5);
	/* Impossible ones: a segment size of 0, headers longer than all of it. */
	context(&rig, TXD_TSE, 54, 0);
	describe(&rig, TX_DATA, 500 | TXD_DEXT | TXD_DTYP_DATA | TXD_TSE | EOP_RS, 3, 0);
	context(&rig, TXD_TSE, 255, 100);
	describe(&rig, TX_DATA, 254 | TXD_DEXT | TXD_DTYP_DATA | TXD_TSE | EOP_RS, 3, 0);
	context(&rig, TXD_TSE, 3, 100);
	describe(&rig, TX_DATA, 254 | TXD_DEXT | TXD_DTYP_DATA | TXD_TSE | EOP_RS, 3, 0);
	go(&rig);
	assert_true(network_is_silent(&rig));
	assert_int_equal(get(&rig, E1000_TSCTFC), 3);
	assert_int_equal(device_stat(rig.device, NULL, "dropped"), 3);
	rig_free(&rig);
}

static void test_vlan(void **state)
{
	uint8_t frame[100], got[2048];
	struct rig rig;
	uint16_t length;

	rig_init(&rig);
	rings_up(&rig, RCTL_VFE | RCTL_SECRC);
	put(&rig, E1000_CTRL, CTRL_SLU | CTRL_VME);
	fill(rig.machine.ram + TX_DATA, 100, 1);
	describe(&rig, TX_DATA, 100 | EOP_RS | TXD_VLE, 0, 0xa123);
	go(&rig);
	assert_int_equal(network_takes(&rig, got, sizeof(got)), 104);
	assert_memory_equal(got, rig.machine.ram + TX_DATA, 12);
	assert_memory_equal(got + 12, "\x81\0\xa1\x23", 4);
	assert_memory_equal(got + 16, rig.machine.ram + TX_DATA + 12, 88);
	/* Only the VLAN that is let in; its tag comes beside the frame. */
	put(&rig, E1000_VFTA + 4 * (0x123 / 32), 1U << 0x123 % 32);
	fill(frame, sizeof(frame), 4);
	memset(frame, 0xff, 6);
	memcpy(frame + 12, "\x81\0\0\x05", 4);
	network_sends(&rig, frame, 100);
	memcpy(frame + 14, "\xa1\x23", 2);
	network_sends(&rig, frame, 100);
	assert_true(await_receive(&rig, &length) & RXD_VP);
	assert_int_equal(length, 96);
	assert_int_equal(load_le16(rig.machine.ram + RX_RING + 14), 0xa123);
	assert_memory_equal(received(&rig), frame, 12);
	assert_memory_equal(received(&rig) + 12, frame + 16, 84);
	assert_int_equal(device_stat(rig.device, NULL, "filtered"), 1);
	rig_free(&rig);
}

static void test_receive(void **state)
{
	static const struct {
		uint32_t rctl;
		unsigned size;
	} sizes[] = {{0, 2048}, {0x10000, 1024}, {0x20000, 512}, {0x30000, 256},
		{RCTL_BSEX | 0x10000, 16384}, {RCTL_BSEX | 0x20000, 8192},
		{RCTL_BSEX | 0x30000, 4096}};
	uint8_t frame[1514];
	struct rig rig;

	rig_init(&rig);
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		uint32_t left = 1514 + 4, at = 0;
		uint16_t length;
		uint8_t status;

		put(&rig, E1000_RCTL, 0);
		rings_up(&rig, sizes[i].rctl);
		fill(frame, sizeof(frame), i);
		memset(frame, 0xff, 6);
		network_sends(&rig, frame, sizeof(frame));
		do {
			status = await_receive(&rig, &length);
			assert_int_equal(length, min_u64(left, sizes[i].size));
			if (at + length <= sizeof(frame))
				assert_memory_equal(received(&rig), frame + at, length);
			at += length;
			left -= length;
		} while (!(status & RXD_EOP));
		assert_int_equal(left, 0);
	}
	assert_int_equal(get(&rig, E1000_PRC64 + 20), ARRAY_SIZE(sizes));
	assert_int_equal(get(&rig, E1000_BPRC), ARRAY_SIZE(sizes));
	rig_free(&rig);
}

static void test_receive_filter(void **state)
{
	uint8_t frame[60] = {2, 0, 0, 1, 2, 3};
	struct rig rig;
	uint16_t length;

	rig_init(&rig);
	rings_up(&rig, RCTL_SECRC);
	network_sends(&rig, frame, 60); /* its own */
	frame[5] = 4;
	network_sends(&rig, frame, 60); /* another's */
	memcpy(frame, "\1\0\x5e\0\0\xfb", 6);
	network_sends(&rig, frame, 60); /* a group's, not joined */
	memset(frame, 0xff, 6);
	network_sends(&rig, frame, 30); /* everybody's */
	await_receive(&rig, &length);
	assert_memory_equal(received(&rig), "\2\0\0\1\2\3", 6);
	assert_int_equal(await_receive(&rig, &length), RXD_DD | RXD_EOP | RXD_IXSM);
	assert_int_equal(length, 60);
	assert_memory_equal(received(&rig), frame, 6);
	/* The group is joined: bits 15:4 of its last two bytes. */
	put(&rig, E1000_MTA + 4 * (0xfb0 / 32), 1U << 0xfb0 % 32);
	memcpy(frame, "\1\0\x5e\0\0\xfb", 6);
	network_sends(&rig, frame, 60);
	assert_int_equal(await_receive(&rig, &length), RXD_DD | RXD_EOP | RXD_IXSM | RXD_PIF);
	put(&rig, E1000_RCTL, RCTL_EN | RCTL_UPE | RCTL_SECRC);
	memcpy(frame, "\4\0\x5e\0\0\xfb", 6);
	network_sends(&rig, frame, 60);
	await_receive(&rig, &length);
	assert_memory_equal(received(&rig), frame, 6);
	assert_int_equal(device_stat(rig.device, NULL, "filtered"), 2);
	rig_free(&rig);
}

static void test_receive_checksum(void **state)
{
	uint8_t frame[554];
	struct rig rig;
	uint16_t length;

	rig_init(&rig);
	rings_up(&rig, RCTL_SECRC);
	put(&rig, E1000_RXCSUM, RXCSUM_IPOFL | RXCSUM_TUOFL | 14);
	tcp_frame(frame, 500, 520);
	e1000_insert_checksum(frame, 554, 14, 24, 33);
	e1000_insert_checksum(frame, 554, 34, 50, 0);
	network_sends(&rig, frame, 554);
	assert_int_equal(await_receive(&rig, &length), RXD_DD | RXD_EOP | RXD_IPCS | RXD_TCPCS);
	assert_int_equal(rig.machine.ram[RX_RING + 13], 0);
	assert_int_equal(load_le16(rig.machine.ram + RX_RING + 10), e1000_sum(frame + 14, 540));
	frame[300] ^= 1;
	network_sends(&rig, frame, 554);
	await_receive(&rig, &length);
	assert_int_equal(rig.machine.ram[RX_RING + 16 + 13], RXD_TCPE);
	frame[300] ^= 1;
	frame[22]--;
	network_sends(&rig, frame, 554);
	await_receive(&rig, &length);
	assert_int_equal(rig.machine.ram[RX_RING + 32 + 13], RXD_IPE);
	rig_free(&rig);
}

/* Frames wait for descriptors; one that is too long is dropped; those of a jumbo size come. */
static void test_receive_waits(void **state)
{
	uint8_t frame[9000] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	struct rig rig;
	uint16_t length;

	rig_init(&rig);
	rings_up(&rig, RCTL_SECRC);
	network_sends(&rig, frame, sizeof(frame));
	network_sends(&rig, frame, 100);
	await_receive(&rig, &length);
	assert_int_equal(length, 100);
	assert_int_equal(get(&rig, E1000_ROC), 1);
	put(&rig, E1000_RCTL, RCTL_EN | RCTL_BAM | RCTL_SECRC | RCTL_LPE);
	put(&rig, E1000_RDT, 4);
	network_sends(&rig, frame, sizeof(frame));
	while (!get(&rig, E1000_RNBC))
		settle(&rig);
	assert_int_equal(get(&rig, E1000_RDH), 1);
	assert_int_equal(rig.machine.ram[RX_RING + 16 + 12], 0);
	put(&rig, E1000_RDT, 6);
	for (unsigned i = 0; i < 4; i++) {
		assert_false(await_receive(&rig, &length) & RXD_EOP);
		assert_int_equal(length, 2048);
	}
	assert_true(await_receive(&rig, &length) & RXD_EOP);
	assert_int_equal(length, 9000 - 8192);
	rig_free(&rig);
}

/* Without bus mastering there is no DMA, and afterwards nothing is lost. */
static void test_bus_mastering(void **state)
{
	uint8_t frame[100] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, got[200];
	struct rig rig;
	uint16_t length;

	rig_init(&rig);
	rings_up(&rig, RCTL_SECRC);
	fake_guest_config_write(&rig.machine, SLOT, 4, 2, 3);
	describe(&rig, TX_DATA, sizeof(frame) | EOP_RS, 0, 0);
	go(&rig);
	network_sends(&rig, frame, sizeof(frame));
	assert_true(network_is_silent(&rig));
	assert_int_equal(get(&rig, E1000_TDH), 0);
	assert_int_equal(get(&rig, E1000_RDH), 0);
	fake_guest_config_write(&rig.machine, SLOT, 4, 2, 7);
	assert_int_equal(network_takes(&rig, got, sizeof(got)), sizeof(frame));
	await_receive(&rig, &length);
	assert_int_equal(length, sizeof(frame));
	rig.device->ops->reset(rig.device);
	fake_guest_config_write(&rig.machine, SLOT, 4, 2, 3);
	rings_up(&rig, RCTL_SECRC);
	describe(&rig, TX_DATA, sizeof(frame) | EOP_RS, 0, 0);
	go(&rig);
	assert_true(network_is_silent(&rig));
	rig_free(&rig);
}

/* What came while the PHY cut the wire is there when it joins it again. */
static void test_receive_after_power_down(void **state)
{
	static const uint16_t cuts[] = {0x1940, 0x5140, 0x1940, 0x5140}; /* power-down, loopback */
	uint8_t frame[100] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	struct rig rig;
	uint16_t length;

	rig_init(&rig);
	rings_up(&rig, RCTL_SECRC);
	for (unsigned i = 0; i < ARRAY_SIZE(cuts); i++) {
		phy_put(&rig, 0, cuts[i]);
		network_sends(&rig, frame, sizeof(frame));
		settle(&rig);
		if (i < 2)
			phy_put(&rig, 0, 0x1140);
		else
			put(&rig, E1000_CTRL, get(&rig, E1000_CTRL) | CTRL_PHY_RST);
		await_receive(&rig, &length);
		assert_int_equal(length, sizeof(frame));
	}
	rig_free(&rig);
}

static void test_interrupts(void **state)
{
	struct rig rig;

	rig_init(&rig);
	put(&rig, E1000_ICS, 0xff);
	assert_false(fake_host_line(&rig.machine.host, pci_slot_gsi(SLOT)));
	put(&rig, E1000_IMS, 0x10);
	assert_true(fake_host_line(&rig.machine.host, pci_slot_gsi(SLOT)));
	put(&rig, E1000_IMC, 0x10);
	assert_false(fake_host_line(&rig.machine.host, pci_slot_gsi(SLOT)));
	put(&rig, E1000_IMS, 0x10);
	assert_int_equal(get(&rig, E1000_ICR), 0xff);
	assert_false(fake_host_line(&rig.machine.host, pci_slot_gsi(SLOT)));
	assert_int_equal(get(&rig, E1000_ICR), 0);
	assert_int_equal(get(&rig, E1000_IMS), 0x10);
	assert_int_equal(device_stat(rig.device, NULL, "interrupts"), 2);
	rig_free(&rig);
}

/* With an interval of 16 ms the second interrupt comes, and comes no sooner. */
static void test_throttling(void **state)
{
	struct rig rig;
	uint64_t began;

	rig_init(&rig);
	put(&rig, E1000_IMS, 1);
	put(&rig, E1000_ITR, 62500);
	began = clock_ns();
	put(&rig, E1000_ICS, 1);
	assert_true(fake_host_line(&rig.machine.host, pci_slot_gsi(SLOT)));
	get(&rig, E1000_ICR);
	put(&rig, E1000_ICS, 1);
	assert_true(await_line(&rig, true));
	assert_true(clock_ns() - began >= 16000000);
	/* A shorter interval holds at once. */
	get(&rig, E1000_ICR);
	put(&rig, E1000_ITR, 0);
	put(&rig, E1000_ICS, 1);
	assert_true(fake_host_line(&rig.machine.host, pci_slot_gsi(SLOT)));
	assert_int_equal(device_stat(rig.device, NULL, "throttle"), 0);
	assert_int_equal(device_stat(rig.device, NULL, "interrupts"), 3);
	rig_free(&rig);
}

/* RDTR and TIDV put the causes off, and the absolute timers bound that. */
static void test_delays(void **state)
{
	uint8_t frame[60] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, got[100];
	struct rig rig;
	uint64_t began;
	uint16_t length;

	rig_init(&rig);
	rings_up(&rig, 0);
	put(&rig, E1000_IMS, ICR_RXT0 | ICR_TXDW);
	put(&rig, E1000_RDTR, 65000);
	put(&rig, E1000_RADV, 10000);
	began = clock_ns();
	network_sends(&rig, frame, 60);
	await_receive(&rig, &length);
	assert_true(await_line(&rig, true));
	assert_true(clock_ns() - began >= 10240000);
	assert_int_equal(get(&rig, E1000_ICR) & ICR_RXT0, ICR_RXT0);
	/* FPD: now. */
	put(&rig, E1000_RADV, 0);
	network_sends(&rig, frame, 60);
	await_receive(&rig, &length);
	settle(&rig);
	assert_int_equal(get(&rig, E1000_ICR) & ICR_RXT0, 0);
	put(&rig, E1000_RDTR, RDTR_FPD | 65000);
	assert_int_equal(get(&rig, E1000_ICR) & ICR_RXT0, ICR_RXT0);
	put(&rig, E1000_TIDV, 10000);
	began = clock_ns();
	describe(&rig, TX_DATA, 60 | EOP_RS | TXD_IDE, 0, 0);
	go(&rig);
	network_takes(&rig, got, sizeof(got));
	assert_true(await_line(&rig, true));
	assert_true(clock_ns() - began >= 10240000);
	/* Without IDE at once. */
	get(&rig, E1000_ICR);
	put(&rig, E1000_TIDV, 65535);
	describe(&rig, TX_DATA, 60 | EOP_RS, 0, 0);
	go(&rig);
	assert_true(await_line(&rig, true));
	rig_free(&rig);
}

static void loop_one(struct rig *rig)
{
	uint16_t length;

	memset(rig->machine.ram + TX_DATA, 0xff, 200);
	describe(rig, TX_DATA, 200 | EOP_RS, 0, 0);
	go(rig);
	assert_true(await_receive(rig, &length) & RXD_EOP);
	assert_int_equal(length, 204);
	assert_memory_equal(received(rig), rig->machine.ram + TX_DATA, 200);
}

static void test_loopback(void **state)
{
	struct rig rig;

	rig_init(&rig);
	rings_up(&rig, 0x40);
	loop_one(&rig);
	put(&rig, E1000_RCTL, RCTL_EN | RCTL_BAM);
	phy_put(&rig, 0, 0x4140);
	loop_one(&rig);
	assert_true(network_is_silent(&rig));
	rig_free(&rig);
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
	struct rig rig;

	rig_init(&rig);
	rings_up(&rig, 0x40);
	put(&rig, E1000_TDLEN, RING * 16);
	tcp_frame(rig.machine.ram + TX_DATA, SEGMENTS * SEGMENTS, 0);
	context(&rig, TXD_TSE | SEGMENTS * SEGMENTS, 54, SEGMENTS);
	for (unsigned i = 1; i <= PACKETS; i++) {
		uint8_t *at = rig.machine.ram + TX_RING + 16UL * i;

		store_le64(at, TX_DATA);
		store_le32(at + 8, lower);
		store_le32(at + 12, 3U << 8);
	}
	put(&rig, E1000_TDT, PACKETS + 1);
	while (device_stat(rig.device, NULL, "frames_sent") < PACKETS * SEGMENTS) {
		loop_call(rig.machine.place.io, &other);
		turns++;
	}
	/* They take some tens of milliseconds. */
	assert_true(turns >= 5);
	rig_free(&rig);
}

/* Rings and buffers that are no memory, heads that never meet their tails. */
static void test_nonsense(void **state)
{
	uint8_t frame[60] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, got[2048];
	struct rig rig;
	uint16_t length;

	rig_init(&rig);
	rings_up(&rig, 0);
	describe(&rig, FAKE_RAM_SIZE - 10, 100 | EOP_RS, 0, 0);
	describe(&rig, rig.bar, 100 | EOP_RS, 0, 0);
	describe(&rig, UINT64_MAX - 50, 100 | EOP_RS, 0, 0);
	for (unsigned i = 0; i < 3; i++)
		describe(&rig, 0, 65535, 0, 0);
	describe(&rig, 0, 100 | EOP_RS, 0, 0);
	go(&rig);
	assert_true(network_is_silent(&rig));
	assert_int_equal(device_stat(rig.device, NULL, "dropped"), 4);
	assert_int_equal(device_stat(rig.device, NULL, "dma_errors"), 3);
	put(&rig, E1000_TDT, COUNT);
	put(&rig, E1000_TDT, 0xffff);
	put(&rig, E1000_TDLEN, 0);
	put(&rig, E1000_TDT, 3);
	put(&rig, E1000_TDLEN, COUNT * 16);
	put(&rig, E1000_TDBAH, 1);
	put(&rig, E1000_TDT, rig.transmit_tail + 1);
	settle(&rig);
	put(&rig, E1000_TDBAH, 0);
	/* Receive buffers: the one is told as an error, the next one serves. */
	store_le64(rig.machine.ram + RX_RING, rig.bar);
	network_sends(&rig, frame, 60);
	network_sends(&rig, frame, 60);
	await_receive(&rig, &length);
	assert_int_equal(length, 0);
	assert_int_equal(rig.machine.ram[RX_RING + 13] & RXD_RXE, RXD_RXE);
	await_receive(&rig, &length);
	assert_int_equal(length, 64);
	put(&rig, E1000_RDBAH, 0xffffffff);
	put(&rig, E1000_RDH, 0xffff);
	network_sends(&rig, frame, 60);
	settle(&rig);
	put(&rig, E1000_RDH, 5);
	settle(&rig);
	/* And all is well after a reset. */
	put(&rig, E1000_CTRL, CTRL_RST);
	rings_up(&rig, 0);
	describe(&rig, TX_DATA, 100 | EOP_RS, 0, 0);
	go(&rig);
	assert_int_equal(network_takes(&rig, got, sizeof(got)), 100);
	rig_free(&rig);
}

/* Half a packet does not live on over a reset; in a moved machine it does. */
static void test_reset_and_save(void **state)
{
	uint8_t got[200];
	struct rig rig, other;

	rig_init(&rig);
	rings_up(&rig, 0);
	describe(&rig, TX_DATA, 50, 0, 0);
	go(&rig);
	settle(&rig);
	put(&rig, E1000_CTRL, CTRL_RST);
	rings_up(&rig, 0);
	fill(rig.machine.ram + TX_DATA, 200, 2);
	describe(&rig, TX_DATA, 50, 0, 0);
	go(&rig);
	settle(&rig);
	put(&rig, E1000_IMS, 4);
	put(&rig, E1000_ICS, 4);
	fake_stop(rig.device);
	rig_init(&other);
	fake_stop(other.device);
	assert_int_equal(fixture_move(rig.device, other.device), 0);
	memcpy(other.machine.ram, rig.machine.ram, FAKE_RAM_SIZE);
	assert_int_equal(other.device->ops->start(other.device, NULL), 0);
	assert_true(fake_host_line(&other.machine.host, pci_slot_gsi(SLOT)));
	assert_int_equal(get(&other, E1000_ICR) & 4, 4);
	other.transmit_tail = rig.transmit_tail;
	describe(&other, TX_DATA + 50, 100 | EOP_RS, 0, 0);
	go(&other);
	assert_int_equal(network_takes(&other, got, sizeof(got)), 150);
	assert_memory_equal(got, other.machine.ram + TX_DATA, 150);
	assert_int_equal(rig.device->ops->start(rig.device, NULL), 0);
	rig_free(&other);
	rig_free(&rig);
}

/* Its descriptor is done, and who waits for that would wait for ever. */
static void test_save_tells_of_a_frame_that_waits(void **state)
{
	struct rig rig, other;

	rig_init(&rig);
	rings_up(&rig, 0);
	/* More than the back end takes while nobody reads. */
	for (unsigned i = 0; i < COUNT - 1; i++)
		describe(&rig, TX_DATA, 60000 | EOP_RS, 0, 0);
	go(&rig);
	settle(&rig);
	assert_int_not_equal(get(&rig, E1000_TDH), get(&rig, E1000_TDT));
	assert_true(transmit_descriptor(&rig, get(&rig, E1000_TDH) + COUNT - 1)[12] & TXD_DD);
	get(&rig, E1000_ICR);
	fake_stop(rig.device);
	assert_int_equal(get(&rig, E1000_ICR), 0);
	rig_init(&other);
	fake_stop(other.device);
	assert_int_equal(fixture_move(rig.device, other.device), 0);
	assert_int_equal(get(&other, E1000_ICR), ICR_TXDW);
	rig_free(&other);
	rig_free(&rig);
}

static void set_policy(struct rig *rig, const struct net_policy_options *options)
{
	struct net_policy *policy = NULL;

	assert_int_equal(net_policy_new(&policy, options, NULL), 0);
	assert_int_equal(net_set_policy(rig->net, rig->machine.place.io, policy), 0);
	settle(rig);
}

static void send_numbered(struct rig *rig, unsigned number, uint16_t port)
{
	struct frame frame;

	frame_packet(&frame, "10.0.0.2", "10.0.0.3", 17, 1000, port);
	frame_zeroes(&frame, 98 - frame.length);
	frame_be16(&frame, (uint16_t)number);
	memcpy(rig->machine.ram + TX_DATA + STRIDE * (number % COUNT), frame.bytes, 100);
	describe(rig, TX_DATA + STRIDE * (number % COUNT), 100 | EOP_RS, 0, 0);
	go(rig);
}

static void expect_numbered(struct rig *rig, unsigned number)
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
	struct rig rig;

	rig_init(&rig);
	rings_up(&rig, RCTL_UPE);
	set_policy(&rig, &only_53);
	send_numbered(&rig, 1, 54);
	send_numbered(&rig, 2, 53);
	expect_numbered(&rig, 2);
	for (unsigned port = 54; port >= 53; port--) {
		frame_packet(&frame, "10.0.0.3", "10.0.0.2", 17, 1000, (uint16_t)port);
		frame_zeroes(&frame, 100 - frame.length);
		network_sends(&rig, frame.bytes, frame.length);
	}
	await_receive(&rig, &length);
	assert_memory_equal(received(&rig), frame.bytes, 100);
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
	settle(&rig);
	assert_int_equal(device_stat(rig.device, "policy", "out_passed_packets"), 8);
	assert_int_equal(device_stat(rig.device, "policy", "out_denied_by_default_packets"), 1);
	assert_int_equal(device_stat(rig.device, "policy", "in_denied_by_default_packets"), 1);
	assert_int_equal(device_stat(rig.device, NULL, "dropped"), 2);
	rig_free(&rig);
}

static void test_never_realized(void **state)
{
	struct rig rig = {0};

	make(&rig);
	rig.device->ops->free(rig.device);
	close(rig.other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_registers),
		cmocka_unit_test(test_ports),
		cmocka_unit_test(test_eeprom),
		cmocka_unit_test(test_phy_and_link),
		cmocka_unit_test(test_transmit),
		cmocka_unit_test(test_checksum_insertion),
		cmocka_unit_test(test_segmentation),
		cmocka_unit_test(test_vlan),
		cmocka_unit_test(test_receive),
		cmocka_unit_test(test_receive_filter),
		cmocka_unit_test(test_receive_checksum),
		cmocka_unit_test(test_receive_waits),
		cmocka_unit_test(test_bus_mastering),
		cmocka_unit_test(test_receive_after_power_down),
		cmocka_unit_test(test_interrupts),
		cmocka_unit_test(test_throttling),
		cmocka_unit_test(test_delays),
		cmocka_unit_test(test_loopback),
		cmocka_unit_test(test_turns),
		cmocka_unit_test(test_nonsense),
		cmocka_unit_test(test_reset_and_save),
		cmocka_unit_test(test_save_tells_of_a_frame_that_waits),
		cmocka_unit_test(test_policy),
		cmocka_unit_test(test_never_realized),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
