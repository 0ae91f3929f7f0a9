/* SPDX-License-Identifier: Apache-2.0 */
/* A virtio model as a PCI function: identity, capabilities, the access window. */
#include "virtio/transport/transport.h"

#include "base/bytes.h"
#include "base/checked.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VENDOR_VIRTIO       0x1af4
#define DEVICE_FIRST        0x1040
#define CAPABILITY_VENDOR   0x09
#define CAPABILITY_LENGTH   16
#define CAPABILITY_NOTIFY   20
#define CAPABILITY_64       24
#define CFG_COMMON          1
#define CFG_NOTIFY          2
#define CFG_ISR             3
#define CFG_DEVICE          4
#define CFG_WINDOW          5
#define CFG_SHARED_MEMORY   8
#define CAP_CFG_LENGTH      2 /* fields of struct virtio_pci_cap (4.1.4) */
#define CAP_CFG_TYPE        3
#define CAP_BAR             4
#define CAP_ID              5
#define CAP_OFFSET          8
#define CAP_LENGTH          12
#define CAP_WINDOW_DATA     16
#define CAP_NOTIFY_STRIDE   16
#define CAP_OFFSET_HIGH     16 /* of struct virtio_pci_cap64 */
#define CAP_LENGTH_HIGH     20
#define MSIX_BAR_SIZE       0x1000
#define MSIX_VECTORS_IN_BAR 240

static int add_capability(struct pci_function *function, uint8_t type, uint8_t length, uint8_t bar,
	uint32_t offset, uint32_t size, struct error *err)
{
	int at = pci_add_capability(function, CAPABILITY_VENDOR, length);
	uint8_t *config;

	if (at < 0)
		return error_errno(err, -at, "%s: PCI capability", function->device.name);
	config = function->config + at;
	config[CAP_CFG_LENGTH] = length;
	config[CAP_CFG_TYPE] = type;
	config[CAP_BAR] = bar;
	store_le32(config + CAP_OFFSET, offset);
	store_le32(config + CAP_LENGTH, size);
	return at;
}

/* 4.1.4.9: BAR, offset, length and data are the driver's to write. */
static int add_window(struct virtio_pci *pci, struct error *err)
{
	int at = add_capability(
		&pci->function, CFG_WINDOW, VIRTIO_WINDOW_LENGTH, VIRTIO_BAR, 0, 0, err);
	uint8_t *writable;

	if (at < 0)
		return at;
	pci->window = (unsigned)at;
	writable = pci->function.writable + at;
	writable[CAP_BAR] = 0xff;
	store_le32(writable + CAP_OFFSET, UINT32_MAX);
	store_le32(writable + CAP_LENGTH, UINT32_MAX);
	store_le32(writable + CAP_WINDOW_DATA, UINT32_MAX);
	return 0;
}

static int add_notify(
	struct virtio_pci *pci, uint8_t bar, uint32_t offset, uint32_t stride, struct error *err)
{
	int at = add_capability(&pci->function, CFG_NOTIFY, CAPABILITY_NOTIFY, bar, offset,
		stride * pci->model->queue_count, err);

	if (at < 0)
		return at;
	store_le32(pci->function.config + at + CAP_NOTIFY_STRIDE, stride);
	return 0;
}

/* In memory and, what a driver finds first and so prefers (4.1.4), as ports. */
static int add_doorbells(struct virtio_pci *pci, struct error *err)
{
	int ret = add_notify(pci, VIRTIO_BAR, VIRTIO_NOTIFY, VIRTIO_NOTIFY_STRIDE, err);

	if (ret < 0)
		return ret;
	return add_notify(pci, VIRTIO_PORT_BAR, 0, VIRTIO_PORT_STRIDE, err);
}

/* 4.1.4.7: a region's number is in the capability, its offset and length have 64 bits. */
static int add_shared_memory(struct virtio_pci *pci, struct error *err)
{
	uint64_t length = pci->model->shared_length;
	uint8_t *config;
	int at;

	if (!length)
		return 0;
	at = add_capability(&pci->function, CFG_SHARED_MEMORY, CAPABILITY_64, VIRTIO_SHARED_BAR, 0,
		(uint32_t)length, err);
	if (at < 0)
		return at;
	config = pci->function.config + at;
	config[CAP_ID] = pci->model->shared_id;
	store_le32(config + CAP_OFFSET_HIGH, 0);
	store_le32(config + CAP_LENGTH_HIGH, (uint32_t)(length >> 32));
	return 0;
}

/* Each one goes to the head of the list, and a driver walks the list from there for each structure
 * it looks for: what is looked for first is added last. */
