/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-entropy (virtio 1.2, 5.4), fed by getrandom(2). */
#include "virtio/devices.h"
#include "virtio/devices/common.h"

#include "base/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

/* #syscalls io: getrandom */

#define DEVICE_ENTROPY 4
#define CLASS_OTHER    0xff0000
#define QUEUE_SIZE     64
#define SEGMENTS       64
/* More than a driver asks for; a hostile one gets its bytes in portions, between which the other
 * devices have their turn. */
#define REQUEST_MAX 65536U
#define RETRY_NS    100000000ULL

struct entropy {
	struct virtio_device virtio;
	struct loop_timer retry; /* while the host itself has no entropy yet */
	_Atomic uint64_t requests, bytes;
	/* Of one that is limited. */
	bool limited;
	struct bucket_pair limits;
	bool waits; /* a request, for a token */
	_Atomic uint64_t throttled;
};

static struct entropy *entropy_of(struct virtio_device *device)
{
	return container_of(device, struct entropy, virtio);
}

/* Bytes written, or -EAGAIN before the first when the host's generator is not seeded. */
static int64_t fill(const struct virtqueue_chain *chain)
{
	const struct iovec *segments = &chain->segments[chain->readable];
	size_t total = 0;

	for (unsigned i = 0; i < chain->writable && total < REQUEST_MAX; i++) {
		size_t want = min_u64(segments[i].iov_len, REQUEST_MAX - total);
		ssize_t got = getrandom(segments[i].iov_base, want, GRND_NONBLOCK);

		if (got < 0 && total == 0)
			return -errno;
		total += got > 0 ? (size_t)got : 0;
		if (got != (ssize_t)want)
			break;
	}
	return (int64_t)total;
}

static void retry(struct loop_timer *timer)
{
	struct entropy *entropy = container_of(timer, struct entropy, retry);

	virtio_turn(&entropy->virtio, &entropy->virtio.queues[0]);
}

/* Whether there is a token for the request that was popped; else the timer waits for one. */
static bool has_token(struct entropy *entropy)
{
	uint64_t now = clock_ns(), wait = bucket_pair_wait(&entropy->limits, now, entropy->waits);

	if (wait) {
		counter_add(&entropy->throttled, !entropy->waits);
		loop_timer_at(entropy->virtio.io, &entropy->retry, now + wait);
	}
	entropy->waits = wait != 0;
	return !wait;
}

/* False: the request waits, and the timer gives the queue another turn. */
static bool serve(
	struct entropy *entropy, struct virtqueue *queue, const struct virtqueue_chain *chain)
{
	int64_t filled;

	if (entropy->limited && !has_token(entropy))
		return false;
	filled = fill(chain);
	if (filled < 0) {
		loop_timer_after(queue->io, &entropy->retry, RETRY_NS);
		return false;
	}
	virtqueue_push(queue, chain, (uint32_t)filled);
	if (entropy->limited)
		bucket_pair_take(&entropy->limits, (uint64_t)filled, 1);
	counter_add(&entropy->requests, 1);
	counter_add(&entropy->bytes, (uint64_t)filled);
	return true;
}

static enum virtio_progress kick(struct virtio_device *device, struct virtqueue *queue)
{
	struct entropy *entropy = entropy_of(device);
	struct iovec segments[SEGMENTS];
	struct virtqueue_chain chain = {.segments = segments, .capacity = SEGMENTS};

	for (unsigned chains = 0; virtqueue_pop(queue, &chain) > 0; chains++) {
		if (!serve(entropy, queue, &chain)) {
			virtqueue_unpop(queue, &chain);
			return VIRTIO_DONE;
		}
		/* One request alone does not look at the clock. */
		if (chains && virtio_turn_over(queue))
			return VIRTIO_MORE;
	}
	return VIRTIO_DONE;
}

static void quiesce(struct virtio_device *device)
{
	struct entropy *entropy = entropy_of(device);

	loop_timer_stop(&entropy->retry);
	entropy->waits = false;
}

static void stats(struct virtio_device *device, struct stats_sink *sink)
{
	const struct entropy *entropy = entropy_of(device);

	sink->count(sink, "queue0", "requests", counter_read(&entropy->requests));
	sink->count(sink, "queue0", "bytes", counter_read(&entropy->bytes));
	if (entropy->limited)
		sink->count(sink, "queue0", "throttled", counter_read(&entropy->throttled));
}

static void entropy_free(struct virtio_device *device)
{
	free(entropy_of(device));
}

static const struct virtio_ops entropy_ops = {
	.type = "virtio-entropy",
	.id = DEVICE_ENTROPY,
	.class_code = CLASS_OTHER,
	.kick = kick,
	.quiesce = quiesce,
	.stats = stats,
	.free = entropy_free,
};

void virtio_entropy_limit(struct device *device, const struct bucket_limits *limits)
{
	struct entropy *entropy = entropy_of(virtio_pci_model(device));

	bucket_pair_init(&entropy->limits, limits, clock_ns());
	entropy->limited = true;
}

int virtio_entropy_new(struct device **device, const char *name, bool packed, struct error *err)
{
	struct entropy *entropy = calloc(1, sizeof(*entropy));

	if (!entropy)
		return error_errno(err, ENOMEM, "%s", name);
	entropy->retry.expired = retry;
	entropy->virtio.ops = &entropy_ops;
	entropy->virtio.queue_count = 1;
	entropy->virtio.queue_size_max = QUEUE_SIZE;
	entropy->virtio.ring_features = packed ? VIRTIO_FEATURE(VIRTIO_F_RING_PACKED) : 0;
	return virtio_pci_new(device, &entropy->virtio, name, err);
}
