/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/placement.h"

#include "base/checked.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- the map ---- */

struct reading {
	struct placement_map *map;
	unsigned room;
};

static int by_gpa(const void *left, const void *right)
{
	const struct virtio_coop_run *a = left, *b = right;

	if (a->gpa != b->gpa)
		return a->gpa < b->gpa ? -1 : 1;
	return (a->vcpu > b->vcpu) - (a->vcpu < b->vcpu);
}

void placement_untangle(struct placement_map *map)
{
	uint64_t told = 0; /* all below */
	unsigned kept = 0;

	if (map->count)
		qsort(map->runs, map->count, sizeof(*map->runs), by_gpa);
	map->pages = 0;
	for (unsigned i = 0; i < map->count; i++) {
		struct virtio_coop_run run = map->runs[i];
		const uint64_t end = run.gpa + run.pages * MEMORY_PAGE;

		if (end <= told)
			continue;
		if (run.gpa < told) {
			run.pages = (end - told) / MEMORY_PAGE;
			run.gpa = told;
		}
		map->runs[kept++] = run;
		map->pages += run.pages;
		told = end;
	}
	map->count = kept;
}

/* The guest may add to it between the two calls: what has no room is left out. */
static void add_run(void *opaque, const struct virtio_coop_run *run)
{
	struct reading *reading = opaque;
	struct placement_map *map = reading->map;

	if (map->count == reading->room || run->vcpu >= MACHINE_CPUS_MAX)
		return;
	map->runs[map->count++] = *run;
}

int placement_read_map(struct device *coop, struct placement_map *map)
{
	struct virtio_coop_runs runs;
	struct reading reading = {.map = map};

	*map = (struct placement_map){0};
	virtio_coop_runs(coop, VIRTIO_COOP_LOCALITY, &runs);
	reading.room = runs.count;
	if (!runs.count)
		return 0;
	map->runs = calloc(runs.count, sizeof(*map->runs));
	if (!map->runs)
		return -ENOMEM;
	virtio_coop_each_run(coop, VIRTIO_COOP_LOCALITY, add_run, &reading);
	placement_untangle(map);
	return 0;
}

void placement_free_map(struct placement_map *map)
{
	free(map->runs);
	*map = (struct placement_map){0};
}

/* ---- where it is ---- */

struct look {
	const struct memory *memory;
	uint64_t each; /* bytes that a page of the sample stands for */
	uint64_t (*uses)[MACHINE_NODES_MAX];
	gpa_t pages[MEMORY_PLACE_MAX];
	uint32_t vcpus[MEMORY_PLACE_MAX];
	unsigned count;
};

static int look_up(struct look *look)
{
	int nodes[MEMORY_PLACE_MAX];
	int ret = memory_nodes(look->memory, look->pages, nodes, look->count);

	for (unsigned i = 0; ret == 0 && i < look->count; i++)
		if (nodes[i] >= 0 && nodes[i] < MACHINE_NODES_MAX)
			look->uses[look->vcpus[i]][nodes[i]] += look->each;
	look->count = 0;
	return ret;
}

static int look_at(struct look *look, const struct virtio_coop_run *run, uint64_t page)
{
	look->pages[look->count] = GPA(run->gpa + page * MEMORY_PAGE);
	look->vcpus[look->count] = run->vcpu;
	return ++look->count == MEMORY_PLACE_MAX ? look_up(look) : 0;
}

/* The @number-th page of the sample: anywhere within its step, or memory that lies on nodes in
 * turns would seem to be all on one. */
static uint64_t sampled(uint64_t number, uint64_t step)
{
	return number * step + ((uint32_t)(number * 2654435761U) >> 7) % step;
}

