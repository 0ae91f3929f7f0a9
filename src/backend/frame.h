/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an Ethernet frame's headers say (IEEE 802.3 and 802.1Q, RFC 826, 791, 8200), read from a
 * copy of its beginning. Pure functions, any thread.
 */
#ifndef DUET_BACKEND_FRAME_H
#define DUET_BACKEND_FRAME_H

#include <stdbool.h>
#include <stdint.h>

/* So many bytes of a frame are looked at: headers that go on behind them cannot be judged. */
#define FRAME_LOOK   256U
#define FRAME_HEADER 14U

/* A protocol: 0 to 255 of IP, or one of these. */
#define FRAME_ARP     256U
#define FRAME_OTHER   257U /* no IP */
#define FRAME_UNKNOWN 258U /* IP, but what it carries does not show */

#define FRAME_TCP    6U
#define FRAME_UDP    17U
#define FRAME_ICMPV6 58U

struct frame_facts {
	const uint8_t *bytes; /* the copy */
	uint32_t have;        /* bytes of it */
	/* Not what it says it is: headers that end too early, lengths that are not there, more than
	 * two VLAN tags, a source route. The rest is of no meaning then. */
	bool broken;
	uint8_t family; /* 4, 6, or 0: not IP */
	uint16_t protocol;
	bool fragment; /* a part of a packet, the first one too */
	bool ports;    /* these are there: */
	uint16_t source_port, destination_port;
	/* As the bytes lie in memory; of IPv4 in the first four, the rest 0. */
	uint64_t source[2], destination[2];
	/* Offsets in the frame: of the header behind Ethernet's; of the transport's, 0 when it is
	 * not there; of the packet's end; of what nobody has looked at. */
	uint32_t network, transport, end, judged;
};

/* @have: bytes of the copy, the whole frame or FRAME_LOOK; @length: of the frame. @segments: it is
 * to be cut into several packets, so that a length of 0 in IP's header is none. */
void frame_read(struct frame_facts *facts, const uint8_t *bytes, uint32_t have, uint32_t length,
	bool segments);

/*
 * Whether what virtio's header @header (virtio 1.2, 5.1.6) asks the host to do leaves alone what
 * was judged: a checksum is written to its own place in the transport's header or behind all that
 * was looked at, and what is cut into segments is what it says.
 */
bool frame_offload_is_true(const struct frame_facts *facts, const uint8_t *header);

#endif
