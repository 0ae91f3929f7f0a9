/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A packet's way out: checksums (8254x manual, 3.5.3), segmentation (3.5.4 to 3.5.6), VLAN tag,
 * padding. What the back end can do itself is left to it, by virtio's header; the rest is done
 * here.
 */
#include "emulated/e1000/private.h"

#include <errno.h>
#include <linux/if_tun.h>

#define ADDRESSES      12
#define HEADER         14
#define NEEDS_CSUM     1 /* virtio_net_hdr.flags */
#define GSO_TCPV4      1 /* virtio_net_hdr.gso_type */
#define GSO_TCPV6      4
#define TCP_MIN        20
#define TCP_SEQUENCE   4
#define TCP_FLAGS      13
#define TCP_CHECKSUM   16
#define TCP_FIN_PSH    0x09
#define UDP_LENGTH     4
#define IPV4_LENGTH    2
#define IPV4_ID        4
#define IPV4_CHECKSUM  10
#define IPV6_LENGTH    4
#define IPV6_HEADER    40
#define IP_PROTOCOL_V4 9
#define IP_PROTOCOL_V6 6
#define PROTOCOL_TCP   6

static void store_be16(uint8_t *to, uint32_t value)
{
	to[0] = (uint8_t)(value >> 8);
	to[1] = (uint8_t)value;
}

/* A wire that ends where it began. */
static int loop_back(struct e1000 *e, const struct iovec *pieces, unsigned count)
{
	uint8_t *to = e->receive.frame + NET_HEADER_SIZE;
	uint32_t length = 0;

	/* A frame from the network is lost: that wire is cut. */
	for (unsigned i = 1; i < count; i++) {
		memcpy(to + length, pieces[i].iov_base, pieces[i].iov_len);
		length += (uint32_t)pieces[i].iov_len;
	}
	pthread_mutex_lock(&e->lock);
	if (e->receive.held) {
		e->receive.held = 0;
		e->counts.dropped++;
	}
	if (e->running && e->master && (e1000_get(e, E1000_RCTL) & RCTL_EN) &&
		!e1000_deliver(e, to, length, false))
		*e1000_reg(e, E1000_RNBC) += 1;
	pthread_mutex_unlock(&e->lock);
	return 0;
}

/* A whole frame, behind virtio's @header; @frames: as many as the back end makes of it. */
static int emit(struct e1000 *e, const struct e1000_packet *packet, uint8_t *header, uint8_t *frame,
	uint32_t length, unsigned frames)
{
	static const uint8_t zeroes[E1000_FRAME_MIN];
	uint8_t tag[4];
	struct iovec pieces[5] = {{header, NET_HEADER_SIZE}, {frame, ADDRESSES}};
	uint32_t total = length + (packet->tagged ? sizeof(tag) : 0);
	unsigned count = 2;
	int ret;

	if (packet->tagged) {
		store_be16(tag, packet->vet);
		store_be16(tag + 2, packet->tag);
		pieces[count++] = (struct iovec){tag, sizeof(tag)};
	}
	pieces[count++] = (struct iovec){frame + ADDRESSES, length - ADDRESSES};
	if (packet->pad && total < E1000_FRAME_MIN)
		pieces[count++] = (struct iovec){(void *)zeroes, E1000_FRAME_MIN - total};
	if (packet->loopback)
		ret = loop_back(e, pieces, count);
	else
		ret = net_send(e->net, 0, pieces, count);
	if (ret < 0)
		return ret;
	pthread_mutex_lock(&e->lock);
	e1000_count_sent(e, frame, total, frames);
	pthread_mutex_unlock(&e->lock);
	return 0;
}

/* Leaves the transport's checksum to the host: the same sum, from the same place. */
static bool leave_checksum(
	const struct e1000 *e, const struct e1000_packet *packet, uint8_t *header)
{
	const struct e1000_context *context = &packet->context;
	uint32_t tag = packet->tagged ? 4 : 0;

	if (packet->loopback || !(net_offloads(e->net) & TUN_F_CSUM) || context->tucse ||
		context->tucso < context->tucss || context->tucso + 2U > packet->length)
		return false;
	header[0] = NEEDS_CSUM;
	store_le16(header + 6, (uint16_t)(context->tucss + tag));
	store_le16(header + 8, (uint16_t)(context->tucso - context->tucss));
	return true;
}

