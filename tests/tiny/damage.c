/* SPDX-License-Identifier: Apache-2.0 */
#include "damage.h"

#include "base/bytes.h"
#include "state/crc32c.h"
#include "tiny.h"

#include <string.h>

#define HEAD 12 /* magic and format */

bool damage_find(const uint8_t *bytes, size_t length, unsigned number, struct damage_place *place)
{
	size_t at = HEAD;

	for (unsigned i = 0; at < length; i++) {
		size_t name = load_le16(bytes + at);

		CHECK(name < sizeof(place->name));
		*place = (struct damage_place){.begin = at, .body = at + 2 + name + 8};
		memcpy(place->name, bytes + at + 2, name);
		place->length = load_le32(bytes + place->body - 4);
		at = place->end = place->body + place->length + 4;
		if (i == number)
			return strcmp(place->name, "end") != 0;
	}
	return false;
}

void damage_seal(uint8_t *bytes, const struct damage_place *place)
{
	uint32_t crc = crc32c(0, bytes + place->begin + 2, place->body - place->begin - 6);

	crc = crc32c(crc, bytes + place->body, place->length);
	store_le32(bytes + place->body + place->length, crc);
}

uint32_t damage_chance(uint64_t *seed, uint32_t below)
{
	*seed = *seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(*seed >> 33) % below;
}

void damage_section(uint8_t *bytes, const struct damage_place *place, uint64_t *seed)
{
	const unsigned count = 1 + damage_chance(seed, 8);

	for (unsigned i = 0; i < count && place->length; i++) {
		uint8_t *at = bytes + place->body + damage_chance(seed, (uint32_t)place->length);

		if (damage_chance(seed, 2))
			*at ^= (uint8_t)(1U << damage_chance(seed, 8));
		else
			*at = (uint8_t)damage_chance(seed, 256);
	}
	damage_seal(bytes, place);
}
