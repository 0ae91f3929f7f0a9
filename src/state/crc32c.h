/* SPDX-License-Identifier: Apache-2.0 */
/* CRC-32C (Castagnoli, RFC 3720 appendix B.4), the checksum of each section and of a
 * snapshot's memory. Pure. */
#ifndef DUET_STATE_CRC32C_H
#define DUET_STATE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Continues from @crc, 0 at first. */
uint32_t crc32c(uint32_t crc, const void *bytes, size_t length);
/* The same on a CPU that has no instruction for it. */
uint32_t crc32c_by_table(uint32_t crc, const void *bytes, size_t length);

#endif