static int send_plain(struct e1000 *e, struct e1000_packet *packet)
{
	const struct e1000_context *context = &packet->context;
	uint8_t header[NET_HEADER_SIZE] = {0}, *frame = e->transmit.frame;

	if (packet->insert)
		e1000_insert_checksum(frame, packet->length, packet->css, packet->cso, 0);
	if (packet->popts & TXD_POPTS_IXSM)
		e1000_insert_checksum(
			frame, packet->length, context->ipcss, context->ipcso, context->ipcse);
	if ((packet->popts & TXD_POPTS_TXSM) && !leave_checksum(e, packet, header))
		e1000_insert_checksum(
			frame, packet->length, context->tucss, context->tucso, context->tucse);
	/* Sent again when the back end was busy: what is inserted is inserted. */
	packet->insert = false;
	packet->popts &= (uint8_t)(header[0] ? TXD_POPTS_TXSM : 0);
	return emit(e, packet, header, frame, packet->length, 1);
}

/* Adds @number to the checksum field at @at, which holds a sum and not yet its complement. */
static void add_to_sum(uint8_t *frame, uint32_t length, uint32_t at, uint32_t number)
{
	if (at + 2 <= length)
		store_be16(frame + at, e1000_fold((uint64_t)load_be16(frame + at) + number));
}

/* The length that the IP header tells; what lies outside the headers is left alone. */
static void set_ip_length(const struct e1000_context *context, uint8_t *frame, uint32_t length)
{
	if (context->ip && context->ipcss + 20U <= context->hdr_len)
		store_be16(frame + context->ipcss + IPV4_LENGTH, length - context->ipcss);
	else if (!context->ip && context->ipcss + (uint32_t)IPV6_HEADER <= context->hdr_len)
		store_be16(frame + context->ipcss + IPV6_LENGTH,
			length - context->ipcss - IPV6_HEADER);
}

/* The headers of the segment that begins @sent bytes into the payload. */
static void segment_headers(struct e1000_packet *packet, uint8_t *frame, uint32_t length, bool last)
{
	const struct e1000_context *context = &packet->context;
	uint8_t *ip = frame + context->ipcss, *transport = frame + context->tucss;

	set_ip_length(context, frame, length);
	if (context->ip && context->ipcss + 20U <= context->hdr_len)
		store_be16(ip + IPV4_ID, load_be16(ip + IPV4_ID) + (uint32_t)packet->segments);
	if (context->tcp && context->tucss + (uint32_t)TCP_MIN <= context->hdr_len) {
		uint32_t sequence = (uint32_t)load_be16(transport + TCP_SEQUENCE) << 16 |
				    load_be16(transport + TCP_SEQUENCE + 2);

		sequence += packet->sent;
		store_be16(transport + TCP_SEQUENCE, sequence >> 16);
		store_be16(transport + TCP_SEQUENCE + 2, sequence);
		if (!last)
			transport[TCP_FLAGS] &= (uint8_t)~TCP_FIN_PSH;
	} else if (!context->tcp && context->tucss + 8U <= context->hdr_len) {
		store_be16(transport + UDP_LENGTH, length - context->tucss);
	}
	if (packet->popts & TXD_POPTS_IXSM)
		e1000_insert_checksum(
			frame, length, context->ipcss, context->ipcso, context->ipcse);
	if (!(packet->popts & TXD_POPTS_TXSM))
		return;
	/* The driver's sum of the pseudo header lacks the length. */
	add_to_sum(frame, length, context->tucso, length - context->tucss);
	e1000_insert_checksum(frame, length, context->tucss, context->tucso, context->tucse);
}

static void count_refused(struct e1000 *e)
{
	pthread_mutex_lock(&e->lock);
	e->counts.dropped++;
	pthread_mutex_unlock(&e->lock);
}

static int send_segments(struct e1000 *e, struct e1000_packet *packet)
{
	const struct e1000_context *context = &packet->context;
	uint32_t payload = packet->length - context->hdr_len;

	while (packet->sent < payload || packet->segments == 0) {
		uint32_t part = (uint32_t)min_u64(context->mss, payload - packet->sent);
		uint8_t header[NET_HEADER_SIZE] = {0};
		uint32_t length = context->hdr_len + part;
		int ret;

		memcpy(e->transmit.segment, e->transmit.frame, context->hdr_len);
		memcpy(e->transmit.segment + context->hdr_len,
			e->transmit.frame + context->hdr_len + packet->sent, part);
		segment_headers(
			packet, e->transmit.segment, length, packet->sent + part == payload);
		ret = emit(e, packet, header, e->transmit.segment, length, 1);
		if (ret == -EAGAIN)
			return ret;
		/* One that is refused does not keep the others back. */
		if (ret < 0)
			count_refused(e);
		packet->sent += part;
		packet->segments++;
		if (packet->sent < payload && loop_turn_over(e->io))
			return -EINPROGRESS;
	}
	return 0;
}

