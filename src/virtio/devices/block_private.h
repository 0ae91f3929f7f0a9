/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-block: what block.c (life, configuration) and block_request.c (data) share. */
#ifndef DUET_VIRTIO_DEVICES_BLOCK_PRIVATE_H
#define DUET_VIRTIO_DEVICES_BLOCK_PRIVATE_H

#include "backend/block.h"
#include "virtio/devices.h"
#include "virtio/devices/common.h"

#define VIRTIO_BLK_F_SEG_MAX      2
#define VIRTIO_BLK_F_RO           5
#define VIRTIO_BLK_F_BLK_SIZE     6
#define VIRTIO_BLK_F_FLUSH        9
#define VIRTIO_BLK_F_TOPOLOGY     10
#define VIRTIO_BLK_F_CONFIG_WCE   11
#define VIRTIO_BLK_F_MQ           12
#define VIRTIO_BLK_F_DISCARD      13
#define VIRTIO_BLK_F_WRITE_ZEROES 14

#define DISK_CONFIG_SIZE   60
#define DISK_SEGMENTS      128 /* of a request, with its header and status */
#define DISK_FEW_SEGMENTS  8   /* as many are in the request itself */
#define DISK_QUEUE_SIZE    256
#define DISK_DISCARD_LIMIT (1U << 22) /* sectors in one discard or write zeroes: 2 GiB */

struct disk_queue;

/* A request in flight. */
struct disk_request {
	struct block_request io;
	struct disk_request *next; /* in the free list */
	struct disk_queue *queue;
	struct virtqueue_chain chain; /* its data, without header and status */
	uint8_t *status;
	uint32_t written; /* to the writable part from its start, as the driver is told */
	struct iovec few[DISK_FEW_SEGMENTS];
};

enum disk_count {
	DISK_READS,
	DISK_WRITES,
	DISK_FLUSHES,
	DISK_DISCARDS,
	DISK_WRITE_ZEROES,
	DISK_BYTES_READ,
	DISK_BYTES_WRITTEN,
	DISK_ERRORS,
	DISK_COUNTS,
};

struct disk {
	struct virtio_device virtio;
	struct block *block;
	char serial[20];
	uint8_t config[DISK_CONFIG_SIZE];
	_Atomic uint64_t capacity; /* sectors of 512 bytes: the file may change */
	_Atomic bool writeback;    /* the configuration's field: a vCPU thread may change it */
	/* I/O loop from here on. */
	struct disk_queue *queues;
	struct loop_hook hook;
};

struct disk_queue {
	struct disk *disk;
	struct virtqueue *queue;
	/* Requests, and behind them the large segment arrays. From the host's zero pages: only
	 * what was used once is memory. The free list gives the last used one first. */
	void *pool;
	size_t pool_size;
	struct disk_request *requests;
	struct iovec *large;
	struct disk_request *free;
	unsigned fresh; /* requests never used so far start here */
	bool pushed;    /* since the last turn: an interrupt may be due */
	_Atomic uint64_t counts[DISK_COUNTS];
};

/* block_request.c; I/O loop. */
int disk_queue_prepare(struct disk_queue *queue);
void disk_queue_release(struct disk_queue *queue);
/* Takes the requests of the ring, for a turn. */
enum virtio_progress disk_queue_process(struct disk_queue *queue);

#endif
