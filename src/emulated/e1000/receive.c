/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames to the guest (8254x manual, 3.2). A frame is taken from the back end as soon as there is
 * one descriptor; when it needs more it is held, as the chip's own buffer would, until the driver
 * gives them. While there are none the back end keeps what it has.
 */
#include "emulated/e1000/private.h"

#include <errno.h>
#include <zlib.h>

#define FRAME_ADDRESSES 12
#define FRAME_HEADER    14
#define VLAN_TAG        4
#define WIRE_NORMAL     1522 /* without LPE, tag and FCS included */
#define DATA_VALID      2    /* in virtio's header: the host has checked it */

struct e1000_ring e1000_ring(const struct e1000 *e, unsigned base)
{
	struct e1000_ring ring = {
		.base = GPA((uint64_t)e1000_get(e, base + 4) << 32 | e1000_get(e, base)),
		.count = e1000_get(e, base + 8) / E1000_DESCRIPTOR,
		.head = e1000_get(e, base + 0x10),
		.tail = e1000_get(e, base + 0x18),
	};

	if (ring.head >= ring.count || ring.tail >= ring.count)
		ring.count = ring.head = ring.tail = 0;
	return ring;
}

static uint32_t buffer_size(uint32_t rctl)
{
	uint32_t shift = RCTL_BSIZE(rctl);

	/* With BSEX the first of the four is reserved. */
	return rctl & RCTL_BSEX && shift ? 32768U >> shift : 2048U >> shift;
}

bool e1000_set_status(struct e1000 *e, gpa_t descriptor, uint8_t status)
{
	gpa_t gpa = gpa_add(descriptor, 12);
	_Atomic uint8_t *at = memory_begin(e->memory, gpa, 1);

	if (!at)
		return false;
	atomic_store_explicit(at, status, memory_order_release);
	memory_end(e->memory, (const void *)at, 1);
	return true;
}

/* What goes into the descriptors of a frame. */
struct receipt {
	const uint8_t *data;
	uint32_t length;
	uint16_t sum, tag;
	struct e1000_verdict verdict;
};

static bool write_back(struct e1000 *e, gpa_t at, uint16_t length, const struct receipt *receipt,
	uint8_t status, uint8_t errors)
{
	uint8_t upper[8] = {0};

	store_le16(upper, length);
	store_le16(upper + 2, receipt->sum);
	upper[5] = errors;
	store_le16(upper + 6, receipt->tag);
	/* The status comes last, and is not touched before: the driver looks at it all the time. */
	return memory_write(e->memory, gpa_add(at, 8), upper, 4) == 0 &&
	       memory_write(e->memory, gpa_add(at, 13), upper + 5, 3) == 0 &&
	       e1000_set_status(e, at, status);
}

/* One descriptor's part; false: the ring itself is not memory. */
static bool fill(struct e1000 *e, const struct e1000_ring *ring, const struct receipt *receipt,
	uint32_t done, uint32_t part)
{
	gpa_t at = gpa_add(ring->base, (uint64_t)ring->head * E1000_DESCRIPTOR);
	uint8_t status = RXD_DD, errors = 0, address[8];

	if (memory_read(e->memory, at, address, sizeof(address)) < 0) {
		e1000_dma_error(e, "receive ring");
		return false;
	}
	if (memory_write(e->memory, GPA(load_le64(address)), receipt->data + done, part) < 0) {
		e1000_dma_error(e, "receive buffer");
		errors = RXD_RXE;
		part = 0;
	}
	if (done + part >= receipt->length || errors) {
		status |= RXD_EOP | receipt->verdict.status;
		errors |= receipt->verdict.errors;
	}
	if (!write_back(e, at, (uint16_t)part, receipt, status, errors))
		e1000_dma_error(e, "receive ring");
	return !(errors & RXD_RXE);
}

static void advance(struct e1000_ring *ring)
{
	ring->head = ring->head + 1 == ring->count ? 0 : ring->head + 1;
}

/* RXDMT0 says that only a part of the ring is left: a half, a quarter or an eighth. */
static bool crossed(const struct e1000_ring *ring, uint32_t before, uint32_t rctl)
{
	uint32_t least = ring->count >> (RCTL_RDMTS(rctl) + 1);

	return before > least && e1000_ring_filled(ring) <= least;
}

static void put(struct e1000 *e, struct e1000_ring *ring, const struct receipt *receipt)
{
	uint32_t size = buffer_size(e1000_get(e, E1000_RCTL));
	uint32_t before = e1000_ring_filled(ring);
	bool good = true;

	for (uint32_t done = 0; good && done < receipt->length; done += size) {
		good = fill(
			e, ring, receipt, done, (uint32_t)min_u64(size, receipt->length - done));
		advance(ring);
	}
	*e1000_reg(e, E1000_RDH) = ring->head;
	if (!good)
		e->counts.dropped++;
	if (crossed(ring, before, e1000_get(e, E1000_RCTL)))
		e1000_cause(e, ICR_RXDMT0);
	e1000_received(e);
}

/* Whether the frame is to be thrown away; *@pass: how it came through the address filter. */
static bool refused(
	struct e1000 *e, const uint8_t *frame, uint32_t length, uint16_t vlan, int *pass)
{
	uint32_t wire = length + E1000_FCS;

