/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The side that a machine comes to: the protocol, on a thread of its own. What becomes of it goes
 * by a table of functions, so that tests run it over memory alone. All that comes is hostile.
 */
#ifndef DUET_MIGRATE_TARGET_H
#define DUET_MIGRATE_TARGET_H

#include "memory/memory.h"
#include "migrate/address.h"
#include "migrate/arrive.h"
#include "migrate/channel.h"

struct state_reader;

/* Each on the migration's thread, and returns when it is done. */
struct target_ops {
	/* A machine of the configuration @text, which is null-terminated too; its memory. @arrival
	 * not null: one that was started; pages of it may come after the guest runs. It stays
	 * the caller's. */
	int (*build)(void *opaque, const char *text, size_t length, struct memory **memory,
		struct arrival **arrival, struct error *err);
	/* Memory is filled in, or who touches it waits; the rest follows. Its disks are not claimed
	 * yet. */
	int (*restore)(void *opaque, struct state_reader *state, struct error *err);
	/* Claims its disks and lets it run; after a failure it never will. */
	int (*run)(void *opaque, struct error *err);
	void *opaque;
};

/*
 * Waits at @listening for a source, and takes its machine: returns when it runs, or with what went
 * wrong, and then it does not and never will. A connection that is of no use (another version,
 * another's stream) is turned away, and the wait goes on, until a source has been welcomed. When it
 * runs and arrival_is_begun(), memory goes on to come.
 */
int target_run(const struct target_ops *ops, int listening, int stop, const struct mtls *tls,
	struct error *err);

#endif
