/* SPDX-License-Identifier: Apache-2.0 */
/* Pages that the guest does without go back to the host, in runs as long as they come. */
#include "virtio/devices/balloon_private.h"

#define PFN_SIZE  4U                        /* a page number, whatever the guest's pages are */
#define PFN_BYTES (BALLOON_RUNS * PFN_SIZE) /* looked at together */
#define PIECE     1024U                     /* pages that the host takes in a fraction of a turn */

/* ---- collecting ---- */

static bool is_memory(const struct balloon *balloon, uint32_t first, uint32_t count)
{
	return memory_begin(balloon->virtio.memory, GPA(first * MEMORY_PAGE),
		       count * MEMORY_PAGE) != NULL;
}

/* Upwards or downwards: allocators give pages out in both directions. A run lies in one region. */
static bool extends(
	const struct balloon *balloon, const struct balloon_run *run, struct balloon_run *longer)
{
	uint32_t page = longer->first;

	if (page == run->first + run->count)
		*longer = (struct balloon_run){run->first, run->count + 1};
	else if (page + 1 == run->first)
		*longer = (struct balloon_run){page, run->count + 1};
	else
		return false;
	return is_memory(balloon, longer->first, longer->count);
}

static void add_page(struct balloon *balloon, struct balloon_batch *batch, uint32_t page)
{
	struct balloon_run *last = batch->count ? &batch->runs[batch->count - 1] : NULL;
	struct balloon_run run = {page, 1};

	if (last && extends(balloon, last, &run)) {
		*last = run;
	} else if (is_memory(balloon, page, 1)) {
		batch->runs[batch->count++] = (struct balloon_run){page, 1};
	} else {
		balloon_add(balloon, BALLOON_REFUSED, 1);
		return;
	}
	batch->pages++;
}

/* Shell's: in place, bounded whatever the guest brings, and next to nothing for a few runs. */
static void sort(struct balloon_run *runs, unsigned count)
{
	static const unsigned gaps[] = {132, 57, 23, 10, 4, 1};

	for (unsigned g = 0; g < ARRAY_SIZE(gaps); g++)
		for (unsigned i = gaps[g]; i < count; i++) {
			struct balloon_run run = runs[i];
			unsigned at = i;

			for (; at >= gaps[g] && runs[at - gaps[g]].first > run.first; at -= gaps[g])
				runs[at] = runs[at - gaps[g]];
			runs[at] = run;
		}
}

/* Those that touch or overlap become one, unless two regions meet there. */
static void join(const struct balloon *balloon, struct balloon_batch *batch)
{
	unsigned kept = 0;

	sort(batch->runs, batch->count);
	for (unsigned i = 1; i < batch->count; i++) {
		struct balloon_run *last = &batch->runs[kept], *run = &batch->runs[i];
		uint64_t end = (uint64_t)last->first + last->count;
		uint64_t run_end = (uint64_t)run->first + run->count;
		uint32_t count = (uint32_t)((run_end > end ? run_end : end) - last->first);

		if (run->first <= end && is_memory(balloon, last->first, count))
			last->count = count;
		else
			batch->runs[++kept] = *run;
	}
	batch->count = batch->count ? kept + 1 : 0;
}

/* The page numbers that follow. False: there are none. */
static bool take_numbers(
	struct balloon *balloon, struct balloon_batch *batch, const struct virtqueue_chain *chain)
{
	uint8_t bytes[PFN_BYTES];
	size_t got = iov_copy_from(
		chain->segments, chain->readable, batch->offset, bytes, sizeof(bytes));

	for (size_t at = 0; at + PFN_SIZE <= got; at += PFN_SIZE)
		add_page(balloon, batch, load_le32(bytes + at));
	/* Half a page number at the end. */
	if (got % PFN_SIZE)
		balloon_add(balloon, BALLOON_REFUSED, 1);
	batch->offset += got;
	join(balloon, batch);
	return got != 0;
}

bool balloon_run_of(
	const struct balloon *balloon, const struct iovec *segment, struct balloon_run *run)
{
	uint64_t first, end;
	gpa_t gpa;

	if (!memory_locate(balloon->virtio.memory, segment->iov_base, &gpa))
		return false;
	first = align_up(gpa.value, MEMORY_PAGE) / MEMORY_PAGE;
	end = (gpa.value + segment->iov_len) / MEMORY_PAGE;
	if (end <= first)
		return false;
	*run = (struct balloon_run){(uint32_t)first, (uint32_t)(end - first)};
	return true;
}

/* The buffers of a report; as many as a chain can have are less than a batch. */
static bool take_buffers(
	struct balloon *balloon, struct balloon_batch *batch, const struct virtqueue_chain *chain)
{
	const struct iovec *segments = &chain->segments[chain->readable];
	struct balloon_run run;

	if (batch->offset)
		return false;
	/* The guest relies on what is in its free pages (5.5.6.7): they stay as they are. */
	for (unsigned i = 0; i < chain->writable && !atomic_load(&balloon->poison); i++) {
		if (!balloon_run_of(balloon, &segments[i], &run)) {
			balloon_add(balloon, BALLOON_REFUSED, 1);
			continue;
		}
		batch->runs[batch->count++] = run;
		batch->pages += run.count;
	}
	batch->offset = 1;
	join(balloon, batch);
	return true;
}

/* ---- giving back ---- */

void balloon_give_back(struct balloon *balloon, uint32_t first, uint32_t count)
{
	int ret = memory_discard(
		balloon->virtio.memory, GPA(first * MEMORY_PAGE), count * MEMORY_PAGE);

	balloon_add(balloon, ret < 0 ? BALLOON_FAILED : BALLOON_DISCARDED, count);
	balloon_add(balloon, BALLOON_RUNS_GONE, 1);
}

/* False: the turn is over, and runs are left. */
static bool give_back_batch(struct balloon *balloon, struct balloon_batch *batch)
{
	while (batch->next < batch->count) {
		struct balloon_run *run = &batch->runs[batch->next];
		uint32_t count = (uint32_t)min_u64(run->count, PIECE);

		balloon_give_back(balloon, run->first, count);
		run->first += count;
		run->count -= count;
		if (run->count == 0)
			batch->next++;
		if (batch->next < batch->count && loop_turn_over(balloon->virtio.io))
			return false;
	}
	batch->next = batch->count = 0;
	return true;
}

static bool serve(struct balloon *balloon, struct balloon_batch *batch,
	const struct virtqueue_chain *chain, enum balloon_count count,
	bool (*take)(struct balloon *balloon, struct balloon_batch *batch,
		const struct virtqueue_chain *chain))
{
	while (give_back_batch(balloon, batch)) {
		if (!take(balloon, batch, chain)) {
			balloon_add(balloon, count, batch->pages);
			batch->offset = batch->pages = 0;
			return true;
		}
		/* Page numbers that are no memory take their time as well. */
		if (loop_turn_over(balloon->virtio.io))
			return false;
	}
	return false;
}

bool balloon_inflate(struct balloon *balloon, const struct virtqueue_chain *chain)
{
	return serve(balloon, &balloon->inflating, chain, BALLOON_INFLATED, take_numbers);
}

bool balloon_report(struct balloon *balloon, const struct virtqueue_chain *chain)
{
	return serve(balloon, &balloon->reporting, chain, BALLOON_REPORTED, take_buffers);
}
