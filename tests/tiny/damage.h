/* SPDX-License-Identifier: Apache-2.0 */
/* Saved state from a hostile file: what is altered has right checksums. */
#ifndef DUET_TESTS_DAMAGE_H
#define DUET_TESTS_DAMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One section of a stream; offsets in it. */
struct damage_place {
	size_t begin, body, length, end;
	char name[97];
};

/* Section @number, from 0 on; false: there is none (the closing one is none). */
bool damage_find(const uint8_t *bytes, size_t length, unsigned number, struct damage_place *place);
/* Makes the checksum right. */
void damage_seal(uint8_t *bytes, const struct damage_place *place);
/* Up to eight bytes of the section get other values, or one bit each. */
void damage_section(uint8_t *bytes, const struct damage_place *place, uint64_t *seed);
/* From 0 to @below - 1; the same numbers every time. */
uint32_t damage_chance(uint64_t *seed, uint32_t below);

#endif
