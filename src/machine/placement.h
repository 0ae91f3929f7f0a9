/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's map of what memory its vCPUs use (virtio/devices.h, VIRTIO_COOP_LOCALITY), put beside
 * the host's nodes: where that memory is, and its way to another node. A guest may say anything of
 * its own pages: what it can bring about is that they lie where they are slow to reach. Each page
 * counts and moves once, however often it was told: a map of the whole memory, told tens of
 * thousands of times over, would keep the host moving pages for days, and seem to fill its nodes.
 * Main thread.
 */
#ifndef DUET_MACHINE_PLACEMENT_H
#define DUET_MACHINE_PLACEMENT_H

#include "base/clock.h"
#include "base/loop.h"
#include "machine/machine.h"
#include "memory/memory.h"
#include "virtio/devices.h"

/* Pages that are looked up at most: more than that are sampled. */
#define PLACEMENT_SAMPLE 4096
/* Pages that are looked at, and moved where they are to be, at once; and the pause behind them, in
 * which the loop does all else. */
#define PLACEMENT_PIECE    256
#define PLACEMENT_PAUSE_NS MS_NS

struct placement_map {
	struct virtio_coop_run *runs; /* owned */
	unsigned count;
	uint64_t pages;
};

/* A move on its way; zero-initialise. */
struct placement {
	struct loop_timer timer; /* set: it goes on */
	struct loop *loop;
	const struct memory *memory;
	struct placement_map map;
	int8_t nodes[MACHINE_CPUS_MAX];
	unsigned run;  /* the next page is in this run ... */
	uint64_t page; /* ... and has this number there */
	struct machine_placing placing;
};

/* The machine's, as far as it has told, untangled. -ENOMEM. */
int placement_read_map(struct device *coop, struct placement_map *map);
/* Each page is in one run from here on, and @pages their number; runs are within memory, on the
 * page grid. */
void placement_untangle(struct placement_map *map);
void placement_free_map(struct placement_map *map);
/* Bytes by vCPU and node; @uses comes zeroed. An errno of move_pages(2). */
int placement_uses(const struct memory *memory, const struct placement_map *map,
	uint64_t uses[MACHINE_CPUS_MAX][MACHINE_NODES_MAX]);
/* What vCPU i uses goes to node nodes[i]; -1: it stays. @map becomes the placement's. One that was
 * on its way ends. -EBUSY while the memory is pinned, and then @map is still the caller's. */
int placement_begin(struct placement *placement, struct loop *loop, const struct memory *memory,
	struct placement_map *map, const int8_t nodes[MACHINE_CPUS_MAX]);
void placement_end(struct placement *placement);

#endif
