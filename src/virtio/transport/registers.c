/* SPDX-License-Identifier: Apache-2.0 */
/* The structures in BAR 0 as the driver sees them (4.1.4). */
#include "virtio/transport/transport.h"

#include "base/bytes.h"
#include "base/checked.h"

/* 4.1.4.3; the 64-bit fields are accessed as two halves. */
enum common_register {
	DEVICE_FEATURE_SELECT = 0x00,
	DEVICE_FEATURE = 0x04,
	DRIVER_FEATURE_SELECT = 0x08,
	DRIVER_FEATURE = 0x0c,
	CONFIG_VECTOR = 0x10,
	NUM_QUEUES = 0x12,
	DEVICE_STATUS = 0x14,
	CONFIG_GENERATION = 0x15,
	QUEUE_SELECT = 0x16,
	QUEUE_SIZE = 0x18,
	QUEUE_VECTOR = 0x1a,
	QUEUE_ENABLE = 0x1c,
	QUEUE_NOTIFY_OFF = 0x1e,
	QUEUE_DESCRIPTORS = 0x20,
	QUEUE_DRIVER = 0x28,
	QUEUE_DEVICE = 0x30,
	QUEUE_NOTIFY_DATA = 0x38,
	COMMON_END = 0x40,
};

/* The width a register must be accessed with; 0: there is none. */
static const uint8_t widths[COMMON_END] = {
	[DEVICE_FEATURE_SELECT] = 4,
	[DEVICE_FEATURE] = 4,
	[DRIVER_FEATURE_SELECT] = 4,
	[DRIVER_FEATURE] = 4,
	[CONFIG_VECTOR] = 2,
	[NUM_QUEUES] = 2,
	[DEVICE_STATUS] = 1,
	[CONFIG_GENERATION] = 1,
	[QUEUE_SELECT] = 2,
	[QUEUE_SIZE] = 2,
	[QUEUE_VECTOR] = 2,
	[QUEUE_ENABLE] = 2,
	[QUEUE_NOTIFY_OFF] = 2,
	[QUEUE_DESCRIPTORS] = 4,
	[QUEUE_DESCRIPTORS + 4] = 4,
	[QUEUE_DRIVER] = 4,
	[QUEUE_DRIVER + 4] = 4,
	[QUEUE_DEVICE] = 4,
	[QUEUE_DEVICE + 4] = 4,
	[QUEUE_NOTIFY_DATA] = 2,
};

static uint32_t half(uint64_t value, uint32_t select)
{
	return select < 2 ? (uint32_t)(value >> 32 * select) : 0;
}

static void set_half(uint64_t *value, unsigned select, uint32_t bits)
{
	*value = (*value & ~(0xffffffffULL << 32 * select)) | (uint64_t)bits << 32 * select;
}

static struct virtio_queue_registers *selected(const struct virtio_pci *pci)
{
	return pci->queue_select < pci->model->queue_count ? &pci->queues[pci->queue_select] : NULL;
}

static uint64_t read_queue(const struct virtio_pci *pci, unsigned offset)
{
	const struct virtio_queue_registers *queue = selected(pci);

	if (!queue)
		return offset == QUEUE_VECTOR ? VIRTIO_NO_VECTOR : 0;
	switch (offset) {
	case QUEUE_SIZE:
		return queue->size;
	case QUEUE_VECTOR:
		return atomic_load(&queue->vector);
	case QUEUE_ENABLE:
		return queue->enabled;
	case QUEUE_NOTIFY_OFF:
	case QUEUE_NOTIFY_DATA:
		return pci->queue_select;
	case QUEUE_DESCRIPTORS:
	case QUEUE_DESCRIPTORS + 4:
		return half(queue->descriptors, offset / 4 & 1);
	case QUEUE_DRIVER:
	case QUEUE_DRIVER + 4:
		return half(queue->driver, offset / 4 & 1);
	case QUEUE_DEVICE:
	case QUEUE_DEVICE + 4:
		return half(queue->device, offset / 4 & 1);
	default:
		return 0;
	}
}

static uint8_t read_status(struct virtio_pci *pci)
{
	return pci->status | (atomic_load(&pci->faulted) ? VIRTIO_STATUS_NEEDS_RESET : 0);
}

