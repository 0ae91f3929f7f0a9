/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio_rig.h"

#include "base/bytes.h"
#include "base/checked.h"
#include "base/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PATIENCE_NS (FAKE_PATIENCE_MS * 1000000ULL)

static uint32_t config(struct virtio_driver *driver, unsigned offset, unsigned size)
{
	return fake_guest_config_read(driver->machine, driver->slot, offset, size);
}

static uint64_t bar_address(struct virtio_driver *driver, unsigned bar)
{
	uint64_t address = config(driver, 0x10 + 4 * bar, 4);

	if (address & 1)
		return address & ~3ULL;
	if (address & 4)
		address |= (uint64_t)config(driver, 0x14 + 4 * bar, 4) << 32;
	return address & ~15ULL;
}

static bool is_port(struct virtio_driver *driver, unsigned bar)
{
	return config(driver, 0x10 + 4 * bar, 4) & 1;
}

static void found_doorbells(struct virtio_driver *driver, unsigned at, uint64_t address)
{
	uint32_t stride = config(driver, at + 16, 4);

	if (is_port(driver, config(driver, at + 4, 1))) {
		driver->ports = address;
		driver->port_stride = stride;
	} else {
		driver->notify = address;
		driver->stride = stride;
	}
}

static void found(struct virtio_driver *driver, unsigned at)
{
	uint64_t address =
		bar_address(driver, config(driver, at + 4, 1)) + config(driver, at + 8, 4);

	switch (config(driver, at + 3, 1)) {
	case 1:
		driver->common = address;
		break;
	case 2:
		found_doorbells(driver, at, address);
		break;
	case 3:
		driver->isr = address;
		break;
	case 4:
		driver->config = address;
		break;
	case 5:
		driver->window_capability = at;
		break;
	default:
		break;
	}
}

void driver_probe(struct virtio_driver *driver, struct fake_machine *machine, unsigned slot)
{
	memset(driver, 0, sizeof(*driver));
	driver->machine = machine;
	driver->slot = slot;
	fake_guest_config_write(machine, slot, 4, 2, 7);
	for (unsigned at = config(driver, 0x34, 1); at; at = config(driver, at + 1, 1)) {
		if (config(driver, at, 1) == 9)
			found(driver, at);
		if (config(driver, at, 1) != 0x11)
			continue;
		driver->msix_capability = at;
		driver->msix = bar_address(driver, config(driver, at + 4, 4) & 7);
	}
}

uint64_t driver_read(struct virtio_driver *driver, unsigned offset, unsigned size)
{
	return fake_guest_read(driver->machine, driver->common + offset, size);
}

void driver_write(struct virtio_driver *driver, unsigned offset, unsigned size, uint64_t value)
{
	fake_guest_write(driver->machine, driver->common + offset, size, value);
}

bool driver_reset(struct virtio_driver *driver)
{
	const uint64_t until = clock_ns() + PATIENCE_NS;

	driver_write(driver, COMMON_STATUS, 1, 0);
	while (clock_ns() < until) {
		if (driver_read(driver, COMMON_STATUS, 1) == 0)
			return true;
		fake_machine_round(driver->machine);
	}
	return false;
}

uint64_t driver_features(struct virtio_driver *driver)
{
	uint64_t features;

	driver_write(driver, COMMON_DEVICE_FEATURE_SELECT, 4, 1);
	features = driver_read(driver, COMMON_DEVICE_FEATURE, 4) << 32;
	driver_write(driver, COMMON_DEVICE_FEATURE_SELECT, 4, 0);
	return features | driver_read(driver, COMMON_DEVICE_FEATURE, 4);
}

bool driver_negotiate(struct virtio_driver *driver, uint64_t features)
{
	driver_write(driver, COMMON_STATUS, 1, 1);
	driver_write(driver, COMMON_STATUS, 1, 3);
	for (unsigned i = 0; i < 2; i++) {
		driver_write(driver, COMMON_DRIVER_FEATURE_SELECT, 4, i);
		driver_write(driver, COMMON_DRIVER_FEATURE, 4, (uint32_t)(features >> 32 * i));
	}
	driver_write(driver, COMMON_STATUS, 1, 11);
	return driver_read(driver, COMMON_STATUS, 1) == 11;
}

