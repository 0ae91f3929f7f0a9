/* SPDX-License-Identifier: Apache-2.0 */
/* Polling: the I/O loop looks at the rings whose model waits for a kick, and plays the kick. */
#include "virtio/transport/transport.h"

#include "base/checked.h"

static void add_one(_Atomic uint64_t *counter)
{
	/* One writer, the I/O loop. */
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1,
		memory_order_relaxed);
}

/* Whether the model took something. It may leave what is there: frames for a pair of queues that is
 * switched off, say; then there is nothing to do until the driver kicks again. */
static bool play_kick(struct virtio_device *model, struct virtqueue *queue)
{
	uint64_t before = atomic_load_explicit(&queue->stats.chains, memory_order_relaxed);

	virtio_turn(model, queue);
	if (atomic_load_explicit(&queue->stats.chains, memory_order_relaxed) == before)
		return false;
	add_one(&queue->stats.polls);
	return true;
}

static bool look(struct loop_poller *poller)
{
	struct virtio_pci *pci = container_of(poller, struct virtio_pci, poller);
	struct virtio_device *model = pci->model;
	bool found = false;

	for (unsigned i = 0; i < model->queue_count; i++) {
		struct virtqueue *queue = &model->queues[i];

		if (virtqueue_poll(queue))
			found |= play_kick(model, queue);
	}
	return found;
}

static bool go_to_sleep(struct loop_poller *poller)
{
	struct virtio_pci *pci = container_of(poller, struct virtio_pci, poller);
	struct virtio_device *model = pci->model;
	bool found = false;

	for (unsigned i = 0; i < model->queue_count; i++) {
		struct virtqueue *queue = &model->queues[i];

		if (virtqueue_sleep(queue) && play_kick(model, queue))
			found = true;
		else if (queue->enabled && queue->kicks_wanted)
			add_one(&queue->stats.poll_misses);
	}
	return found;
}

void virtio_polling_start(struct virtio_pci *pci)
{
	if (!pci->model->polls)
		return;
	pci->poller.poll = look;
	pci->poller.sleep = go_to_sleep;
	loop_add_poller(pci->place.io, &pci->poller);
}

void virtio_polling_stop(struct virtio_pci *pci)
{
	if (pci->model->polls)
		loop_remove_poller(pci->place.io, &pci->poller);
}
