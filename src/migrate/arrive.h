/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that comes to a machine which runs already: the target's side of a migration from its
 * state on, when pages lack (memory/late.h). It asks for what somebody waits for, takes what comes,
 * and when the line is cut waits for the source to come again.
 *
 *   new() -> start() -> lack() ... -> begin() -> commit() -> run() ... ops->ended()  -> free()
 *                                     it asks       |        the other      ops->closed()
 *                                     for pages     |        streams bring
 *                                                   |        the rest
 *                                                   +-----> give_up()
 *
 * Threads: new(), start() and free(): the machine's owner; lack() to run() and give_up(): the
 * migration's, in this order. A thread "duet-arrive" of its own, and one for each stream, with the
 * limits of the thread that called start() and less; none of them waits for another of the
 * process's but for the word whether the machine runs.
 */
#ifndef DUET_MIGRATE_ARRIVE_H
#define DUET_MIGRATE_ARRIVE_H

#include "memory/memory.h"
#include "migrate/channel.h"

struct arrival;

struct arrival_ops {
	/* All of memory is there, or (negative) never will be, and the guest must not go on. On a
	 * thread of its own. Not of a machine that was given up. */
	void (*ended)(void *opaque, int result, const struct error *err);
	/* After that: nobody is waited for at @listening any more, for the source knows, or cannot
	 * be told. The last of its thread's work. */
	void (*closed)(void *opaque);
	void *opaque;
};

struct arrival_terms {
	struct memory *memory;
	int listening; /* where the source comes again; the caller's, open until free() */
	const struct mtls *tls;
	struct arrival_ops ops;
};

/* -ENOTSUP, -EPERM and others, as memory_late_open() has them: it cannot be had here. */
int arrival_new(struct arrival **arrival, const struct arrival_terms *terms, struct error *err);
int arrival_start(struct arrival *arrival, struct error *err);
/* What the source names: the body of a message WIRE_LACKS. */
int arrival_lack(struct arrival *arrival, const struct message *message, struct error *err);
/* From now on pages are asked for at @urgent, which it takes over in any case. */
int arrival_begin(struct arrival *arrival, const struct wire_hello *hello, struct channel *urgent,
	struct error *err);
/* begin() was called. */
bool arrival_is_begun(struct arrival *arrival);
/* The machine is ours, unless something has failed. */
int arrival_commit(struct arrival *arrival, struct error *err);
/* It runs; @channels, hello->streams of them, bring the rest, and are taken over. */
void arrival_run(struct arrival *arrival, struct channel *channels);
/* It does not run, and never will, but the source may have given it away and not have heard that:
 * it is told when it comes again, for as long as it may. Returns when it was told, or did not come,
 * or by @stop, an eventfd. */
void arrival_give_up(struct arrival *arrival, int stop, const struct error *why);
/* It is over, or was not begun, or the machine has @ended and needs no more: the source is told.
 * Else: nobody may touch memory any more, of which the rest reads as zeroes. Null is allowed. */
void arrival_free(struct arrival *arrival, bool ended);

#endif
