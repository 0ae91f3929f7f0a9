/* SPDX-License-Identifier: Apache-2.0 */
/* Frames as a guest makes them, honest and other ones, written front to back. */
#ifndef DUET_TESTS_FRAMES_H
#define DUET_TESTS_FRAMES_H

#include "backend/net.h"

#define FRAMES_MAC                                                                                 \
	{                                                                                          \
		0x52, 0x54, 0, 0, 0, 1                                                             \
	}

struct frame {
	uint8_t header[NET_HEADER_SIZE]; /* virtio's */
	uint8_t bytes[4096];
	uint32_t length;
	uint32_t ip, next; /* offsets: of the IP header, of the byte that says what comes next */
	uint8_t family;
};

/* From FRAMES_MAC to everybody. */
void frame_begin(struct frame *frame, uint16_t type);
/* In front of what follows; @type: what it is then. */
void frame_tag(struct frame *frame, uint16_t kind, uint16_t type);
/* An IP header, whose lengths follow what is appended. */
void frame_ip(struct frame *frame, const char *source, const char *destination, uint8_t protocol);
/* An extension header of IPv6: the rest of its @length bytes, behind those that all have, are 0. */
uint8_t *frame_extension(struct frame *frame, uint8_t kind, uint32_t length);
/* Appends; where it is. */
uint8_t *frame_put(struct frame *frame, const void *bytes, uint32_t length);
uint8_t *frame_zeroes(struct frame *frame, uint32_t length);
void frame_be16(struct frame *frame, uint16_t number);
void frame_address(struct frame *frame, const char *address);
/* All at once: with a TCP or UDP header, or 8 bytes. */
void frame_packet(struct frame *frame, const char *source, const char *destination,
	uint8_t protocol, uint16_t source_port, uint16_t destination_port);
/* "I, @mac, have @address." */
void frame_arp(struct frame *frame, const uint8_t mac[6], const char *address);

#endif
