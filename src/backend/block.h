/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Block back end: a raw file or block device on io_uring.
 *
 * Threads: block_open/close/refresh on the main thread; block_submit and the done callbacks on the
 * I/O loop given to block_attach(). The caller owns the request and its segments until done is
 * called, exactly once, never from within block_submit().
 */
#ifndef DUET_BACKEND_BLOCK_H
#define DUET_BACKEND_BLOCK_H

#include "base/bucket.h"
#include "base/error.h"
#include "base/loop.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

struct block;

enum block_cache {
	BLOCK_CACHE_WRITEBACK, /* host page cache, flush by the guest's flush */
	BLOCK_CACHE_DIRECT,    /* O_DIRECT */
};

struct block_options {
	const char *path;
	bool readonly;
	enum block_cache cache;
	/* Of requests begun (flushes and discards too), and of the bytes they read and write. */
	struct bucket_limits limits;
	bool lock; /* as block_claim(), from the beginning */
};

enum block_op {
	BLOCK_READ,
	BLOCK_WRITE,
	BLOCK_FLUSH,
	BLOCK_DISCARD,
	BLOCK_WRITE_ZEROES,
};

struct block_request {
	struct loop_op op;          /* private */
	struct block *block;        /* private */
	struct block_request *next; /* private */
	uint64_t moved;             /* private: bytes done so far */
	int result;                 /* private */
	uint8_t step;               /* private: which way of doing it is being tried */
	uint8_t retries;            /* private */
	bool buffered;              /* private: direct I/O has refused it */
	enum block_op kind;
	bool unmap;              /* write zeroes may leave a hole */
	bool durable;            /* on stable storage before done is called (write-through) */
	uint64_t offset, length; /* bytes; for read and write length is the sum of the segments */
	const struct iovec *segments;
	unsigned count;
	/* @result: 0 or a negative errno (-ENOSPC disk full, -EIO, ...). */
	void (*done)(struct block_request *request, int result);
};

/* Messages name --disk, the path and the remedy: missing, busy, writable and not a multiple of 512
 * bytes, read-only medium opened for writing, a directory, ... Of a read-only file the last whole
 * sector is the last one, with a warning. */
int block_open(struct block **block, const struct block_options *options, struct error *err);
void block_close(struct block *block);
/*
 * Whose file it is, while nothing is in flight; any thread. claim: refuses (-EBUSY) a file that
 * another duet has claimed, for writing unless both only read (an OFD lock). release: what was
 * written is on the medium, and another one may claim it; until it is claimed again it may not be
 * used.
 */
int block_claim(struct block *block, struct error *err);
int block_release(struct block *block, struct error *err);
uint64_t block_size(const struct block *block);         /* bytes */
unsigned block_logical_size(const struct block *block); /* 512, or what the device says */
/* What is best written whole, in bytes: a power of two, at least the logical size; and where on the
 * disk the first such block begins, less than its size. */
unsigned block_physical_size(const struct block *block);
unsigned block_physical_offset(const struct block *block);
bool block_readonly(const struct block *block);
bool block_can_discard(const struct block *block);
unsigned block_discard_size(const struct block *block); /* bytes: smaller discards free nothing */
void block_attach(struct block *block, struct loop *loop);
/* Main thread, at any time: other limits, which come into force soon on @io, the loop of
 * block_attach(). Requests that wait for their turn wait by the new ones. -ENOMEM. */
int block_set_limits(struct block *block, struct loop *io, const struct bucket_limits *limits);
/*
 * Main thread, at any time: the file's size is looked at anew, or the file at @path (not null)
 * takes its place, opened as the first one was; @control is the loop of the calling thread. What is
 * under way ends at the old file, what comes meanwhile waits for the new one. A new size is in
 * force when this returns; a new file at the latest when the last request to the old one has ended,
 * until which another call gives -EBUSY. Nothing has changed after a failure, whose message is like
 * block_open()'s.
 */
int block_refresh(struct block *block, struct loop *io, struct loop *control, const char *path,
	struct error *err);
/* Before the first request: @resized is called on the I/O loop (or where that stands still, by
 * block_refresh()) when a new size or a new file is in force. */
void block_on_resize(
	struct block *block, void (*resized)(void *opaque, uint64_t size), void *opaque);
/* Bounds are the caller's duty and are checked again here: -EINVAL through done. */
void block_submit(struct block *block, struct block_request *request);
/* What waits for its turn (limits) begins at once, ahead of its time: the device is being stopped.
 * Later requests wait so much longer, up to a second. */
void block_hurry(struct block *block);
/* What waits for its turn (iops, or behind a discard) ends with -ECANCELED, unbegun: the device is
 * being reset. */
void block_drop(struct block *block);
/* The machine ends: requests fail with -ECANCELED as far as the kernel lets go of them, those under
 * way and those to come. Nothing is promised of their data. */
void block_cancel(struct block *block);
unsigned block_in_flight(const struct block *block);

#endif
