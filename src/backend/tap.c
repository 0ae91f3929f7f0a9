/* SPDX-License-Identifier: Apache-2.0 */
/* A tap interface: the kernel speaks virtio's header itself, so frames go straight between the
 * guest's buffers and the interface, offloads included. */
#include "backend/net_private.h"
#include "base/checked.h"
#include "base/cleanup.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

/*
 * #syscalls io: readv writev
 * #syscalls main vcpu io: ioctl(TUNSETOFFLOAD) ioctl(TUNSETQUEUE)
 */

extern unsigned if_nametoindex(const char *name); /* <net/if.h> clashes with <linux/if.h> */

struct tap {
	struct net net;
	bool multi_queue;
	char ifname[IFNAMSIZ];
};

static int open_device(const char *ifname, struct error *err)
{
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);

	if (fd >= 0)
		return fd;
	if (errno == ENOENT || errno == ENODEV)
		return error_set(err, errno,
			"--net tap,ifname=%s: /dev/net/tun is missing; load it with `modprobe tun`",
			ifname);
	if (errno == EACCES || errno == EPERM)
		return error_set(err, errno,
			"--net tap,ifname=%s: no permission to open /dev/net/tun; run as root or "
			"`chmod 0666 /dev/net/tun`",
			ifname);
	return error_errno(err, errno, "--net tap,ifname=%s: /dev/net/tun", ifname);
}

static int attach_failed(const struct tap *tap, int code, struct error *err)
{
	const char *name = tap->ifname;
	const char *many = tap->net.queues_count > 1 ? " multi_queue" : "";

	switch (code) {
	case EPERM:
		return error_set(err, code,
			"--net tap,ifname=%s: it belongs to another user; create it with `ip "
			"tuntap add %s mode tap user $USER%s` or run as root",
			name, name, many);
	case EBUSY:
		return error_set(err, code,
			"--net tap,ifname=%s: busy: another process has it open; end that or use "
			"another tap",
			name);
	case EINVAL:
		return error_set(err, code,
			"--net tap,ifname=%s: is not a tap interface of %s; create one with `ip "
			"tuntap add %s mode tap user $USER%s`",
			name, many[0] ? "several queues" : "one queue", name, many);
	default:
		return error_errno(err, code, "--net tap,ifname=%s", name);
	}
}

static int set_interface(const struct tap *tap, int fd, bool multi_queue)
{
	struct ifreq request = {
		.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR,
	};

	if (multi_queue)
		request.ifr_flags |= IFF_MULTI_QUEUE;
	memcpy(request.ifr_name, tap->ifname, sizeof(request.ifr_name));
	return ioctl(fd, TUNSETIFF, &request) < 0 ? -errno : 0;
}

static int open_queue(struct tap *tap, unsigned index, struct error *err)
{
	int header = NET_HEADER_SIZE;
	int fd = open_device(tap->ifname, err);
	int ret;

	if (fd < 0)
		return fd;
	tap->net.queues[index].fd = fd;
	ret = set_interface(tap, fd, tap->multi_queue);
	if (ret == -EINVAL && !tap->multi_queue) {
		/* One queue of an interface that was made for several. */
		ret = set_interface(tap, fd, true);
		tap->multi_queue = ret == 0;
	}
	if (ret < 0)
		return attach_failed(tap, -ret, err);
	if (ioctl(fd, TUNSETVNETHDRSZ, &header) < 0)
		return attach_failed(tap, errno, err);
	/* One that another program left behind may be anything. */
	if (ioctl(fd, TUNSETOFFLOAD, 0UL) < 0)
		return attach_failed(tap, errno, err);
	return 0;
}

static void tap_close(struct net *net)
{
	free(container_of(net, struct tap, net));
}

static void tap_set_offloads(struct net *net, unsigned offloads)
{
	/* The setting is the interface's, whichever queue says it. */
	if (ioctl(net->queues[0].fd, TUNSETOFFLOAD, (unsigned long)offloads) < 0)
		log_info("--net tap: TUNSETOFFLOAD %#x: %s", offloads, strerror(errno));
}

static void tap_set_queues(struct net *net, unsigned count)
{
	const struct tap *tap = container_of(net, struct tap, net);

	for (unsigned i = 1; i < net->queues_count && tap->multi_queue; i++) {
		struct ifreq request = {
			.ifr_flags = i < count ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE,
		};

		if ((i < count) != (i < net->active) &&
			ioctl(net->queues[i].fd, TUNSETQUEUE, &request) < 0)
			log_info("--net tap: TUNSETQUEUE: %s", strerror(errno));
	}
}

static int tap_send(struct net *net, unsigned queue, const struct iovec *segments, unsigned count)
{
	ssize_t sent;

	do {
		sent = writev(net->queues[queue].fd, segments, (int)count);
	} while (sent < 0 && errno == EINTR);
	if (sent >= 0)
		return 0;
	if (errno == EBADFD)
		return net_set_gone(net, "the tap interface was removed");
	return -errno;
}

static int tap_receive(
	struct net *net, unsigned queue, const struct iovec *segments, unsigned count)
{
	ssize_t got;

	do {
		got = readv(net->queues[queue].fd, segments, (int)count);
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		return errno == EBADFD ? net_set_gone(net, "the tap interface was removed")
				       : -errno;
	return got < NET_HEADER_SIZE || got > NET_FRAME_MAX ? -EMSGSIZE : (int)got;
}

static const struct net_ops tap_ops = {
	.close = tap_close,
	.set_offloads = tap_set_offloads,
	.set_queues = tap_set_queues,
	.send = tap_send,
	.receive = tap_receive,
};

static int fill(struct tap *tap, const struct net_options *options, struct error *err)
{
	unsigned queues = options->queues ? options->queues : 1;
	const char *name = options->ifname;
	int ret;

	if (!name || !name[0] || strlen(name) >= IFNAMSIZ)
		return error_set(err, EINVAL,
			"--net tap,ifname=%s: an interface name has 1 to 15 characters",
			name ? name : "");
	if (queues > NET_QUEUES_MAX)
		return error_set(err, EINVAL, "--net tap,ifname=%s: at most %d queues", name,
			NET_QUEUES_MAX);
	memcpy(tap->ifname, name, strlen(name));
	/* With the privilege to do so the kernel would make an interface of that name. */
	if (if_nametoindex(name) == 0)
		return error_set(err, ENODEV,
			"--net tap,ifname=%s: no such interface; create it with `ip tuntap add %s "
			"mode tap user $USER%s`",
			name, name, queues > 1 ? " multi_queue" : "");
	tap->multi_queue = queues > 1;
	ret = net_init(&tap->net, &tap_ops, queues, err);
	for (unsigned i = 0; ret == 0 && i < queues; i++)
		ret = open_queue(tap, i, err);
	tap->net.offloads = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
	return ret;
}

int tap_open(struct net **out, const struct net_options *options, struct error *err)
{
	struct tap *tap = calloc(1, sizeof(*tap));
	int ret;

	if (!tap)
		return error_errno(err, ENOMEM, "--net tap");
	tap->net.ops = &tap_ops;
	tap->net.is_tap = true;
	ret = fill(tap, options, err);
	if (ret < 0) {
		net_close(&tap->net);
		return ret;
	}
	*out = &tap->net;
	return 0;
}
