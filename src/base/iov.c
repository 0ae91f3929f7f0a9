/* SPDX-License-Identifier: Apache-2.0 */
#include "base/iov.h"

#include "base/checked.h"

#include <stdbool.h>
#include <string.h>

/* Copies between @bytes and the segments from @offset on. */
static size_t iov_copy(const struct iovec *segments, unsigned count, size_t offset, uint8_t *bytes,
	size_t length, bool to)
{
	size_t done = 0;

	for (unsigned i = 0; i < count && done < length; i++) {
		size_t part;
		uint8_t *at;

		if (offset >= segments[i].iov_len) {
			offset -= segments[i].iov_len;
			continue;
		}
		part = min_u64(segments[i].iov_len - offset, length - done);
		at = (uint8_t *)segments[i].iov_base + offset;
		memcpy(to ? at : bytes + done, to ? bytes + done : at, part);
		done += part;
		offset = 0;
	}
	return done;
}

size_t iov_copy_to(const struct iovec *segments, unsigned count, size_t offset, const void *from,
	size_t length)
{
	return iov_copy(segments, count, offset, (uint8_t *)from, length, true);
}

size_t iov_copy_from(
	const struct iovec *segments, unsigned count, size_t offset, void *to, size_t length)
{
	return iov_copy(segments, count, offset, to, length, false);
}
