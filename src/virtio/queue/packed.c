/* SPDX-License-Identifier: Apache-2.0 */
/* Packed rings (virtio 1.2, 2.8). */
#include "virtio/queue/ring.h"

#include "base/bytes.h"

#include <errno.h>

#define WRAP          0x8000 /* the wrap counter in a position */
#define EVENT_OFFSET  0      /* of an event suppression structure (2.8.10) */
#define EVENT_FLAGS   2
#define EVENT_LENGTH  4
#define EVENT_ENABLE  0
#define EVENT_DISABLE 1
#define EVENT_DESC    2
#define DESC_LENGTH   8 /* fields of a descriptor */
#define DESC_ID       12
#define DESC_FLAGS    14

static uint64_t descriptors_length(unsigned size)
{
	return (uint64_t)size * DESC_SIZE;
}

static uint64_t event_length(unsigned size)
{
	(void)size;
	return EVENT_LENGTH;
}

static size_t slot_offset(uint16_t position)
{
	return (size_t)(position & ~WRAP) * DESC_SIZE;
}

static uint8_t *slot_at(const struct virtqueue *queue, uint16_t position)
{
	return (uint8_t *)queue->descriptors + slot_offset(position);
}

/* @entries is at most the ring's size, so it wraps at most once. */
static uint16_t advance(const struct virtqueue *queue, uint16_t position, uint16_t entries)
{
	unsigned at = (position & ~WRAP) + entries;

	if (at >= queue->setup.size)
		return (uint16_t)((at - queue->setup.size) | (~position & WRAP));
	return (uint16_t)(at | (position & WRAP));
}

static uint16_t retreat(const struct virtqueue *queue, uint16_t position, uint16_t entries)
{
	unsigned at = position & ~WRAP;

	if (at < entries)
		return (uint16_t)((at + queue->setup.size - entries) | (~position & WRAP));
	return (uint16_t)((at - entries) | (position & WRAP));
}

static bool empty(struct virtqueue *queue)
{
	/* Acquire: pairs with the driver's barrier between a descriptor and its flags. */
	uint16_t flags = load_u16(slot_at(queue, queue->next_avail) + DESC_FLAGS, __ATOMIC_ACQUIRE);
	bool wrap = queue->next_avail & WRAP;

	return !!(flags & DESC_AVAIL) != wrap || !!(flags & DESC_USED) == wrap;
}

static int pop(struct virtqueue *queue, struct virtqueue_chain *chain)
{
	uint16_t position = queue->next_avail;

	for (uint16_t entries = 1; entries <= queue->setup.size; entries++) {
		struct descriptor desc = read_packed_descriptor(slot_at(queue, position));
		int ret;

		position = advance(queue, position, 1);
		if (desc.flags & DESC_INDIRECT)
			ret = chain_add_indirect(queue, chain, &desc);
		else
			ret = chain_add(queue, chain, &desc);
		if (ret < 0)
			return ret;
		if (desc.flags & DESC_NEXT)
			continue;
		/* The id stands in the last descriptor (2.8.6). */
		chain->id = desc.link;
		chain->entries = entries;
		queue->next_avail = position;
		return 0;
	}
	return virtqueue_break(queue, "chain that does not end");
}

static void unpop(struct virtqueue *queue, const struct virtqueue_chain *chain)
{
	queue->next_avail = retreat(queue, queue->next_avail, chain->entries);
}

static void push(struct virtqueue *queue, const struct virtqueue_chain *chain, uint32_t written)
{
	uint8_t *slot = slot_at(queue, queue->next_used);
	uint16_t flags = queue->next_used & WRAP ? DESC_AVAIL | DESC_USED : 0;

	if (written)
		flags |= DESC_WRITE;
	store_le32(slot + DESC_LENGTH, written);
	store_le16(slot + DESC_ID, chain->id);
	if (queue->unflushed == 0) {
		/* The driver stops here until flush: what follows stays hidden behind it. */
		queue->batch_slot = queue->next_used;
		queue->batch_flags = flags;
	} else {
		/* Release: length, id and data before the flags. */
		store_u16(slot + DESC_FLAGS, flags, __ATOMIC_RELEASE);
	}
	memory_wrote(queue->memory,
		gpa_add(queue->setup.descriptors, slot_offset(queue->next_used)), DESC_SIZE);
	queue->next_used = advance(queue, queue->next_used, chain->entries);
}

static void flush(struct virtqueue *queue)
{
	/* Release: the whole batch before the flags that uncover it. */
	store_u16(slot_at(queue, queue->batch_slot) + DESC_FLAGS, queue->batch_flags,
		__ATOMIC_RELEASE);
	memory_wrote(queue->memory,
		gpa_add(queue->setup.descriptors, slot_offset(queue->batch_slot)), DESC_SIZE);
}

static bool wants_interrupt(struct virtqueue *queue, uint32_t entries)
{
	const uint8_t *driver = queue->driver;
	uint16_t flags = load_u16(driver + EVENT_FLAGS, __ATOMIC_ACQUIRE);
	uint16_t event, to = queue->next_used & (uint16_t)~WRAP;

	if (flags == EVENT_DISABLE)
		return false;
	if (flags != EVENT_DESC || !queue->setup.event_idx || entries >= queue->setup.size)
		return true;
	event = load_u16(driver + EVENT_OFFSET, __ATOMIC_RELAXED);
	/* An event of the other lap lies one ring behind (2.8.10.1). */
	if ((event ^ queue->next_used) & WRAP)
		event = (uint16_t)((event & ~WRAP) - queue->setup.size);
	else
		event &= (uint16_t)~WRAP;
	return passed_event(event, to, (uint16_t)(to - entries));
}

static void set_event_flags(struct virtqueue *queue, uint16_t flags)
{
	/* Release: the offset before the flags that make it count. */
	store_u16((uint8_t *)queue->device + EVENT_FLAGS, flags, __ATOMIC_RELEASE);
	memory_wrote(queue->memory, queue->setup.device, EVENT_LENGTH);
}

static void ask_for_kick(struct virtqueue *queue)
{
	if (queue->setup.event_idx)
		store_u16((uint8_t *)queue->device + EVENT_OFFSET, queue->next_avail,
			__ATOMIC_RELAXED);
	set_event_flags(queue, queue->setup.event_idx ? EVENT_DESC : EVENT_ENABLE);
}

static void ask_for_none(struct virtqueue *queue)
{
	set_event_flags(queue, EVENT_DISABLE);
}

static bool position_valid(const struct virtqueue_setup *setup, uint16_t position)
{
	return (position & ~WRAP) < setup->size;
}

const struct ring_ops packed_ring_ops = {
	.descriptors_length = descriptors_length,
	.driver_length = event_length,
	.device_length = event_length,
	.driver_alignment = 4,
	.device_alignment = 4,
	.empty = empty,
	.pop = pop,
	.unpop = unpop,
	.push = push,
	.flush = flush,
	.wants_interrupt = wants_interrupt,
	.ask_for_kick = ask_for_kick,
	.ask_for_none = ask_for_none,
	.first_position = WRAP,
	.position_valid = position_valid,
};
