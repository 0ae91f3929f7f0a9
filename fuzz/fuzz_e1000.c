/* SPDX-License-Identifier: Apache-2.0 */
/* A hostile driver at the 82540EM: registers in any order through both BARs, descriptors and
 * buffers that change while the device works, frames from the network, resets, stops and restores
 * of arbitrary state. Afterwards the device must serve an honest driver, with that driver's bytes.
 */
#include "device_fuzz.h"

#include "backend/net_private.h"
#include "base/bytes.h"
#include "base/log.h"
#include "emulated/e1000/e1000.h"
#include "emulated/e1000/registers.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define SLOT     1
#define RING     0x10000U /* transmit; receive at twice that */
#define COUNT    16U
#define DATA     0x40000U
#define STEPS    200
#define BAR_SIZE 0x20000U
#define ANSWERS  20000 /* rounds of the loop */

struct rig {
	struct fake_machine machine;
	struct device *device;
	int other;
	uint64_t bar, ports;
};

static void must(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "fuzz: %s\n", what);
	abort();
}

static void put(struct rig *rig, unsigned offset, uint32_t value)
{
	bus_write(rig->machine.place.mmio, rig->bar + offset, 4, value);
}

static uint32_t get(struct rig *rig, unsigned offset)
{
	return (uint32_t)fake_guest_read(&rig->machine, rig->bar + offset, 4);
}

static void create(struct rig *rig)
{
	struct e1000_options options = {.mac = {2, 0, 0, 0, 0, 1}};
	struct error err;
	int pair[2];

	log_set_level(LOG_LEVEL_ERROR);
	fake_machine_init_here(&rig->machine);
	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0, "socket");
	rig->other = pair[1];
	must(passt_open_stream(&options.net, pair[0], &err) == 0, "back end");
	must(e1000_new(&rig->device, "net0", &options, &err) == 0, "create");
	must(rig->device->ops->realize(rig->device, &rig->machine.place, &err) == 0, "realize");
	rig->device->ops->start(rig->device, &err);
}

static void reset(struct rig *rig)
{
	rig->device->ops->reset(rig->device);
	fake_guest_config_write(&rig->machine, SLOT, 4, 2, 7);
	rig->bar = fake_guest_config_read(&rig->machine, SLOT, 0x10, 4) & ~15U;
	rig->ports = fake_guest_config_read(&rig->machine, SLOT, 0x14, 4) & ~3U;
}

static void bring_up(struct rig *rig)
{
	put(rig, E1000_CTRL, CTRL_SLU | CTRL_FD);
	put(rig, E1000_TDBAL, RING);
	put(rig, E1000_TDLEN, COUNT * 16);
	put(rig, E1000_RDBAL, 2 * RING);
	put(rig, E1000_RDLEN, COUNT * 16);
	for (unsigned i = 0; i < COUNT; i++) {
		uint8_t *at = rig->machine.ram + 2UL * RING + 16UL * i;

		memset(at, 0, 16);
		store_le64(at, DATA + 0x10000 + 0x1000 * i);
	}
	put(rig, E1000_RDT, COUNT - 1);
	put(rig, E1000_TCTL, TCTL_EN | TCTL_PSP);
	put(rig, E1000_RCTL, RCTL_EN | RCTL_BAM | RCTL_UPE | RCTL_SECRC);
}