static uint64_t read_common(struct virtio_pci *pci, unsigned offset)
{
	switch (offset) {
	case DEVICE_FEATURE_SELECT:
		return pci->device_feature_select;
	case DEVICE_FEATURE:
		return half(pci->offered, pci->device_feature_select);
	case DRIVER_FEATURE_SELECT:
		return pci->driver_feature_select;
	case DRIVER_FEATURE:
		return half(pci->driver_features, pci->driver_feature_select);
	case CONFIG_VECTOR:
		return atomic_load(&pci->config_vector);
	case NUM_QUEUES:
		return pci->model->queue_count;
	case DEVICE_STATUS:
		return read_status(pci);
	case CONFIG_GENERATION:
		return atomic_load(&pci->generation);
	case QUEUE_SELECT:
		return pci->queue_select;
	default:
		return read_queue(pci, offset);
	}
}

static bool features_acceptable(const struct virtio_pci *pci)
{
	return (pci->driver_features & VIRTIO_FEATURE(VIRTIO_F_VERSION_1)) &&
	       !(pci->driver_features & ~pci->offered);
}

/* Bits are only ever added (2.1.1); zero resets. */
static void write_status(struct virtio_pci *pci, uint8_t value)
{
	uint8_t before = pci->status;

	if (value == 0) {
		virtio_begin_reset_locked(pci);
		return;
	}
	value |= before;
	value &= (uint8_t)~VIRTIO_STATUS_NEEDS_RESET;
	if (!features_acceptable(pci))
		value &= (uint8_t)~VIRTIO_STATUS_FEATURES_OK;
	if (!(value & VIRTIO_STATUS_FEATURES_OK))
		value &= (uint8_t)~VIRTIO_STATUS_DRIVER_OK;
	pci->status = value;
	/* They stay from here on, and configuration space depends on some. */
	if (value & ~before & VIRTIO_STATUS_FEATURES_OK)
		pci->model->negotiated = pci->driver_features;
	if (value & ~before & VIRTIO_STATUS_DRIVER_OK)
		virtio_post_work(pci);
}

static uint16_t usable_vector(const struct virtio_pci *pci, uint16_t vector)
{
	return vector < msix_vectors(&pci->function) ? vector : VIRTIO_NO_VECTOR;
}

static void write_queue_vector(
	struct virtio_pci *pci, struct virtio_queue_registers *queue, uint16_t vector)
{
	atomic_store(&queue->vector, usable_vector(pci, vector));
	/* Whoever serves the queue signals the vector's eventfd itself. */
	if (!atomic_load(&queue->handed_over) || !pci->model->ops->vector_changed)
		return;
	atomic_store(&queue->vector_moved, true);
	virtio_post_work(pci);
}

static void write_queue_size(
	const struct virtio_pci *pci, struct virtio_queue_registers *queue, uint16_t size)
{
	/* Whether it must be a power of two is known when the queue is enabled (2.7, 2.8). */
	if (size != 0 && size <= pci->model->queue_size_max)
		queue->size = size;
}

static void write_queue(struct virtio_pci *pci, struct virtio_queue_registers *queue,
	unsigned offset, uint32_t value)
{
	/* What an enabled queue is made of stays until the reset (4.1.4.3.2). */
	if (queue->enabled || (pci->status & VIRTIO_STATUS_DRIVER_OK))
		return;
	switch (offset) {
	case QUEUE_SIZE:
		write_queue_size(pci, queue, (uint16_t)value);
		break;
	case QUEUE_ENABLE:
		queue->enabled = value == 1;
		break;
	case QUEUE_DESCRIPTORS:
	case QUEUE_DESCRIPTORS + 4:
		set_half(&queue->descriptors, offset / 4 & 1, value);
		break;
	case QUEUE_DRIVER:
	case QUEUE_DRIVER + 4:
		set_half(&queue->driver, offset / 4 & 1, value);
		break;
	case QUEUE_DEVICE:
	case QUEUE_DEVICE + 4:
		set_half(&queue->device, offset / 4 & 1, value);
		break;
	default:
		break;
	}
}

static void write_features(struct virtio_pci *pci, uint32_t value)
{
	if (pci->driver_feature_select < 2 && !(pci->status & VIRTIO_STATUS_FEATURES_OK))
		set_half(&pci->driver_features, pci->driver_feature_select, value);
}

