/* SPDX-License-Identifier: Apache-2.0 */
#include "e1000_rig.h"

#include "backend/net_private.h"
#include "base/bytes.h"

#include <arpa/inet.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

int passt_open_stream(struct net **net, int fd, struct error *err);

uint32_t card_get(struct e1000_rig *rig, unsigned offset)
{
	return (uint32_t)fake_guest_read(&rig->machine, rig->bar + offset, 4);
}

void card_put(struct e1000_rig *rig, unsigned offset, uint32_t value)
{
	fake_guest_write(&rig->machine, rig->bar + offset, 4, value);
}

void e1000_rig_make(struct e1000_rig *rig)
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

void e1000_rig_init(struct e1000_rig *rig)
{
	struct error err = {0};

	memset(rig, 0, sizeof(*rig));
	fake_machine_init(&rig->machine);
	e1000_rig_make(rig);
	assert_int_equal(rig->device->ops->realize(rig->device, &rig->machine.place, &err), 0);
	rig->device->ops->reset(rig->device);
	assert_int_equal(rig->device->ops->start(rig->device, &err), 0);
	fake_guest_config_write(&rig->machine, CARD_SLOT, 4, 2, 7);
	rig->bar = fake_guest_config_read(&rig->machine, CARD_SLOT, 0x10, 4) & ~15U;
	rig->ports = fake_guest_config_read(&rig->machine, CARD_SLOT, 0x14, 4) & ~3U;
}

void e1000_rig_free(struct e1000_rig *rig)
{
	fake_machine_end_device(&rig->machine, rig->device);
	assert_false(fake_host_line(&rig->machine.host, pci_slot_gsi(CARD_SLOT)));
	fake_machine_free(&rig->machine);
	close(rig->other);
}

static void nothing(struct loop_task *task)
{
}

void card_settle(struct e1000_rig *rig)
{
	struct loop_task barrier = {.run = nothing};

	for (unsigned i = 0; i < 3; i++)
		loop_call(rig->machine.place.io, &barrier);
}

void card_rings_up(struct e1000_rig *rig, uint32_t rctl)
{
	card_put(rig, E1000_CTRL, card_get(rig, E1000_CTRL) | CTRL_SLU);
	card_put(rig, E1000_RDBAL, CARD_RX_RING);
	card_put(rig, E1000_RDLEN, CARD_COUNT * 16);
	card_put(rig, E1000_RDH, 0);
	card_put(rig, E1000_TDBAL, CARD_TX_RING);
	card_put(rig, E1000_TDLEN, CARD_COUNT * 16);
	card_put(rig, E1000_TDH, 0);
	card_put(rig, E1000_TDT, 0);
	memset(rig->machine.ram + CARD_RX_RING, 0, CARD_COUNT * 16);
	for (unsigned i = 0; i < CARD_COUNT; i++)
		store_le64(
			rig->machine.ram + CARD_RX_RING + 16UL * i, CARD_RX_DATA + CARD_STRIDE * i);
	card_put(rig, E1000_TCTL, TCTL_EN | TCTL_PSP);
	card_put(rig, E1000_RDT, CARD_COUNT - 1);
	card_put(rig, E1000_RCTL, RCTL_EN | RCTL_BAM | rctl);
	rig->transmit_tail = rig->receive_next = 0;
}

uint16_t card_phy_get(struct e1000_rig *rig, unsigned reg)
{
	card_put(rig, E1000_MDIC, 0x08000000 | 1 << 21 | reg << 16);
	assert_int_equal(card_get(rig, E1000_MDIC) & 0x50000000, 0x10000000);
	return (uint16_t)card_get(rig, E1000_MDIC);
}

void card_phy_put(struct e1000_rig *rig, unsigned reg, uint16_t value)
{
	card_put(rig, E1000_MDIC, 0x04000000 | 1 << 21 | reg << 16 | value);
}

void card_pattern(uint8_t *bytes, size_t length, unsigned seed)
{
	for (size_t i = 0; i < length; i++)
		bytes[i] = (uint8_t)(i * 11 + i / 256 + seed);
}

void network_sends(struct e1000_rig *rig, const uint8_t *frame, uint32_t length)
{
	uint32_t prefix = htonl(length);

	assert_int_equal(send(rig->other, &prefix, 4, 0), 4);
	assert_int_equal(send(rig->other, frame, length, 0), length);
}

