/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is in a snapshot's two files.
 *
 * state: two streams of state/state.h, one behind the other. The first is the snapshot's: section
 * "snapshot" (its id, that of the one it builds on, the regions of memory), "config" (JSON of
 * machine_config_write()), "pages/N" (snapshot/pages.h). The second is that of machine_save().
 *
 * memory: the guest's pages at fixed offsets, region after region, so that one file can be copied
 * over another as Firecracker's clients do; then two pages of marks: the id, and in a file that
 * has all of memory a second mark, which one with changes alone leaves out, and keeps when it is
 * copied over.
 *
 * Any thread.
 */
#ifndef DUET_SNAPSHOT_FORMAT_H
#define DUET_SNAPSHOT_FORMAT_H

#include "base/error.h"
#include "memory/memory.h"

#include <stdbool.h>
#include <stdint.h>

struct state_reader;
struct state_writer;

/* Random; all zero: of none. */
struct snapshot_id {
	uint8_t bytes[16];
};
#define SNAPSHOT_ID_TEXT 33
int snapshot_id_new(struct snapshot_id *id);
bool snapshot_id_same(const struct snapshot_id *one, const struct snapshot_id *other);
bool snapshot_id_none(const struct snapshot_id *id);
void snapshot_id_format(const struct snapshot_id *id, char text[SNAPSHOT_ID_TEXT]);

struct snapshot_head {
	struct snapshot_id id;
	struct snapshot_id parent; /* what the changes are to; none: all of memory is there */
	unsigned regions;
	struct {
		uint64_t base, size; /* bytes; the offset follows from those before */
	} region[MEMORY_MAX_REGIONS];
};
static inline bool snapshot_is_diff(const struct snapshot_head *head)
{
	return !snapshot_id_none(&head->parent);
}
/* Bytes of all regions. */
uint64_t snapshot_head_size(const struct snapshot_head *head);
/* Of sizes that the files can have: each region but the last is whole chunks of snapshot/pages.h,
 * and 1 TiB is the most. */
bool snapshot_head_is_sane(const struct snapshot_head *head);
void snapshot_head_of(struct snapshot_head *head, const struct memory *memory);
void snapshot_head_save(const struct snapshot_head *head, struct state_writer *writer);
/* The next section. */
int snapshot_head_restore(
	struct snapshot_head *head, struct state_reader *reader, struct error *err);

/* Behind memory of @size bytes. write: with the mark of a whole memory unless @diff. */
#define SNAPSHOT_MARKS (2 * MEMORY_PAGE)
int snapshot_marks_write(int fd, uint64_t size, const struct snapshot_id *id, bool diff);
/* -EINVAL with the reason: the file is of another length, another snapshot, or has changes alone
 * although @whole is asked for. @path: for messages. */
int snapshot_marks_check(int fd, uint64_t size, const struct snapshot_id *id, bool whole,
	const char *path, struct error *err);

#endif
