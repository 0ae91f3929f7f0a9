/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-block requests (virtio 1.2, 5.2.6): from a chain to the back end and back. */
#include "virtio/devices/block_private.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define SECTOR 512U

#define VIRTIO_BLK_T_IN           0
#define VIRTIO_BLK_T_OUT          1
#define VIRTIO_BLK_T_FLUSH        4
#define VIRTIO_BLK_T_GET_ID       8
#define VIRTIO_BLK_T_DISCARD      11
#define VIRTIO_BLK_T_WRITE_ZEROES 13

#define VIRTIO_BLK_S_OK     0
#define VIRTIO_BLK_S_IOERR  1
#define VIRTIO_BLK_S_UNSUPP 2

#define HEADER_SIZE 16
#define RANGE_SIZE  16
#define RANGE_UNMAP 1U
#define SERIAL_SIZE 20

int disk_queue_prepare(struct disk_queue *queue)
{
	size_t count = queue->queue->setup.size;
	size_t requests = align_up(count * sizeof(struct disk_request), 64);
	void *pool;

	queue->pool_size = requests + count * DISK_SEGMENTS * sizeof(struct iovec);
	pool = mmap(NULL, queue->pool_size, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (pool == MAP_FAILED)
		return -errno;
	queue->pool = pool;
	queue->requests = pool;
	queue->large = (struct iovec *)((char *)pool + requests);
	queue->free = NULL;
	queue->fresh = 0;
	queue->pushed = false;
	return 0;
}

void disk_queue_release(struct disk_queue *queue)
{
	if (queue->pool)
		munmap(queue->pool, queue->pool_size);
	queue->pool = NULL;
}

/* Null only if the ring gave more chains than it has entries, which it does not. */
static struct disk_request *take_request(struct disk_queue *queue)
{
	struct disk_request *request = queue->free;

	if (request)
		queue->free = request->next;
	else if (queue->fresh < queue->queue->setup.size)
		request = &queue->requests[queue->fresh++];
	else
		return NULL;
	request->queue = queue;
	virtio_begin(&queue->disk->virtio, queue->queue);
	return request;
}

/* How much of its data a failed request wrote is not known: none is reported (2.7.8.2), but all of
 * the pages may have changed. */
static void retract_data(struct disk_request *request)
{
	const struct virtqueue_chain *chain = &request->chain;

	for (unsigned i = 0; i < chain->writable; i++)
		memory_end(request->queue->disk->virtio.memory, chain->segments[i].iov_base,
			chain->segments[i].iov_len);
	if (chain->writable)
		request->written = 0;
}

static void complete(struct disk_request *request, uint8_t status)
{
	struct disk_queue *queue = request->queue;

	if (status != VIRTIO_BLK_S_OK) {
		counter_add(&queue->counts[DISK_ERRORS], 1);
		retract_data(request);
	}
	*request->status = status;
	memory_end(queue->disk->virtio.memory, request->status, 1);
	virtqueue_push(queue->queue, &request->chain, request->written);
	queue->pushed = true;
	request->next = queue->free;
	queue->free = request;
	virtio_end(&queue->disk->virtio, queue->queue);
}

static const char *const operation_names[] = {
	[BLOCK_READ] = "read",
	[BLOCK_WRITE] = "write",
	[BLOCK_FLUSH] = "flush",
	[BLOCK_DISCARD] = "discard",
	[BLOCK_WRITE_ZEROES] = "write zeroes",
};

static void io_done(struct block_request *io, int result)
{
	struct disk_request *request = container_of(io, struct disk_request, io);
	struct virtio_device *virtio = &request->queue->disk->virtio;

	if (result == 0) {
		complete(request, VIRTIO_BLK_S_OK);
	} else if (result == -EOPNOTSUPP) {
		complete(request, VIRTIO_BLK_S_UNSUPP);
	} else {
		log_guest(&virtio->guest_log, virtio->name, "%s at byte %llu failed: %s",
			operation_names[io->kind], (unsigned long long)io->offset,
			strerror(-result));
		complete(request, VIRTIO_BLK_S_IOERR);
	}
}

/* 5.2.6.2: without a cache that the driver can flush, or with one that it switched off. */
static bool write_through(const struct disk *disk)
{
	if (!virtio_has(&disk->virtio, VIRTIO_BLK_F_FLUSH))
		return true;
	return virtio_has(&disk->virtio, VIRTIO_BLK_F_CONFIG_WCE) &&
	       !atomic_load_explicit(&disk->writeback, memory_order_relaxed);
}

static void submit(struct disk_request *request, enum block_op kind)
{
	struct disk *disk = request->queue->disk;

	request->io.kind = kind;
	request->io.durable = kind != BLOCK_READ && kind != BLOCK_FLUSH && write_through(disk);
	request->io.segments = request->chain.segments;
	request->io.count = request->chain.readable + request->chain.writable;
	request->io.done = io_done;
	block_submit(disk->block, &request->io);
}

/* Whether [@sector, + @bytes) is on the disk; then the request gets it. */
static bool set_range(struct disk_request *request, uint64_t sector, uint64_t bytes)
{
	uint64_t offset;

	if (bytes % SECTOR || mul_overflows(sector, SECTOR, &offset) ||
		!range_within(offset, bytes, block_size(request->queue->disk->block)))
		return false;
	request->io.offset = offset;
	request->io.length = bytes;
	return true;
}

static void move_data(struct disk_request *request, enum block_op kind, uint64_t sector)
{
	struct disk_queue *queue = request->queue;
	bool read = kind == BLOCK_READ;
	uint64_t bytes = read ? request->chain.writable_bytes : request->chain.readable_bytes;

	counter_add(&queue->counts[read ? DISK_READS : DISK_WRITES], 1);
	if (!set_range(request, sector, bytes) || (!read && block_readonly(queue->disk->block))) {
		complete(request, VIRTIO_BLK_S_IOERR);
		return;
	}
	counter_add(&queue->counts[read ? DISK_BYTES_READ : DISK_BYTES_WRITTEN], bytes);
	if (bytes == 0)
		complete(request, VIRTIO_BLK_S_OK);
	else
		submit(request, kind);
}

/* One range in each request: max_discard_seg and max_write_zeroes_seg say so. */
static void change_range(struct disk_request *request, enum block_op kind)
{
	struct disk *disk = request->queue->disk;
	bool discard = kind == BLOCK_DISCARD;
	uint8_t range[RANGE_SIZE];
	uint32_t sectors, flags;

	counter_add(&request->queue->counts[discard ? DISK_DISCARDS : DISK_WRITE_ZEROES], 1);
	if (!virtio_has(
		    &disk->virtio, discard ? VIRTIO_BLK_F_DISCARD : VIRTIO_BLK_F_WRITE_ZEROES)) {
		complete(request, VIRTIO_BLK_S_UNSUPP);
		return;
	}
	if (request->chain.readable_bytes != RANGE_SIZE) {
		complete(request, VIRTIO_BLK_S_IOERR);
		return;
	}
	iov_copy_from(request->chain.segments, request->chain.readable, 0, range, sizeof(range));
	sectors = load_le32(range + 8);
	flags = load_le32(range + 12);
	/* 5.2.6.2: unknown flags, and unmap in a discard. */
	if ((flags & ~RANGE_UNMAP) || (discard && flags)) {
		complete(request, VIRTIO_BLK_S_UNSUPP);
		return;
	}
	request->io.unmap = flags & RANGE_UNMAP;
	if (sectors > DISK_DISCARD_LIMIT ||
		!set_range(request, load_le64(range), (uint64_t)sectors * SECTOR) ||
		block_readonly(disk->block)) {
		complete(request, VIRTIO_BLK_S_IOERR);
		return;
	}
	if (sectors == 0)
		complete(request, VIRTIO_BLK_S_OK);
	else
		submit(request, kind);
}

static void get_id(struct disk_request *request)
{
	const struct virtqueue_chain *chain = &request->chain;
	size_t length = min_u64(chain->writable_bytes, SERIAL_SIZE);

	iov_copy_to(&chain->segments[chain->readable], chain->writable, 0,
		request->queue->disk->serial, length);
	if (length < chain->writable_bytes)
		request->written = (uint32_t)length;
	complete(request, VIRTIO_BLK_S_OK);
}

static void dispatch(struct disk_request *request, uint32_t type, uint64_t sector)
{
	switch (type) {
	case VIRTIO_BLK_T_IN:
		move_data(request, BLOCK_READ, sector);
		break;
	case VIRTIO_BLK_T_OUT:
		move_data(request, BLOCK_WRITE, sector);
		break;
	case VIRTIO_BLK_T_FLUSH:
		counter_add(&request->queue->counts[DISK_FLUSHES], 1);
		request->io.offset = 0;
		submit(request, BLOCK_FLUSH);
		break;
	case VIRTIO_BLK_T_GET_ID:
		get_id(request);
		break;
	case VIRTIO_BLK_T_DISCARD:
		change_range(request, BLOCK_DISCARD);
		break;
	case VIRTIO_BLK_T_WRITE_ZEROES:
		change_range(request, BLOCK_WRITE_ZEROES);
		break;
	default:
		complete(request, VIRTIO_BLK_S_UNSUPP);
		break;
	}
}

/* Takes @bytes off the front of @count segments, and the segments that become empty. */
static unsigned skip_front(struct iovec **segments, unsigned count, size_t bytes)
{
	while (count && bytes >= (*segments)->iov_len) {
		bytes -= (*segments)->iov_len;
		(*segments)++;
		count--;
	}
	if (count) {
		(*segments)->iov_base = (char *)(*segments)->iov_base + bytes;
		(*segments)->iov_len -= bytes;
	}
	return count;
}

static uint8_t *take_last_byte(struct iovec *segments, unsigned *count)
{
	struct iovec *last = &segments[*count - 1];

	if (--last->iov_len == 0)
		--*count;
	return (uint8_t *)last->iov_base + last->iov_len;
}

/* Keeps of the chain what @type moves: its readable or its writable data, in the request's own
 * array. */
static void keep_data(struct disk_request *request, struct virtqueue_chain *chain, uint32_t type)
{
	struct disk_queue *queue = request->queue;
	bool to_guest = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;
	struct iovec *from = chain->segments;
	struct virtqueue_chain *kept = &request->chain;
	struct iovec *writable = &chain->segments[chain->readable];
	unsigned count;

	*kept = (struct virtqueue_chain){.id = chain->id, .entries = chain->entries};
	/* The status is the last byte: of what lies before it only a read writes all. */
	request->written =
		to_guest || chain->writable_bytes == 1 ? (uint32_t)chain->writable_bytes : 0;
	count = chain->writable;
	request->status = take_last_byte(writable, &count);
	if (to_guest) {
		from = writable;
		kept->writable = count;
		kept->writable_bytes = chain->writable_bytes - 1;
	} else {
		kept->readable = count = skip_front(&from, chain->readable, HEADER_SIZE);
		kept->readable_bytes = chain->readable_bytes - HEADER_SIZE;
	}
	kept->segments = request->few;
	if (count > DISK_FEW_SEGMENTS)
		kept->segments = &queue->large[(request - queue->requests) * DISK_SEGMENTS];
	kept->capacity = count;
	memcpy(kept->segments, from, count * sizeof(*from));
}

static bool start_request(struct disk_queue *queue, struct virtqueue_chain *chain)
{
	uint8_t header[HEADER_SIZE];
	struct disk_request *request;
	uint32_t type;

	if (chain->writable_bytes == 0 || chain->readable_bytes < HEADER_SIZE) {
		virtio_needs_reset(
			&queue->disk->virtio, "request without room for its header or status");
		return false;
	}
	request = take_request(queue);
	if (!request)
		return false;
	iov_copy_from(chain->segments, chain->readable, 0, header, sizeof(header));
	type = load_le32(header);
	keep_data(request, chain, type);
	dispatch(request, type, load_le64(header + 8));
	return true;
}

/* Until the ring is empty (0), or the turn is over (1). Negative: the device is broken. */
static int drain(struct disk_queue *queue)
{
	struct iovec segments[DISK_SEGMENTS];
	struct virtqueue_chain chain = {.segments = segments, .capacity = DISK_SEGMENTS};
	unsigned taken = 0;

	do {
		int ret = virtqueue_pop(queue->queue, &chain);

		if (ret <= 0)
			return ret;
		if (!start_request(queue, &chain))
			return -EPROTO;
		/* One request alone does not look at the clock. */
	} while (++taken == 1 || !virtio_turn_over(queue->queue));
	return 1;
}

enum virtio_progress disk_queue_process(struct disk_queue *queue)
{
	int ret = drain(queue);

	/* The turn's end interrupts. */
	queue->pushed = false;
	return ret > 0 ? VIRTIO_MORE : VIRTIO_DONE;
}
