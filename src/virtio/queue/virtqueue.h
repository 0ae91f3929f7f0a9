/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One ring API for devices: split (virtio 1.2, 2.7) and packed (2.8) rings, indirect descriptors,
 * EVENT_IDX. A device pops bounded chains with their readable and writable parts apart and pushes
 * them back; it never touches ring memory.
 *
 * Threads: a queue belongs to one I/O loop. Setting up (virtqueue_enable) happens while the device
 * is quiescent.
 *
 * The guest may write to the rings at any moment: each descriptor is read once into a copy that is
 * checked and used. What breaks the rules makes pop return a negative errno, after which the queue
 * is broken and gives nothing until it is enabled again.
 *
 * Kicks: a queue that pop found empty has asked the driver for the next kick (EVENT_IDX included),
 * unless kicks are off. So a model may simply pop until 0 at each kick. A polled queue asks only
 * while its poller sleeps; the model sees no difference.
 */
#ifndef DUET_VIRTIO_QUEUE_VIRTQUEUE_H
#define DUET_VIRTIO_QUEUE_VIRTQUEUE_H

#include "base/iov.h" /* over a chain's parts */
#include "memory/memory.h"
#include "state/state.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#define VIRTQUEUE_SIZE_MAX 1024

struct loop;

struct virtqueue_setup {
	uint16_t size; /* entries; split: power of two */
	bool packed, event_idx, indirect;
	gpa_t descriptors, driver, device; /* the three areas of 2.7 and 2.8 */
};

struct virtqueue_stats {              /* written by the I/O loop, read by anyone */
	_Atomic uint64_t kicks;       /* doorbells received */
	_Atomic uint64_t interrupts;  /* sent */
	_Atomic uint64_t chains;      /* popped */
	_Atomic uint64_t suppressed;  /* interrupts the driver did not want */
	_Atomic uint64_t polls;       /* rounds of polling that found something */
	_Atomic uint64_t poll_misses; /* times that polling was given up */
};

struct virtqueue {
	unsigned index; /* in its device */
	bool enabled, broken;
	struct loop *io; /* whose thread serves it; set by its owner, for the device's life */
	struct virtqueue_setup setup;
	struct virtqueue_stats stats;
	struct memory *memory;
	const char *fault; /* why it is broken: static words */
	/* Host pointers to the three areas, checked at virtqueue_enable(), of this generation of
	 * the memory. */
	void *descriptors, *driver, *device;
	unsigned generation;
	/* Ring positions. Split: free-running; packed: with the wrap counter in bit 15. */
	uint16_t next_avail, next_used;
	uint16_t avail_seen;  /* split: the driver's index when last read */
	uint16_t in_flight;   /* chains popped and not pushed */
	uint32_t unsignalled; /* used entries flushed since the last virtqueue_wants_interrupt() */
	uint32_t unflushed;   /* used entries pushed since the last flush */
	/* Packed: what flush publishes last, so that all of a batch appears at once. */
	uint16_t batch_slot, batch_flags;
	/* Somebody looks at the ring while kicks are wanted: from virtqueue_poll(), and from the
	 * start when it is set, until virtqueue_sleep(). */
	bool polled;
	bool kicks_wanted;
	bool armed; /* the driver was told to kick for entry next_avail */
};

/* A popped request. The arrays belong to the caller and hold @capacity segments. */
struct virtqueue_chain {
	uint16_t id;      /* buffer id (packed) or head (split), given back by push */
	uint16_t entries; /* ring entries it takes (packed) */
	unsigned capacity;
	struct iovec *segments;      /* readable ones first, then writable ones */
	unsigned readable, writable; /* counts */
	uint64_t readable_bytes, writable_bytes;
};

/* Checks the setup and maps the areas: -EINVAL (bad size or alignment), -EFAULT (outside RAM). */
int virtqueue_enable(
	struct virtqueue *queue, struct memory *memory, const struct virtqueue_setup *setup);
void virtqueue_disable(struct virtqueue *queue);
/* After a rest, in which memory may have changed: finds the areas anew. -EFAULT: they are gone. */
int virtqueue_refresh(struct virtqueue *queue);

/* 1: @chain filled; 0: the ring is empty; negative: the queue is broken (queue->fault says why).
 * Chains longer than @capacity or than 4 GiB break it. Zero-length segments are dropped. */
int virtqueue_pop(struct virtqueue *queue, struct virtqueue_chain *chain);
/* Puts back the last popped chain as if it had not been popped (no buffers now). Several go back
 * in the reverse order of their pops; nothing may have been popped in between. */
void virtqueue_unpop(struct virtqueue *queue, const struct virtqueue_chain *chain);
/* @written: bytes written to the writable part from its start. Marks those pages dirty.
 * virtqueue_push(); ...; virtqueue_flush() publishes several at once, in one index update. */
void virtqueue_push(struct virtqueue *queue, const struct virtqueue_chain *chain, uint32_t written);
void virtqueue_flush(struct virtqueue *queue);
/* Whether the driver wants an interrupt for what was flushed since the last call. */
bool virtqueue_wants_interrupt(struct virtqueue *queue);

/* Kicks off while the device looks at the ring anyway. After kicks_on the ring must be looked at
 * once more: it returns true when there is something in it. */
void virtqueue_kicks_off(struct virtqueue *queue);
bool virtqueue_kicks_on(struct virtqueue *queue);

/* For a split ring that somebody else serves meanwhile: where it is and where it has come to, with
 * nothing in flight. */
uint16_t virtqueue_position(const struct virtqueue *queue);
void virtqueue_set_position(struct virtqueue *queue, uint16_t position);

/* For the poller of a polled queue: whether the model waits for something that is there; and the
 * same after the driver was asked for kicks. From sleep until the next poll the queue is as one
 * that is not polled, so that a model that cannot use what is there waits for the driver. */
bool virtqueue_poll(struct virtqueue *queue);
bool virtqueue_sleep(struct virtqueue *queue);

/* Set-up and positions; quiescent, nothing in flight. Restore checks them and maps the areas. */
void virtqueue_save(const struct virtqueue *queue, struct state_writer *writer);
int virtqueue_restore(struct virtqueue *queue, struct memory *memory, struct state_reader *reader,
	struct error *err);

#endif
