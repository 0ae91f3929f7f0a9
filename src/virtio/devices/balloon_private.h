/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-balloon (virtio 1.2, 5.5): the device (balloon.c), pages that go back to the host
 * (balloon_pages.c), what the guest says of its memory (balloon_statistics.c), and free page hints
 * (balloon_hints.c).
 *
 * Threads: the queues, and all that has no other comment, belong to the I/O loop. Atomic fields are
 * written by one thread and read by others; what the main thread wants is posted as one task.
 */
#ifndef DUET_VIRTIO_DEVICES_BALLOON_PRIVATE_H
#define DUET_VIRTIO_DEVICES_BALLOON_PRIVATE_H

#include "virtio/devices.h"
#include "virtio/devices/common.h"

#define VIRTIO_BALLOON_F_MUST_TELL_HOST 0
#define VIRTIO_BALLOON_F_STATS_VQ       1
#define VIRTIO_BALLOON_F_DEFLATE_ON_OOM 2
#define VIRTIO_BALLOON_F_FREE_PAGE_HINT 3
#define VIRTIO_BALLOON_F_PAGE_POISON    4
#define VIRTIO_BALLOON_F_PAGE_REPORTING 5

#define BALLOON_SEGMENTS 128 /* of a chain: as many as the queue has entries */
#define BALLOON_PART     256 /* pages: what Linux brings in one request */
#define BALLOON_RUNS     1024
#define BALLOON_HELD     16384 /* pages that wait for their neighbours */

/* What a queue is for. Its number may be another: see balloon_find_queues(). */
enum balloon_role {
	BALLOON_INFLATE,
	BALLOON_DEFLATE,
	BALLOON_STATISTICS,
	BALLOON_HINT,
	BALLOON_REPORT,
	BALLOON_QUEUES,
};

/* 5.5.6.6: what a command id may mean; those above are rounds of hinting. */
enum balloon_command {
	BALLOON_STOP,
	BALLOON_DONE,
	BALLOON_FIRST_ROUND,
};

/* Neighbouring pages of the guest. */
struct balloon_run {
	uint32_t first, count;
};

/*
 * Pages on their way to the host: neighbours become one run, runs are sorted and those that touch
 * joined, then given back one after the other. Between two of them the turn of the loop may be
 * over; the chain is put back into its ring then, and met again with what is here.
 *
 * Inflated pages of a driver that must tell before it uses them again (5.5.6.1) wait here for their
 * neighbours, over chains: a part of a huge page given back splits it, for the host and for the
 * guest's page tables, and each page of what is left faults anew.
 */
struct balloon_batch {
	struct balloon_run runs[BALLOON_RUNS];
	unsigned count, next; /* runs; the next one to go */
	bool going;           /* joined, and on their way */
	uint32_t held;        /* pages in @runs */
	uint64_t offset;      /* of the chain: bytes of page numbers, or buffers, taken from it */
	uint64_t pages;       /* of the chain so far that are memory */
	uint32_t from, to;    /* the region that a page was last found in */
};

enum balloon_count {
	BALLOON_INFLATED,  /* pages */
	BALLOON_DEFLATED,  /* pages */
	BALLOON_REPORTED,  /* pages */
	BALLOON_HINTED,    /* pages */
	BALLOON_DISCARDED, /* pages given back, by whatever way */
	BALLOON_RUNS_GONE, /* ... in as many pieces */
	BALLOON_REFUSED,   /* pages outside memory, pieces of a page number */
	BALLOON_FAILED,    /* pages that the host did not take */
	BALLOON_COUNTS,
};

/* What the guest was last asked to say. */
struct balloon_guest {
	_Atomic uint32_t present; /* bit for each tag */
	_Atomic uint64_t values[VIRTIO_BALLOON_TAGS];
	_Atomic uint64_t answers;
};

struct balloon_hints {
	_Atomic uint32_t host_command, guest_command;
	uint32_t last_round;      /* the id of it */
	struct balloon_run *runs; /* of the present round */
	unsigned count, room;
	uint64_t most;          /* pages, in all of them */
	_Atomic uint64_t pages; /* in them */
	_Atomic bool complete;  /* the driver has no more */
};

enum balloon_wish {
	BALLOON_WISH_NONE,
	BALLOON_WISH_ROUND,
	BALLOON_WISH_DONE,
};

struct balloon {
	struct virtio_device virtio;
	uint64_t offered;
	/* The configuration space: pages of 4 KiB. target: main thread; the others: vCPU threads.
	 */
	_Atomic uint32_t target, actual, poison;
	_Atomic unsigned interval; /* seconds between statistics; main thread */
	_Atomic bool interval_changed;
	_Atomic int hint_wish; /* enum balloon_wish; main thread, until it is fulfilled */
	struct loop_task wishes;
	_Atomic bool wishes_posted;

	int queue_of[BALLOON_QUEUES]; /* -1: none */
	bool active;
	struct loop_timer timer;   /* of the statistics */
	struct loop_timer release; /* of what is held */
	uint64_t inflated_at;      /* clock_ns(): the last chain of pages */
	struct balloon_batch inflating, reporting;
	struct balloon_guest guest;
	struct balloon_hints hints;
	_Atomic uint64_t counts[BALLOON_COUNTS];
};

static inline void balloon_add(struct balloon *balloon, enum balloon_count count, uint64_t by)
{
	counter_add(&balloon->counts[count], by);
}

/* Null: the driver does not have it. */
static inline struct virtqueue *balloon_queue(struct balloon *balloon, enum balloon_role role)
{
	int index = balloon->queue_of[role];

	return index < 0 ? NULL : &balloon->virtio.queues[index];
}

/* balloon_pages.c: serve a chain. False: the turn is over, it is to be put back and brought
 * again. */
bool balloon_inflate(struct balloon *balloon, const struct virtqueue_chain *chain);
/* What is held goes now: in a turn, and it is the false of above; or all of it. */
bool balloon_release(struct balloon *balloon);
void balloon_release_all(struct balloon *balloon);
bool balloon_report(struct balloon *balloon, const struct virtqueue_chain *chain);
/* The pages of a buffer of the guest's that are wholly in it. False: not one is. */
bool balloon_run_of(
	const struct balloon *balloon, const struct iovec *segment, struct balloon_run *run);
/* To the host, at once. */
void balloon_give_back(struct balloon *balloon, uint32_t first, uint32_t count);

/* balloon_statistics.c. take: the buffer that is in the queue is read, and stays there. ask: it
 * goes back to the driver, which fills a new one; after that the timer does. */
void balloon_statistics_take(struct balloon *balloon);
void balloon_statistics_start(struct balloon *balloon);
void balloon_statistics_ask(struct balloon *balloon);
void balloon_statistics_tell(const struct balloon *balloon, struct stats_sink *sink);

/* balloon_hints.c. */
void balloon_hint(struct balloon *balloon, const struct virtqueue_chain *chain);
/* I/O loop: a new round; the end of one. */
void balloon_hints_begin(struct balloon *balloon);
void balloon_hints_end(struct balloon *balloon, enum balloon_command command);

#endif