	*pass = e1000_filter(e, frame);
	if (!*pass || (vlan && !e1000_filter_vlan(e, (uint16_t)(frame[14] << 8 | frame[15])))) {
		e->counts.filtered++;
		return true;
	}
	if (wire > E1000_WIRE_MAX ||
		(wire > WIRE_NORMAL && !(e1000_get(e, E1000_RCTL) & RCTL_LPE))) {
		*e1000_reg(e, E1000_ROC) += 1;
		e->counts.dropped++;
		return true;
	}
	return false;
}

static void append_fcs(uint8_t *frame, uint32_t length)
{
	store_le32(frame + length, (uint32_t)crc32(0, frame, length));
}

/* Takes the tag out of the frame, which then begins four bytes later. */
static uint8_t *strip(uint8_t *frame, struct receipt *receipt)
{
	receipt->tag = (uint16_t)(frame[14] << 8 | frame[15]);
	receipt->verdict.status |= RXD_VP;
	memmove(frame + VLAN_TAG, frame, FRAME_ADDRESSES);
	receipt->length -= VLAN_TAG;
	return frame + VLAN_TAG;
}

static bool is_vlan(const struct e1000 *e, const uint8_t *frame, uint32_t length)
{
	return length >= FRAME_HEADER + VLAN_TAG &&
	       (uint32_t)(frame[12] << 8 | frame[13]) == e1000_get(e, E1000_VET);
}

bool e1000_deliver(struct e1000 *e, uint8_t *frame, uint32_t length, bool checked)
{
	struct e1000_ring ring = e1000_ring(e, E1000_RDBAL);
	uint32_t rctl = e1000_get(e, E1000_RCTL), rxcsum = e1000_get(e, E1000_RXCSUM);
	bool vlan = is_vlan(e, frame, length);
	struct receipt receipt;
	uint32_t needed;
	int pass;

	if (length < FRAME_HEADER || refused(e, frame, length, vlan, &pass))
		return true;
	receipt = (struct receipt){.verdict = e1000_verify(frame, length, rxcsum, checked)};
	if (length < E1000_FRAME_MIN)
		memset(frame + length, 0, E1000_FRAME_MIN - length);
	receipt.length = length < E1000_FRAME_MIN ? E1000_FRAME_MIN : length;
	if ((rxcsum & RXCSUM_PCSS) < receipt.length)
		receipt.sum = (uint16_t)e1000_sum(
			frame + (rxcsum & RXCSUM_PCSS), receipt.length - (rxcsum & RXCSUM_PCSS));
	receipt.verdict.status |= pass == 2 ? RXD_PIF : 0;
	if (!(rctl & RCTL_SECRC)) {
		append_fcs(frame, receipt.length);
		receipt.length += E1000_FCS;
	}
	needed = (receipt.length - 1) / buffer_size(rctl) + 1;
	if (needed > e1000_ring_filled(&ring))
		return false;
	e1000_count_received(e, frame, length);
	receipt.data = frame;
	if (vlan && (e1000_get(e, E1000_CTRL) & CTRL_VME))
		receipt.data = strip(frame, &receipt);
	put(e, &ring, &receipt);
	return true;
}

static bool can_receive(const struct e1000 *e)
{
	struct e1000_ring ring = e1000_ring(e, E1000_RDBAL);

	return e->running && e->master && (e1000_get(e, E1000_RCTL) & RCTL_EN) &&
	       e1000_link_up(e) && !e1000_loopback(e) && e1000_ring_filled(&ring) > 0;
}

/* Takes a frame from the back end; called and returns locked. False: there is none. */
static bool take(struct e1000 *e)
{
	struct iovec room = {e->receive.frame, NET_FRAME_MAX};
	int got;

	pthread_mutex_unlock(&e->lock);
	got = net_receive(e->net, 0, &room, 1);
	pthread_mutex_lock(&e->lock);
	if (got == -EMSGSIZE)
		e->counts.dropped++;
	if (got < 0)
		return got == -EMSGSIZE;
	e->receive.held = (uint32_t)got - NET_HEADER_SIZE;
	e->receive.checked = e->receive.frame[0] & DATA_VALID;
	e->receive.counted = false;
	return true;
}

/* The frame that is held; false: it has to wait. */
static bool hand_over(struct e1000 *e)
{
	struct e1000_ring ring = e1000_ring(e, E1000_RDBAL);
	struct e1000_receive *receive = &e->receive;

	if (e1000_deliver(e, receive->frame + NET_HEADER_SIZE, receive->held, receive->checked)) {
		receive->held = 0;
		return true;
	}
	if (!receive->counted)
		*e1000_reg(e, E1000_RNBC) += 1;
	receive->counted = true;
	/* An empty ring would not be enough either. */
	if (e1000_ring_filled(&ring) + 1 < ring.count)
		return false;
	receive->held = 0;
	e->counts.dropped++;
	return true;
}

void e1000_receive(struct e1000 *e)
{
	bool want = true, more = true;

	pthread_mutex_lock(&e->lock);
	do {
		/* The rings may be others than before. */
		want = can_receive(e);
		if (!want)
			break;
		if (!e->receive.held)
			more = take(e);
		else
			want = more = hand_over(e);
	} while (more && !loop_turn_over(e->io));
	if (more && want)
		e1000_post(e, E1000_WORK_RECEIVE);
	e1000_timer_arm(e);
	pthread_mutex_unlock(&e->lock);
	net_receive_enable(e->net, 0, want);
}