static void write_common(struct virtio_pci *pci, unsigned offset, uint32_t value)
{
	struct virtio_queue_registers *queue = selected(pci);

	if (pci->reset_pending)
		return; /* the driver has to wait for status 0 */
	switch (offset) {
	case DEVICE_FEATURE_SELECT:
		pci->device_feature_select = value;
		break;
	case DRIVER_FEATURE_SELECT:
		pci->driver_feature_select = value;
		break;
	case DRIVER_FEATURE:
		write_features(pci, value);
		break;
	case CONFIG_VECTOR:
		atomic_store(&pci->config_vector, usable_vector(pci, (uint16_t)value));
		break;
	case DEVICE_STATUS:
		write_status(pci, (uint8_t)value);
		break;
	case QUEUE_SELECT:
		pci->queue_select = (uint16_t)value;
		break;
	case QUEUE_VECTOR:
		if (queue)
			write_queue_vector(pci, queue, (uint16_t)value);
		break;
	default:
		if (queue)
			write_queue(pci, queue, offset, value);
		break;
	}
}

static bool is_register(uint64_t offset, unsigned size)
{
	return offset < COMMON_END && widths[offset] == size;
}

/* A 64-bit field in one access. */
static bool is_wide(uint64_t offset, unsigned size)
{
	return size == 8 && offset >= QUEUE_DESCRIPTORS && offset < QUEUE_NOTIFY_DATA &&
	       offset % 8 == 0;
}

static uint64_t common_access_read(struct virtio_pci *pci, unsigned offset, unsigned size)
{
	if (is_wide(offset, size))
		return read_queue(pci, offset) | read_queue(pci, offset + 4) << 32;
	return is_register(offset, size) ? read_common(pci, offset) : 0;
}

static void common_access_write(
	struct virtio_pci *pci, unsigned offset, unsigned size, uint64_t value)
{
	if (is_wide(offset, size)) {
		write_common(pci, offset, (uint32_t)value);
		write_common(pci, offset + 4, (uint32_t)(value >> 32));
	} else if (is_register(offset, size)) {
		write_common(pci, offset, (uint32_t)value);
	}
}

static bool in_config(const struct virtio_pci *pci, unsigned offset, unsigned size)
{
	return range_within(offset, size, pci->model->config_size);
}

static uint64_t read_part(struct virtio_pci *pci, unsigned part, unsigned offset, unsigned size)
{
	switch (part) {
	case VIRTIO_COMMON:
		return common_access_read(pci, offset, size);
	case VIRTIO_ISR:
		return offset == 0 ? virtio_take_isr(pci) : 0;
	case VIRTIO_CONFIG:
		return in_config(pci, offset, size)
			       ? pci->model->ops->config_read(pci->model, offset, size)
			       : 0;
	default:
		return 0;
	}
}

static void write_part(
	struct virtio_pci *pci, unsigned part, unsigned offset, unsigned size, uint64_t value)
{
	const struct virtio_ops *ops = pci->model->ops;

	switch (part) {
	case VIRTIO_COMMON:
		common_access_write(pci, offset, size, value);
		break;
	case VIRTIO_CONFIG:
		if (ops->config_write && !pci->reset_pending && in_config(pci, offset, size))
			ops->config_write(pci->model, offset, size, value);
		break;
	case VIRTIO_NOTIFY:
		if (offset / VIRTIO_NOTIFY_STRIDE < pci->model->queue_count)
			virtio_doorbell_ring(pci, offset / VIRTIO_NOTIFY_STRIDE);
		break;
	default:
		break;
	}
}

static uint64_t port_read(void *device, uint64_t offset, unsigned size)
{
	(void)device;
	(void)offset;
	(void)size;
	return 0;
}

static void port_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	struct virtio_pci *pci = device;

	(void)size;
	(void)value;
	pthread_mutex_lock(&pci->lock);
	if (offset / VIRTIO_PORT_STRIDE < pci->model->queue_count)
		virtio_doorbell_ring(pci, (unsigned)(offset / VIRTIO_PORT_STRIDE));
	pthread_mutex_unlock(&pci->lock);
}

const struct bus_ops virtio_port_ops = {.read = port_read, .write = port_write};

uint64_t virtio_bar_read(void *device, uint64_t offset, unsigned size)
{
	struct virtio_pci *pci = device;
	uint64_t value;

	pthread_mutex_lock(&pci->lock);
	value = read_part(pci, offset & ~(VIRTIO_PART - 1ULL), offset & (VIRTIO_PART - 1), size);
	pthread_mutex_unlock(&pci->lock);
	return value;
}

void virtio_bar_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	struct virtio_pci *pci = device;

	pthread_mutex_lock(&pci->lock);
	write_part(pci, offset & ~(VIRTIO_PART - 1ULL), offset & (VIRTIO_PART - 1), size, value);
	pthread_mutex_unlock(&pci->lock);
}

const struct bus_ops virtio_bar_ops = {.read = virtio_bar_read, .write = virtio_bar_write};
