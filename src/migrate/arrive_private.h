/* SPDX-License-Identifier: Apache-2.0 */
/* What arrive.c, arrive_streams.c, arrive_again.c and arrive_end.c share. */
#ifndef DUET_MIGRATE_ARRIVE_PRIVATE_H
#define DUET_MIGRATE_ARRIVE_PRIVATE_H

#include "memory/late.h"
#include "migrate/arrive.h"
#include "migrate/pages.h"

#include <pthread.h>
#include <stdatomic.h>

/* Pages that come by a stream. */
struct inflow {
	struct channel channel;
	struct message message;
	struct decompressor *decompressor; /* null: none came compressed so far */
};

struct arrival_stream {
	struct arrival *arrival;
	struct inflow in;
	pthread_t thread;
	bool started;
	struct error err;
};

struct arrival {
	struct arrival_terms terms;
	struct memory_late *late;
	int stop, word, over; /* eventfds: leave; look around; the thread has done its work */
	pthread_t thread;
	bool started;
	uint64_t after; /* of lack() */

	/* The thread's own, from begin() on. */
	struct wire_hello hello;
	struct inflow urgent;
	uint64_t asked[WIRE_WANT_MAX];    /* GPAs of which no page has come, in this order */
	uint64_t asked_at[WIRE_WANT_MAX]; /* clock_ns() */
	unsigned asked_count;
	bool flows; /* @streams have threads */
	bool whole; /* the source alone has yet to hear of it */
	struct arrival_stream streams[WIRE_STREAMS_MAX];
	uint64_t until; /* clock_ns() at which the source need not come again */
	uint64_t left;  /* when the line was cut last */
	_Atomic(struct arrival_stream *) torn; /* the first that has come to an end */

	/* Between threads. */
	pthread_mutex_t lock;
	pthread_cond_t begun_or_leaving;
	bool begun, committed, broken, runs, leaving;
	bool given_up;           /* in place of @runs */
	bool ended;              /* leaving, for the machine has */
	bool cut;                /* once at least: what run() brings is of a line that is no more */
	bool has_given;          /* by run() */
	uint64_t given_up_until; /* clock_ns() */
	struct channel given[WIRE_STREAMS_MAX];
	struct error err; /* why it is broken, or was given up */
};

/* The message that @in has received, into memory. */
int arrival_take_pages(
	struct arrival *arrival, struct inflow *in, struct pages_seen *seen, struct error *err);
/* From now on @in is of @channel. */
void arrival_open(struct arrival *arrival, struct inflow *in, const struct channel *channel);
void arrival_close(struct inflow *in);
/* The streams that were given, if nobody has taken them. */
void arrival_drop_given(struct arrival *arrival);
/* @what is one of those that are between threads. */
bool arrival_is(struct arrival *arrival, const bool *what);
/* It runs, and nothing lacks. */
bool arrival_is_whole(struct arrival *arrival);
/* arrive_streams.c: begins with those that were given; what has gone wrong with one. */
int arrival_look_at_streams(struct arrival *arrival, struct error *err);
void arrival_end_streams(struct arrival *arrival);
/* arrive_again.c: 0: there is a line again, or no need of one; -ETIMEDOUT: nobody came until
 * @until; -ECANCELED: it is to leave, or the source has been told that it was given up. */
int arrival_await_source(struct arrival *arrival, struct error *err);
/* arrive_end.c: how memory came out is told to whom it concerns. */
void arrival_finish(struct arrival *arrival, int result, const struct error *err);

#endif
