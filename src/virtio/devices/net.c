/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-net (virtio 1.2, 5.1): configuration, features, life. */
#include "virtio/devices/net_private.h"

#include <errno.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define DEVICE_NET     1
#define CLASS_ETHERNET 0x020000

/* Offsets in struct virtio_net_config (5.1.4). */
#define CONFIG_MAC       0
#define CONFIG_STATUS    6
#define CONFIG_PAIRS_MAX 8
#define CONFIG_MTU       10
#define STATUS_LINK_UP   1
#define STATUS_ANNOUNCE  2

#define GUEST_OFFLOADS                                                                             \
	(VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_CSUM) | VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_TSO4) |       \
		VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_TSO6) | VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_ECN))
#define HOST_OFFLOADS                                                                              \
	(VIRTIO_FEATURE(VIRTIO_NET_F_CSUM) | VIRTIO_FEATURE(VIRTIO_NET_F_HOST_TSO4) |              \
		VIRTIO_FEATURE(VIRTIO_NET_F_HOST_TSO6) | VIRTIO_FEATURE(VIRTIO_NET_F_HOST_ECN))

static struct nic *nic_of(struct virtio_device *device)
{
	return container_of(device, struct nic, virtio);
}

static uint64_t features(struct virtio_device *device)
{
	const struct nic *nic = nic_of(device);
	uint64_t bits =
		VIRTIO_FEATURE(VIRTIO_NET_F_MAC) | VIRTIO_FEATURE(VIRTIO_NET_F_STATUS) |
		VIRTIO_FEATURE(VIRTIO_NET_F_MRG_RXBUF) | VIRTIO_FEATURE(VIRTIO_NET_F_CTRL_VQ) |
		VIRTIO_FEATURE(VIRTIO_NET_F_CTRL_RX) | VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_ANNOUNCE);

	if (nic->mtu)
		bits |= VIRTIO_FEATURE(VIRTIO_NET_F_MTU);
	if (nic->pairs_max > 1)
		bits |= VIRTIO_FEATURE(VIRTIO_NET_F_MQ);
	if (nic->standby)
		bits |= VIRTIO_FEATURE(VIRTIO_NET_F_STANDBY);
	if (nic->offloads && (net_offloads(nic->net) & TUN_F_CSUM))
		bits |= HOST_OFFLOADS | GUEST_OFFLOADS |
			VIRTIO_FEATURE(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS);
	if (nic->vhosts)
		bits &= ~VHOST_FEATURES_CONCERNED | vhost_features(nic->vhosts[0]);
	return bits;
}

static uint64_t config_read(struct virtio_device *device, unsigned offset, unsigned size)
{
	const struct nic *nic = nic_of(device);
	uint8_t config[NIC_CONFIG_SIZE];
	unsigned status = atomic_load(&nic->link_up) ? STATUS_LINK_UP : 0;

	if (atomic_load(&nic->announce))
		status |= STATUS_ANNOUNCE;
	memcpy(config, nic->config, sizeof(config));
	store_le16(config + CONFIG_STATUS, (uint16_t)status);
	return config_load(config, sizeof(config), offset, size);
}

static void reset(struct virtio_device *device)
{
	struct nic *nic = nic_of(device);

	nic->pairs = 1;
	nic->guest_offloads_set = false;
	atomic_store(&nic->announce, false);
	for (unsigned i = 0; i < nic->pairs_max; i++)
		nic->own[i].held = 0;
}

static void readable(void *opaque, unsigned queue)
{
	nic_turn(opaque, ((struct nic *)opaque)->own[queue].receive);
}

static void writable(void *opaque, unsigned queue)
{
	nic_turn(opaque, ((struct nic *)opaque)->own[queue].transmit);
}

static void gone(void *opaque)
{
	struct nic *nic = opaque;

	atomic_store(&nic->link_up, false);
	virtio_config_changed(&nic->virtio);
}

/* The kernel's frames pass no gate. */
static void policed(void *opaque)
{
	struct nic *nic = opaque;

	if (nic->vhosts)
		virtio_hand_over_anew(&nic->virtio);
}

static const struct net_events events = {
	.readable = readable,
	.writable = writable,
	.gone = gone,
	.policed = policed,
};

static bool hands_over(struct virtio_device *device, unsigned index)
{
	const struct nic *nic = nic_of(device);

	/* The kernel's writes are in no log, and its frames go by no policy. */
	return nic->vhosts && virtio_msix_on(device) && index < nic_control_index(nic) &&
	       !memory_is_logged(device->memory) && !net_policed(nic->net);
}

static bool any_handed_over(struct nic *nic)
{
	for (unsigned i = 0; i < nic_control_index(nic); i++)
		if (virtio_handed_over(&nic->virtio, i))
			return true;
	return false;
}

static void vector_changed(struct virtio_device *device, unsigned index)
{
	nic_vhost_vector_changed(nic_of(device), index);
}

