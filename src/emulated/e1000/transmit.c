/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames from the guest (8254x manual, 3.3 and 3.4): legacy descriptors, and data descriptors under
 * the context that a context descriptor set. A packet's data is copied when its descriptor is read,
 * so that a descriptor that is done is done with.
 */
#include "emulated/e1000/private.h"

#include <errno.h>

struct descriptor {
	gpa_t at, buffer;
	uint32_t lower, upper;
	uint8_t bytes[E1000_DESCRIPTOR];
};

static void set_context(struct e1000 *e, const struct descriptor *descriptor)
{
	const uint8_t *bytes = descriptor->bytes;
	struct e1000_context context = {
		.ipcss = bytes[0],
		.ipcso = bytes[1],
		.ipcse = load_le16(bytes + 2),
		.tucss = bytes[4],
		.tucso = bytes[5],
		.tucse = load_le16(bytes + 6),
		.paylen = descriptor->lower & TXD_LENGTH,
		.tcp = descriptor->lower & TXD_TUCMD_TCP,
		.ip = descriptor->lower & TXD_TUCMD_IP,
		.hdr_len = bytes[13],
		.mss = load_le16(bytes + 14),
	};

	if (descriptor->lower & TXD_TSE) {
		e->transmit.segmentation = context;
		*e1000_reg(e, E1000_TSCTC) += 1;
	} else {
		e->transmit.plain = context;
	}
}

static void begin(struct e1000 *e, const struct descriptor *descriptor)
{
	struct e1000_packet *packet = &e->transmit.packet;
	bool segmented = (descriptor->lower & (TXD_DEXT | TXD_TSE)) == (TXD_DEXT | TXD_TSE);

	*packet = (struct e1000_packet){.begun = true,
		.segmented = segmented,
		.context = segmented ? e->transmit.segmentation : e->transmit.plain};
	/* Of a data descriptor's options the first one's count. */
	if (descriptor->lower & TXD_DEXT)
		packet->popts = descriptor->bytes[13];
}

static void append(struct e1000 *e, const struct descriptor *descriptor, uint32_t length)
{
	struct e1000_packet *packet = &e->transmit.packet;

	if (packet->dropped || length == 0)
		return;
	if (length > E1000_REQUEST_MAX - packet->length) {
		packet->dropped = true;
		return;
	}
	if (memory_read(e->memory, descriptor->buffer, e->transmit.frame + packet->length, length) <
		0) {
		e1000_dma_error(e, "transmit buffer");
		packet->dropped = true;
		return;
	}
	packet->length += length;
}

static void take_data(struct e1000 *e, const struct descriptor *descriptor)
{
	struct e1000_packet *packet = &e->transmit.packet;
	bool legacy = !(descriptor->lower & TXD_DEXT);

	if (!packet->begun)
		begin(e, descriptor);
	append(e, descriptor, descriptor->lower & (legacy ? TXD_LENGTH_LEGACY : TXD_LENGTH));
	if (legacy && (descriptor->lower & TXD_IC)) {
		packet->insert = true;
		packet->cso = descriptor->bytes[10];
		packet->css = descriptor->bytes[13];
	}
	if ((descriptor->lower & TXD_VLE) && (e1000_get(e, E1000_CTRL) & CTRL_VME)) {
		packet->tagged = true;
		packet->tag = load_le16(descriptor->bytes + 14);
		packet->vet = (uint16_t)e1000_get(e, E1000_VET);
	}
	if (!(descriptor->lower & TXD_EOP))
		return;
	packet->ready = true;
	packet->pad = e1000_get(e, E1000_TCTL) & TCTL_PSP;
	packet->loopback = e1000_loopback(e);
}

static void write_back(struct e1000 *e, const struct descriptor *descriptor)
{
	uint8_t status = descriptor->bytes[12] | TXD_DD;

	if (descriptor->lower & TXD_IDE)
		e->transmit.report_late = true;
	else
		e->transmit.report = true;
	if (!e1000_set_status(e, descriptor->at, status))
		e1000_dma_error(e, "transmit ring");
}

