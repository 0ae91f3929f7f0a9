/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by block_open.c (finding out what the file is) and block.c (moving data). */
#ifndef DUET_BACKEND_BLOCK_PRIVATE_H
#define DUET_BACKEND_BLOCK_PRIVATE_H

#include "backend/block.h"

struct block {
	int fd;
	/* Direct I/O: the same file through the page cache, for what O_DIRECT cannot take: a
	 * guest's buffers need not be aligned. The kernel keeps both views coherent. Else -1. */
	int buffered_fd;
	char *path;
	uint64_t size;
	unsigned logical_size;
	unsigned memory_alignment; /* of direct I/O */
	bool readonly, device;
	bool can_discard;
	/* Learnt from the first refusal, so that it is not asked again. */
	bool no_punch, no_zero_range;
	struct loop *loop;
	unsigned in_flight;
	/* BLOCK_ZEROES bytes of zeroes, never written: all of it is the kernel's one zero page. */
	void *zeroes;
};

#define BLOCK_ZEROES (1U << 20)

#endif