static int add_capabilities(struct virtio_pci *pci, struct error *err)
{
	struct pci_function *function = &pci->function;
	unsigned vectors = pci->model->queue_count + 1;
	int ret = add_window(pci, err);

	if (ret >= 0)
		ret = msix_add(function, (unsigned)min_u64(vectors, MSIX_VECTORS_IN_BAR),
			VIRTIO_MSIX_BAR, MSIX_BAR_SIZE, err);
	if (ret >= 0)
		ret = add_shared_memory(pci, err);
	if (ret >= 0 && pci->model->config_size)
		ret = add_capability(function, CFG_DEVICE, CAPABILITY_LENGTH, VIRTIO_BAR,
			VIRTIO_CONFIG, pci->model->config_size, err);
	if (ret >= 0)
		ret = add_doorbells(pci, err);
	if (ret >= 0)
		ret = add_capability(function, CFG_ISR, CAPABILITY_LENGTH, VIRTIO_BAR, VIRTIO_ISR,
			VIRTIO_PART, err);
	if (ret >= 0)
		ret = add_capability(function, CFG_COMMON, CAPABILITY_LENGTH, VIRTIO_BAR,
			VIRTIO_COMMON, VIRTIO_PART, err);
	return ret < 0 ? ret : 0;
}

/* False: the window points nowhere. */
static bool window_target(const struct virtio_pci *pci, uint32_t *offset, uint32_t *size)
{
	const uint8_t *config = pci->function.config + pci->window;

	*offset = load_le32(config + CAP_OFFSET);
	*size = load_le32(config + CAP_LENGTH);
	if (*size != 1 && *size != 2 && *size != 4)
		return false;
	return config[CAP_BAR] == VIRTIO_BAR && *offset % *size == 0 &&
	       range_within(*offset, *size, VIRTIO_BAR_SIZE);
}

static bool touches_data(const struct virtio_pci *pci, unsigned offset, unsigned size)
{
	unsigned data = pci->window + CAP_WINDOW_DATA;

	return offset < data + 4 && offset + size > data;
}

static uint32_t config_read(struct pci_function *function, unsigned offset, unsigned size)
{
	struct virtio_pci *pci = container_of(function, struct virtio_pci, function);
	uint8_t *data = function->config + pci->window + CAP_WINDOW_DATA;
	uint32_t at, length;

	if (touches_data(pci, offset, size) && window_target(pci, &at, &length))
		store_le(data, length, virtio_bar_read(pci, at, length));
	return pci_plain_read(function, offset, size);
}

static void config_written(struct pci_function *function, unsigned offset, unsigned size)
{
	struct virtio_pci *pci = container_of(function, struct virtio_pci, function);
	const uint8_t *data = function->config + pci->window + CAP_WINDOW_DATA;
	uint32_t at, length;

	if (touches_data(pci, offset, size) && window_target(pci, &at, &length))
		virtio_bar_write(pci, at, length, load_le(data, length));
}

static const struct pci_function_ops pci_ops = {
	.config_read = config_read,
	.config_written = config_written,
};

static int realize(struct device *device, const struct device_place *place, struct error *err)
{
	struct virtio_pci *pci = virtio_pci_of(device);
	struct virtio_device *model = pci->model;
	const struct pci_ids ids = {
		.vendor = VENDOR_VIRTIO,
		.device = (uint16_t)(DEVICE_FIRST + model->ops->id),
		.subsystem_vendor = VENDOR_VIRTIO,
		.subsystem = (uint16_t)(DEVICE_FIRST + model->ops->id),
		.class_code = model->ops->class_code,
		.revision = 1,
		.intx = true,
	};
	int ret;

	pci->place = *place;
	model->memory = place->memory;
	model->io = place->io;
	virtio_turns_prepare(pci);
	for (unsigned i = 0; i < model->queue_count; i++)
		model->queues[i].polled = model->polls;
	pci_init(&pci->function, &ids);
	ret = add_capabilities(pci, err);
	if (ret < 0)
		return ret;
	pci_describe_bar(&pci->function, VIRTIO_BAR, PCI_BAR_MEMORY32, VIRTIO_BAR_SIZE,
		&virtio_bar_ops, pci, pci->name);
	pci_describe_bar(&pci->function, VIRTIO_PORT_BAR, PCI_BAR_PORT, VIRTIO_PORT_BAR_SIZE,
		&virtio_port_ops, pci, pci->name);
	pci->function.bars[VIRTIO_PORT_BAR].moved = virtio_doorbell_moved;
	virtio_describe_shared(pci);
	ret = pci_add(place->pci, &pci->function, err);
	if (ret < 0)
		return ret;
	pthread_mutex_lock(&pci->lock);
	virtio_begin_reset_locked(pci);
	pthread_mutex_unlock(&pci->lock);
	return 0;
}

static void count(
	struct stats_sink *sink, const char *group, const char *name, const _Atomic uint64_t *value)
{
	sink->count(sink, group, name, atomic_load_explicit(value, memory_order_relaxed));
}