/* False: the ring is empty, or not memory; the driver's next write to TDT tries again. */
static bool next_descriptor(struct e1000 *e, struct descriptor *descriptor)
{
	struct e1000_ring ring = e1000_ring(e, E1000_TDBAL);

	if (!e->running || !e->master || !(e1000_get(e, E1000_TCTL) & TCTL_EN) ||
		ring.head == ring.tail)
		return false;
	descriptor->at = gpa_add(ring.base, (uint64_t)ring.head * E1000_DESCRIPTOR);
	if (memory_read(e->memory, descriptor->at, descriptor->bytes, E1000_DESCRIPTOR) < 0) {
		e1000_dma_error(e, "transmit ring");
		return false;
	}
	ring.head = ring.head + 1 == ring.count ? 0 : ring.head + 1;
	*e1000_reg(e, E1000_TDH) = ring.head;
	if (ring.head == ring.tail)
		e->transmit.emptied = true;
	descriptor->buffer = GPA(load_le64(descriptor->bytes));
	descriptor->lower = load_le32(descriptor->bytes + 8);
	descriptor->upper = load_le32(descriptor->bytes + 12);
	return true;
}

enum gathered {
	PACKET,  /* whole */
	NOTHING, /* the ring is empty */
	LATER    /* there is more, but others first */
};

static enum gathered gather(struct e1000 *e)
{
	struct descriptor descriptor;

	for (unsigned left = E1000_DESCRIPTORS_A_FRAME; left; left--) {
		uint32_t type;

		if (!next_descriptor(e, &descriptor))
			return NOTHING;
		type = descriptor.lower & TXD_DTYP;
		if (!(descriptor.lower & TXD_DEXT) || type == TXD_DTYP_DATA)
			take_data(e, &descriptor);
		else if (type == TXD_DTYP_CONTEXT)
			set_context(e, &descriptor);
		if (descriptor.lower & (TXD_RS | TXD_RPS))
			write_back(e, &descriptor);
		if (e->transmit.packet.ready)
			return PACKET;
	}
	return LATER;
}

/* The causes of what was done, once the frames are out. */
static void report(struct e1000 *e)
{
	struct e1000_transmit *transmit = &e->transmit;
	bool now = transmit->report, late = transmit->report_late, emptied = transmit->emptied;

	transmit->report = transmit->report_late = transmit->emptied = false;
	if (emptied)
		e1000_cause(e, ICR_TXQE);
	if (now || late)
		e1000_transmitted(e, !now);
}

/* What was begun before a reset, or on another ring, is void. */
static void forget_if_stale(struct e1000 *e)
{
	struct e1000_transmit *transmit = &e->transmit;

	if (transmit->generation == e->generation)
		return;
	transmit->generation = e->generation;
	transmit->packet = (struct e1000_packet){0};
	transmit->report = transmit->report_late = transmit->emptied = false;
}

static void finish(struct e1000 *e, int ret)
{
	struct e1000_packet *packet = &e->transmit.packet;

	if (ret < 0)
		e->counts.dropped++;
	*packet = (struct e1000_packet){0};
}

/* Called and returns locked. PACKET: it is gone; NOTHING: the back end takes no more now. */
static enum gathered send_packet(struct e1000 *e)
{
	struct e1000_packet *packet = &e->transmit.packet;
	int ret = -EINVAL;

	if (!packet->dropped) {
		pthread_mutex_unlock(&e->lock);
		ret = e1000_send(e, packet);
		pthread_mutex_lock(&e->lock);
	}
	if (ret == -EAGAIN || ret == -EINPROGRESS)
		return ret == -EAGAIN ? NOTHING : LATER;
	if (e->transmit.generation == e->generation) {
		finish(e, ret);
		report(e);
	}
	return PACKET;
}

void e1000_transmit(struct e1000 *e)
{
	enum gathered going;

	pthread_mutex_lock(&e->lock);
	do {
		forget_if_stale(e);
		going = e->transmit.packet.ready ? PACKET : gather(e);
		if (going == PACKET)
			going = send_packet(e);
	} while (going == PACKET && e->running && !loop_turn_over(e->io));
	forget_if_stale(e);
	/* The back end tells when it takes more: then it goes on from there. */
	if (!e->transmit.packet.ready)
		report(e);
	if (going != NOTHING)
		e1000_post(e, E1000_WORK_TRANSMIT);
	e1000_timer_arm(e);
	pthread_mutex_unlock(&e->lock);
	net_flush(e->net, 0);
}
