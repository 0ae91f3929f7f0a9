/* SPDX-License-Identifier: Apache-2.0 */
#include "backend/frame.h"

#include "base/bytes.h"
#include "base/checked.h"

#include <linux/if_ether.h>
#include <linux/virtio_net.h>

#define VLAN_TAG        4U
#define VLAN_TAGS_MAX   2U
#define ARP_LENGTH      28U
#define IPV4_HEADER     20U
#define IPV6_HEADER     40U
#define IPV6_EXTENSIONS 8U /* in a packet; senders need three at most */
#define EXTENSION_LEAST 8U

/* Next headers of IPv6 that are no protocol (RFC 8200, 4.1; RFC 4302). */
enum extension {
	HOP_BY_HOP = 0,
	ROUTING = 43,
	FRAGMENT = 44,
	AUTHENTICATION = 51,
	DESTINATION = 60,
};

#ifndef VIRTIO_NET_HDR_GSO_UDP_L4
#define VIRTIO_NET_HDR_GSO_UDP_L4 5 /* since Linux 6.2's headers */
#endif

#define IPV4_LOOSE_ROUTE  131
#define IPV4_STRICT_ROUTE 137

static bool is_vlan(uint16_t type)
{
	return type == ETH_P_8021Q || type == ETH_P_8021AD || type == ETH_P_QINQ1 ||
	       type == ETH_P_QINQ2 || type == ETH_P_QINQ3;
}

static bool has_ports(uint32_t protocol)
{
	return protocol == FRAME_TCP || protocol == FRAME_UDP || protocol == 33 /* DCCP */ ||
	       protocol == 132 /* SCTP */ || protocol == 136 /* UDP-Lite */;
}

/* How much of the transport's header may not be changed any more. */
static uint32_t judged_of(const struct frame_facts *facts)
{
	uint32_t header = facts->protocol == FRAME_TCP   ? 20
			  : facts->protocol == FRAME_UDP ? 8
			  : has_ports(facts->protocol)   ? 4
							 : 0;

	if (facts->protocol == FRAME_ICMPV6)
		return facts->end;
	return (uint32_t)min_u64(facts->transport + header, facts->end);
}

/* The first part of a packet, or all of it: its transport begins at @at. */
static void read_transport(struct frame_facts *facts, uint32_t at)
{
	facts->transport = at;
	facts->judged = judged_of(facts);
	if (!has_ports(facts->protocol) || at + 4 > min_u64(facts->have, facts->end))
		return;
	facts->ports = true;
	facts->source_port = load_be16(facts->bytes + at);
	facts->destination_port = load_be16(facts->bytes + at + 2);
}

/* RFC 791, 3.1: a packet with one goes elsewhere than it says. */
static bool has_source_route(const uint8_t *options, uint32_t length)
{
	for (uint32_t at = 0; at < length && options[at] != 0;) {
		if (options[at] == 1) {
			at++;
			continue;
		}
		if (options[at] == IPV4_LOOSE_ROUTE || options[at] == IPV4_STRICT_ROUTE)
			return true;
		/* An option without its length: what is behind it is anybody's guess. */
		if (at + 1 >= length || options[at + 1] < 2)
			return true;
		at += options[at + 1];
	}
	return false;
}

static void read_ipv4(struct frame_facts *facts, uint32_t rest, bool segments)
{
	const uint8_t *ip = facts->bytes + facts->network;
	uint32_t header, total, fragment;

	facts->broken = true;
	if (rest < IPV4_HEADER || ip[0] >> 4 != 4)
		return;
	header = (ip[0] & 15) * 4U;
	total = load_be16(ip + 2);
	if (total == 0 && segments)
		total = rest;
	if (header < IPV4_HEADER || total < header || total > rest ||
		has_source_route(ip + IPV4_HEADER, header - IPV4_HEADER))
		return;
	facts->broken = false;
	facts->family = 4;
	facts->protocol = ip[9];
	memcpy(facts->source, ip + 12, 4);
	memcpy(facts->destination, ip + 16, 4);
	facts->end = facts->network + total;
	facts->judged = facts->network + header;
	fragment = load_be16(ip + 6) & 0x3fff; /* more fragments, and the offset */
	facts->fragment = fragment != 0;
	if ((fragment & 0x1fff) == 0)
		read_transport(facts, facts->network + header);
	/* RFC 3128: a second part that writes over the first one's flags. */
	else if ((fragment & 0x1fff) == 1 && facts->protocol == FRAME_TCP)
		facts->broken = true;
}

/* The length of the extension header @kind at @at; 0: it is none, or not all there. */
static uint32_t extension_length(const struct frame_facts *facts, uint32_t kind, uint32_t at)
{
	if (at + EXTENSION_LEAST > min_u64(facts->have, facts->end))
		return 0;
	switch (kind) {
	case HOP_BY_HOP:
	case ROUTING:
	case DESTINATION:
		return (facts->bytes[at + 1] + 1U) * 8;
	case FRAGMENT:
		return 8;
	case AUTHENTICATION:
		return (facts->bytes[at + 1] + 2U) * 4;
	default:
		return 0;
	}
}

static bool is_extension(uint32_t kind)
{
	return kind == HOP_BY_HOP || kind == ROUTING || kind == FRAGMENT ||
	       kind == AUTHENTICATION || kind == DESTINATION;
}

