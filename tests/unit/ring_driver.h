/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The driver's side of a virtqueue (virtio 1.2, 2.7 and 2.8), written from the specification to
 * test the device's side against: a guest driver in a test. One thread at a time.
 */
#ifndef DUET_TESTS_RING_DRIVER_H
#define DUET_TESTS_RING_DRIVER_H

#include "virtio/queue/virtqueue.h"

#define RING_DRIVER_INDIRECT_MAX 32 /* entries of an indirect table */

struct ring_buffer {
	uint64_t gpa;
	uint32_t length;
	bool writable; /* by the device; all of these behind the others */
};

struct ring_driver {
	struct memory *memory;
	struct virtqueue_setup setup;
	uint64_t indirect_tables; /* one for each buffer id */
	uint16_t free_count;      /* descriptors */
	uint16_t free_head;       /* split: list through next; packed: list of ids */
	uint16_t next[VIRTQUEUE_SIZE_MAX];
	uint16_t entries[VIRTQUEUE_SIZE_MAX]; /* ring entries by head or id, 0: not offered */
	uint64_t tokens[VIRTQUEUE_SIZE_MAX];
	uint16_t avail, used;       /* positions; packed: below the size */
	bool avail_wrap, used_wrap; /* packed */
	uint16_t unkicked;          /* entries offered since the last ring_driver_kick() */
};

/* Zeroes the areas, which lie at @base one behind the other, indirect tables last. */
void ring_driver_init(struct ring_driver *driver, struct memory *memory, uint64_t base,
	const struct virtqueue_setup *setup);
/* Bytes that they take. */
uint64_t ring_driver_length(uint16_t size);
/* False: no room. @token comes back from ring_driver_take(). */
bool ring_driver_offer(struct ring_driver *driver, const struct ring_buffer *buffers,
	unsigned count, bool indirect, uint64_t token);
/* Whether the device wants a kick for what was offered since the last call. */
bool ring_driver_kick(struct ring_driver *driver);
/* A used buffer; false: none. Aborts when the device gives back what it does not have. */
bool ring_driver_take(struct ring_driver *driver, uint64_t *token, uint32_t *written);
/* Asks for an interrupt when @later more entries were used (0: the next one). */
void ring_driver_interrupts_on(struct ring_driver *driver, uint16_t later);
void ring_driver_interrupts_off(struct ring_driver *driver);

#endif
