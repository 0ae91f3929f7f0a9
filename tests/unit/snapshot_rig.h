/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots of 5 MiB of memory in two regions, and of a machine that is a few numbers. */
#ifndef SNAPSHOT_RIG_H
#define SNAPSHOT_RIG_H

#include "snapshot/pages.h"
#include "snapshot/write.h"

#define RIG_LOW   (4ULL << 20)
#define RIG_SIZE  (5ULL << 20)
#define RIG_PAGES (RIG_SIZE / MEMORY_PAGE)

struct snapshot_rig {
	char folder[32]; /* a directory of its own */
	struct memory memory;
	uint8_t *bytes; /* of both regions */
	uint64_t changed[RIG_PAGES / WORD_PAGES];
	struct snapshot_id last;
	uint8_t *machine;
	size_t machine_length;
	struct snapshot_progress progress;
	struct error err;
};

int rig_make(void **state);
int rig_free(void **state);
uint8_t *rig_page(struct snapshot_rig *rig, unsigned page);
/* Its bytes become @value, and it is among those that have changed. */
void rig_touch(struct snapshot_rig *rig, unsigned page, uint8_t value);
/* FOLDER/NAME; static, until eight more. */
const char *rig_path(struct snapshot_rig *rig, const char *name);
/* Into the directory NAME: all of memory, or what has changed since the one before. */
int rig_take(struct snapshot_rig *rig, const char *name, bool diff);
/* Whether the memory file of directory NAME is what memory is now. */
bool rig_same(struct snapshot_rig *rig, const char *name);
/* The file's bytes; the caller's. */
uint8_t *rig_load(const char *path, size_t *length);
void rig_store(const char *path, const void *bytes, size_t length);
/* Entries of the folder. */
unsigned rig_entries(struct snapshot_rig *rig);

#endif
