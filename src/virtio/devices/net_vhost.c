/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames by the host's kernel (vhost=on): it gets the rings, the doorbells and the MSI-X eventfds
 * of each pair the driver uses, and gives the rings' positions back when the device is quiesced or
 * the pair switched off. The control queue and the configuration stay here. A driver without MSI-X
 * gets our own data path: the kernel could not raise its line.
 */
#include "virtio/devices/net_private.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* #syscalls main vcpu io: eventfd2 read */

int nic_vhost_open(struct nic *nic, struct error *err)
{
	int ret = 0;

	nic->vhosts = calloc(nic->pairs_max, sizeof(struct vhost *));
	if (!nic->vhosts)
		return error_errno(err, ENOMEM, "--net");
	if (net_fd(nic->net, 0) < 0)
		return error_set(err, EINVAL, "--net vhost=on: is for --net tap alone");
	nic->fault_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (nic->fault_fd < 0)
		return error_errno(err, errno, "--net vhost=on: eventfd");
	for (unsigned i = 0; ret == 0 && i < nic->pairs_max; i++)
		ret = vhost_open(&nic->vhosts[i], err);
	return ret;
}

void nic_vhost_close(struct nic *nic)
{
	for (unsigned i = 0; nic->vhosts && i < nic->pairs_max; i++)
		vhost_close(nic->vhosts[i]);
	free(nic->vhosts);
	if (nic->fault_fd >= 0)
		close(nic->fault_fd);
}

static int set_memory(struct vhost *vhost, const struct memory *memory)
{
	struct vhost_region regions[MEMORY_MAX_REGIONS];
	const struct memory_region *region;
	unsigned count = 0;

	for (; (region = memory_region(memory, count)); count++)
		regions[count] = (struct vhost_region){.guest = region->base.value,
			.size = region->size,
			.host = region->mapped_at};
	return vhost_set_memory(vhost, regions, count);
}

static struct vhost_ring ring_of(struct nic *nic, const struct virtqueue *queue)
{
	return (struct vhost_ring){.size = queue->setup.size,
		.descriptors = queue->descriptors,
		.available = queue->driver,
		.used = queue->device,
		.position = virtqueue_position(queue),
		.kick = virtio_doorbell_fd(&nic->virtio, queue->index),
		.call = virtio_call_fd(&nic->virtio, queue->index),
		.fault = nic->fault_fd};
}

static int start_pair(struct nic *nic, struct nic_pair *pair)
{
	struct vhost *vhost = nic->vhosts[pair->index];
	struct vhost_ring rings[VHOST_RINGS];
	int ret;

	rings[0] = ring_of(nic, pair->receive);
	rings[1] = ring_of(nic, pair->transmit);
	ret = set_memory(vhost, nic->virtio.memory);
	if (ret == 0)
		ret = vhost_start(
			vhost, nic->virtio.negotiated, rings, net_fd(nic->net, pair->index));
	if (ret < 0)
		return ret;
	pair->in_kernel = true;
	/* What came before the kernel listened. */
	virtio_ring_doorbell(&nic->virtio, pair->receive->index);
	virtio_ring_doorbell(&nic->virtio, pair->transmit->index);
	return 1;
}

static bool waits_for_kernel(const struct nic_pair *pair)
{
	return !pair->in_kernel && nic_pair_on(pair) && pair->receive && pair->receive->enabled &&
	       pair->transmit->enabled;
}

int nic_vhost_start_one(struct nic *nic)
{
	for (unsigned i = 0; i < nic->pairs; i++)
		if (waits_for_kernel(&nic->own[i]))
			return start_pair(nic, &nic->own[i]);
	return 0;
}

static int stop_pair(struct nic *nic, struct nic_pair *pair)
{
	uint16_t positions[VHOST_RINGS];
	int ret = vhost_stop(nic->vhosts[pair->index], positions);

	pair->in_kernel = false;
	if (ret < 0)
		return ret;
	virtqueue_set_position(pair->receive, positions[0]);
	virtqueue_set_position(pair->transmit, positions[1]);
	return 0;
}

bool nic_vhost_holds(const struct nic *nic, unsigned first)
{
	for (unsigned i = first; i < nic->pairs_max; i++)
		if (nic->own[i].in_kernel)
			return true;
	return false;
}

bool nic_vhost_stop_one(struct nic *nic, unsigned first)
{
	for (unsigned i = first; i < nic->pairs_max; i++) {
		if (!nic->own[i].in_kernel)
			continue;
		if (stop_pair(nic, &nic->own[i]) < 0)
			virtio_needs_reset(&nic->virtio, "vhost-net does not say where it stopped");
		return true;
	}
	return false;
}

static void met_fault(struct loop_watch *watch, uint32_t events)
{
	struct nic *nic = container_of(watch, struct nic, fault);

	(void)events;
	virtio_needs_reset(&nic->virtio, "vhost-net cannot go on with a ring");
}

static void unwatched(struct loop_watch *watch)
{
	nic_detach(container_of(watch, struct nic, fault));
}

int nic_vhost_begin(struct nic *nic)
{
	uint64_t count;
	int ret;

	/* What an earlier driver did; most often there is nothing. */
	if (read(nic->fault_fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		return -errno;
	ret = nic_vhost_start_one(nic);
	if (ret >= 0)
		ret = loop_watch(nic->virtio.io, &nic->fault, nic->fault_fd, POLLIN, met_fault);
	return ret;
}

void nic_vhost_end(struct loop_timer *timer)
{
	struct nic *nic = container_of(timer, struct nic, end);

	if (nic_vhost_stop_one(nic, 0))
		loop_timer_after(nic->virtio.io, &nic->end, 0);
	else
		loop_unwatch(&nic->fault, unwatched);
}

void nic_vhost_vector_changed(struct nic *nic, unsigned index)
{
	struct nic_pair *pair = &nic->own[index / 2];

	if (pair->in_kernel)
		vhost_set_call(
			nic->vhosts[index / 2], index % 2, virtio_call_fd(&nic->virtio, index));
}
