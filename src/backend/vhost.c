/* SPDX-License-Identifier: Apache-2.0 */
#include "backend/vhost.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/*
 * #syscalls main vcpu io: ioctl(VHOST_GET_FEATURES) ioctl(VHOST_SET_FEATURES)
 * #syscalls main vcpu io: ioctl(VHOST_SET_MEM_TABLE) ioctl(VHOST_SET_OWNER)
 * #syscalls main vcpu io: ioctl(VHOST_RESET_OWNER)
 * #syscalls main vcpu io: ioctl(VHOST_SET_VRING_NUM) ioctl(VHOST_SET_VRING_ADDR)
 * #syscalls main vcpu io: ioctl(VHOST_SET_VRING_BASE) ioctl(VHOST_GET_VRING_BASE)
 * #syscalls main vcpu io: ioctl(VHOST_SET_VRING_KICK) ioctl(VHOST_SET_VRING_CALL)
 * #syscalls main vcpu io: ioctl(VHOST_SET_VRING_ERR) ioctl(VHOST_NET_SET_BACKEND)
 */

#define DEVICE      "/dev/vhost-net"
#define REGIONS_MAX 64 /* the kernel's default limit */

struct vhost {
	int fd;
	uint64_t features;
};

static int call(const struct vhost *vhost, unsigned long request, void *argument)
{
	return ioctl(vhost->fd, request, argument) < 0 ? -errno : 0;
}

static int open_failed(int code, struct error *err)
{
	switch (code) {
	case ENOENT:
	case ENODEV:
	case ENXIO:
		return error_set(err, code,
			"--net vhost=on: " DEVICE
			" is missing; load it with `modprobe vhost_net`, or leave vhost=on out");
	case EACCES:
	case EPERM:
		return error_set(err, code,
			"--net vhost=on: no permission to open " DEVICE
			"; join its group (`usermod -aG kvm $USER`), or leave vhost=on out");
	default:
		return error_errno(err, code, "--net vhost=on: " DEVICE);
	}
}

static int set_up(struct vhost *vhost, struct error *err)
{
	int ret;

	vhost->fd = open(DEVICE, O_RDWR | O_CLOEXEC);
	if (vhost->fd < 0)
		return open_failed(errno, err);
	ret = call(vhost, VHOST_SET_OWNER, NULL);
	if (ret == 0)
		ret = call(vhost, VHOST_GET_FEATURES, &vhost->features);
	if (ret < 0)
		return error_errno(err, -ret, "--net vhost=on: " DEVICE);
	if (~vhost->features & VHOST_FEATURES_CONCERNED)
		return error_set(err, ENOTSUP,
			"--net vhost=on: this kernel's vhost-net is too old (features 0x%llx); "
			"leave vhost=on out",
			(unsigned long long)vhost->features);
	return 0;
}

int vhost_open(struct vhost **out, struct error *err)
{
	struct vhost *vhost = calloc(1, sizeof(*vhost));
	int ret;

	if (!vhost)
		return error_errno(err, ENOMEM, "--net vhost=on");
	ret = set_up(vhost, err);
	if (ret < 0) {
		vhost_close(vhost);
		return ret;
	}
	*out = vhost;
	return 0;
}

void vhost_close(struct vhost *vhost)
{
	if (!vhost)
		return;
	if (vhost->fd >= 0)
		close(vhost->fd);
	free(vhost);
}

int vhost_set_memory(struct vhost *vhost, const struct vhost_region *regions, unsigned count)
{
	struct vhost_memory *table;
	int ret;

	if (count > REGIONS_MAX)
		return -E2BIG;
	table = calloc(1, sizeof(*table) + count * sizeof(table->regions[0]));
	if (!table)
		return -ENOMEM;
	table->nregions = count;
	for (unsigned i = 0; i < count; i++) {
		table->regions[i].guest_phys_addr = regions[i].guest;
		table->regions[i].memory_size = regions[i].size;
		table->regions[i].userspace_addr = (uintptr_t)regions[i].host;
	}
	ret = call(vhost, VHOST_SET_MEM_TABLE, table);
	free(table);
	return ret;
}

static int set_eventfd(struct vhost *vhost, unsigned long request, unsigned ring, int fd)
{
	struct vhost_vring_file file = {.index = ring, .fd = fd};

	return call(vhost, request, &file);
}

static int set_backend(struct vhost *vhost, unsigned ring, int tap)
{
	return set_eventfd(vhost, VHOST_NET_SET_BACKEND, ring, tap);
}

int vhost_set_call(struct vhost *vhost, unsigned ring, int fd)
{
	return set_eventfd(vhost, VHOST_SET_VRING_CALL, ring, fd);
}

static int set_ring(struct vhost *vhost, unsigned index, const struct vhost_ring *ring)
{
	struct vhost_vring_state size = {.index = index, .num = ring->size};
	struct vhost_vring_state base = {.index = index, .num = ring->position};
	struct vhost_vring_addr address = {.index = index,
		.desc_user_addr = (uintptr_t)ring->descriptors,
		.avail_user_addr = (uintptr_t)ring->available,
		.used_user_addr = (uintptr_t)ring->used};
	int ret = call(vhost, VHOST_SET_VRING_NUM, &size);

	if (ret == 0)
		ret = call(vhost, VHOST_SET_VRING_BASE, &base);
	if (ret == 0)
		ret = call(vhost, VHOST_SET_VRING_ADDR, &address);
	if (ret == 0)
		ret = set_eventfd(vhost, VHOST_SET_VRING_CALL, index, ring->call);
	if (ret == 0)
		ret = set_eventfd(vhost, VHOST_SET_VRING_ERR, index, ring->fault);
	if (ret == 0)
		ret = set_eventfd(vhost, VHOST_SET_VRING_KICK, index, ring->kick);
	return ret;
}

static void let_go(struct vhost *vhost)
{
	for (unsigned i = 0; i < VHOST_RINGS; i++) {
		/* Whatever can fail here was not there; taking a backend away waits for the ring's
		 * work in hand. */
		set_backend(vhost, i, -1);
		set_eventfd(vhost, VHOST_SET_VRING_KICK, i, -1);
		set_eventfd(vhost, VHOST_SET_VRING_CALL, i, -1);
		set_eventfd(vhost, VHOST_SET_VRING_ERR, i, -1);
	}
}

int vhost_start(
	struct vhost *vhost, uint64_t features, const struct vhost_ring rings[VHOST_RINGS], int tap)
{
	/* The tap speaks virtio's header, so VHOST_NET_F_VIRTIO_NET_HDR stays off. */
	uint64_t taken = features & VHOST_FEATURES_CONCERNED;
	int ret = call(vhost, VHOST_SET_FEATURES, &taken);

	for (unsigned i = 0; ret == 0 && i < VHOST_RINGS; i++)
		ret = set_ring(vhost, i, &rings[i]);
	for (unsigned i = 0; ret == 0 && i < VHOST_RINGS; i++)
		ret = set_backend(vhost, i, tap);
	if (ret < 0)
		let_go(vhost);
	return ret;
}

int vhost_stop(struct vhost *vhost, uint16_t positions[VHOST_RINGS])
{
	int ret = 0;

	let_go(vhost);
	for (unsigned i = 0; ret == 0 && i < VHOST_RINGS; i++) {
		struct vhost_vring_state base = {.index = i};

		ret = call(vhost, VHOST_GET_VRING_BASE, &base);
		positions[i] = (uint16_t)base.num;
	}
	return ret;
}

uint64_t vhost_features(const struct vhost *vhost)
{
	return vhost->features & VHOST_FEATURES_CONCERNED;
}
