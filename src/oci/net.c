/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/net.h"

#include "base/cleanup.h"
#include "oci/net_private.h"
#include "oci/netlink.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_ether.h>
#include <linux/if_tun.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/tc_act/tc_mirred.h>
#include <sched.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define INGRESS 0xffff0000U

int net_enter(const char *path, struct error *err)
{
	_cleanup_close_ int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;

	if (path ? fd < 0 || setns(fd, CLONE_NEWNET) < 0 : unshare(CLONE_NEWNET) < 0)
		return error_errno(err, errno, "the network namespace %s", path ? path : "");
	return 0;
}

/* A tap that stays until net_part(): duet opens it by its name. */
static int make_tap(unsigned number, int *index)
{
	_cleanup_close_ int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	_cleanup_close_ int any = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = {.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_TUN_EXCL)};

	if (fd < 0 || any < 0)
		return -errno;
	snprintf(request.ifr_name, sizeof(request.ifr_name), NET_TAP, number);
	if (ioctl(fd, TUNSETIFF, &request) < 0 || ioctl(fd, TUNSETPERSIST, 1) < 0 ||
		ioctl(any, SIOCGIFINDEX, &request) < 0)
		return -errno;
	*index = request.ifr_ifindex;
	return 0;
}

/* The host is to say nothing of its own by it. */
static void keep_quiet(unsigned number)
{
	char path[80];
	int fd;

	snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/" NET_TAP "/disable_ipv6", number);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0) {
		if (write(fd, "1", 1) < 0)
			errno = 0; /* there is no IPv6 */
		close(fd);
	}
}

static int add_ingress(int fd, int index)
{
	const struct tcmsg info = {
		.tcm_ifindex = index, .tcm_handle = INGRESS, .tcm_parent = TC_H_INGRESS};
	struct netlink_message message;

	netlink_begin(&message, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, &info, sizeof(info));
	netlink_add(&message, TCA_KIND, "ingress", sizeof("ingress"));
	return netlink_do(fd, &message);
}

/* All that comes in at @from goes out at @to, and nowhere else. */
static int redirect(int fd, int from, int to)
{
	const struct tcmsg info = {.tcm_ifindex = from,
		.tcm_parent = INGRESS,
		.tcm_info = TC_H_MAKE(1U << 16, htobe16(ETH_P_ALL))};
	const struct tc_mirred mirred = {
		.action = TC_ACT_STOLEN, .eaction = TCA_EGRESS_REDIR, .ifindex = (uint32_t)to};
	struct netlink_message message;
	size_t options, actions, first, own;

	netlink_begin(&message, RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, &info, sizeof(info));
	netlink_add(&message, TCA_KIND, "matchall", sizeof("matchall"));
	options = netlink_nest(&message, TCA_OPTIONS);
	actions = netlink_nest(&message, TCA_MATCHALL_ACT);
	first = netlink_nest(&message, 1);
	netlink_add(&message, TCA_ACT_KIND, "mirred", sizeof("mirred"));
	own = netlink_nest(&message, TCA_ACT_OPTIONS);
	netlink_add(&message, TCA_MIRRED_PARMS, &mirred, sizeof(mirred));
	netlink_nest_end(&message, own);
	netlink_nest_end(&message, first);
	netlink_nest_end(&message, actions);
	netlink_nest_end(&message, options);
	return netlink_do(fd, &message);
}

static int set_mtu(int fd, int index, uint32_t mtu)
{
	const struct ifinfomsg info = {.ifi_index = index};
	struct netlink_message message;

	netlink_begin(&message, RTM_NEWLINK, 0, &info, sizeof(info));
	netlink_add(&message, IFLA_MTU, &mtu, sizeof(mtu));
	return netlink_do(fd, &message);
}

static void delete_tap(int fd, int index)
{
	const struct ifinfomsg info = {.ifi_index = index};
	struct netlink_message message;

	netlink_begin(&message, RTM_DELLINK, 0, &info, sizeof(info));
	netlink_do(fd, &message);
}

static void delete_ingress(int fd, int index)
{
	const struct tcmsg info = {
		.tcm_ifindex = index, .tcm_handle = INGRESS, .tcm_parent = TC_H_INGRESS};
	struct netlink_message message;

	netlink_begin(&message, RTM_DELQDISC, 0, &info, sizeof(info));
	netlink_do(fd, &message);
}

/* All of it, or nothing. */
static int join(int fd, const struct link *link, int card, unsigned number)
{
	int tap = 0, ours = -1;
	int ret = make_tap(number, &tap);

	if (ret < 0)
		return ret;
	keep_quiet(number);
	ret = link->mtu ? set_mtu(fd, tap, link->mtu) : 0;
	if (ret == 0)
		ret = ours = netlink_up(fd, tap) ?: add_ingress(fd, card);
	ret = ret ?: add_ingress(fd, tap) ?: redirect(fd, card, tap) ?: redirect(fd, tap, card);
	if (ret < 0) {
		delete_tap(fd, tap);
		if (ours == 0)
			delete_ingress(fd, card);
	}
	return ret;
}

static int refuse(const char *name, int ret, struct error *err)
{
	if (ret == -EBUSY || ret == -EEXIST)
		return error_set(err, EBUSY,
			"the network %s is another machine's already: a pod's cannot share it",
			name);
	return error_errno(
		err, -ret, "joining the network %s to its machine (matchall, mirred)", name);
}

static bool has_tap(const struct setup *setup)
{
	for (uint32_t i = 0; i < setup->link_count; i++)
		if (strncmp(setup->links[i].name, NET_TAP, 4) == 0)
			return true;
	return false;
}

int net_join(struct setup *setup, struct error *err)
{
	_cleanup_close_ int fd = netlink_open();
	int indices[SETUP_LINKS_MAX];
	int ret = fd < 0 ? fd : net_look(fd, setup, indices);

	if (ret < 0)
		return error_errno(err, -ret, "the container's network");
	if (has_tap(setup))
		return refuse(setup->links[0].name, -EBUSY, err);
	for (uint32_t i = 0; i < setup->link_count; i++) {
		ret = join(fd, &setup->links[i], indices[i], i);
		if (ret == 0)
			continue;
		refuse(setup->links[i].name, ret, err);
		if (i)
			net_part();
		return ret;
	}
	return 0;
}

void net_part(void)
{
	_cleanup_close_ int fd = netlink_open();
	struct setup setup = {0};
	int indices[SETUP_LINKS_MAX];

	if (fd < 0 || net_look(fd, &setup, indices) < 0)
		return;
	for (uint32_t i = 0; i < setup.link_count; i++)
		if (strncmp(setup.links[i].name, NET_TAP, 4) == 0)
			delete_tap(fd, indices[i]);
		else
			delete_ingress(fd, indices[i]);
	setup_free(&setup);
}
