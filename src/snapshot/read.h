/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A snapshot that is read. Its files may be anything: what is opened was checked wholly, but for
 * the pages of memory, which are read when the guest needs them (snapshot_verify() reads them).
 *
 * Any thread, one at a time.
 */
#ifndef DUET_SNAPSHOT_READ_H
#define DUET_SNAPSHOT_READ_H

#include "snapshot/format.h"
#include "snapshot/pages.h"
#include "snapshot/target.h"

#include <stddef.h>

struct snapshot {
	struct snapshot_head head;
	struct pages pages;
	char *name; /* of the state file, for messages */
	uint8_t *bytes;
	size_t length;
	const char *config; /* in @bytes, not terminated */
	size_t config_length;
	size_t machine_at; /* offset of the stream for machine_restore() */
	int memory_fd;     /* for reading */
};

/* @whole: one with changes alone is refused. *@snapshot is to be closed in any case. */
int snapshot_open(struct snapshot *snapshot, const struct snapshot_place *place, bool whole,
	struct error *err);
void snapshot_close(struct snapshot *snapshot);
/* Its state, without a memory file, from @bytes, which stay the caller's. */
int snapshot_parse(struct snapshot *snapshot, struct error *err);

#endif
