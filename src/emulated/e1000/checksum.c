/* SPDX-License-Identifier: Apache-2.0 */
/* The Internet checksum (RFC 1071), as the transmit contexts want it inserted and the receive
 * descriptors report it verified (8254x manual, 3.2.9 and 3.5). */
#include "emulated/e1000/private.h"

#define ETHERTYPE_AT   12
#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_VLAN 0x8100
#define IP_TCP         6
#define IP_UDP         17
#define UDP_LENGTH     8
#define TCP_LENGTH     20
#define UDP_CHECKSUM   6

uint16_t e1000_fold(uint64_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

/* Of 16-bit words in network order; at most 2^20 bytes. */
uint32_t e1000_sum(const uint8_t *bytes, size_t length)
{
	uint64_t sum = 0;
	size_t i = 0;

	/* Sums of little-endian words, their bytes swapped at the end (RFC 1071, 2). */
	for (; i + 8 <= length; i += 8) {
		uint64_t word = load_le64(bytes + i);

		sum += (word & 0xffffffff) + (word >> 32);
	}
	for (; i + 2 <= length; i += 2)
		sum += load_le16(bytes + i);
	if (i < length)
		sum += bytes[i];
	return __builtin_bswap16(e1000_fold(sum));
}

void e1000_insert_checksum(
	uint8_t *frame, uint32_t length, uint32_t start, uint32_t at, uint32_t end)
{
	uint16_t sum;

	/* An end of 0 is the frame's, others are the last byte. */
	end = end ? (uint32_t)min_u64((uint64_t)end + 1, length) : length;
	if (start >= end || length < 2 || at > length - 2)
		return;
	sum = (uint16_t)~e1000_fold(e1000_sum(frame + start, end - start));
	/* Zero would say that there is none (RFC 768), and is the same number. */
	sum = sum ? sum : 0xffff;
	frame[at] = (uint8_t)(sum >> 8);
	frame[at + 1] = (uint8_t)sum;
}

/* Of a TCP or UDP datagram of @length bytes. */
static bool transport_right(const uint8_t *ip, const uint8_t *data, uint32_t length)
{
	uint64_t sum = e1000_sum(ip + 12, 8) + ip[9] + length;

	return e1000_fold(sum + e1000_sum(data, length)) == 0xffff;
}

static void verify_transport(struct e1000_verdict *verdict, const uint8_t *ip, uint32_t header,
	uint32_t total, bool checked)
{
	const uint8_t *data = ip + header;
	uint32_t length = total - header;

	if (ip[9] != IP_TCP && ip[9] != IP_UDP)
		return;
	/* A fragment has no checksum of its own. */
	if (load_be16(ip + 6) & 0x3fff)
		return;
	if (length < (ip[9] == IP_TCP ? TCP_LENGTH : UDP_LENGTH))
		return;
	if (ip[9] == IP_UDP && load_be16(data + UDP_CHECKSUM) == 0)
		return;
	verdict->status |= RXD_TCPCS;
	if (!checked && !transport_right(ip, data, length))
		verdict->errors |= RXD_TCPE;
}

struct e1000_verdict e1000_verify(
	const uint8_t *frame, uint32_t length, uint32_t rxcsum, bool checked)
{
	struct e1000_verdict none = {.status = RXD_IXSM}, verdict = {0};
	uint32_t at = ETHERTYPE_AT, header, total;
	const uint8_t *ip;

	if (!(rxcsum & (RXCSUM_IPOFL | RXCSUM_TUOFL)))
		return none;
	if (length >= at + 6 && load_be16(frame + at) == ETHERTYPE_VLAN)
		at += 4;
	if (length < at + 2 + 20 || load_be16(frame + at) != ETHERTYPE_IPV4)
		return none;
	ip = frame + at + 2;
	header = (ip[0] & 15) * 4U;
	total = load_be16(ip + 2);
	if (ip[0] >> 4 != 4 || header < 20 || total < header || total > length - at - 2)
		return none;
	if (rxcsum & RXCSUM_IPOFL) {
		verdict.status |= RXD_IPCS;
		if (e1000_fold(e1000_sum(ip, header)) != 0xffff)
			verdict.errors |= RXD_IPE;
	}
	if (rxcsum & RXCSUM_TUOFL)
		verify_transport(&verdict, ip, header, total, checked);
	return verdict;
}
