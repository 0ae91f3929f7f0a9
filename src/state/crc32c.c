/* SPDX-License-Identifier: Apache-2.0 */
#include "state/crc32c.h"

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

static uint32_t by_table(uint32_t crc, const uint8_t *at, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		crc ^= at[i];
		crc = crc >> 4 ^ table[crc & 15];
		crc = crc >> 4 ^ table[crc & 15];
	}
	return crc;
}

/* A snapshot's memory is summed up too: one instruction for eight bytes instead of some fifty. */
__attribute__((target("sse4.2"))) static uint32_t by_instruction(
	uint32_t crc, const uint8_t *at, size_t length)
{
	uint64_t sum = crc, word;

	for (; length >= sizeof(word); at += sizeof(word), length -= sizeof(word)) {
		memcpy(&word, at, sizeof(word));
		sum = __builtin_ia32_crc32di(sum, word);
	}
	while (length--)
		sum = __builtin_ia32_crc32qi((uint32_t)sum, *at++);
	return (uint32_t)sum;
}

uint32_t crc32c(uint32_t crc, const void *bytes, size_t length)
{
	return ~(__builtin_cpu_supports("sse4.2") ? by_instruction(~crc, bytes, length)
						  : by_table(~crc, bytes, length));
}

uint32_t crc32c_by_table(uint32_t crc, const void *bytes, size_t length)
{
	return ~by_table(~crc, bytes, length);
}
