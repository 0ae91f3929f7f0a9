/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The side that a machine leaves: the protocol, over channels that are connected, on a thread of
 * its own. What it does to the machine goes by a table of functions, so that tests run it over
 * memory alone.
 */
#ifndef DUET_MIGRATE_SOURCE_H
#define DUET_MIGRATE_SOURCE_H

#include "memory/memory.h"
#include "migrate/channel.h"
#include "migrate/plan.h"
#include "migrate/shares.h"

#include <stdatomic.h>

struct state_writer;

/* Each on the migration's thread, and returns when it is done. */
struct source_ops {
	/* Its configuration in JSON; to be freed by the caller. */
	int (*config)(void *opaque, char **text, struct error *err);
	struct memory *(*memory)(void *opaque);
	/* From now on writes are logged; and as machine_log_take(). */
	int (*log)(void *opaque, struct error *err);
	int (*take)(void *opaque, unsigned region, uint64_t *bitmap, struct error *err);
	/* As machine_log_tells() and machine_throttle(). */
	bool (*writers)(void *opaque, uint64_t written[SHARES_CPUS_MAX]);
	int (*throttle)(void *opaque, const uint8_t percent[SHARES_CPUS_MAX], struct error *err);
	/* It stands still from now on, whatever others wish, and is saved. */
	int (*stop)(void *opaque, struct state_writer *writer, struct error *err);
	/* It lets go of its disks. The last thing that may fail. */
	int (*release)(void *opaque, struct error *err);
	/* Whether it may still be given away; from a yes on nobody can cancel it. */
	bool (*commit)(void *opaque);
	/* The other side has said that it does not take it: release and commit are undone. */
	int (*take_back)(void *opaque, struct error *err);
	/* It runs there, and what memory it lacks goes after it: it never runs here again. */
	void (*follow)(void *opaque);
};

enum source_phase {
	SOURCE_CONNECTING,
	SOURCE_COPYING,   /* memory, while it runs */
	SOURCE_STOPPED,   /* the rest */
	SOURCE_COMMITTED, /* given away; the answer is to come */
	SOURCE_ARRIVING,  /* it runs there, and the rest of memory goes after it */
	SOURCE_CUT,       /* likewise, but for a line */
	SOURCE_ENDED,
};

/* Any thread may look. */
struct source_progress {
	_Atomic int phase;
	_Atomic uint64_t total;  /* pages of memory */
	_Atomic uint64_t sent;   /* pages with their bytes, each time they were */
	_Atomic uint64_t zero;   /* named only, likewise */
	_Atomic uint64_t resent; /* of both, those after the first round */
	_Atomic uint64_t left;   /* pages to be sent, after the last round */
	_Atomic uint64_t bytes;  /* all that went over the streams */
	_Atomic uint64_t rounds;
	_Atomic uint64_t rate;     /* bytes of memory a second, as they are before compression */
	_Atomic uint64_t expected; /* nanoseconds it would stand still now */
	_Atomic uint64_t throttle; /* per cent; of the vCPU that is held most */
	_Atomic unsigned cpus;     /* that: */
	_Atomic uint8_t held[SHARES_CPUS_MAX]; /* per cent, of each */
	_Atomic uint64_t stood;                /* nanoseconds from stop to the other side's word */
	_Atomic uint64_t urgent; /* pages that the other side asked for, as its guest ran */
	_Atomic uint64_t cuts;   /* of the line, since then */
};

struct source {
	const struct source_ops *ops;
	void *opaque;
	struct channel *channels;
	unsigned streams, cpus;
	bool compress;
	/* 0: all of memory goes before the machine. Else the rest may go after it, when there is
	 * too much of it, by one more channel; when the line is cut then, that many seconds are
	 * waited for another one. */
	unsigned wait;
	uint8_t id[WIRE_ID];
	int stop;         /* eventfd of all channels */
	struct plan plan; /* limit and force are the caller's */
	struct source_progress *progress;
	/* Connects the next stream, after the first; or any of them anew. */
	int (*connect)(void *opaque, struct channel *channel, struct error *err);
	struct message answer; /* private, as: */
	struct shares shares;
};

enum source_end {
	SOURCE_MOVED,   /* it runs there */
	SOURCE_STAYS,   /* it was never given away, or was given back: it may go on here */
	SOURCE_UNKNOWN, /* given away, and no answer: it must not run here again */
	SOURCE_TORN,    /* likewise, and it did not say that it has all of its memory */
};

/* The first channel is connected. @err is set unless it is SOURCE_MOVED. */
enum source_end source_run(struct source *source, struct error *err);

#endif