/* Whether the headers are what the host's own segmentation takes them for. */
static bool plain_tcp(const struct e1000_packet *packet, const uint8_t *frame)
{
	const struct e1000_context *context = &packet->context;
	const uint8_t *ip = frame + context->ipcss, *tcp = frame + context->tucss;
	uint32_t ip_header = (uint32_t)context->tucss - context->ipcss;

	if (context->ipcss != HEADER || context->tucss < HEADER + 20 || !context->tcp ||
		context->tucss + (uint32_t)TCP_MIN > context->hdr_len ||
		context->tucso != context->tucss + TCP_CHECKSUM || context->tucse ||
		context->tucss + (tcp[12] >> 4) * 4U != context->hdr_len ||
		!(packet->popts & TXD_POPTS_TXSM) || packet->length - HEADER > 65535)
		return false;
	if (context->ip)
		return load_be16(frame + ADDRESSES) == 0x0800 && ip[0] >> 4 == 4 &&
		       (ip[0] & 15) * 4U == ip_header && ip[IP_PROTOCOL_V4] == PROTOCOL_TCP &&
		       (packet->popts & TXD_POPTS_IXSM) && context->ipcso == HEADER + IPV4_CHECKSUM;
	return load_be16(frame + ADDRESSES) == 0x86dd && ip[0] >> 4 == 6 &&
	       ip_header == IPV6_HEADER && ip[IP_PROTOCOL_V6] == PROTOCOL_TCP;
}

static bool host_segments(const struct e1000 *e, const struct e1000_packet *packet)
{
	unsigned need = TUN_F_CSUM | (packet->context.ip ? TUN_F_TSO4 : TUN_F_TSO6);

	return !packet->loopback && (net_offloads(e->net) & need) == need &&
	       packet->length > packet->context.hdr_len + (uint32_t)packet->context.mss &&
	       plain_tcp(packet, e->transmit.frame);
}

/* The headers of the whole, once. */
static void whole_headers(struct e1000 *e, struct e1000_packet *packet)
{
	const struct e1000_context *context = &packet->context;
	uint8_t *frame = e->transmit.frame;

	set_ip_length(context, frame, packet->length);
	if (context->ip)
		e1000_insert_checksum(
			frame, packet->length, context->ipcss, context->ipcso, context->tucss - 1U);
	add_to_sum(frame, packet->length, context->tucso, packet->length - context->tucss);
}

static int send_large(struct e1000 *e, struct e1000_packet *packet)
{
	const struct e1000_context *context = &packet->context;
	uint32_t payload = packet->length - context->hdr_len, tag = packet->tagged ? 4 : 0;
	uint8_t header[NET_HEADER_SIZE] = {NEEDS_CSUM, context->ip ? GSO_TCPV4 : GSO_TCPV6};

	if (!packet->segments) {
		packet->segments = (uint16_t)((payload - 1) / context->mss + 1);
		whole_headers(e, packet);
	}
	store_le16(header + 2, (uint16_t)(context->hdr_len + tag));
	store_le16(header + 4, context->mss);
	store_le16(header + 6, (uint16_t)(context->tucss + tag));
	store_le16(header + 8, TCP_CHECKSUM);
	return emit(e, packet, header, e->transmit.frame, packet->length, packet->segments);
}

int e1000_send(struct e1000 *e, struct e1000_packet *packet)
{
	const struct e1000_context *context = &packet->context;

	if (packet->length < HEADER)
		return -EINVAL;
	if (!packet->segmented)
		return send_plain(e, packet);
	if (context->mss == 0 || context->hdr_len < HEADER || context->hdr_len > packet->length) {
		pthread_mutex_lock(&e->lock);
		*e1000_reg(e, E1000_TSCTFC) += 1;
		pthread_mutex_unlock(&e->lock);
		return -EINVAL;
	}
	/* Decided anew after a wait, and as before: nothing it depends on has changed. */
	return packet->sent == 0 && host_segments(e, packet) ? send_large(e, packet)
							     : send_segments(e, packet);
}
