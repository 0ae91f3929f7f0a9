/* SPDX-License-Identifier: Apache-2.0 */
#include "x86/unpack.h"

#include "base/bytes.h"
#include "base/checked.h"

#include <errno.h>
#include <limits.h>
#include <lz4.h>
#include <lzma.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <zlib.h>
#include <zstd.h>

#define SIZE_TRAILER    4
#define LZ4_LEGACY      0x184c2102U /* lz4_Frame_format.md, legacy frame */
#define XZ_MEMORY_LIMIT (256ULL << 20)

/* Fills @out completely or says by false that the data is corrupt. */
typedef bool unpack_function(const uint8_t *in, size_t in_size, uint8_t *out, size_t out_size);

static bool unpack_gzip(const uint8_t *in, size_t in_size, uint8_t *out, size_t out_size)
{
	z_stream stream = {.next_in = (uint8_t *)in,
		.avail_in = (uInt)in_size,
		.next_out = out,
		.avail_out = (uInt)out_size};
	bool complete;

	if (inflateInit2(&stream, MAX_WBITS + 16 /* gzip header */) != Z_OK)
		return false;
	complete = inflate(&stream, Z_FINISH) == Z_STREAM_END && stream.total_out == out_size;
	inflateEnd(&stream);
	return complete;
}

static bool unpack_xz(const uint8_t *in, size_t in_size, uint8_t *out, size_t out_size)
{
	lzma_stream stream = LZMA_STREAM_INIT;
	bool complete;

	if (lzma_stream_decoder(&stream, XZ_MEMORY_LIMIT, 0) != LZMA_OK)
		return false;
	stream.next_in = in;
	stream.avail_in = in_size;
	stream.next_out = out;
	stream.avail_out = out_size;
	complete = lzma_code(&stream, LZMA_RUN) == LZMA_STREAM_END && stream.total_out == out_size;
	lzma_end(&stream);
	return complete;
}

static bool unpack_zstd(const uint8_t *in, size_t in_size, uint8_t *out, size_t out_size)
{
	/* The output buffer itself is the window, so long windows need no allowance. */
	size_t frame = ZSTD_findFrameCompressedSize(in, in_size);

	return !ZSTD_isError(frame) && ZSTD_decompress(out, out_size, in, frame) == out_size;
}

static bool unpack_lz4(const uint8_t *in, size_t in_size, uint8_t *out, size_t out_size)
{
	size_t at = 4, done = 0;

	/* What is left at the end are the four bytes of the size. */
	while (in_size - at > SIZE_TRAILER) {
		uint32_t block = load_le32(in + at);
		int got;

		at += 4;
		if (block == LZ4_LEGACY) /* another frame follows */
			continue;
		if (block > in_size - at || block > INT_MAX)
			return false;
		got = LZ4_decompress_safe((const char *)in + at, (char *)out + done, (int)block,
			(int)(out_size - done));
		if (got < 0)
			return false;
		at += block;
		done += (size_t)got;
	}
	return done == out_size;
}

struct format {
	const char *name;
	unsigned magic_size;
	uint8_t magic[6];
	unpack_function *unpack;
};

static const struct format formats[] = {
	{"gzip", 2, {0x1f, 0x8b}, unpack_gzip},
	{"xz", 6, {0xfd, '7', 'z', 'X', 'Z', 0}, unpack_xz},
	{"zstd", 4, {0x28, 0xb5, 0x2f, 0xfd}, unpack_zstd},
	{"lz4", 4, {0x02, 0x21, 0x4c, 0x18}, unpack_lz4},
};

static const struct format *find_format(const uint8_t *packed, size_t size)
{
	for (unsigned i = 0; i < ARRAY_SIZE(formats); i++)
		if (size >= formats[i].magic_size + SIZE_TRAILER &&
			!memcmp(packed, formats[i].magic, formats[i].magic_size))
			return &formats[i];
	return NULL;
}

const char *unpack_format(const uint8_t *packed, size_t size)
{
	const struct format *format = find_format(packed, size);

	return format ? format->name : NULL;
}

int unpack(const uint8_t *packed, size_t size, size_t max, struct unpacked *out, struct error *err)
{
	const struct format *format = find_format(packed, size);
	uint64_t declared;

	*out = (struct unpacked){0};
	if (!format)
		return error_set(err, EINVAL,
			"the payload is packed with a method duet does not know (gzip, xz, zstd "
			"and "
			"lz4 are known); try --kernel-unpack guest");
	declared = load_le32(packed + size - SIZE_TRAILER);
	/* zlib and lz4 count in 32 bits or int. */
	if (declared == 0 || declared > max || size > INT_MAX)
		return error_set(err, EFBIG,
			"the %s payload says it unpacks to %llu bytes; the file is corrupt, get it "
			"again",
			format->name, (unsigned long long)declared);
	out->data = mmap(NULL, declared, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (out->data == MAP_FAILED) {
		out->data = NULL;
		return error_errno(err, ENOMEM, "%llu bytes to unpack the payload",
			(unsigned long long)declared);
	}
	out->size = declared;
	if (format->unpack(packed, size, out->data, declared))
		return 0;
	unpack_free(out);
	return error_set(
		err, EINVAL, "the %s payload is corrupt; get the file again", format->name);
}

void unpack_free(struct unpacked *out)
{
	if (out->data)
		munmap(out->data, out->size);
	*out = (struct unpacked){0};
}
