/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/compress.h"

#include "base/bytes.h"
#include "migrate/pages.h"

#include <errno.h>
#include <stdlib.h>
#include <zstd.h>

/* The fastest of the ordinary levels: a link that is worth it is slow beside it all the same. */
#define LEVEL 1
#define ROOM  (PAGES_BATCH * MEMORY_PAGE)

struct compressor {
	ZSTD_CCtx *context;
	uint8_t room[ROOM];
};

struct decompressor {
	ZSTD_DCtx *context;
	uint8_t room[ROOM];
};

int compressor_new(struct compressor **out, struct error *err)
{
	struct compressor *compressor = malloc(sizeof(*compressor));

	if (compressor)
		compressor->context = ZSTD_createCCtx();
	if (!compressor || !compressor->context) {
		free(compressor);
		return error_errno(err, ENOMEM, "migration: compression");
	}
	*out = compressor;
	return 0;
}

size_t compressor_pack(
	struct compressor *compressor, const uint8_t *bytes, size_t length, const uint8_t **packed)
{
	/* Less room than it needs now is an error to zstd, and "not shorter" here. */
	size_t room = length ? length - 1 : 0;
	size_t size = ZSTD_compressCCtx(
		compressor->context, compressor->room, room, bytes, length, LEVEL);

	*packed = compressor->room;
	return ZSTD_isError(size) ? 0 : size;
}

void compressor_free(struct compressor *compressor)
{
	if (compressor)
		ZSTD_freeCCtx(compressor->context);
	free(compressor);
}

int decompressor_new(struct decompressor **out, struct error *err)
{
	struct decompressor *decompressor = malloc(sizeof(*decompressor));

	if (decompressor)
		decompressor->context = ZSTD_createDCtx();
	if (!decompressor || !decompressor->context) {
		free(decompressor);
		return error_errno(err, ENOMEM, "--incoming: compressed pages");
	}
	*out = decompressor;
	return 0;
}

int decompressor_unpack(struct decompressor *decompressor, const uint8_t *bytes, size_t length,
	size_t wanted, const uint8_t **plain, struct error *err)
{
	size_t size;

	if (wanted > ROOM)
		return error_set(err, EPROTO, "compressed pages that are too many");
	/* The library would also take several frames, and those of formats from before RFC 8878. */
	if (length < 4 || load_le32(bytes) != ZSTD_MAGICNUMBER ||
		ZSTD_findFrameCompressedSize(bytes, length) != length)
		return error_set(err, EPROTO, "compressed pages that are no frame of zstd's");
	size = ZSTD_decompressDCtx(
		decompressor->context, decompressor->room, wanted, bytes, length);
	if (ZSTD_isError(size))
		return error_set(err, EPROTO, "compressed pages: %s", ZSTD_getErrorName(size));
	if (size != wanted)
		return error_set(err, EPROTO,
			"compressed pages of %zu bytes, where %zu were to come", size, wanted);
	*plain = decompressor->room;
	return 0;
}

void decompressor_free(struct decompressor *decompressor)
{
	if (decompressor)
		ZSTD_freeDCtx(decompressor->context);
	free(decompressor);
}
