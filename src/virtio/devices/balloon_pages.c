/* SPDX-License-Identifier: Apache-2.0 */
/* Pages that the guest does without go back to the host, in runs as long as they come. */
#include "virtio/devices/balloon_private.h"

#include "base/clock.h"

#define PFN_SIZE  4U                        /* a page number, whatever the guest's pages are */
#define PFN_BYTES (BALLOON_PART * PFN_SIZE) /* looked at together */
#define PIECE     1024U                     /* pages that the host takes in a fraction of a turn */
#define HUGE_PAGE 512U                      /* pages: pieces end where one does */
/* No more has come for so long: some times what lay between the last two. Short where it can be,
 * for a guest that starts another kernel without a word uses these pages at once. */
#define RELEASE_TIMES    8
#define RELEASE_LEAST_NS MS_NS
#define RELEASE_MOST_NS  200000000ULL

/* ---- collecting ---- */

/* Neighbouring pages come from one region, nearly always. */
static bool is_memory(const struct balloon *balloon, struct balloon_batch *batch, uint32_t page)
{
	const struct memory_region *region;

	if (page >= batch->from && page < batch->to)
		return true;
	for (unsigned i = 0; (region = memory_region(balloon->virtio.memory, i)); i++) {
		uint64_t first = region->base.value / MEMORY_PAGE;

		if (page < first || page - first >= region->size / MEMORY_PAGE)
			continue;
		batch->from = (uint32_t)first;
		batch->to = (uint32_t)(first + region->size / MEMORY_PAGE);
		return true;
	}
	return false;
}

/* Upwards or downwards: allocators give pages out in both directions. A run lies in one region,
 * that of @page. */
static bool extend(const struct balloon_batch *batch, struct balloon_run *run, uint32_t page)
{
	if (run->first < batch->from || run->first >= batch->to)
		return false;
	if (page + 1 == run->first)
		run->first = page;
	else if (page != run->first + run->count)
		return false;
	run->count++;
	return true;
}

static void add_page(struct balloon *balloon, struct balloon_batch *batch, uint32_t page)
{
	if (!is_memory(balloon, batch, page)) {
		balloon_add(balloon, BALLOON_REFUSED, 1);
		return;
	}
	if (!batch->count || !extend(batch, &batch->runs[batch->count - 1], page))
		batch->runs[batch->count++] = (struct balloon_run){page, 1};
	batch->pages++;
	batch->held++;
}

/* Shell's: in place, bounded whatever the guest brings, and next to nothing for a few runs. */
static void sort(struct balloon_run *runs, unsigned count)
{
	static const unsigned gaps[] = {301, 132, 57, 23, 10, 4, 1};

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
static void join(struct balloon *balloon, struct balloon_batch *batch)
{
	unsigned kept = 0;

	sort(batch->runs, batch->count);
	for (unsigned i = 1; i < batch->count; i++) {
		struct balloon_run *last = &batch->runs[kept], *run = &batch->runs[i];
		uint64_t end = (uint64_t)last->first + last->count;
		uint64_t run_end = (uint64_t)run->first + run->count;
		uint32_t count = (uint32_t)((run_end > end ? run_end : end) - last->first);

		if (run->first <= end && is_memory(balloon, batch, last->first) &&
			run->first < batch->to)
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

/* Up to the end of a huge page, where there is one in it. */
static uint32_t piece_of(const struct balloon_run *run)
{
	uint32_t count = PIECE - run->first % HUGE_PAGE;

	return run->count < count ? run->count : count;
}

/* False: the turn is over, and runs are left. */
static bool give_back_batch(struct balloon *balloon, struct balloon_batch *batch, bool in_turn)
{
	if (!batch->going)
		join(balloon, batch);
	batch->going = true;
	while (batch->next < batch->count) {
		struct balloon_run *run = &batch->runs[batch->next];
		uint32_t count = piece_of(run);

		balloon_give_back(balloon, run->first, count);
		run->first += count;
		run->count -= count;
		if (run->count == 0)
			batch->next++;
		if (batch->next < batch->count && in_turn && loop_turn_over(balloon->virtio.io))
			return false;
	}
	batch->next = batch->count = batch->held = 0;
	batch->going = false;
	return true;
}

static bool must_go(const struct balloon *balloon, const struct balloon_batch *batch)
{
	return batch->going || batch->held >= BALLOON_HELD ||
	       batch->count > BALLOON_RUNS - BALLOON_PART || batch == &balloon->reporting ||
	       !virtio_has(&balloon->virtio, VIRTIO_BALLOON_F_MUST_TELL_HOST);
}

static bool serve(struct balloon *balloon, struct balloon_batch *batch,
	const struct virtqueue_chain *chain, enum balloon_count count,
	bool (*take)(struct balloon *balloon, struct balloon_batch *batch,
		const struct virtqueue_chain *chain))
{
	while (!must_go(balloon, batch) || give_back_batch(balloon, batch, true)) {
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

static void release_later(struct balloon *balloon)
{
	uint64_t now = clock_ns(), between = now - balloon->inflated_at;
	uint64_t wait = RELEASE_MOST_NS;

	balloon->inflated_at = now;
	if (between < RELEASE_MOST_NS / RELEASE_TIMES)
		wait = between * RELEASE_TIMES;
	if (wait < RELEASE_LEAST_NS)
		wait = RELEASE_LEAST_NS;
	loop_timer_at(balloon->virtio.io, &balloon->release, now + wait);
}

bool balloon_inflate(struct balloon *balloon, const struct virtqueue_chain *chain)
{
	bool done = serve(balloon, &balloon->inflating, chain, BALLOON_INFLATED, take_numbers);

	if (done && balloon->inflating.count)
		release_later(balloon);
	return done;
}

bool balloon_release(struct balloon *balloon)
{
	return give_back_batch(balloon, &balloon->inflating, true);
}

void balloon_release_all(struct balloon *balloon)
{
	give_back_batch(balloon, &balloon->inflating, false);
}

bool balloon_report(struct balloon *balloon, const struct virtqueue_chain *chain)
{
	return serve(balloon, &balloon->reporting, chain, BALLOON_REPORTED, take_buffers);
}
