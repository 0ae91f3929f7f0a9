/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by block_open.c (finding out what the file is), block.c (moving data) and
 * block_refresh.c (another size, another file). */
#ifndef DUET_BACKEND_BLOCK_PRIVATE_H
#define DUET_BACKEND_BLOCK_PRIVATE_H

#include "backend/block.h"

struct block_throttle;
struct block_discard;
struct block_refresh;

/* What another file in its place exchanges. */
struct block_file {
	int fd;
	/* Direct I/O: the same file through the page cache, for what O_DIRECT cannot take: a
	 * guest's buffers need not be aligned, and its sectors are 512 bytes though the file
	 * system's may be 4096, so that the kernel reads, changes and writes a whole one. The
	 * kernel keeps both views coherent. Else -1. */
	int buffered_fd;
	char *path;
	uint64_t size;
	unsigned logical_size; /* the guest's sectors */
	unsigned physical_size, physical_offset;
	/* What direct I/O asks of offsets and lengths, and of addresses; powers of two. */
	unsigned direct_offset, direct_memory;
	bool device;
	bool waits; /* the kernel would wait for it, not for a place in a queue: see find_waits() */
	bool can_discard;
	unsigned discard_size; /* what is given back at a time, bytes; 0: a physical block */
	/* Learnt from the first refusal, so that it is not asked again. */
	bool no_punch, no_zero_range;
	struct block_discard *discard; /* of a device; else null: holes are punched */
	int (*discard_device)(int fd, uint64_t offset, uint64_t length); /* waits; a test's own */
};

struct block {
	struct block_file file;
	bool readonly, lock;
	bool cancelled; /* block_cancel(): nothing is begun any more */
	struct loop *loop;
	unsigned in_flight;
	struct loop_op cancel; /* block_cancel()'s, until the loop is freed */
	/* BLOCK_ZEROES bytes of zeroes, never written: all of it is the kernel's one zero page. */
	void *zeroes;
	struct block_throttle *throttle; /* null: no limit */
	struct block_throttle *kept;     /* the same, also while there is none; main thread */
	struct block_refresh *refresh;   /* from the first one on; main thread */
	struct block_refresh *exchange;  /* one that waits for what is under way; else null */
	void (*resized)(void *opaque, uint64_t size); /* may be null */
	void *opaque;
};

#define BLOCK_ZEROES (1U << 20)

/* An alignment that direct I/O takes wherever there is direct I/O. */
#define BLOCK_DIRECT_SAFE 4096U

/* block.c: the request's slot has come. */
void block_begin(struct block_request *request);
/* ... or never: it ends with @result, not from within this call. */
void block_give_up(struct block_request *request, int result);
/* A request that was held goes on, as one that is new. */
void block_resume(struct block_request *request);
/* The step of the request that was done elsewhere ended with 0 or a negative errno. */
void block_step_ended(struct block_request *request, int result);

/* block_open.c: how many bytes the guest would see of the file as it is now. */
int block_find_size(const struct block *block, uint64_t *size, struct error *err);
/* Whether @path names the file that is open. */
bool block_is_file(const struct block *block, const char *path);

/* block_refresh.c; I/O loop. A request that came after the new file. */
void block_refresh_hold(struct block_refresh *refresh, struct block_request *request);
/* One fewer is under way. */
void block_refresh_ended(struct block_refresh *refresh);
/* Those that are held wait for no token when they go on. */
void block_refresh_hurry(struct block_refresh *refresh);
/* All that are held end with -ECANCELED. */
void block_refresh_drop(struct block_refresh *refresh);
/* Null is allowed; nothing in flight. */
void block_refresh_free(struct block_refresh *refresh);

/* block_throttle.c; null: no memory. */
struct block_throttle *block_throttle_new(struct block *block, const struct bucket_limits *limits);
/* Null is allowed; nothing in flight. */
void block_throttle_free(struct block_throttle *throttle);
void block_throttle_submit(struct block_throttle *throttle, struct block_request *request);
/* All that waits begins now. */
void block_throttle_release(struct block_throttle *throttle);
/* All that wait end with -ECANCELED. */
void block_throttle_drop(struct block_throttle *throttle);

/* block_discard.c; sets block->file.discard. */
int block_discard_new(struct block *block);
/* Its file is @block's from now on; nothing in flight. */
void block_discard_move(struct block_discard *discard, struct block *block);
void block_discard_submit(struct block_discard *discard, struct block_request *request);
/* All but the one under way end with -ECANCELED. */
void block_discard_drop(struct block_discard *discard);
/* Null is allowed; nothing in flight. */
void block_discard_free(struct block_discard *discard);

#endif
