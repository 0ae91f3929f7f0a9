/* SPDX-License-Identifier: Apache-2.0 */
/* Which pages have changed since a machine's last snapshot. Main thread, the machine at rest. */
#ifndef DUET_SNAPSHOT_TRACK_H
#define DUET_SNAPSHOT_TRACK_H

#include "snapshot/format.h"

struct machine;

struct snapshot_track {
	bool wanted;             /* the owner's: changes are to be known */
	struct snapshot_id last; /* the snapshot that they are to; none: they are not known */
	uint64_t *changed;       /* as struct snapshot_content has it; null: none is logged */
};

/* From now on, which is the moment of snapshot @id. Nothing where it is not wanted. */
int snapshot_track_begin(struct snapshot_track *track, struct machine *machine,
	const struct snapshot_id *id, struct error *err);
/* Adds what was logged to @changed; those of a snapshot that failed stay in it. */
int snapshot_track_collect(
	struct snapshot_track *track, struct machine *machine, struct error *err);
/* Snapshot @id is complete, since whose moment the machine was at rest. */
void snapshot_track_done(
	struct snapshot_track *track, struct machine *machine, const struct snapshot_id *id);
/* The machine goes, and its log with it. */
void snapshot_track_end(struct snapshot_track *track);

#endif
