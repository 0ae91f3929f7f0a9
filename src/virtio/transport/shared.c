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
	for (unsigned i = 0; i < size; i++)
		memory[offset + i] = (uint8_t)(value >> 8 * i);
}

static const struct bus_ops shared_ops = {.read = shared_read, .write = shared_write};

static void shared_moved(struct pci_function *function, unsigned bar, bool mapped, uint64_t address)
{
	struct virtio_pci *pci = container_of(function, struct virtio_pci, function);
	struct bus_host *host = pci->place.host;
	int ret;

	(void)bar;
	if (pci->shared_mapped)
		host->ops->window_remove(host, pci->shared_window);
	pci->shared_mapped = false;
	if (!mapped)
		return;
	ret = host->ops->window_add(
		host, address, pci->model->shared, pci->model->shared_length, &pci->shared_window);
	pci->shared_mapped = ret == 0;
	if (ret < 0)
		log_guest(&pci->model->guest_log, pci->name,
			"shared memory at 0x%llx cannot be mapped into the guest: %s",
			(unsigned long long)address, strerror(-ret));
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