int placement_uses(const struct memory *memory, const struct placement_map *map,
	uint64_t uses[MACHINE_CPUS_MAX][MACHINE_NODES_MAX])
{
	const uint64_t step = map->pages / PLACEMENT_SAMPLE + 1;
	struct look look = {.memory = memory, .each = step * MEMORY_PAGE, .uses = uses};
	uint64_t number = 0, begin = 0;
	int ret = 0;

	for (unsigned i = 0; ret == 0 && i < map->count; i++) {
		const struct virtio_coop_run *run = &map->runs[i];

		for (; ret == 0 && sampled(number, step) < begin + run->pages; number++)
			ret = look_at(&look, run, sampled(number, step) - begin);
		begin += run->pages;
	}
	return ret == 0 && look.count ? look_up(&look) : ret;
}

/* ---- to where it belongs ---- */

/* The next pages that are to go anywhere, and where; returns their number. */
static unsigned next_pages(
	struct placement *placement, gpa_t pages[PLACEMENT_PIECE], int nodes[PLACEMENT_PIECE])
{
	const struct placement_map *map = &placement->map;
	unsigned count = 0;

	while (count < PLACEMENT_PIECE && placement->run < map->count) {
		const struct virtio_coop_run *run = &map->runs[placement->run];

		if (placement->page == run->pages || placement->nodes[run->vcpu] < 0) {
			placement->run++;
			placement->page = 0;
			continue;
		}
		pages[count] = GPA(run->gpa + placement->page++ * MEMORY_PAGE);
		nodes[count++] = (int)placement->nodes[run->vcpu];
	}
	return count;
}

/* Those that are there and on another node than they should be; returns their number. */
static unsigned keep_strays(const struct memory *memory, gpa_t *pages, int *wanted, unsigned count)
{
	int nodes[PLACEMENT_PIECE];
	unsigned kept = 0;

	if (memory_nodes(memory, pages, nodes, count) < 0)
		return count;
	for (unsigned i = 0; i < count; i++) {
		if (nodes[i] < 0 || nodes[i] == wanted[i])
			continue;
		pages[kept] = pages[i];
		wanted[kept++] = wanted[i];
	}
	return kept;
}

static void move(struct placement *placement, gpa_t *pages, const int *wanted, unsigned count)
{
	struct machine_placing *placing = &placement->placing;
	int nodes[PLACEMENT_PIECE], ret;

	memcpy(nodes, wanted, count * sizeof(*nodes));
	ret = memory_move(placement->memory, pages, nodes, count);
	for (unsigned i = 0; i < count; i++) {
		if (ret == 0 && nodes[i] == wanted[i])
			placing->moved++;
		else
			placing->failed++;
	}
	if (ret < 0)
		placing->error = -ret;
}

static void go_on(struct loop_timer *timer)
{
	struct placement *placement = container_of(timer, struct placement, timer);
	gpa_t pages[PLACEMENT_PIECE];
	int nodes[PLACEMENT_PIECE];
	unsigned count = next_pages(placement, pages, nodes);
	unsigned strays = count ? keep_strays(placement->memory, pages, nodes, count) : 0;

	if (strays)
		move(placement, pages, nodes, strays);
	if (count && !placement->placing.error)
		loop_timer_after(placement->loop, timer, PLACEMENT_PAUSE_NS);
	else
		placement_end(placement);
}

int placement_begin(struct placement *placement, struct loop *loop, const struct memory *memory,
	struct placement_map *map, const int8_t nodes[MACHINE_CPUS_MAX])
{
	if (memory->pins)
		return -EBUSY;
	placement_end(placement);
	*placement = (struct placement){.timer.expired = go_on,
		.loop = loop,
		.memory = memory,
		.map = *map,
		.placing.moving = true};
	memcpy(placement->nodes, nodes, sizeof(placement->nodes));
	*map = (struct placement_map){0};
	loop_timer_after(loop, &placement->timer, 0);
	return 0;
}

void placement_end(struct placement *placement)
{
	loop_timer_stop(&placement->timer);
	placement_free_map(&placement->map);
	placement->placing.moving = false;
}
