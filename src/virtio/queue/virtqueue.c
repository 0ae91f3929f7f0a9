/* SPDX-License-Identifier: Apache-2.0 */
/* What both kinds of ring have in common. */
#include "virtio/queue/ring.h"

#include "base/checked.h"

#include <errno.h>

static const struct ring_ops *ring(const struct virtqueue *queue)
{
	return queue->setup.packed ? &packed_ring_ops : &split_ring_ops;
}

int virtqueue_break(struct virtqueue *queue, const char *fault)
{
	if (!queue->broken)
		queue->fault = fault;
	queue->broken = true;
	return -EPROTO;
}

static bool size_valid(const struct virtqueue_setup *setup)
{
	if (setup->size == 0 || setup->size > VIRTQUEUE_SIZE_MAX)
		return false;
	return setup->packed || is_power_of_two(setup->size);
}

static bool aligned(const struct virtqueue_setup *setup, const struct ring_ops *ops)
{
	return setup->descriptors.value % DESC_SIZE == 0 &&
	       setup->driver.value % ops->driver_alignment == 0 &&
	       setup->device.value % ops->device_alignment == 0;
}

static int map_areas(struct virtqueue *queue, struct memory *memory)
{
	const struct virtqueue_setup *setup = &queue->setup;
	const struct ring_ops *ops = ring(queue);

	queue->descriptors =
		memory_begin(memory, setup->descriptors, ops->descriptors_length(setup->size));
	queue->driver = memory_begin(memory, setup->driver, ops->driver_length(setup->size));
	queue->device = memory_begin(memory, setup->device, ops->device_length(setup->size));
	queue->generation = memory_generation(memory);
	return queue->descriptors && queue->driver && queue->device ? 0 : -EFAULT;
}

int virtqueue_refresh(struct virtqueue *queue)
{
	if (!queue->enabled || queue->generation == memory_generation(queue->memory))
		return 0;
	return map_areas(queue, queue->memory);
}

int virtqueue_enable(
	struct virtqueue *queue, struct memory *memory, const struct virtqueue_setup *setup)
{
	const struct ring_ops *ops = setup->packed ? &packed_ring_ops : &split_ring_ops;
	int ret;

	queue->enabled = false;
	if (!size_valid(setup) || !aligned(setup, ops))
		return -EINVAL;
	queue->setup = *setup;
	queue->memory = memory;
	ret = map_areas(queue, memory);
	if (ret < 0)
		return ret;
	queue->next_avail = queue->next_used = ops->first_position;
	queue->avail_seen = 0;
	queue->in_flight = 0;
	queue->unsignalled = queue->unflushed = 0;
	queue->broken = false;
	queue->fault = NULL;
	queue->kicks_wanted = true;
	/* The driver zeroed its areas, which asks for the kick of entry 0. */
	queue->armed = true;
	queue->enabled = true;
	return 0;
}

void virtqueue_disable(struct virtqueue *queue)
{
	queue->enabled = false;
	queue->broken = false;
	queue->fault = NULL;
	queue->in_flight = 0;
	queue->setup = (struct virtqueue_setup){0};
}

/* Asks for a kick at the next entry; true when that entry came before the driver could see it. */
static bool arm(struct virtqueue *queue)
{
	if (!queue->armed) {
		ring(queue)->ask_for_kick(queue);
		queue->armed = true;
		/* What was asked must be visible before the ring is looked at again, or both sides
		 * wait: the driver has the same barrier the other way round (2.7.13.4.1). */
		atomic_thread_fence(memory_order_seq_cst);
	}
	return !ring(queue)->empty(queue);
}

/* The model is at the ring's end and wants to be called for more. */
static bool await_more(struct virtqueue *queue)
{
	return queue->polled ? !ring(queue)->empty(queue) : arm(queue);
}

bool virtqueue_poll(struct virtqueue *queue)
{
	queue->polled = true;
	return queue->enabled && !queue->broken && queue->kicks_wanted &&
	       !ring(queue)->empty(queue);
}

