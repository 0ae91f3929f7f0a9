/* SPDX-License-Identifier: Apache-2.0 */
/* What virtqueue.c, split.c, packed.c and chain.c share. */
#ifndef DUET_VIRTIO_QUEUE_RING_H
#define DUET_VIRTIO_QUEUE_RING_H

#include "virtio/queue/virtqueue.h"

#define DESC_NEXT     0x0001
#define DESC_WRITE    0x0002
#define DESC_INDIRECT 0x0004
#define DESC_AVAIL    0x0080 /* packed */
#define DESC_USED     0x8000 /* packed */

#define DESC_SIZE 16

/* A descriptor as copied from guest memory. */
struct descriptor {
	uint64_t address;
	uint32_t length;
	uint16_t flags;
	uint16_t link; /* split: next; packed: buffer id */
};

/* Each guest byte is read exactly once: volatile keeps the compiler from reading it again after a
 * check. Indirect tables may lie at any address, hence the alignment of 1. */
typedef uint64_t __attribute__((aligned(1), may_alias)) guest_u64;

static inline uint64_t read_once_u64(const void *from)
{
	return *(const volatile guest_u64 *)from;
}

/* Split (2.7.5): address, length, flags, next. */
static inline struct descriptor read_split_descriptor(const uint8_t *from)
{
	uint64_t address = read_once_u64(from), rest = read_once_u64(from + 8);

	return (struct descriptor){.address = address,
		.length = (uint32_t)rest,
		.flags = (uint16_t)(rest >> 32),
		.link = (uint16_t)(rest >> 48)};
}

/* Packed (2.8.1): address, length, id, flags. */
static inline struct descriptor read_packed_descriptor(const uint8_t *from)
{
	uint64_t address = read_once_u64(from), rest = read_once_u64(from + 8);

	return (struct descriptor){.address = address,
		.length = (uint32_t)rest,
		.link = (uint16_t)(rest >> 32),
		.flags = (uint16_t)(rest >> 48)};
}

/* Ring fields of 16 bits; their areas were checked for alignment. */
static inline uint16_t load_u16(const void *from, int order)
{
	return __atomic_load_n((const uint16_t *)from, order);
}

static inline void store_u16(void *to, uint16_t value, int order)
{
	__atomic_store_n((uint16_t *)to, value, order);
}

/* 2.7.7.1, 2.8.10: whether moving from @from to @to passed @event. */
static inline bool passed_event(uint16_t event, uint16_t to, uint16_t from)
{
	return (uint16_t)(to - event - 1) < (uint16_t)(to - from);
}

/* Marks the queue broken for the reason @fault (static words); returns -EPROTO. */
int virtqueue_break(struct virtqueue *queue, const char *fault);

/* chain.c: appends what a descriptor says to the chain; 0 or a negative errno. */
void chain_start(struct virtqueue_chain *chain);
int chain_add(
	struct virtqueue *queue, struct virtqueue_chain *chain, const struct descriptor *desc);
/* @desc is the copy of a descriptor with DESC_INDIRECT. */
int chain_add_indirect(
	struct virtqueue *queue, struct virtqueue_chain *chain, const struct descriptor *desc);

/* The two kinds of ring. */
struct ring_ops {
	uint64_t (*descriptors_length)(unsigned size);
	uint64_t (*driver_length)(unsigned size);
	uint64_t (*device_length)(unsigned size);
	uint64_t driver_alignment, device_alignment;
	bool (*empty)(struct virtqueue *queue);
	int (*pop)(struct virtqueue *queue, struct virtqueue_chain *chain); /* not empty */
	void (*unpop)(struct virtqueue *queue, const struct virtqueue_chain *chain);
	void (*push)(
		struct virtqueue *queue, const struct virtqueue_chain *chain, uint32_t written);
	void (*flush)(struct virtqueue *queue);
	bool (*wants_interrupt)(struct virtqueue *queue, uint32_t entries);
	void (*ask_for_kick)(struct virtqueue *queue);
	void (*ask_for_none)(struct virtqueue *queue);
	uint16_t first_position;
	bool (*position_valid)(const struct virtqueue_setup *setup, uint16_t position);
};

extern const struct ring_ops split_ring_ops, packed_ring_ops;

#endif