static int activate(struct virtio_device *device)
{
	struct nic *nic = nic_of(device);
	unsigned used = nic_control_index(nic) / 2;
	int ret;

	for (unsigned i = 0; i < nic->pairs_max; i++) {
		nic->own[i].receive = i < used ? &device->queues[2 * i] : NULL;
		nic->own[i].transmit = i < used ? &device->queues[2 * i + 1] : NULL;
	}
	net_attach(nic->net, device->io, &events, nic);
	atomic_store(&nic->link_up, !net_is_gone(nic->net));
	nic_tell_offloads(nic);
	atomic_store(&nic->kernel, any_handed_over(nic));
	/* One that cannot be started is an error here; the others follow. */
	ret = atomic_load(&nic->kernel) ? nic_vhost_begin(nic) : 0;
	if (ret < 0)
		return ret;
	nic_follow(nic);
	return 0;
}

static enum virtio_progress kick(struct virtio_device *device, struct virtqueue *queue)
{
	struct nic *nic = nic_of(device);
	struct nic_pair *pair = &nic->own[queue->index / 2];
	unsigned control = nic_control_index(nic);

	if (queue->index == control)
		return nic_control(nic, queue);
	if (queue->index > control)
		return VIRTIO_DONE;
	return queue->index % 2 ? nic_transmit(pair) : nic_receive(pair);
}

static void back_end_detached(void *opaque)
{
	struct nic *nic = opaque;

	virtio_end(&nic->virtio, &nic->virtio.queues[0]);
}

void nic_detach(struct nic *nic)
{
	net_detach(nic->net, back_end_detached);
}

static void quiesce(struct virtio_device *device)
{
	struct nic *nic = nic_of(device);

	loop_timer_stop(&nic->rest);
	virtio_begin(device, &device->queues[0]);
	/* From its first on, one a round. */
	if (atomic_load(&nic->kernel))
		loop_timer_after(device->io, &nic->end, 0);
	else
		nic_detach(nic);
}

void virtio_net_announce(struct device *device)
{
	struct nic *nic = nic_of(virtio_pci_model(device));

	if (!virtio_has(&nic->virtio, VIRTIO_NET_F_GUEST_ANNOUNCE))
		return;
	atomic_store(&nic->announce, true);
	virtio_config_changed(&nic->virtio);
}

static void save(struct virtio_device *device, struct state_writer *writer)
{
	const struct nic *nic = nic_of(device);

	state_put_bytes(writer, nic->config + CONFIG_MAC, 6);
	state_put_u16(writer, (uint16_t)nic->pairs);
	state_put_bool(writer, nic->guest_offloads_set);
	state_put_u64(writer, nic->guest_offloads);
	state_put_u16(writer, (uint16_t)nic->pairs_max);
	for (unsigned i = 0; i < nic->pairs_max; i++) {
		state_put_u32(writer, nic->own[i].held);
		state_put_bytes(writer, nic->own[i].frame, nic->own[i].held);
	}
}

/* Frames that were taken from the network and wait for buffers. */
static int restore_held(struct nic *nic, struct state_reader *reader)
{
	if (state_get_u16(reader) != nic->pairs_max)
		return -EINVAL;
	for (unsigned i = 0; i < nic->pairs_max; i++) {
		uint32_t held = state_get_u32(reader);

		if (held > NET_FRAME_MAX || (held && held < NIC_FRAME_MIN))
			return -EINVAL;
		state_get_bytes(reader, nic->own[i].frame, held);
		nic->own[i].held = reader->failed ? 0 : held;
	}
	return 0;
}

static int restore(struct virtio_device *device, struct state_reader *reader, struct error *err)
{
	struct nic *nic = nic_of(device);
	unsigned pairs;

	state_get_bytes(reader, nic->config + CONFIG_MAC, 6);
	pairs = state_get_u16(reader);
	nic->guest_offloads_set = state_get_bool(reader);
	nic->guest_offloads = state_get_u64(reader) & GUEST_OFFLOADS;
	if (reader->failed)
		return 0;
	if (pairs < 1 || pairs > nic->pairs_max)
		return error_set(err, EINVAL, "%s: was saved with %u queue pairs, has %u",
			device->name, pairs, nic->pairs_max);
	nic->pairs = pairs;
	if (restore_held(nic, reader) < 0)
		return error_set(err, EINVAL, "%s: saved frames are broken", device->name);
	return 0;
}

/* Of the policy, as the back end tells it. */
static void count_policy(void *to, const char *group, const char *name, uint64_t value)
{
	struct stats_sink *sink = to;

	sink->count(sink, group, name, value);
}

