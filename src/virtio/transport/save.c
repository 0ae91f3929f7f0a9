/* SPDX-License-Identifier: Apache-2.0 */
/* Saved state of the transport; stopped, so nothing is in flight and the model is idle. */
#include "virtio/transport/transport.h"

#include <errno.h>

static void save_queue(const struct virtio_pci *pci, unsigned index, struct state_writer *writer)
{
	const struct virtio_queue_registers *queue = &pci->queues[index];

	state_put_u16(writer, queue->size);
	state_put_bool(writer, queue->enabled);
	state_put_u64(writer, queue->descriptors);
	state_put_u64(writer, queue->driver);
	state_put_u64(writer, queue->device);
	state_put_u16(writer, atomic_load(&queue->vector));
	virtqueue_save(&pci->model->queues[index], writer);
}

void virtio_pci_save(struct device *device, struct state_writer *writer)
{
	struct virtio_pci *pci = virtio_pci_of(device);

	pci_save(&pci->function, writer);
	pthread_mutex_lock(&pci->lock);
	state_put_u64(writer, pci->driver_features);
	state_put_u32(writer, pci->device_feature_select);
	state_put_u32(writer, pci->driver_feature_select);
	state_put_u16(writer, pci->queue_select);
	state_put_u8(writer, pci->status);
	state_put_bool(writer, atomic_load(&pci->faulted));
	state_put_bool(writer, pci->fault_told);
	state_put_bool(writer, pci->queues_ready);
	state_put_u8(writer, atomic_load(&pci->generation));
	state_put_u16(writer, atomic_load(&pci->config_vector));
	state_put_u8(writer, pci->isr);
	state_put_u16(writer, (uint16_t)pci->model->queue_count);
	for (unsigned i = 0; i < pci->model->queue_count; i++)
		save_queue(pci, i, writer);
	if (pci->model->ops->save)
		pci->model->ops->save(pci->model, writer);
	pthread_mutex_unlock(&pci->lock);
}

/* What the ring is made of must be what the registers and the negotiation say: models size their
 * own tables by them. */
static bool matches_registers(const struct virtio_pci *pci, unsigned index)
{
	const struct virtqueue *queue = &pci->model->queues[index];
	const struct virtio_queue_registers *registers = &pci->queues[index];

	if (!queue->enabled)
		return !(pci->queues_ready && registers->enabled);
	return pci->queues_ready && registers->enabled && queue->setup.size == registers->size &&
	       queue->setup.packed == virtio_has(pci->model, VIRTIO_F_RING_PACKED) &&
	       queue->setup.indirect == virtio_has(pci->model, VIRTIO_F_INDIRECT_DESC) &&
	       queue->setup.event_idx == virtio_has(pci->model, VIRTIO_F_EVENT_IDX);
}

static int restore_queue(
	struct virtio_pci *pci, unsigned index, struct state_reader *reader, struct error *err)
{
	struct virtio_queue_registers *queue = &pci->queues[index];
	uint16_t size = state_get_u16(reader), vector;
	int ret;

	queue->enabled = state_get_bool(reader);
	queue->descriptors = state_get_u64(reader);
	queue->driver = state_get_u64(reader);
	queue->device = state_get_u64(reader);
	vector = state_get_u16(reader);
	if (size == 0 || size > pci->model->queue_size_max)
		return error_set(err, EINVAL,
			"%s: saved with a queue of %u entries, this one has at most %u", pci->name,
			size, pci->model->queue_size_max);
	queue->size = size;
	atomic_store(
		&queue->vector, vector < msix_vectors(&pci->function) ? vector : VIRTIO_NO_VECTOR);
	ret = virtqueue_restore(&pci->model->queues[index], pci->model->memory, reader, err);
	if (ret < 0)
		return ret;
	if (!matches_registers(pci, index))
		return error_set(err, EINVAL, "%s: saved state of queue %u contradicts itself",
			pci->name, index);
	return 0;
}

static int restore_registers(struct virtio_pci *pci, struct state_reader *reader, struct error *err)
{
	uint16_t vector, queues;

	pci->driver_features = state_get_u64(reader);
	pci->device_feature_select = state_get_u32(reader);
	pci->driver_feature_select = state_get_u32(reader);
	pci->queue_select = state_get_u16(reader);
	pci->status = state_get_u8(reader) & (uint8_t)~VIRTIO_STATUS_NEEDS_RESET;
	atomic_store(&pci->faulted, state_get_bool(reader));
	pci->fault_told = state_get_bool(reader);
	pci->queues_ready = state_get_bool(reader);
	atomic_store(&pci->generation, state_get_u8(reader));
	vector = state_get_u16(reader);
	atomic_store(&pci->config_vector,
		vector < msix_vectors(&pci->function) ? vector : VIRTIO_NO_VECTOR);
	pci->isr = state_get_u8(reader) & (VIRTIO_ISR_QUEUE | VIRTIO_ISR_CONFIG);
	queues = state_get_u16(reader);
	if (queues != pci->model->queue_count)
		return error_set(err, EINVAL,
			"%s: saved with %u queues, has %u; give the same "
			"number of queues",
			pci->name, queues, pci->model->queue_count);
	if ((pci->status & VIRTIO_STATUS_FEATURES_OK) && (pci->driver_features & ~pci->offered))
		return error_set(err, EINVAL,
			"%s: saved with features this one does not have (0x%llx); give the same "
			"device options",
			pci->name, (unsigned long long)(pci->driver_features & ~pci->offered));
	if ((pci->status & VIRTIO_STATUS_DRIVER_OK) && !(pci->status & VIRTIO_STATUS_FEATURES_OK))
		return error_set(err, EINVAL, "%s: saved status contradicts itself", pci->name);
	if (pci->status & VIRTIO_STATUS_FEATURES_OK)
		pci->model->negotiated = pci->driver_features;
	if (!(pci->status & VIRTIO_STATUS_DRIVER_OK))
		pci->queues_ready = false;
	return 0;
}

static int restore_locked(struct virtio_pci *pci, struct state_reader *reader, struct error *err)
{
	int ret = restore_registers(pci, reader, err);

	for (unsigned i = 0; ret == 0 && i < pci->model->queue_count; i++)
		ret = restore_queue(pci, i, reader, err);
	if (ret == 0 && pci->model->ops->restore)
		ret = pci->model->ops->restore(pci->model, reader, err);
	if (ret == 0 && reader->failed)
		ret = error_set(err, EINVAL, "%s: saved state is damaged", pci->name);
	return ret;
}

int virtio_pci_restore(struct device *device, struct state_reader *reader, struct error *err)
{
	struct virtio_pci *pci = virtio_pci_of(device);
	int ret;

	virtio_pci_reset(device);
	ret = pci_restore(&pci->function, reader, err);
	if (ret < 0)
		return ret;
	pthread_mutex_lock(&pci->lock);
	ret = restore_locked(pci, reader, err);
	/* Half a restored device must not run. */
	if (ret < 0)
		virtio_begin_reset_locked(pci);
	pthread_mutex_unlock(&pci->lock);
	return ret;
}
