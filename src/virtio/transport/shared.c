/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What goes past the rings, of models that have it: memory that appears in the guest (virtio 1.2,
 * 4.1.4.7), and ports whose writes reach the model on the vCPU's own thread.
 */
#include "virtio/transport/transport.h"

#include "base/bytes.h"
#include "base/checked.h"

#include <string.h>

/* ---- memory ---- */

/* Into the guest, at the first look at it. Not when the BAR gets its place: a kernel that sizes
 * BARs switches them off and on for each, and KVM forgets all of a guest's nested page tables when
 * a window goes. A guest whose driver never looks pays for none of that. */
static void show(struct virtio_pci *pci)
{
	struct bus_host *host = pci->place.host;
	int ret;

	pthread_mutex_lock(&pci->lock);
	if (pci->shared_state == VIRTIO_SHARED_UNSEEN) {
		ret = host->ops->window_add(host, pci->shared_address, pci->model->shared,
			pci->model->shared_length, &pci->shared_window);
		pci->shared_state = ret == 0 ? VIRTIO_SHARED_SHOWN : VIRTIO_SHARED_REFUSED;
		if (ret < 0)
			log_guest(&pci->model->guest_log, pci->name,
				"shared memory at 0x%llx cannot be mapped into the guest: %s",
				(unsigned long long)pci->shared_address, strerror(-ret));
	}
	pthread_mutex_unlock(&pci->lock);
}

/* What KVM has mapped comes here no more; all of it does where the host has no window left, and
 * what is behind the memory up to the BAR's end always. The guest writes to it meanwhile: bytes,
 * whatever they are worth. */
static uint64_t shared_read(void *device, uint64_t offset, unsigned size)
{
	struct virtio_pci *pci = device;
	const volatile uint8_t *memory = pci->model->shared;
	uint8_t bytes[8];

	if (!range_within(offset, size, pci->model->shared_length))
		return 0;
	show(pci);
	for (unsigned i = 0; i < size; i++)
		bytes[i] = memory[offset + i];
	return load_le(bytes, size);
}

static void shared_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	struct virtio_pci *pci = device;
	volatile uint8_t *memory = pci->model->shared;

	if (!range_within(offset, size, pci->model->shared_length))
		return;
	show(pci);
	for (unsigned i = 0; i < size; i++)
		memory[offset + i] = (uint8_t)(value >> 8 * i);
}

static const struct bus_ops shared_ops = {.read = shared_read, .write = shared_write};

/* Accesses may be under way: they find the memory away, or where it is now. */
static void shared_moved(struct pci_function *function, unsigned bar, bool mapped, uint64_t address)
{
	struct virtio_pci *pci = container_of(function, struct virtio_pci, function);
	struct bus_host *host = pci->place.host;

	(void)bar;
	pthread_mutex_lock(&pci->lock);
	if (pci->shared_state == VIRTIO_SHARED_SHOWN)
		host->ops->window_remove(host, pci->shared_window);
	pci->shared_state = mapped ? VIRTIO_SHARED_UNSEEN : VIRTIO_SHARED_AWAY;
	pci->shared_address = address;
	pthread_mutex_unlock(&pci->lock);
}

/* ---- ports ---- */

static uint64_t call_read(void *device, uint64_t offset, unsigned size)
{
	(void)device;
	(void)offset;
	(void)size;
	return 0;
}

static void call_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	struct virtio_pci *pci = device;

	(void)value;
	if (size == 1)
		pci->model->ops->call(pci->model, (unsigned)offset);
}

static const struct bus_ops call_ops = {.read = call_read, .write = call_write};

void virtio_describe_shared(struct virtio_pci *pci)
{
	struct pci_function *function = &pci->function;

	if (pci->model->ops->call)
		pci_describe_bar(function, VIRTIO_CALL_BAR, PCI_BAR_PORT, VIRTIO_CALL_PORTS,
			&call_ops, pci, pci->name);
	if (!pci->model->shared_length)
		return;
	function->bars[VIRTIO_SHARED_BAR].prefetchable = true;
	pci_describe_bar(function, VIRTIO_SHARED_BAR, PCI_BAR_MEMORY64, pci->model->shared_length,
		&shared_ops, pci, pci->name);
	function->bars[VIRTIO_SHARED_BAR].moved = shared_moved;
}
