/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes in pieces. From @offset bytes into @segments on, @length bytes or as many as there are;
 * returns how many.
 */
#ifndef DUET_BASE_IOV_H
#define DUET_BASE_IOV_H

#include <stddef.h>
#include <sys/uio.h>

size_t iov_copy_to(const struct iovec *segments, unsigned count, size_t offset, const void *from,
	size_t length);
size_t iov_copy_from(
	const struct iovec *segments, unsigned count, size_t offset, void *to, size_t length);

#endif
