/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a snapshot goes: two files, or a directory of its own with "state" and "memory" in it. All
 * is written beside it under NAME.new, and takes its place when it is complete and on the disk;
 * what was there before stays until then. Any thread, one at a time.
 */
#ifndef DUET_SNAPSHOT_TARGET_H
#define DUET_SNAPSHOT_TARGET_H

#include "base/error.h"

#include <stdbool.h>

/* Either a directory, or both files. */
struct snapshot_place {
	const char *directory;
	const char *state, *memory;
};

/* One thing that takes another's place. */
struct successor {
	char *name, *new;
	bool made;     /* NEW is there, and ours to remove */
	bool replaced; /* NEW is what NAME was before */
};

struct snapshot_target {
	struct successor directory, state, memory; /* names are null where they are not used */
	int state_fd, memory_fd;
};

/* Makes the new files, empty. *@target is to be closed in any case. -EEXIST: NAME.new is there
 * already; -ENOTEMPTY: the directory has other files. */
int snapshot_target_open(
	struct snapshot_target *target, const struct snapshot_place *place, struct error *err);
/* Waits for the disk, then puts them in place. */
int snapshot_target_commit(struct snapshot_target *target, struct error *err);
/* Removes what is new and not committed, and what was replaced. */
void snapshot_target_close(struct snapshot_target *target);

/* The names of the files of a directory; the caller's, null: no memory. */
char *snapshot_state_of(const char *directory);
char *snapshot_memory_of(const char *directory);

#endif
