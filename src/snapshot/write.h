/* SPDX-License-Identifier: Apache-2.0 */
/* Writes a snapshot's files. Blocks: for a thread of its own (snapshot/take.h). */
#ifndef DUET_SNAPSHOT_WRITE_H
#define DUET_SNAPSHOT_WRITE_H

#include "snapshot/format.h"
#include "snapshot/target.h"

#include <stdatomic.h>
#include <stddef.h>

struct pages;

/* The caller's, at rest meanwhile. */
struct snapshot_content {
	struct snapshot_id id, parent;
	const struct memory *memory;
	/* Of a snapshot with a parent, the pages that it holds: a bit for each, by
	 * memory_region.first_page. Null: all that are not zero. */
	const uint64_t *changed;
	const char *config;  /* JSON */
	const void *machine; /* a whole stream of machine_save() */
	size_t machine_length;
};

/* Looked at, and cancelled, by others. */
struct snapshot_progress {
	_Atomic uint64_t done, total; /* bytes of memory looked at, and to look at */
	_Atomic uint64_t written;     /* bytes of the memory file that are no hole */
	_Atomic bool cancelled;
};

/* Commits it. -ECANCELED: it was cancelled; then, and after each failure, nothing has changed. */
int snapshot_write(const struct snapshot_content *content, const struct snapshot_place *place,
	struct snapshot_progress *progress, struct error *err);
/* The state file of @head, @pages and the rest. */
int snapshot_write_state(int fd, const struct snapshot_head *head, const struct pages *pages,
	const struct snapshot_content *content);

#endif
