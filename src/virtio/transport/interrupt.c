/* SPDX-License-Identifier: Apache-2.0 */
/* Interrupts to the driver: MSI-X (4.1.5.1.2) or the ISR status and a line (4.1.4.5). */
#include "virtio/transport/transport.h"

void virtio_raise(struct virtio_pci *pci, uint8_t cause)
{
	/* The lock keeps status and line together against a driver that reads at this moment. */
	pthread_mutex_lock(&pci->isr_lock);
	pci->isr |= cause;
	pci_set_intx(&pci->function, true);
	pthread_mutex_unlock(&pci->isr_lock);
}

uint8_t virtio_take_isr(struct virtio_pci *pci)
{
	uint8_t isr;

	pthread_mutex_lock(&pci->isr_lock);
	isr = pci->isr;
	pci->isr = 0;
	pci_set_intx(&pci->function, false);
	pthread_mutex_unlock(&pci->isr_lock);
	return isr;
}

void virtio_config_interrupt(struct virtio_pci *pci)
{
	if (msix_enabled(&pci->function))
		msix_notify(&pci->function, atomic_load(&pci->config_vector));
	else
		virtio_raise(pci, VIRTIO_ISR_CONFIG);
}

void virtio_config_changed(struct virtio_device *device)
{
	struct virtio_pci *pci = device->transport;

	pthread_mutex_lock(&pci->lock);
	atomic_fetch_add(&pci->generation, 1);
	/* Before DRIVER_OK nobody would lower the line, which others share. */
	if (pci->status & VIRTIO_STATUS_DRIVER_OK)
		virtio_config_interrupt(pci);
	pthread_mutex_unlock(&pci->lock);
}

void virtio_interrupt(struct virtio_device *device, struct virtqueue *queue)
{
	struct virtio_pci *pci = device->transport;
	int fd;

	virtqueue_flush(queue);
	if (queue->unsignalled == 0)
		return;
	if (!virtqueue_wants_interrupt(queue)) {
		atomic_fetch_add_explicit(&queue->stats.suppressed, 1, memory_order_relaxed);
		return;
	}
	atomic_fetch_add_explicit(&queue->stats.interrupts, 1, memory_order_relaxed);
	if (!msix_enabled(&pci->function)) {
		virtio_raise(pci, VIRTIO_ISR_QUEUE);
		return;
	}
	fd = msix_eventfd(&pci->function, atomic_load(&pci->queues[queue->index].vector));
	if (fd >= 0)
		loop_signal(queue->io, fd);
}
