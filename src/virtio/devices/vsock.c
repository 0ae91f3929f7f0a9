/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-vsock (virtio 1.2, 5.10): streams between programs of the guest and of the host. */
#include "virtio/devices/vsock_private.h"

#include <errno.h>
#include <stdlib.h>

#define DEVICE_VSOCK     19
#define CLASS_VSOCK      0x078000 /* simple communication controller, other */
#define QUEUE_SIZE       128
#define CONFIG_SIZE      8
#define STATE_FORMAT     1
#define F_STREAM         0
#define EVENT_SIZE       4
#define TRANSPORT_RESET  0
#define PATIENCE_NS      8000000000ULL /* as long as Linux waits for the end of a connection */
#define EVENT_CHAIN_SIZE 8

static struct vsock *vsock_of(struct virtio_device *device)
{
	return container_of(device, struct vsock, virtio);
}

static uint64_t features(struct virtio_device *device)
{
	(void)device;
	return VIRTIO_FEATURE(F_STREAM);
}

static uint64_t config_read(struct virtio_device *device, unsigned offset, unsigned size)
{
	uint8_t config[CONFIG_SIZE];

	store_le64(config, vsock_of(device)->cid);
	return config_load(config, sizeof(config), offset, size);
}

/* Its buffers wait in the ring until there is something to tell. */
static void tell_of_interruption(struct vsock *vsock)
{
	struct virtqueue *queue = &vsock->virtio.queues[VSOCK_EVENT];
	struct iovec segments[EVENT_CHAIN_SIZE];
	struct virtqueue_chain chain = {.segments = segments, .capacity = EVENT_CHAIN_SIZE};
	uint8_t event[EVENT_SIZE];

	if (!vsock->interrupted || virtqueue_pop(queue, &chain) <= 0)
		return;
	if (chain.readable || chain.writable_bytes < sizeof(event)) {
		virtio_needs_reset(&vsock->virtio, "event buffer not writable, or too small");
		return;
	}
	store_le32(event, TRANSPORT_RESET);
	iov_copy_to(chain.segments, chain.writable, 0, event, sizeof(event));
	virtqueue_push(queue, &chain, sizeof(event));
	vsock->interrupted = false;
}

static enum virtio_progress kick(struct virtio_device *device, struct virtqueue *queue)
{
	struct vsock *vsock = vsock_of(device);

	if (queue->index == VSOCK_RECEIVE)
		return vsock_receive(vsock);
	if (queue->index == VSOCK_TRANSMIT)
		return vsock_transmit(vsock);
	tell_of_interruption(vsock);
	return VIRTIO_DONE;
}

static int activate(struct virtio_device *device)
{
	struct vsock *vsock = vsock_of(device);

	vsock->active = true;
	vsock_connections_start(vsock);
	return 0;
}

/* Connections outlive a pause; nothing waits for their sockets meanwhile. */
static void quiesce(struct virtio_device *device)
{
	struct vsock *vsock = vsock_of(device);

	vsock->active = false;
	vsock_connections_stop(vsock);
	loop_unpost(device->io, &vsock->speak);
	vsock->waking = false;
}

static void reset(struct virtio_device *device)
{
	struct vsock *vsock = vsock_of(device);

	vsock->interrupted = vsock->count > 0;
	vsock_connections_drop(vsock);
	vsock->reply_from = vsock->reply_count = 0;
	vsock->stalled = false;
}

/* Connections end on this host. */
static void save(struct virtio_device *device, struct state_writer *writer)
{
	(void)device;
	state_put_u8(writer, STATE_FORMAT);
}

static int restore(struct virtio_device *device, struct state_reader *reader, struct error *err)
{
	uint8_t format = state_get_u8(reader);

	if (format != STATE_FORMAT)
		return error_set(err, EINVAL, "%s: saved by another duet, in format %u, not %d",
			device->name, format, STATE_FORMAT);
	vsock_of(device)->interrupted = true;
	return 0;
}

static void stats(struct virtio_device *device, struct stats_sink *sink)
{
	static const char *const names[VSOCK_COUNTS] = {
		[VSOCK_FROM_GUEST] = "from_guest",
		[VSOCK_FROM_HOST] = "from_host",
		[VSOCK_REFUSED] = "refused",
		[VSOCK_BYTES_IN] = "bytes_in",
		[VSOCK_BYTES_OUT] = "bytes_out",
		[VSOCK_PACKETS_IN] = "packets_in",
		[VSOCK_PACKETS_OUT] = "packets_out",
		[VSOCK_VIOLATIONS] = "violations",
	};
	const struct vsock *vsock = vsock_of(device);

	sink->count(sink, NULL, "connections", counter_read(&vsock->connections));
	for (unsigned i = 0; i < VSOCK_COUNTS; i++)
		sink->count(sink, NULL, names[i], counter_read(&vsock->counts[i]));
}

static void vsock_free(struct virtio_device *device)
{
	struct vsock *vsock = vsock_of(device);

	vsock_connections_drop(vsock);
	vsock_host_close(vsock->host);
	free(vsock);
}

static const struct virtio_ops vsock_ops = {
	.type = "virtio-vsock",
	.id = DEVICE_VSOCK,
	.class_code = CLASS_VSOCK,
	.features = features,
	.reset = reset,
	.activate = activate,
	.kick = kick,
	.quiesce = quiesce,
	.config_read = config_read,
	.save = save,
	.restore = restore,
	.stats = stats,
	.free = vsock_free,
};

int virtio_vsock_new(struct device **device, const char *name,
	const struct virtio_vsock_options *options, struct error *err)
{
	struct vsock *vsock = calloc(1, sizeof(*vsock));

	if (!vsock) {
		vsock_host_close(options->host);
		return error_errno(err, ENOMEM, "%s", name);
	}
	vsock->host = options->host;
	vsock->cid = options->cid;
	vsock->patience = options->patience ? options->patience : PATIENCE_NS;
	vsock->last = &vsock->first;
	vsock->speak.run = vsock_speak;
	vsock->virtio.ops = &vsock_ops;
	vsock->virtio.queue_count = VSOCK_QUEUES;
	vsock->virtio.queue_size_max = QUEUE_SIZE;
	vsock->virtio.config_size = CONFIG_SIZE;
	vsock->virtio.ring_features = options->packed ? VIRTIO_FEATURE(VIRTIO_F_RING_PACKED) : 0;
	return virtio_pci_new(device, &vsock->virtio, name, err);
}