static void count_queue(struct stats_sink *sink, unsigned index, const struct nic_counts *counts)
{
	char group[16];

	snprintf(group, sizeof(group), "queue%u", index);
	sink->count(sink, group, "frames", counter_read(&counts->frames));
	sink->count(sink, group, "bytes", counter_read(&counts->bytes));
	sink->count(sink, group, "dropped", counter_read(&counts->dropped));
}

static void stats(struct virtio_device *device, struct stats_sink *sink)
{
	const struct nic *nic = nic_of(device);

	if (nic->vhosts)
		sink->text(sink, NULL, "vhost", atomic_load(&nic->kernel) ? "on" : "off");
	for (unsigned i = 0; i < nic->pairs_max && !atomic_load(&nic->kernel); i++) {
		count_queue(sink, 2 * i, &nic->own[i].received);
		count_queue(sink, 2 * i + 1, &nic->own[i].transmitted);
	}
	sink->count(sink, NULL, "link_up", atomic_load(&nic->link_up));
	net_policy_stats(nic->net, count_policy, sink);
}

static void release(struct nic *nic)
{
	nic_vhost_close(nic);
	net_close(nic->net);
	if (nic->memory)
		munmap(nic->memory, nic->memory_size);
	free(nic->own);
	free(nic);
}

static void nic_free(struct virtio_device *device)
{
	release(nic_of(device));
}

static const struct virtio_ops nic_ops = {
	.type = "virtio-net",
	.id = DEVICE_NET,
	.class_code = CLASS_ETHERNET,
	.features = features,
	.reset = reset,
	.activate = activate,
	.kick = kick,
	.hands_over = hands_over,
	.vector_changed = vector_changed,
	.quiesce = quiesce,
	.config_read = config_read,
	.save = save,
	.restore = restore,
	.stats = stats,
	.free = nic_free,
};

/* Zero pages of the host until they are used: a large frame is rare with a tap, and never goes
 * through here with passt. */
static int allocate(struct nic *nic)
{
	size_t scratch = align_up(sizeof(struct nic_scratch), 4096);
	size_t each = scratch + align_up(NET_FRAME_MAX, 4096);
	uint8_t *memory;

	nic->memory_size = nic->pairs_max * each;
	nic->own = calloc(nic->pairs_max, sizeof(*nic->own));
	memory = mmap(NULL, nic->memory_size, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		return -ENOMEM;
	nic->memory = memory;
	for (unsigned i = 0; nic->own && i < nic->pairs_max; i++) {
		nic->own[i].nic = nic;
		nic->own[i].index = i;
		nic->own[i].scratch = (void *)(memory + i * each);
		nic->own[i].frame = memory + i * each + scratch;
	}
	return nic->own ? 0 : -ENOMEM;
}

/* What the driver will see. */
static void settle(struct nic *nic, const struct virtio_net_options *options)
{
	nic->offloads = options->offloads;
	nic->standby = options->standby;
	nic->mtu = options->mtu;
	atomic_store(&nic->link_up, true);
	memcpy(nic->config + CONFIG_MAC, options->mac, 6);
	store_le16(nic->config + CONFIG_PAIRS_MAX, (uint16_t)nic->pairs_max);
	store_le16(nic->config + CONFIG_MTU, nic->mtu);
	nic->virtio.ops = &nic_ops;
	nic->virtio.queue_count = 2 * nic->pairs_max + 1;
	nic->virtio.queue_size_max = NIC_QUEUE_SIZE;
	nic->virtio.config_size = NIC_CONFIG_SIZE;
	nic->virtio.polls = options->poll;
	nic->virtio.ring_features =
		options->packed && !options->vhost ? VIRTIO_FEATURE(VIRTIO_F_RING_PACKED) : 0;
}

/* What it needs of the host. */
static int equip(struct nic *nic, const struct virtio_net_options *options, struct error *err)
{
	if (nic->pairs_max > net_queues(nic->net))
		return error_set(err, EINVAL, "--net: this kind of network has %u queues at most",
			net_queues(nic->net));
	if (allocate(nic) < 0)
		return error_errno(err, ENOMEM, "--net");
	return options->vhost ? nic_vhost_open(nic, err) : 0;
}

int virtio_net_new(struct device **device, const char *name,
	const struct virtio_net_options *options, struct error *err)
{
	struct nic *nic = calloc(1, sizeof(*nic));
	int ret;

	if (!nic) {
		net_close(options->net);
		return error_errno(err, ENOMEM, "--net");
	}
	nic->net = options->net;
	nic->fault_fd = -1;
	nic->pairs_max = options->queue_pairs ? options->queue_pairs : 1;
	nic->pairs = 1;
	nic->rest.expired = nic_rested;
	nic->end.expired = nic_vhost_end;
	ret = equip(nic, options, err);
	if (ret < 0) {
		release(nic);
		return ret;
	}
	/* While nobody waits for the I/O loop. */
	net_set_queues(nic->net, 1);
	settle(nic, options);
	return virtio_pci_new(device, &nic->virtio, name, err);
}
