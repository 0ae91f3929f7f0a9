/* SPDX-License-Identifier: Apache-2.0 */
/* Little-endian numbers (and the big-endian ones of networks) at any alignment in a byte buffer.
 * The caller has checked the bounds. */
#ifndef DUET_BASE_BYTES_H
#define DUET_BASE_BYTES_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

static inline uint16_t load_le16(const void *from)
{
	uint16_t value;

	memcpy(&value, from, sizeof(value));
	return le16toh(value);
}

static inline uint32_t load_le32(const void *from)
{
	uint32_t value;

	memcpy(&value, from, sizeof(value));
	return le32toh(value);
}

static inline uint64_t load_le64(const void *from)
{
	uint64_t value;

	memcpy(&value, from, sizeof(value));
	return le64toh(value);
}

static inline void store_le16(void *to, uint16_t value)
{
	value = htole16(value);
	memcpy(to, &value, sizeof(value));
}

static inline void store_le32(void *to, uint32_t value)
{
	value = htole32(value);
	memcpy(to, &value, sizeof(value));
}

static inline void store_le64(void *to, uint64_t value)
{
	value = htole64(value);
	memcpy(to, &value, sizeof(value));
}

static inline uint16_t load_be16(const void *from)
{
	uint16_t value;

	memcpy(&value, from, sizeof(value));
	return be16toh(value);
}

/* @size is 1, 2, 4 or 8: the width of a register access. Other sizes read as 0 and write nothing.
 */
static inline uint64_t load_le(const void *from, unsigned size)
{
	switch (size) {
	case 1:
		return *(const uint8_t *)from;
	case 2:
		return load_le16(from);
	case 4:
		return load_le32(from);
	case 8:
		return load_le64(from);
	default:
		return 0;
	}
}

static inline void store_le(void *to, unsigned size, uint64_t value)
{
	switch (size) {
	case 1:
		*(uint8_t *)to = (uint8_t)value;
		break;
	case 2:
		store_le16(to, (uint16_t)value);
		break;
	case 4:
		store_le32(to, (uint32_t)value);
		break;
	case 8:
		store_le64(to, value);
		break;
	default:
		break;
	}
}

#endif