void driver_msix(struct virtio_driver *driver, unsigned vectors)
{
	unsigned control = driver->msix_capability + 2;

	/* As Linux does it: all masked while the table is filled. */
	fake_guest_config_write(driver->machine, driver->slot, control, 2, 0xc000);
	for (unsigned i = 0; i < vectors; i++) {
		uint64_t entry = driver->msix + 16 * i;

		fake_guest_write(driver->machine, entry, 4, 0xfee00000);
		fake_guest_write(driver->machine, entry + 4, 4, 0);
		fake_guest_write(driver->machine, entry + 8, 4, 0x100 + i);
		fake_guest_write(driver->machine, entry + 12, 4, 0);
	}
	fake_guest_config_write(driver->machine, driver->slot, control, 2, 0x8000);
}

void driver_queue(struct virtio_driver *driver, unsigned index, struct ring_driver *ring,
	uint64_t base, const struct virtqueue_setup *setup, uint16_t vector)
{
	ring_driver_init(ring, &driver->machine->memory, base, setup);
	driver_write(driver, COMMON_QUEUE_SELECT, 2, index);
	driver_write(driver, COMMON_QUEUE_SIZE, 2, setup->size);
	driver_write(driver, COMMON_QUEUE_VECTOR, 2, vector);
	driver_write(driver, COMMON_QUEUE_DESCRIPTORS, 8, ring->setup.descriptors.value);
	driver_write(driver, COMMON_QUEUE_DRIVER, 8, ring->setup.driver.value);
	driver_write(driver, COMMON_QUEUE_DEVICE, 4, (uint32_t)ring->setup.device.value);
	driver_write(driver, COMMON_QUEUE_DEVICE + 4, 4, ring->setup.device.value >> 32);
	driver_write(driver, COMMON_QUEUE_ENABLE, 2, 1);
}

void driver_ok(struct virtio_driver *driver)
{
	driver_write(driver, COMMON_STATUS, 1, 15);
}

void driver_kick(struct virtio_driver *driver, unsigned queue)
{
	uint64_t port = driver->ports + (uint64_t)queue * driver->port_stride;

	if (!fake_host_write(&driver->machine->host, true, port, 2, queue))
		bus_write(driver->machine->place.ports, port, 2, queue);
}

void driver_kick_memory(struct virtio_driver *driver, unsigned queue)
{
	fake_guest_write(
		driver->machine, driver->notify + (uint64_t)queue * driver->stride, 2, queue);
}

bool driver_await(struct ring_driver *ring, uint64_t *token, uint32_t *written)
{
	const uint64_t until = clock_ns() + PATIENCE_NS;

	while (clock_ns() < until) {
		if (ring_driver_take(ring, token, written))
			return true;
		fake_machine_round(container_of(ring->memory, struct fake_machine, memory));
	}
	return false;
}

static struct rig_model *model_of(struct virtio_device *device)
{
	return (struct rig_model *)device;
}

static uint64_t features(struct virtio_device *device)
{
	(void)device;
	return 1;
}

static int activate(struct virtio_device *device)
{
	model_of(device)->activations++;
	return model_of(device)->fail_activate ? -ENODEV : 0;
}

/* Whether there are so many; all of them are left in the ring. */
static bool holds(struct virtqueue *queue, unsigned chains)
{
	struct iovec segments[32];
	struct virtqueue_chain chain[RIG_NEEDS_MAX];
	unsigned count = 0;
	bool enough;

	for (; count < chains; count++) {
		chain[count] = (struct virtqueue_chain){.segments = segments, .capacity = 32};
		if (virtqueue_pop(queue, &chain[count]) != 1)
			break;
	}
	enough = count == chains;
	while (count)
		virtqueue_unpop(queue, &chain[--count]);
	return enough;
}

/* Kicks are off while it looks, as a network device's are while frames flow. */
static bool has_enough(struct virtqueue *queue, unsigned chains)
{
	virtqueue_kicks_off(queue);
	if (holds(queue, chains))
		return true;
	return virtqueue_kicks_on(queue) && holds(queue, chains);
}

