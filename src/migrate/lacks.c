/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/lacks.h"

#include "base/bytes.h"
#include "migrate/channel.h"

#include <errno.h>

#define WORD_BYTES (64 * MEMORY_PAGE)

static uint64_t words_of(uint32_t pages)
{
	return memory_words(pages * MEMORY_PAGE);
}

/* ---- said ---- */

struct piece {
	gpa_t gpa;
	uint32_t pages;
};

static int say_piece(struct channel *channel, const struct piece *piece,
	const struct lacks_ops *ops, void *opaque, struct error *err)
{
	uint8_t body[LACKS_BODY_MAX];
	const uint64_t words = words_of(piece->pages);
	uint64_t any = 0;

	store_le64(body, piece->gpa.value);
	store_le32(body + 8, piece->pages);
	store_le32(body + 12, 0);
	for (uint64_t i = 0; i < words; i++) {
		uint64_t bits = ops->get(opaque, gpa_add(piece->gpa, i * WORD_BYTES));

		store_le64(body + LACKS_HEAD + i * sizeof(bits), bits);
		any |= bits;
	}
	return any ? channel_send(channel, WIRE_LACKS, body, LACKS_HEAD + words * sizeof(any), "",
			     0, err)
		   : 0;
}

int lacks_say(struct channel *channel, const struct memory *memory, const struct lacks_ops *ops,
	void *opaque, struct error *err)
{
	const struct memory_region *region;
	int ret = 0;

	for (unsigned i = 0; (region = memory_region(memory, i)); i++) {
		const uint64_t pages = region->size / MEMORY_PAGE;

		for (uint64_t at = 0; ret == 0 && at < pages; at += LACKS_WORDS * 64) {
			const uint64_t left = pages - at;
			const struct piece piece = {.gpa = gpa_add(region->base, at * MEMORY_PAGE),
				.pages = (uint32_t)(left < LACKS_WORDS * 64 ? left
									    : LACKS_WORDS * 64)};

			ret = say_piece(channel, &piece, ops, opaque, err);
		}
	}
	return ret;
}

/* ---- taken ---- */

static int open_piece(struct piece *piece, const struct memory *memory, const uint8_t *body,
	size_t length, struct error *err)
{
	const struct memory_region *region;
	uint64_t words;

	piece->gpa = GPA(load_le64(body));
	piece->pages = load_le32(body + 8);
	words = words_of(piece->pages);
	if (piece->pages == 0 || words > LACKS_WORDS || load_le32(body + 12) != 0 ||
		length != LACKS_HEAD + words * sizeof(uint64_t))
		return error_set(err, EPROTO, "a message of lacking pages with a broken head");
	if (!memory_begin(memory, piece->gpa, piece->pages * MEMORY_PAGE))
		return error_set(err, EFAULT,
			"lacking pages at 0x%llx, %u of them: this machine has no memory there",
			(unsigned long long)piece->gpa.value, piece->pages);
	region = memory_region_at(memory, piece->gpa, NULL);
	if ((piece->gpa.value - region->base.value) % WORD_BYTES)
		return error_set(err, EPROTO, "lacking pages from within a word");
	if (piece->pages % 64 &&
		load_le64(body + length - sizeof(uint64_t)) >> piece->pages % 64 != 0)
		return error_set(err, EPROTO, "a lacking page behind the last");
	return 0;
}

int lacks_take(const struct memory *memory, const uint8_t *body, size_t length, uint64_t *after,
	const struct lacks_ops *ops, void *opaque, struct error *err)
{
	struct piece piece = {.pages = 0};
	int ret = length > LACKS_HEAD ? open_piece(&piece, memory, body, length, err)
				      : error_set(err, EPROTO, "lacking pages without a page");

	if (ret < 0)
		return ret;
	if (piece.gpa.value < *after)
		return error_set(err, EPROTO, "lacking pages that were named before");
	*after = piece.gpa.value + piece.pages * MEMORY_PAGE;
	for (uint64_t i = 0; i < words_of(piece.pages); i++)
		ops->put(opaque, gpa_add(piece.gpa, i * WORD_BYTES),
			load_le64(body + LACKS_HEAD + i * sizeof(uint64_t)));
	return 0;
}