bool virtqueue_sleep(struct virtqueue *queue)
{
	/* Nobody looks until the next poll: what the model now takes and gives back, since it is
	 * too little, has to leave the driver asked for more. */
	queue->polled = false;
	return queue->enabled && !queue->broken && queue->kicks_wanted && arm(queue);
}

static void disarm(struct virtqueue *queue)
{
	if (queue->armed)
		ring(queue)->ask_for_none(queue);
	queue->armed = false;
}

int virtqueue_pop(struct virtqueue *queue, struct virtqueue_chain *chain)
{
	int ret;

	if (!queue->enabled || queue->broken)
		return queue->broken ? -EPROTO : 0;
	if (ring(queue)->empty(queue) && (!queue->kicks_wanted || !await_more(queue)))
		return 0;
	/* More than the ring holds: the driver offers buffers it has not got back. */
	if (queue->in_flight >= queue->setup.size)
		return virtqueue_break(queue, "buffers offered twice");
	chain_start(chain);
	ret = ring(queue)->pop(queue, chain);
	if (ret < 0)
		return ret;
	queue->in_flight++;
	/* Without EVENT_IDX what was asked holds for all entries; a poller will see them. */
	if (queue->polled)
		disarm(queue);
	else if (queue->setup.event_idx)
		queue->armed = false;
	atomic_fetch_add_explicit(&queue->stats.chains, 1, memory_order_relaxed);
	return 1;
}

void virtqueue_unpop(struct virtqueue *queue, const struct virtqueue_chain *chain)
{
	if (!queue->enabled)
		return;
	ring(queue)->unpop(queue, chain);
	queue->in_flight--;
	atomic_fetch_sub_explicit(&queue->stats.chains, 1, memory_order_relaxed);
}

static void mark_written(
	struct virtqueue *queue, const struct virtqueue_chain *chain, uint32_t written)
{
	const struct iovec *segment = &chain->segments[chain->readable];

	for (unsigned i = 0; i < chain->writable && written; i++) {
		uint32_t part = (uint32_t)min_u64(segment[i].iov_len, written);

		memory_end(queue->memory, segment[i].iov_base, part);
		written -= part;
	}
}

void virtqueue_push(struct virtqueue *queue, const struct virtqueue_chain *chain, uint32_t written)
{
	if (!queue->enabled)
		return;
	mark_written(queue, chain, written);
	ring(queue)->push(queue, chain, written);
	queue->unflushed += chain->entries;
	queue->in_flight--;
}

void virtqueue_flush(struct virtqueue *queue)
{
	if (!queue->enabled || queue->unflushed == 0)
		return;
	ring(queue)->flush(queue);
	if (__builtin_add_overflow(queue->unsignalled, queue->unflushed, &queue->unsignalled))
		queue->unsignalled = UINT32_MAX;
	queue->unflushed = 0;
}

bool virtqueue_wants_interrupt(struct virtqueue *queue)
{
	uint32_t entries = queue->unsignalled;

	if (!queue->enabled || entries == 0)
		return false;
	queue->unsignalled = 0;
	/* The used entries must be visible before the driver's wish is read, or it may go to sleep
	 * between the two (2.7.7.2). */
	atomic_thread_fence(memory_order_seq_cst);
	return ring(queue)->wants_interrupt(queue, entries);
}

void virtqueue_kicks_off(struct virtqueue *queue)
{
	if (!queue->enabled || !queue->kicks_wanted)
		return;
	queue->kicks_wanted = false;
	if (queue->polled) {
		disarm(queue);
		return;
	}
	queue->armed = false;
	ring(queue)->ask_for_none(queue);
}

bool virtqueue_kicks_on(struct virtqueue *queue)
{
	if (!queue->enabled || queue->broken)
		return false;
	queue->kicks_wanted = true;
	return await_more(queue);
}

uint16_t virtqueue_position(const struct virtqueue *queue)
{
	return queue->next_avail;
}

void virtqueue_set_position(struct virtqueue *queue, uint16_t position)
{
	queue->next_avail = queue->avail_seen = queue->next_used = position;
	queue->unsignalled = queue->unflushed = 0;
	/* Nobody knows what the driver was last asked for. */
	queue->armed = false;
}
