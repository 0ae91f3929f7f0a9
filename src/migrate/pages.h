/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages of guest memory as the body of a message: runs of pages, then the bytes of those that are
 * not all zeroes.
 *
 *   u32 runs   u32 0, or 1: the bytes are one frame of zstd's (compress.h)
 *   then for each run: u64 address   u32 pages   u32 1: with bytes, 0: zeroes
 *
 * One thread at a time for each batch. Guest memory may change while it is read: what is sent is a
 * copy, and who writes to the original says so in the log of writes.
 */
#ifndef DUET_MIGRATE_PAGES_H
#define DUET_MIGRATE_PAGES_H

#include "memory/late.h"
#include "migrate/compress.h"

#define PAGES_BATCH    128 /* pages with bytes */
#define PAGES_RUNS     256
#define PAGES_HEAD     8
#define PAGES_RUN      16
#define PAGES_HEAD_MAX (PAGES_HEAD + PAGES_RUNS * PAGES_RUN)
#define PAGES_BODY_MAX (PAGES_HEAD_MAX + PAGES_BATCH * MEMORY_PAGE)

struct pages_batch {
	uint8_t head[PAGES_HEAD_MAX];
	unsigned runs;
	unsigned filled; /* pages in @data */
	uint32_t pages;  /* of all runs */
	uint8_t *data;   /* PAGES_BATCH of them; the caller's */
};

struct pages_seen {
	uint64_t full, zero; /* pages */
};

static inline void pages_clear(struct pages_batch *batch)
{
	batch->runs = batch->filled = batch->pages = 0;
}
/* False: there is no room; send it and begin anew. */
bool pages_add(struct pages_batch *batch, gpa_t gpa, const void *page, struct pages_seen *seen);
/* Completes the head; its length. The @filled pages of data follow it, *@data of *@length bytes:
 * compressed, if there is a @compressor and it makes them less. */
size_t pages_finish(struct pages_batch *batch, struct compressor *compressor, const uint8_t **data,
	size_t *length);

/* How many pages a body from the other side names, if they are the first of @gpas and in their
 * order; else, or if it is broken, 0. */
unsigned pages_match(const uint8_t *body, size_t length, const uint64_t *gpas, unsigned count);
/* A body from the other side into @memory, or a part of it before the error: -EPROTO, -EFAULT,
 * -ENOMEM. @late: of its pages only those that lack; null: it is nobody's yet. *@decompressor is
 * made when one is needed first, and the caller's to free. */
int pages_apply(struct memory *memory, struct memory_late *late, const uint8_t *body, size_t length,
	struct decompressor **decompressor, struct pages_seen *seen, struct error *err);

#endif
