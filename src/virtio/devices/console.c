/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-console (virtio 1.2, 5.3): one port. */
#include "virtio/devices/console_private.h"

#include <errno.h>
#include <stdlib.h>

#define DEVICE_CONSOLE   3
#define CLASS_CONSOLE    0x078000 /* simple communication controller, other */
#define QUEUE_SIZE       64
#define CONFIG_SIZE      12
#define CONFIG_COLUMNS   0
#define CONFIG_ROWS      2
#define CONFIG_PORTS     4
#define CONFIG_EMERGENCY 8

#define VIRTIO_CONSOLE_F_SIZE        0
#define VIRTIO_CONSOLE_F_EMERG_WRITE 2

static struct console *console_of(struct virtio_device *device)
{
	return container_of(device, struct console, virtio);
}

static uint64_t features(struct virtio_device *device)
{
	return VIRTIO_FEATURE(VIRTIO_CONSOLE_F_SIZE) | VIRTIO_FEATURE(VIRTIO_CONSOLE_F_EMERG_WRITE);
}

static uint64_t config_read(struct virtio_device *device, unsigned offset, unsigned size)
{
	uint32_t dimensions = atomic_load(&console_of(device)->size);
	uint8_t config[CONFIG_SIZE] = {0};

	store_le16(config + CONFIG_COLUMNS, (uint16_t)dimensions);
	store_le16(config + CONFIG_ROWS, (uint16_t)(dimensions >> 16));
	store_le32(config + CONFIG_PORTS, 1);
	return config_load(config, sizeof(config), offset, size);
}

static void config_write(
	struct virtio_device *device, unsigned offset, unsigned size, uint64_t value)
{
	if (offset == CONFIG_EMERGENCY)
		console_emergency(console_of(device), (char)value);
}

static int activate(struct virtio_device *device)
{
	struct console *console = console_of(device);

	console_output_start(console);
	console_input_start(console);
	/* Linux looks at the size only when it is told of a change. */
	if (virtio_has(device, VIRTIO_CONSOLE_F_SIZE))
		virtio_config_changed(device);
	return 0;
}

static enum virtio_progress kick(struct virtio_device *device, struct virtqueue *queue)
{
	struct console *console = console_of(device);

	return queue->index == CONSOLE_RECEIVE ? console_receive(console)
					       : console_transmit(console);
}

static void quiesce(struct virtio_device *device)
{
	struct console *console = console_of(device);

	console_output_stop(console);
	console_input_stop(console);
}

static void reset(struct virtio_device *device)
{
	/* Of the chain that was put back, should there be one, nothing is left. */
	console_of(device)->output.taken = 0;
	console_of(device)->input.settled = false;
}

static void save(struct virtio_device *device, struct state_writer *writer)
{
	struct console *console = console_of(device);

	console_output_save(&console->output, writer);
	console_input_save(&console->input, writer);
}

static int restore(struct virtio_device *device, struct state_reader *reader, struct error *err)
{
	struct console *console = console_of(device);
	int ret = console_output_restore(&console->output, reader);

	if (ret == 0)
		ret = console_input_restore(&console->input, reader);
	if (ret < 0)
		return error_set(err, EINVAL, "%s: saved console is broken", device->name);
	return 0;
}

static void stats(struct virtio_device *device, struct stats_sink *sink)
{
	const struct console *console = console_of(device);

	sink->count(sink, "queue0", "bytes", counter_read(&console->bytes_in));
	sink->count(sink, "queue1", "bytes", counter_read(&console->bytes_out));
}

static void console_free(struct virtio_device *device)
{
	struct console *console = console_of(device);

	console_output_destroy(&console->output);
	room_stop(&console->input.room);
	pthread_mutex_destroy(&console->input.lock);
	free(console);
}

static const struct virtio_ops console_ops = {
	.type = "virtio-console",
	.id = DEVICE_CONSOLE,
	.class_code = CLASS_CONSOLE,
	.features = features,
	.reset = reset,
	.activate = activate,
	.kick = kick,
	.quiesce = quiesce,
	.config_read = config_read,
	.config_write = config_write,
	.save = save,
	.restore = restore,
	.stats = stats,
	.free = console_free,
};

int virtio_console_new(struct device **device, const char *name,
	const struct virtio_console_options *options, struct error *err)
{
	struct console *console = calloc(1, sizeof(*console));

	if (!console)
		return error_errno(err, ENOMEM, "%s", name);
	console_output_init(&console->output, options->output);
	console->input.fd = options->input;
	console->input.task.run = console_input_task;
	console->input.quiet_ms = options->quiet_ms;
	console->input.settling.expired = console_input_settled;
	pthread_mutex_init(&console->input.lock, NULL);
	room_init(&console->input.room, &console->input.lock);
	atomic_store(&console->size, 80 | 25U << 16);
	console->virtio.ops = &console_ops;
	console->virtio.queue_count = 2;
	console->virtio.queue_size_max = QUEUE_SIZE;
	console->virtio.config_size = CONFIG_SIZE;
	console->virtio.ring_features = options->packed ? VIRTIO_FEATURE(VIRTIO_F_RING_PACKED) : 0;
	return virtio_pci_new(device, &console->virtio, name, err);
}

void virtio_console_resize(struct device *device, uint16_t columns, uint16_t rows)
{
	struct console *console = console_of(virtio_pci_model(device));

	atomic_store(&console->size, columns | (uint32_t)rows << 16);
	virtio_config_changed(&console->virtio);
}

size_t virtio_console_input(struct device *device, const void *bytes, size_t length)
{
	return console_input_put(console_of(virtio_pci_model(device)), bytes, length);
}

void virtio_console_set_room(
	struct device *device, struct loop *loop, void (*call)(void *opaque), void *opaque)
{
	room_tell(&console_of(virtio_pci_model(device))->input.room, loop, call, opaque);
}

void virtio_console_flush(struct device *device, bool hurry)
{
	console_output_finish(console_of(virtio_pci_model(device)), hurry);
}
