/* SPDX-License-Identifier: Apache-2.0 */
/* A disk image in a directory of its own, the block back end on it, and a loop that the test runs
 * until a request is done. What cannot be fails the test. */
#ifndef DUET_TESTS_BLOCK_RIG_H
#define DUET_TESTS_BLOCK_RIG_H

#include "backend/block_private.h"

#include <sys/types.h>

#define BLOCK_RIG_SIZE (4U << 20) /* bytes of the image */

struct block_rig {
	char directory[64];
	char path[96];
	struct loop *loop;
	struct block *block;
};

struct block_waiter {
	struct block_request request;
	struct loop *loop;
	bool submitting;
	unsigned calls;
	int result;
};

/* The directory, in @where, and the image alone; who uses no more removes both. */
void block_rig_files(struct block_rig *rig, const char *where);
/* Loop and back end, on what is at rig->path. */
void block_rig_open_block(struct block_rig *rig, bool readonly, enum block_cache cache);
/* Both of these. */
void block_rig_open(
	struct block_rig *rig, const char *where, bool readonly, enum block_cache cache);
void block_rig_close(struct block_rig *rig);
/* An empty file of @size bytes. */
void block_rig_make_file(const char *path, off_t size);
/* A loop device of 4096-byte sectors on @image, which goes with its last user; -1: cannot be. */
int block_rig_loop_device(const char *image, char path[32]);

/* A waiter's: keeps the result and stops its loop. */
void block_rig_done(struct block_request *request, int result);
/* Submits, runs the loop; the result. No other request may be under way. */
int block_rig_run(struct block_rig *rig, struct block_request request);
/* As block_rig_run(): a read or a write; a range without data. */
int block_rig_move(struct block_rig *rig, enum block_op kind, uint64_t offset,
	struct iovec *segments, unsigned count);
int block_rig_range(
	struct block_rig *rig, enum block_op kind, uint64_t offset, uint64_t length, bool unmap);

#endif
