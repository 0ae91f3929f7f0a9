/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of a message's pages, made smaller by zstd (RFC 8878): each message is one frame, with
 * a window no larger than itself, so that the other side needs no more room than for the pages. One
 * thread at a time for each of either.
 */
#ifndef DUET_MIGRATE_COMPRESS_H
#define DUET_MIGRATE_COMPRESS_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

/* Both are for batches of PAGES_BATCH pages at most. */
struct compressor;
struct decompressor;

/* -ENOMEM. */
int compressor_new(struct compressor **compressor, struct error *err);
/* The frame's length, *@packed its bytes until the next call; 0: it would not be shorter. */
size_t compressor_pack(
	struct compressor *compressor, const uint8_t *bytes, size_t length, const uint8_t **packed);
void compressor_free(struct compressor *compressor); /* null is allowed */

int decompressor_new(struct decompressor **decompressor, struct error *err);
/* A frame from the other side that is to give @wanted bytes, *@plain until the next call. -EPROTO.
 */
int decompressor_unpack(struct decompressor *decompressor, const uint8_t *bytes, size_t length,
	size_t wanted, const uint8_t **plain, struct error *err);
void decompressor_free(struct decompressor *decompressor); /* null is allowed */

#endif