/* One extension header. True: this is as far as it goes. */
static bool read_extension(struct frame_facts *facts, uint32_t kind, uint32_t at)
{
	const uint8_t *header = facts->bytes + at;

	/* Segments left: the packet goes elsewhere than it says. */
	if (kind == ROUTING && header[3] != 0) {
		facts->broken = true;
		return true;
	}
	if (kind != FRAGMENT)
		return false;
	facts->fragment = (load_be16(header + 2) & 0xfff9) != 0;
	if ((load_be16(header + 2) & 0xfff8) == 0)
		return false;
	/* A later part, of a packet whose first part says what it is. */
	facts->protocol = is_extension(header[0]) ? FRAME_UNKNOWN : header[0];
	facts->judged = at + 8;
	return true;
}

static void read_chain(struct frame_facts *facts)
{
	uint32_t at = facts->network + IPV6_HEADER;
	uint32_t kind = facts->bytes[facts->network + 6];

	facts->protocol = FRAME_UNKNOWN;
	facts->judged = facts->end;
	for (unsigned i = 0; i < IPV6_EXTENSIONS && is_extension(kind); i++) {
		uint32_t length = extension_length(facts, kind, at);

		if (!length || read_extension(facts, kind, at))
			return;
		kind = facts->bytes[at];
		at += length;
	}
	if (is_extension(kind) || at > facts->end)
		return;
	facts->protocol = (uint16_t)kind;
	read_transport(facts, at);
}

static void read_ipv6(struct frame_facts *facts, uint32_t rest, bool segments)
{
	const uint8_t *ip = facts->bytes + facts->network;
	uint32_t payload;

	facts->broken = true;
	if (rest < IPV6_HEADER || ip[0] >> 4 != 6)
		return;
	payload = load_be16(ip + 4);
	if (payload == 0 && segments)
		payload = rest - IPV6_HEADER;
	if (payload > rest - IPV6_HEADER)
		return;
	facts->broken = false;
	facts->family = 6;
	memcpy(facts->source, ip + 8, 16);
	memcpy(facts->destination, ip + 24, 16);
	facts->end = facts->network + IPV6_HEADER + payload;
	read_chain(facts);
}

static void read_arp(struct frame_facts *facts, uint32_t rest)
{
	facts->broken = rest < ARP_LENGTH;
	facts->protocol = FRAME_ARP;
	facts->judged = facts->end = facts->network + ARP_LENGTH;
}

/* Steps over the tags; false: there are too many, or they are cut off. */
static bool read_type(struct frame_facts *facts, uint16_t *type)
{
	facts->network = FRAME_HEADER;
	if (facts->have < FRAME_HEADER)
		return false;
	*type = load_be16(facts->bytes + FRAME_HEADER - 2);
	for (unsigned tags = 0; is_vlan(*type); tags++) {
		if (tags == VLAN_TAGS_MAX || facts->network + VLAN_TAG > facts->have)
			return false;
		facts->network += VLAN_TAG;
		*type = load_be16(facts->bytes + facts->network - 2);
	}
	return true;
}

void frame_read(struct frame_facts *facts, const uint8_t *bytes, uint32_t have, uint32_t length,
	bool segments)
{
	uint32_t rest;
	uint16_t type = 0;

	*facts = (struct frame_facts){.bytes = bytes, .have = have, .protocol = FRAME_OTHER};
	if (!read_type(facts, &type)) {
		facts->broken = true;
		return;
	}
	/* All headers of fixed length are within FRAME_LOOK, and so in the copy if in the frame. */
	rest = length - facts->network;
	facts->judged = facts->network;
	facts->end = length;
	if (type == ETH_P_IP)
		read_ipv4(facts, rest, segments);
	else if (type == ETH_P_IPV6)
		read_ipv6(facts, rest, segments);
	else if (type == ETH_P_ARP || type == ETH_P_RARP)
		read_arp(facts, rest);
}

/* Where the checksum is in the transport's header; 0: there is none that the host fills in. */
static uint32_t checksum_place(const struct frame_facts *facts)
{
	if (!facts->transport)
		return 0;
	switch (facts->protocol) {
	case FRAME_TCP:
		return facts->transport + 16;
	case FRAME_UDP:
		return facts->transport + 6;
	case FRAME_ICMPV6:
		return facts->transport + 2;
	default:
		return 0;
	}
}

static bool is_cut_as_said(const struct frame_facts *facts, uint8_t kind)
{
	if (facts->fragment || !facts->transport)
		return false;
	switch (kind & ~VIRTIO_NET_HDR_GSO_ECN) {
	case VIRTIO_NET_HDR_GSO_TCPV4:
		return facts->family == 4 && facts->protocol == FRAME_TCP;
	case VIRTIO_NET_HDR_GSO_TCPV6:
		return facts->family == 6 && facts->protocol == FRAME_TCP;
	case VIRTIO_NET_HDR_GSO_UDP:
	case VIRTIO_NET_HDR_GSO_UDP_L4:
		return facts->protocol == FRAME_UDP;
	default:
		return false;
	}
}

bool frame_offload_is_true(const struct frame_facts *facts, const uint8_t *header)
{
	uint32_t place = (uint32_t)load_le16(header + 6) + load_le16(header + 8);

	if (header[1] != VIRTIO_NET_HDR_GSO_NONE && !is_cut_as_said(facts, header[1]))
		return false;
	if (!(header[0] & VIRTIO_NET_HDR_F_NEEDS_CSUM))
		return true;
	return place >= facts->judged || (place && place == checksum_place(facts));
}
