/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pages of a memory file: which of them it holds, and a checksum of those in each chunk of
 * 2 MiB. A page is at its fixed offset, number * MEMORY_PAGE; what is not held is a hole.
 *
 * Any thread, one at a time.
 */
#ifndef DUET_SNAPSHOT_PAGES_H
#define DUET_SNAPSHOT_PAGES_H

#include "base/error.h"
#include "memory/memory.h"

#include <stdbool.h>
#include <stdint.h>

struct state_reader;
struct state_writer;

#define CHUNK_PAGES 512U
#define CHUNK_BYTES (CHUNK_PAGES * MEMORY_PAGE)
#define WORD_PAGES  64U

struct pages {
	uint64_t count;  /* a multiple of WORD_PAGES */
	uint64_t *held;  /* a bit each */
	uint32_t *sums;  /* CRC-32C of the pages held of each chunk, in order */
	uint64_t stored; /* pages held */
};

/* None held. -ENOMEM. */
int pages_init(struct pages *pages, uint64_t count);
void pages_free(struct pages *pages);
static inline uint64_t pages_chunks(const struct pages *pages)
{
	return (pages->count + CHUNK_PAGES - 1) / CHUNK_PAGES;
}
/* Pages of a chunk: fewer in the last one. */
unsigned pages_of_chunk(const struct pages *pages, uint64_t chunk);
static inline bool pages_hold(const struct pages *pages, uint64_t page)
{
	return pages->held[page / WORD_PAGES] >> page % WORD_PAGES & 1;
}
static inline void pages_keep(struct pages *pages, uint64_t page)
{
	pages->held[page / WORD_PAGES] |= 1ULL << page % WORD_PAGES;
}

/* Writes the pages of @chunk that are held from @bytes, which has all of the chunk's, and sets its
 * sum. */
int pages_write(struct pages *pages, uint64_t chunk, const uint8_t *bytes, int fd);
/* Reads the pages that are held over @bytes. -EBADMSG: the sum is another; -ENODATA: the file is
 * too short. */
int pages_read(const struct pages *pages, uint64_t chunk, uint8_t *bytes, int fd);

/* As sections "pages/N", each for 4 GiB. */
void pages_save(const struct pages *pages, struct state_writer *writer);
/* All of them, of memory of @count pages; @pages is to be freed in any case. Over the section
 * behind, which is open then; 0: it was the closing one. */
int pages_restore(
	struct pages *pages, uint64_t count, struct state_reader *reader, struct error *err);

#endif
