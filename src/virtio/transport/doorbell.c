/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Doorbells (4.1.4.4): an eventfd for each queue, signalled by KVM when the guest writes to the
 * queue's port, watched by the I/O loop. In place from DRIVER_OK until the reset, since placing one
 * costs the host kernel far more than the few kicks before: those come as exits and are harmless.
 *
 * A port, since the processor says which one was written and how: a write to memory has to be
 * fetched and decoded by KVM on AMD's processors, 4 thousand instructions for each kick. The same
 * doorbells in memory, for a driver that prefers it, come as exits.
 */
#include "virtio/transport/transport.h"

#include "base/checked.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* #syscalls main vcpu io: eventfd2 write */

static uint64_t address_of(const struct virtio_pci *pci, unsigned index)
{
	return pci->notify_port + (uint64_t)index * VIRTIO_PORT_STRIDE;
}

static void place(struct virtio_pci *pci, unsigned index)
{
	struct virtio_queue_registers *queue = &pci->queues[index];
	struct bus_host *host = pci->place.host;
	int ret;

	if (queue->doorbell < 0 || queue->doorbell_placed || !pci->notify_mapped)
		return;
	ret = host->ops->doorbell_add(
		host, true, address_of(pci, index), 0, false, 0, queue->doorbell);
	queue->doorbell_placed = ret == 0;
	/* Without it kicks come as exits, and work. */
	if (ret < 0)
		log_guest(&pci->model->guest_log, pci->name, "queue %u: ioeventfd: %s", index,
			strerror(-ret));
}

static void remove_one(struct virtio_pci *pci, unsigned index)
{
	struct virtio_queue_registers *queue = &pci->queues[index];
	struct bus_host *host = pci->place.host;

	if (!queue->doorbell_placed)
		return;
	host->ops->doorbell_remove(
		host, true, address_of(pci, index), 0, false, 0, queue->doorbell);
	queue->doorbell_placed = false;
}

void virtio_doorbell_place_all(struct virtio_pci *pci)
{
	for (unsigned i = 0; i < pci->model->queue_count; i++)
		if (pci->queues_ready && pci->queues[i].enabled)
			place(pci, i);
}

void virtio_doorbell_remove_all(struct virtio_pci *pci)
{
	for (unsigned i = 0; i < pci->model->queue_count; i++)
		remove_one(pci, i);
}

void virtio_doorbell_moved(
	struct pci_function *function, unsigned bar, bool mapped, uint64_t address)
{
	struct virtio_pci *pci = container_of(function, struct virtio_pci, function);

	(void)bar;
	pthread_mutex_lock(&pci->lock);
	if (!mapped)
		virtio_doorbell_remove_all(pci);
	pci->notify_mapped = mapped;
	pci->notify_port = address;
	if (mapped)
		virtio_doorbell_place_all(pci);
	pthread_mutex_unlock(&pci->lock);
}

static void rung(struct loop_watch *watch, uint32_t events)
{
	struct virtio_queue_registers *registers =
		container_of(watch, struct virtio_queue_registers, watch);
	struct virtio_pci *pci = registers->pci;
	struct virtqueue *queue = &pci->model->queues[registers - pci->queues];

	(void)events;
	/* A signal may outlive the driver that sent it. */
	if (!virtio_queue_is_live(registers))
		return;
	atomic_fetch_add_explicit(&queue->stats.kicks, 1, memory_order_relaxed);
	virtio_turn(pci->model, queue);
}

int virtio_doorbell_open(struct virtio_pci *pci, unsigned index)
{
	struct virtio_queue_registers *queue = &pci->queues[index];
	bool handed_over;
	int ret;

	if (queue->doorbell < 0)
		queue->doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (queue->doorbell < 0)
		return -errno;
	handed_over = pci->model->ops->hands_over && pci->model->ops->hands_over(pci->model, index);
	atomic_store(&queue->handed_over, handed_over);
	if (handed_over)
		atomic_store(&queue->ever_handed_over, true);
	atomic_store(&queue->vector_moved, false);
	/* One that was watched for an earlier driver stays so until the device is stopped, at the
	 * cost of a wake-up for each kick: only drivers that number queues differently see it. */
	if (queue->watched || handed_over)
		return 0;
	ret = loop_watch(pci->place.io, &queue->watch, queue->doorbell, POLLIN, rung);
	if (ret < 0)
		return ret;
	queue->watched = true;
	pci->watches++;
	return 0;
}

void virtio_doorbell_ring(struct virtio_pci *pci, unsigned index)
{
	static const uint64_t one = 1;

	/* No eventfd yet: activation will look at the queue anyway. A full counter is a signal. */
	if (pci->queues[index].doorbell >= 0 &&
		write(pci->queues[index].doorbell, &one, sizeof(one)) < 0)
		return;
}

void virtio_doorbell_moved_vectors(struct virtio_pci *pci)
{
	for (unsigned i = 0; i < pci->model->queue_count; i++)
		if (atomic_exchange(&pci->queues[i].vector_moved, false))
			pci->model->ops->vector_changed(pci->model, i);
}

static struct virtio_pci *transport_of(const struct virtio_device *device)
{
	return device->transport;
}

int virtio_doorbell_fd(struct virtio_device *device, unsigned index)
{
	return transport_of(device)->queues[index].doorbell;
}

int virtio_call_fd(struct virtio_device *device, unsigned index)
{
	struct virtio_pci *pci = transport_of(device);

	return msix_eventfd(&pci->function, atomic_load(&pci->queues[index].vector));
}

void virtio_ring_doorbell(struct virtio_device *device, unsigned index)
{
	virtio_doorbell_ring(transport_of(device), index);
}

bool virtio_handed_over(struct virtio_device *device, unsigned index)
{
	return atomic_load(&transport_of(device)->queues[index].handed_over);
}

bool virtio_msix_on(struct virtio_device *device)
{
	return msix_enabled(&transport_of(device)->function);
}

void virtio_doorbell_close(struct virtio_pci *pci)
{
	for (unsigned i = 0; i < pci->model->queue_count; i++)
		if (pci->queues[i].doorbell >= 0)
			close(pci->queues[i].doorbell);
}
