/* SPDX-License-Identifier: Apache-2.0 */
/* Decompression of a bzImage's payload by each format's own library. Any thread. */
#ifndef DUET_X86_UNPACK_H
#define DUET_X86_UNPACK_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

#define UNPACK_MAX (512ULL << 20) /* bytes a kernel may unpack to */

struct unpacked {
	uint8_t *data; /* a mapping of @size bytes */
	size_t size;
};

/* "gzip", "xz", "zstd", "lz4", or null when the first bytes are none of them. */
const char *unpack_format(const uint8_t *packed, size_t size);

/*
 * Unpacks to exactly the size the payload's last four bytes declare (gzip's own trailer; for the
 * other formats the kernel's build appends it). @out is to be freed by unpack_free().
 * -EINVAL unknown format or corrupt data, -EFBIG above @max, -ENOMEM.
 */
int unpack(const uint8_t *packed, size_t size, size_t max, struct unpacked *out, struct error *err);
void unpack_free(struct unpacked *out);

#endif