/* False: no more than @most were asked for (0: all), and there may be more. */
static bool answer(struct virtqueue *queue, unsigned most)
{
	struct iovec segments[32];
	struct virtqueue_chain chain = {.segments = segments, .capacity = 32};

	unsigned count = 0;

	while (virtqueue_pop(queue, &chain) == 1) {
		for (unsigned i = 0; i < chain.writable; i++)
			memset(segments[chain.readable + i].iov_base, 0x5a,
				segments[chain.readable + i].iov_len);
		virtqueue_push(queue, &chain, (uint32_t)chain.writable_bytes);
		if (++count == most)
			return false;
	}
	return true;
}

static void keep(struct rig_model *model, struct virtqueue *queue)
{
	struct iovec segments[32];
	struct virtqueue_chain chain = {.segments = segments, .capacity = 32};

	while (virtqueue_pop(queue, &chain) == 1)
		model->kept++;
	if (model->at_end)
		model->at_end(model->opaque);
}

static enum virtio_progress kick(struct virtio_device *device, struct virtqueue *queue)
{
	struct rig_model *model = model_of(device);
	unsigned needs = model->needs;
	bool done = true;

	if (model->kicks < sizeof(model->turns))
		model->turns[model->kicks] = (uint8_t)queue->index;
	model->kicks++;
	if (model->keeps)
		keep(model, queue);
	else if (!needs)
		done = answer(queue, model->per_turn);
	while (needs && has_enough(queue, needs))
		answer(queue, 0);
	return done && !model->restless ? VIRTIO_DONE : VIRTIO_MORE;
}

static void quiesce(struct virtio_device *device)
{
	struct rig_model *model = model_of(device);

	model->held = model->hold_quiesce;
	for (unsigned i = 0; i < model->held; i++)
		virtio_begin(device, &device->queues[i]);
	model->quiesces++;
}

static void release(struct loop_task *task)
{
	struct rig_model *model = container_of(task, struct rig_model, release);

	virtio_end(&model->virtio, &model->virtio.queues[--model->held]);
}

static void after_release(struct loop_task *task)
{
	(void)task;
}

void rig_release(struct rig_model *model)
{
	struct loop_task after = {.run = after_release};

	model->release.run = release;
	loop_call(model->virtio.io, &model->release);
	/* The device comes to rest in a task behind that one. */
	loop_call(model->virtio.io, &after);
}

static uint64_t config_read(struct virtio_device *device, unsigned offset, unsigned size)
{
	return load_le(model_of(device)->config + offset, size);
}

static void config_write(
	struct virtio_device *device, unsigned offset, unsigned size, uint64_t value)
{
	store_le(model_of(device)->config + offset, size, value);
}

static void save(struct virtio_device *device, struct state_writer *writer)
{
	state_put_bytes(writer, model_of(device)->config, sizeof(model_of(device)->config));
}

static int restore(struct virtio_device *device, struct state_reader *reader, struct error *err)
{
	(void)err;
	state_get_bytes(reader, model_of(device)->config, sizeof(model_of(device)->config));
	return 0;
}

static void free_model(struct virtio_device *device)
{
	if (model_of(device)->freed_flag)
		*model_of(device)->freed_flag = true;
	free(device);
}

static const struct virtio_ops ops = {
	.type = "virtio-entropy",
	.id = 4,
	.class_code = 0xff0000,
	.features = features,
	.activate = activate,
	.kick = kick,
	.quiesce = quiesce,
	.config_read = config_read,
	.config_write = config_write,
	.save = save,
	.restore = restore,
	.free = free_model,
};

int rig_model_new(struct device **device, struct rig_model **out, unsigned queues,
	uint64_t ring_features, struct error *err)
{
	struct rig_model *model = calloc(1, sizeof(*model));

	if (!model)
		return -ENOMEM;
	model->virtio.ops = &ops;
	model->virtio.queue_count = queues;
	model->virtio.queue_size_max = 64;
	model->virtio.config_size = sizeof(model->config);
	model->virtio.ring_features = ring_features;
	*out = model;
	return virtio_pci_new(device, &model->virtio, "rig0", err);
}
