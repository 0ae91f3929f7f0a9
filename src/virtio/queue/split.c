/* SPDX-License-Identifier: Apache-2.0 */
/* Split rings (virtio 1.2, 2.7). */
#include "virtio/queue/ring.h"

#include "base/bytes.h"

#include <errno.h>

#define AVAIL_FLAGS        0
#define AVAIL_INDEX        2
#define AVAIL_RING         4
#define AVAIL_NO_INTERRUPT 1
#define USED_FLAGS         0
#define USED_INDEX         2
#define USED_RING          4
#define USED_NO_NOTIFY     1
#define USED_ELEMENT       8

static uint64_t descriptors_length(unsigned size)
{
	return (uint64_t)size * DESC_SIZE;
}

/* With the event field at the end, whether negotiated or not. */
static uint64_t driver_length(unsigned size)
{
	return AVAIL_RING + 2ULL * size + 2;
}

static uint64_t device_length(unsigned size)
{
	return USED_RING + (uint64_t)USED_ELEMENT * size + 2;
}

static uint8_t *avail_at(const struct virtqueue *queue, size_t offset)
{
	return (uint8_t *)queue->driver + offset;
}

static uint8_t *used_at(const struct virtqueue *queue, size_t offset)
{
	return (uint8_t *)queue->device + offset;
}

static void used_written(struct virtqueue *queue, size_t offset, size_t length)
{
	memory_wrote(queue->memory, gpa_add(queue->setup.device, offset), length);
}

static size_t avail_event_offset(const struct virtqueue *queue)
{
	return USED_RING + (size_t)USED_ELEMENT * queue->setup.size;
}

static bool empty(struct virtqueue *queue)
{
	if (queue->next_avail != queue->avail_seen)
		return false;
	/* Acquire: pairs with the driver's barrier between filling the ring and its index. */
	queue->avail_seen = load_u16(avail_at(queue, AVAIL_INDEX), __ATOMIC_ACQUIRE);
	return queue->next_avail == queue->avail_seen;
}

static int add_descriptors(struct virtqueue *queue, struct virtqueue_chain *chain, uint16_t at)
{
	/* A chain that visits more descriptors than there are runs in a circle. */
	for (unsigned steps = 0; steps < queue->setup.size; steps++) {
		struct descriptor desc;
		int ret;

		if (at >= queue->setup.size)
			return virtqueue_break(queue, "descriptor number out of range");
		desc = read_split_descriptor(
			(const uint8_t *)queue->descriptors + (size_t)at * DESC_SIZE);
		if (desc.flags & DESC_INDIRECT)
			return chain_add_indirect(queue, chain, &desc);
		ret = chain_add(queue, chain, &desc);
		if (ret < 0 || !(desc.flags & DESC_NEXT))
			return ret;
		at = desc.link;
	}
	return virtqueue_break(queue, "chain that does not end");
}

static int pop(struct virtqueue *queue, struct virtqueue_chain *chain)
{
	uint16_t slot = queue->next_avail & (queue->setup.size - 1);
	int ret;

	if ((uint16_t)(queue->avail_seen - queue->next_avail) > queue->setup.size)
		return virtqueue_break(queue, "available index jumped");
	chain->id = load_u16(avail_at(queue, AVAIL_RING + 2U * slot), __ATOMIC_RELAXED);
	ret = add_descriptors(queue, chain, chain->id);
	if (ret < 0)
		return ret;
	queue->next_avail++;
	return 0;
}

static void unpop(struct virtqueue *queue, const struct virtqueue_chain *chain)
{
	(void)chain;
	queue->next_avail--;
}

static void push(struct virtqueue *queue, const struct virtqueue_chain *chain, uint32_t written)
{
	uint16_t slot = queue->next_used & (queue->setup.size - 1);
	size_t offset = USED_RING + (size_t)USED_ELEMENT * slot;

	store_le32(used_at(queue, offset), chain->id);
	store_le32(used_at(queue, offset + 4), written);
	used_written(queue, offset, USED_ELEMENT);
	queue->next_used++;
}

static void flush(struct virtqueue *queue)
{
	/* Release: the elements and the data are visible before the index. */
	store_u16(used_at(queue, USED_INDEX), queue->next_used, __ATOMIC_RELEASE);
	used_written(queue, USED_INDEX, 2);
}

static bool wants_interrupt(struct virtqueue *queue, uint32_t entries)
{
	uint16_t event;

	if (!queue->setup.event_idx)
		return !(load_u16(avail_at(queue, AVAIL_FLAGS), __ATOMIC_RELAXED) &
			 AVAIL_NO_INTERRUPT);
	event = load_u16(avail_at(queue, AVAIL_RING + 2U * queue->setup.size), __ATOMIC_RELAXED);
	return entries > UINT16_MAX ||
	       passed_event(event, queue->next_used, (uint16_t)(queue->next_used - entries));
}

static void ask_for_kick(struct virtqueue *queue)
{
	size_t offset = queue->setup.event_idx ? avail_event_offset(queue) : USED_FLAGS;

	store_u16(used_at(queue, offset), queue->setup.event_idx ? queue->next_avail : 0,
		__ATOMIC_RELAXED);
	used_written(queue, offset, 2);
}

static void ask_for_none(struct virtqueue *queue)
{
	/* With EVENT_IDX the event stays where it is, behind the ring: the driver passed it. */
	if (queue->setup.event_idx)
		return;
	store_u16(used_at(queue, USED_FLAGS), USED_NO_NOTIFY, __ATOMIC_RELAXED);
	used_written(queue, USED_FLAGS, 2);
}

static bool position_valid(const struct virtqueue_setup *setup, uint16_t position)
{
	(void)setup;
	(void)position;
	return true; /* free-running indices */
}

const struct ring_ops split_ring_ops = {
	.descriptors_length = descriptors_length,
	.driver_length = driver_length,
	.device_length = device_length,
	.driver_alignment = 2,
	.device_alignment = 4,
	.empty = empty,
	.pop = pop,
	.unpop = unpop,
	.push = push,
	.flush = flush,
	.wants_interrupt = wants_interrupt,
	.ask_for_kick = ask_for_kick,
	.ask_for_none = ask_for_none,
	.first_position = 0,
	.position_valid = position_valid,
};
