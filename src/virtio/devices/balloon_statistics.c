/* SPDX-License-Identifier: Apache-2.0 */
/* What the guest says of its memory (5.5.6.3): one buffer that the driver fills and the device
 * keeps until it wants the next. It stays in the ring meanwhile, so a pause or a reset needs
 * nothing. */
#include "virtio/devices/balloon_private.h"

#define ENTRY   10U /* le16 tag, le64 value */
#define ENTRIES 64U /* looked at: four times as many as there are tags */
#define SECOND  1000000000ULL

/* As Firecracker's API calls them. */
static const char *const names[VIRTIO_BALLOON_TAGS] = {
	"swap_in",
	"swap_out",
	"major_faults",
	"minor_faults",
	"free_memory",
	"total_memory",
	"available_memory",
	"disk_caches",
	"hugetlb_allocations",
	"hugetlb_failures",
	"oom_kill",
	"alloc_stall",
	"async_scan",
	"direct_scan",
	"async_reclaim",
	"direct_reclaim",
};

static void read_entries(struct balloon_guest *guest, const uint8_t *bytes, size_t length)
{
	uint32_t present = 0;

	for (size_t at = 0; at + ENTRY <= length; at += ENTRY) {
		uint16_t tag = load_le16(bytes + at);

		if (tag >= VIRTIO_BALLOON_TAGS)
			continue; /* a newer driver's */
		atomic_store(&guest->values[tag], load_le64(bytes + at + 2));
		present |= 1U << tag;
	}
	atomic_store(&guest->present, present);
	counter_add(&guest->answers, 1);
}

static int pop(struct balloon *balloon, struct virtqueue *queue, struct virtqueue_chain *chain)
{
	int ret = virtqueue_pop(queue, chain);

	if (ret < 0)
		virtio_needs_reset(&balloon->virtio, queue->fault);
	return ret;
}

void balloon_statistics_take(struct balloon *balloon)
{
	struct virtqueue *queue = balloon_queue(balloon, BALLOON_STATISTICS);
	struct iovec segments[BALLOON_SEGMENTS];
	struct virtqueue_chain chain = {.segments = segments, .capacity = BALLOON_SEGMENTS};
	uint8_t bytes[ENTRY * ENTRIES];

	if (pop(balloon, queue, &chain) <= 0)
		return;
	read_entries(&balloon->guest, bytes,
		iov_copy_from(segments, chain.readable, 0, bytes, sizeof(bytes)));
	virtqueue_unpop(queue, &chain);
}

static void give_to_driver(struct balloon *balloon, struct virtqueue *queue)
{
	struct iovec segments[BALLOON_SEGMENTS];
	struct virtqueue_chain chain = {.segments = segments, .capacity = BALLOON_SEGMENTS};

	if (pop(balloon, queue, &chain) <= 0)
		return;
	virtqueue_push(queue, &chain, 0);
	virtio_interrupt(&balloon->virtio, queue);
	/* Asks for the driver's kick, should it not have answered already. */
	balloon_statistics_take(balloon);
}

void balloon_statistics_start(struct balloon *balloon)
{
	unsigned seconds = atomic_load(&balloon->interval);

	if (seconds && balloon_queue(balloon, BALLOON_STATISTICS))
		loop_timer_after(balloon->virtio.io, &balloon->timer, seconds * SECOND);
	else
		loop_timer_stop(&balloon->timer);
}

void balloon_statistics_ask(struct balloon *balloon)
{
	struct virtqueue *queue = balloon_queue(balloon, BALLOON_STATISTICS);

	if (queue && atomic_load(&balloon->interval))
		give_to_driver(balloon, queue);
	balloon_statistics_start(balloon);
}

void balloon_statistics_tell(const struct balloon *balloon, struct stats_sink *sink)
{
	const struct balloon_guest *guest = &balloon->guest;
	uint32_t present = atomic_load(&guest->present);

	for (unsigned tag = 0; tag < VIRTIO_BALLOON_TAGS; tag++)
		if (present >> tag & 1)
			sink->count(sink, "guest", names[tag], atomic_load(&guest->values[tag]));
	sink->count(sink, "guest", "answers", counter_read(&guest->answers));
}
