/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-entropy (virtio 1.2, 5.4), fed by getrandom(2). */
#include "virtio/devices.h"
#include "virtio/devices/common.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#define DEVICE_ENTROPY 4
#define CLASS_OTHER    0xff0000
#define QUEUE_SIZE     64
#define SEGMENTS       64
/* More than a driver asks for; a hostile one gets its bytes in portions, between which the other
 * devices have their turn. */
#define REQUEST_MAX  65536U
#define ROUND_MAX    (4 * REQUEST_MAX)
#define ROUND_CHAINS 64
#define RETRY_NS     100000000ULL

struct entropy {
	struct virtio_device virtio;
	struct loop_task again;
	struct loop_timer retry; /* while the host itself has no entropy yet */
	bool again_posted, quiescing;
	_Atomic uint64_t requests, bytes;
};

static struct entropy *entropy_of(struct virtio_device *device)
{
	return container_of(device, struct entropy, virtio);
}

static uint64_t features(struct virtio_device *device)
{
	return 0;
}

static uint64_t config_read(struct virtio_device *device, unsigned offset, unsigned size)
{
	return 0;
}

static void try_finish_quiesce(struct entropy *entropy)
{
	if (!entropy->quiescing || entropy->again_posted)
		return;
	entropy->quiescing = false;
	virtio_quiesced(&entropy->virtio);
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

static void process(struct entropy *entropy);

static void retry(struct loop_timer *timer)
{
	process(container_of(timer, struct entropy, retry));
}

static void process_again(struct loop_task *task)
{
	struct entropy *entropy = container_of(task, struct entropy, again);

	entropy->again_posted = false;
	process(entropy);
	try_finish_quiesce(entropy);
}

static void continue_later(struct entropy *entropy)
{
	if (entropy->again_posted)
		return;
	entropy->again_posted = true;
	entropy->again.run = process_again;
	loop_post(entropy->virtio.io, &entropy->again);
}

static void process(struct entropy *entropy)
{
	struct virtqueue *queue = &entropy->virtio.queues[0];
	struct iovec segments[SEGMENTS];
	struct virtqueue_chain chain = {.segments = segments, .capacity = SEGMENTS};
	uint64_t given = 0;
	unsigned chains = 0;
	int ret = 0;

	if (entropy->quiescing || queue->broken)
		return;
	while (given < ROUND_MAX && chains++ < ROUND_CHAINS &&
		(ret = virtqueue_pop(queue, &chain)) > 0) {
		int64_t filled = fill(&chain);

		if (filled < 0) {
			virtqueue_unpop(queue, &chain);
			loop_timer_after(entropy->virtio.io, &entropy->retry, RETRY_NS);
			break;
		}
		given += (uint64_t)filled;
		counter_add(&entropy->requests, 1);
		virtqueue_push(queue, &chain, (uint32_t)filled);
	}
	counter_add(&entropy->bytes, given);
	if (ret < 0)
		virtio_needs_reset(&entropy->virtio, queue->fault);
	else if (ret > 0 && !loop_timer_set(&entropy->retry))
		continue_later(entropy);
	virtio_interrupt(&entropy->virtio, queue);
}

static int activate(struct virtio_device *device)
{
	return 0;
}

static void kick(struct virtio_device *device, struct virtqueue *queue)
{
	process(entropy_of(device));
}

static void quiesce(struct virtio_device *device)
{
	struct entropy *entropy = entropy_of(device);

	entropy->quiescing = true;
	loop_timer_stop(&entropy->retry);
	try_finish_quiesce(entropy);
}

static void stats(struct virtio_device *device, struct stats_sink *sink)
{
	const struct entropy *entropy = entropy_of(device);

	sink->count(sink, "queue0", "requests", counter_read(&entropy->requests));
	sink->count(sink, "queue0", "bytes", counter_read(&entropy->bytes));
}

static void entropy_free(struct virtio_device *device)
{
	free(entropy_of(device));
}

static const struct virtio_ops entropy_ops = {
	.type = "virtio-entropy",
	.id = DEVICE_ENTROPY,
	.class_code = CLASS_OTHER,
	.features = features,
	.activate = activate,
	.kick = kick,
	.quiesce = quiesce,
	.config_read = config_read,
	.stats = stats,
	.free = entropy_free,
};

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