static void read_everything(struct rig *rig)
{
	uint8_t bytes[65536];

	while (recv(rig->other, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		;
}

static bool send_frame(struct rig *rig, const uint8_t *frame, uint32_t length)
{
	uint32_t prefix = htonl(length);
	struct iovec pieces[] = {{&prefix, sizeof(prefix)}, {(void *)frame, length}};
	struct msghdr message = {.msg_iov = pieces, .msg_iovlen = 2};
	ssize_t sent = sendmsg(rig->other, &message, MSG_DONTWAIT);

	must(sent < 0 || (size_t)sent == length + 4, "half a frame");
	return sent > 0;
}

static unsigned register_of(struct input *input)
{
	static const uint16_t busy[] = {E1000_CTRL, E1000_EECD, E1000_EERD, E1000_MDIC, E1000_ICR,
		E1000_ITR, E1000_ICS, E1000_IMS, E1000_IMC, E1000_RCTL, E1000_TCTL, E1000_RDBAL,
		E1000_RDBAH, E1000_RDLEN, E1000_RDH, E1000_RDT, E1000_RDTR, E1000_RADV, E1000_TDBAL,
		E1000_TDBAH, E1000_TDLEN, E1000_TDH, E1000_TDT, E1000_TIDV, E1000_TADV,
		E1000_RXCSUM, E1000_VET, E1000_TDT, E1000_TDT, E1000_RDT};
	uint8_t which = (uint8_t)input_number(input, 1);

	if (which < 0xc0)
		return busy[which % ARRAY_SIZE(busy)];
	return (unsigned)input_number(input, 3) % BAR_SIZE;
}

/* Mostly one that makes sense somewhere. */
static uint32_t value_of(struct input *input)
{
	static const uint32_t usual[] = {0, 1, 2, 8, 15, 16, COUNT * 16, 128, RING, 2 * RING, DATA,
		0xffffffff, RCTL_EN | RCTL_BAM | RCTL_UPE | RCTL_LPE, RCTL_EN | RCTL_BAM | 0x40,
		RCTL_EN | RCTL_UPE | 0x30000, TCTL_EN | TCTL_PSP, CTRL_SLU | CTRL_VME, CTRL_SLU,
		CTRL_RST, 0x04204140, 0x04201140, FAKE_RAM_SIZE - 64};
	uint8_t which = (uint8_t)input_number(input, 1);

	if (which < 0xc0)
		return usual[which % ARRAY_SIZE(usual)];
	return (uint32_t)input_number(input, which & 1 ? 4 : 1);
}

static void write_register(struct rig *rig, struct input *input, uint8_t what)
{
	unsigned offset = register_of(input);
	uint32_t value = value_of(input);

	if (what & 0x40) {
		bus_write(rig->machine.place.ports, rig->ports, 4, offset);
		bus_write(rig->machine.place.ports, rig->ports + 4, 4, value);
	} else {
		bus_write(rig->machine.place.mmio, rig->bar + (offset & ~7U) + (offset & 4),
			what & 0x80 ? 1U << (what >> 4 & 1) : 4, value);
	}
}

static void read_register(struct rig *rig, struct input *input)
{
	unsigned offset = register_of(input), size = input_size(input);
	uint64_t value;

	bus_read(rig->machine.place.mmio, rig->bar + (offset & ~(size - 1)), size, &value);
	must(size == 8 || !(value >> (8 * size)), "more bits than were asked for");
}

/* A descriptor of any kind in the transmit ring. */
static void describe(struct rig *rig, struct input *input)
{
	static const uint32_t kinds[] = {TXD_EOP | TXD_RS, 0,
		TXD_DEXT | TXD_DTYP_DATA | TXD_EOP | TXD_RS | TXD_TSE,
		TXD_DEXT | TXD_DTYP_DATA | TXD_TSE,
		TXD_DEXT | TXD_TSE | TXD_TUCMD_IP | TXD_TUCMD_TCP, TXD_DEXT,
		TXD_EOP | TXD_VLE | TXD_IDE | TXD_RS, TXD_EOP | TXD_IC,
		TXD_DEXT | TXD_DTYP_DATA | TXD_EOP | TXD_RS};
	uint8_t *at = rig->machine.ram + RING + 16 * (input_number(input, 1) % COUNT);
	uint8_t kind = (uint8_t)input_number(input, 1);
	uint32_t lower = kinds[kind % ARRAY_SIZE(kinds)];

	store_le64(at, kind & 0x80 ? input_number(input, 8) : DATA + input_number(input, 2));
	lower |= (uint32_t)input_number(input, kind & 0x40 ? 3 : 2);
	store_le32(at + 8, lower);
	input_bytes(input, at + 12, 4);
}

static void scribble(struct rig *rig, struct input *input)
{
	uint64_t at = (input_number(input, 3) % 0x70000) + RING;

	input_bytes(input, rig->machine.ram + at, 1 + (at & 15));
}

static void network(struct rig *rig, struct input *input)
{
	uint8_t frame[9100] = {0}, what = (uint8_t)input_number(input, 1);

	if (what & 1) {
		read_everything(rig);
		return;
	}
	memset(frame, what & 2 ? 0xff : 2, 6);
	input_bytes(input, frame + 12, 60);
	send_frame(rig, frame, (uint32_t)input_number(input, 2) % sizeof(frame));
}

static void stop_and_go(struct rig *rig, struct input *input, bool restore)
{
	struct state_reader reader = {.bytes = input->at,
		.length = input->left,
		.section_end = input->left,
		.version = 1};
	struct error err;

	fake_machine_stop(&rig->machine, rig->device);
	if (restore)
		rig->device->ops->restore(rig->device, &reader, &err);
	rig->device->ops->start(rig->device, &err);
}

static void step(struct rig *rig, struct input *input)
{
	uint8_t what = (uint8_t)input_number(input, 1);

	switch (what & 15) {
	case 0:
		read_register(rig, input);
		break;
	case 1:
	case 2:
	case 3:
		describe(rig, input);
		break;
	case 4:
		scribble(rig, input);
		break;
	case 5:
	case 6:
		network(rig, input);
		break;
	case 7:
		fake_machine_round(&rig->machine);
		break;
	case 8:
		if (what == 0xf8 || what == 0xe8)
			stop_and_go(rig, input, what == 0xe8);
		else
			put(rig, E1000_TDT, (what >> 4) % COUNT);
		break;
	default:
		write_register(rig, input, what);
		break;
	}
}

/* Whole frames from the network's end until one of ours; false: none. */
static bool our_frame_came(struct rig *rig, const uint8_t *want, uint32_t length)
{
	static uint8_t bytes[1 << 20];
	size_t have = 0;

	for (unsigned i = 0; i < ANSWERS; i++) {
		ssize_t got = recv(rig->other, bytes + have, sizeof(bytes) - have, MSG_DONTWAIT);

		if (got <= 0) {
			fake_machine_round(&rig->machine);
			continue;
		}
		have += (size_t)got;
		if (memmem(bytes, have, want, length))
			return true;
		if (have > sizeof(bytes) / 2) {
			memmove(bytes, bytes + have - length, length);
			have = length;
		}
	}
	return false;
}

static bool our_frame_received(struct rig *rig, const uint8_t *want, uint32_t length)
{
	bool sent = false;

	/* What came before us is taken away as it comes. */
	for (unsigned i = 0; i < ANSWERS; i++) {
		put(rig, E1000_RDT, (get(rig, E1000_RDH) + COUNT - 1) % COUNT);
		sent = sent || send_frame(rig, want, length);
		fake_machine_round(&rig->machine);
		for (unsigned at = 0; at < COUNT; at++)
			if (memcmp(rig->machine.ram + DATA + 0x10000 + 0x1000UL * at, want,
				    length) == 0)
				return true;
		fake_machine_round(&rig->machine);
	}
	return false;
}

static void honest(struct rig *rig)
{
	uint8_t frame[300];

	for (unsigned i = 0; i < sizeof(frame); i++)
		frame[i] = (uint8_t)(i * 7 + 2);
	/* A PHY left in loopback was put right by the reset. */
	reset(rig);
	bring_up(rig);
	memcpy(rig->machine.ram + DATA, frame, sizeof(frame));
	store_le64(rig->machine.ram + RING, DATA);
	store_le32(rig->machine.ram + RING + 8, sizeof(frame) | TXD_EOP | TXD_RS);
	store_le32(rig->machine.ram + RING + 12, 0);
	put(rig, E1000_TDT, 1);
	must(our_frame_came(rig, frame, sizeof(frame)), "an honest frame is not sent");
	frame[0] = 2;
	must(our_frame_received(rig, frame, sizeof(frame)), "an honest frame is not received");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};
	static struct rig rig;

	if (!rig.device)
		create(&rig);
	reset(&rig);
	bring_up(&rig);
	for (unsigned i = 0; input.left && i < STEPS; i++)
		step(&rig, &input);
	honest(&rig);
	madvise(rig.machine.ram, FAKE_RAM_SIZE, MADV_DONTNEED);
	return 0;
}