uint32_t network_takes(struct e1000_rig *rig, uint8_t *to, size_t room)
{
	struct pollfd readable = {.fd = rig->other, .events = POLLIN};
	uint32_t length;

	assert_int_equal(poll(&readable, 1, FAKE_PATIENCE_MS), 1);
	assert_int_equal(recv(rig->other, &length, 4, MSG_WAITALL), 4);
	length = ntohl(length);
	assert_true(length <= room);
	assert_int_equal(recv(rig->other, to, length, MSG_WAITALL), length);
	return length;
}

bool network_is_silent(struct e1000_rig *rig)
{
	uint8_t byte;

	card_settle(rig);
	return recv(rig->other, &byte, 1, MSG_DONTWAIT) < 0;
}

uint8_t *card_transmit_descriptor(struct e1000_rig *rig, unsigned index)
{
	return rig->machine.ram + CARD_TX_RING + 16UL * (index % CARD_COUNT);
}

void card_describe(
	struct e1000_rig *rig, uint64_t buffer, uint32_t lower, uint8_t options, uint16_t special)
{
	uint8_t *at = card_transmit_descriptor(rig, rig->transmit_tail);

	store_le64(at, buffer);
	store_le32(at + 8, lower);
	store_le32(at + 12, (uint32_t)options << 8 | (uint32_t)special << 16);
	rig->transmit_tail = (rig->transmit_tail + 1) % CARD_COUNT;
}

void card_context(struct e1000_rig *rig, uint32_t lower, unsigned hdr_len, unsigned mss)
{
	uint8_t *at = card_transmit_descriptor(rig, rig->transmit_tail);

	memset(at, 0, 16);
	at[0] = 14;
	at[1] = 24;
	store_le16(at + 2, 33);
	at[4] = 34;
	at[5] = 50;
	store_le32(at + 8, lower | TXD_DEXT | TXD_TUCMD_IP | TXD_TUCMD_TCP);
	at[13] = (uint8_t)hdr_len;
	store_le16(at + 14, (uint16_t)mss);
	rig->transmit_tail = (rig->transmit_tail + 1) % CARD_COUNT;
}

void card_go(struct e1000_rig *rig)
{
	card_put(rig, E1000_TDT, rig->transmit_tail);
}

uint8_t card_await_receive(struct e1000_rig *rig, uint16_t *length)
{
	const struct timespec step = {.tv_nsec = 1000000};
	uint8_t *at = rig->machine.ram + CARD_RX_RING + 16UL * rig->receive_next;
	_Atomic uint8_t *status = (_Atomic uint8_t *)at + 12;

	for (unsigned i = 0; i < FAKE_PATIENCE_MS && !(atomic_load(status) & RXD_DD); i++)
		nanosleep(&step, NULL);
	assert_true(atomic_load(status) & RXD_DD);
	*length = load_le16(at + 8);
	rig->receive_next = (rig->receive_next + 1) % CARD_COUNT;
	return at[12];
}

const uint8_t *card_received(const struct e1000_rig *rig)
{
	return rig->machine.ram + CARD_RX_DATA +
	       CARD_STRIDE * ((rig->receive_next + CARD_COUNT - 1) % CARD_COUNT);
}

bool card_await_line(struct e1000_rig *rig, bool level)
{
	const struct timespec step = {.tv_nsec = 1000000};

	for (unsigned i = 0; i < FAKE_PATIENCE_MS; i++) {
		if (fake_host_line(&rig->machine.host, pci_slot_gsi(CARD_SLOT)) == level)
			return true;
		nanosleep(&step, NULL);
	}
	return false;
}

void card_be16(uint8_t *to, unsigned value)
{
	to[0] = (uint8_t)(value >> 8);
	to[1] = (uint8_t)value;
}

void card_tcp_frame(uint8_t *frame, uint32_t payload, uint32_t pseudo)
{
	card_pattern(frame, 54 + payload, 9);
	memset(frame, 0xff, 6);
	card_be16(frame + 12, 0x0800);
	memset(frame + 14, 0, 40);
	frame[14] = 0x45;
	card_be16(frame + 16, 40 + payload);
	card_be16(frame + 18, 0x1000);
	frame[22] = 64;
	frame[23] = 6;
	memcpy(frame + 26, "\x0a\0\0\1\x0a\0\0\2", 8);
	card_be16(frame + 34, 1000);
	card_be16(frame + 36, 2000);
	card_be16(frame + 40, 0xfff0);
	frame[46] = 0x50;
	frame[47] = 0x19; /* FIN PSH ACK */
	card_be16(frame + 50, e1000_fold((uint64_t)e1000_sum(frame + 26, 8) + 6 + pseudo));
}
