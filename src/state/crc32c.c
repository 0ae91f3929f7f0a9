/* SPDX-License-Identifier: Apache-2.0 */
#include "state/crc32c.h"

#include <nmmintrin.h>
#include <string.h>

#define POLYNOMIAL 0x82f63b78U /* reflected */

#define BIT(crc)    ((crc)&1 ? ((crc) >> 1) ^ POLYNOMIAL : (crc) >> 1)
#define NIBBLE(crc) BIT(BIT(BIT(BIT((uint32_t)(crc)))))

/* By nibbles: 64 bytes of table, computed by the compiler. */
static const uint32_t table[16] = {
	NIBBLE(0),
	NIBBLE(1),
	NIBBLE(2),
	NIBBLE(3),
	NIBBLE(4),
	NIBBLE(5),
	NIBBLE(6),
	NIBBLE(7),
	NIBBLE(8),
	NIBBLE(9),
	NIBBLE(10),
	NIBBLE(11),
	NIBBLE(12),
	NIBBLE(13),
	NIBBLE(14),
	NIBBLE(15),
};

/* The processor's own: one instruction for eight bytes. */
__attribute__((target("sse4.2"))) static uint32_t by_instruction(
	uint32_t crc, const uint8_t *at, size_t length)
{
	uint64_t wide = ~crc;

	for (; length >= 8; at += 8, length -= 8) {
		uint64_t word;

		memcpy(&word, at, sizeof(word));
		wide = _mm_crc32_u64(wide, word);
	}
	crc = (uint32_t)wide;
	for (; length; at++, length--)
		crc = _mm_crc32_u8(crc, *at);
	return ~crc;
}

uint32_t crc32c(uint32_t crc, const void *bytes, size_t length)
{
	const uint8_t *at = bytes;

	if (__builtin_cpu_supports("sse4.2"))
		return by_instruction(crc, at, length);
	crc = ~crc;
	for (size_t i = 0; i < length; i++) {
		crc ^= at[i];
		crc = crc >> 4 ^ table[crc & 15];
		crc = crc >> 4 ^ table[crc & 15];
	}
	return ~crc;
}
