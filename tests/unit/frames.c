/* SPDX-License-Identifier: Apache-2.0 */
#include "frames.h"

#include <arpa/inet.h>
#include <string.h>

static void store_be16(uint8_t *to, uint32_t number)
{
	to[0] = (uint8_t)(number >> 8);
	to[1] = (uint8_t)number;
}

/* What IP's header says of the length. */
static void measure(struct frame *frame)
{
	if (frame->family == 4)
		store_be16(frame->bytes + frame->ip + 2, frame->length - frame->ip);
	if (frame->family == 6)
		store_be16(frame->bytes + frame->ip + 4, frame->length - frame->ip - 40);
}

uint8_t *frame_zeroes(struct frame *frame, uint32_t length)
{
	uint8_t *at = frame->bytes + frame->length;

	memset(at, 0, length);
	frame->length += length;
	measure(frame);
	return at;
}

uint8_t *frame_put(struct frame *frame, const void *bytes, uint32_t length)
{
	uint8_t *at = frame_zeroes(frame, length);

	memcpy(at, bytes, length);
	return at;
}

void frame_be16(struct frame *frame, uint16_t number)
{
	store_be16(frame_zeroes(frame, 2), number);
}

void frame_address(struct frame *frame, const char *address)
{
	bool ipv6 = strchr(address, ':');

	inet_pton(ipv6 ? AF_INET6 : AF_INET, address, frame_zeroes(frame, ipv6 ? 16 : 4));
}

void frame_begin(struct frame *frame, uint16_t type)
{
	static const uint8_t mac[] = FRAMES_MAC;

	memset(frame, 0, sizeof(*frame));
	memset(frame_zeroes(frame, 6), 0xff, 6);
	frame_put(frame, mac, sizeof(mac));
	frame_be16(frame, type);
}

void frame_tag(struct frame *frame, uint16_t kind, uint16_t type)
{
	store_be16(frame->bytes + frame->length - 2, kind);
	frame_be16(frame, 1);
	frame_be16(frame, type);
}

void frame_ip(struct frame *frame, const char *source, const char *destination, uint8_t protocol)
{
	bool ipv6 = strchr(source, ':');
	uint8_t *header;

	frame->ip = frame->length;
	header = frame_zeroes(frame, ipv6 ? 8 : 12);
	header[0] = ipv6 ? 0x60 : 0x45;
	header[ipv6 ? 6 : 9] = protocol;
	frame->next = frame->ip + (ipv6 ? 6 : 9);
	frame_address(frame, source);
	frame_address(frame, destination);
	frame->family = ipv6 ? 6 : 4;
	measure(frame);
}

uint8_t *frame_extension(struct frame *frame, uint8_t kind, uint32_t length)
{
	uint8_t *at = frame_zeroes(frame, length);

	at[0] = frame->bytes[frame->next];
	at[1] = (uint8_t)(kind == 44 ? 0 : kind == 51 ? length / 4 - 2 : length / 8 - 1);
	frame->bytes[frame->next] = kind;
	frame->next = (uint32_t)(at - frame->bytes);
	return at;
}

void frame_packet(struct frame *frame, const char *source, const char *destination,
	uint8_t protocol, uint16_t source_port, uint16_t destination_port)
{
	frame_begin(frame, strchr(source, ':') ? 0x86dd : 0x0800);
	frame_ip(frame, source, destination, protocol);
	frame_be16(frame, source_port);
	frame_be16(frame, destination_port);
	frame_zeroes(frame, protocol == 6 ? 16 : 4);
}

void frame_arp(struct frame *frame, const uint8_t mac[6], const char *address)
{
	static const uint8_t start[] = {0, 1, 8, 0, 6, 4, 0, 1};

	frame_begin(frame, 0x0806);
	frame_put(frame, start, sizeof(start));
	frame_put(frame, mac, 6);
	frame_address(frame, address);
	frame_zeroes(frame, 10);
}