static void count_queue(
	struct stats_sink *sink, const char *group, const struct virtqueue_stats *queue, bool polls)
{
	count(sink, group, "kicks", &queue->kicks);
	count(sink, group, "interrupts", &queue->interrupts);
	count(sink, group, "suppressed", &queue->suppressed);
	count(sink, group, "chains", &queue->chains);
	if (!polls)
		return;
	count(sink, group, "polls", &queue->polls);
	count(sink, group, "poll_misses", &queue->poll_misses);
}

static void stats(struct device *device, struct stats_sink *sink)
{
	struct virtio_pci *pci = virtio_pci_of(device);
	struct virtio_device *model = pci->model;

	for (unsigned i = 0; i < model->queue_count; i++) {
		char group[16];

		snprintf(group, sizeof(group), "queue%u", i);
		/* Nobody here sees what goes on in a queue that is handed over: no zeroes for it.
		 */
		if (!atomic_load(&pci->queues[i].ever_handed_over) ||
			atomic_load(&model->queues[i].stats.chains))
			count_queue(sink, group, &model->queues[i].stats, model->polls);
	}
	count(sink, NULL, "needed_resets", &pci->faults);
	if (model->ops->stats)
		model->ops->stats(model, sink);
}

static void free_device(struct device *device)
{
	struct virtio_pci *pci = virtio_pci_of(device);

	virtio_doorbell_remove_all(pci);
	pci_remove(&pci->function);
	virtio_doorbell_close(pci);
	free(pci->model->queues);
	pci->model->ops->free(pci->model);
	pthread_mutex_destroy(&pci->lock);
	pthread_mutex_destroy(&pci->isr_lock);
	free(pci->queues);
	free(pci);
}

/* All but the type, which is the model's. */
static const struct device_ops device_ops = {
	.realize = realize,
	.reset = virtio_pci_reset,
	.start = virtio_pci_start,
	.quiesce = virtio_pci_quiesce,
	.hurry = virtio_pci_hurry,
	.state_version = 1,
	.save = virtio_pci_save,
	.restore = virtio_pci_restore,
	.stats = stats,
	.free = free_device,
};

static void init(struct virtio_pci *pci, struct virtio_device *model, const char *name)
{
	pci->model = model;
	pci->stopped = true;
	pci->work.run = virtio_work;
	pci->hurry.run = virtio_hurry;
	pthread_mutex_init(&pci->lock, NULL);
	pthread_mutex_init(&pci->isr_lock, NULL);
	pci->device_ops = device_ops;
	pci->device_ops.type = model->ops->type;
	pci->function.device.ops = &pci->device_ops;
	pci->function.pci_ops = &pci_ops;
	snprintf(pci->name, sizeof(pci->name), "%s", name);
	snprintf(pci->function.device.name, sizeof(pci->function.device.name), "%s", name);
	model->name = pci->name;
	model->transport = pci;
	for (unsigned i = 0; i < model->queue_count; i++) {
		model->queues[i].index = i;
		pci->queues[i].pci = pci;
		pci->queues[i].doorbell = -1;
	}
}

int virtio_pci_new(
	struct device **device, struct virtio_device *model, const char *name, struct error *err)
{
	struct virtio_pci *pci = calloc(1, sizeof(*pci));
	unsigned count_or_one = model->queue_count ? model->queue_count : 1;

	model->queues = calloc(count_or_one, sizeof(*model->queues));
	if (pci)
		pci->queues = calloc(count_or_one, sizeof(*pci->queues));
	if (!pci || !pci->queues || !model->queues || model->queue_count > VIRTIO_QUEUES_MAX ||
		model->queue_size_max > VIRTQUEUE_SIZE_MAX ||
		!is_power_of_two(model->queue_size_max)) {
		int code = pci && pci->queues && model->queues ? EINVAL : ENOMEM;

		if (pci)
			free(pci->queues);
		free(pci);
		free(model->queues);
		model->ops->free(model);
		return error_errno(err, code, "%s: virtio device", name);
	}
	init(pci, model, name);
	*device = &pci->function.device;
	return 0;
}

uint64_t virtio_offered(const struct device *device)
{
	return ((const struct virtio_pci *)device)->offered;
}

int virtio_offer(struct device *device, uint64_t features, struct error *err)
{
	struct virtio_pci *pci = virtio_pci_of(device);
	uint64_t missing = features & ~pci->offered;

	if (missing)
		return error_set(err, ENOTSUP,
			"%s: features 0x%llx are wanted, and 0x%llx of them cannot be had here; "
			"give "
			"it the same back end and options as where it came from",
			pci->name, (unsigned long long)features, (unsigned long long)missing);
	if (!(features & VIRTIO_FEATURE(VIRTIO_F_VERSION_1)))
		return error_set(err, EINVAL,
			"%s: features 0x%llx lack VIRTIO_F_VERSION_1, which this device cannot do "
			"without",
			pci->name, (unsigned long long)features);
	pci->limit = pci->offered = features;
	return 0;
}

struct virtio_device *virtio_pci_model(struct device *device)
{
	return virtio_pci_of(device)->model;
}
