/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/netlink.h"

#include <errno.h>
#include <linux/if.h>
#include <string.h>
#include <sys/socket.h>

struct search {
	uint64_t mac;
	int index;
};

static void look(void *opaque, const struct nlmsghdr *head)
{
	struct search *search = opaque;
	const struct ifinfomsg *info = NLMSG_DATA(head);
	const uint8_t *mac = netlink_find(head, sizeof(*info), IFLA_ADDRESS, 6);
	uint64_t number = 0;

	if (head->nlmsg_type != RTM_NEWLINK || !mac || info->ifi_flags & IFF_LOOPBACK)
		return;
	for (unsigned i = 0; i < 6; i++)
		number = number << 8 | mac[i];
	if (number == search->mac)
		search->index = info->ifi_index;
}

static int find_card(int fd, uint64_t mac)
{
	const struct ifinfomsg info = {.ifi_family = AF_UNSPEC};
	struct search search = {.mac = mac};
	struct netlink_message message;
	int ret;

	netlink_begin(&message, RTM_GETLINK, 0, &info, sizeof(info));
	ret = netlink_dump(fd, &message, look, &search);
	if (ret < 0)
		return ret;
	return search.index ? search.index : -ENODEV;
}

int netlink_up(int fd, int index)
{
	const struct ifinfomsg info = {
		.ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
	struct netlink_message message;

	netlink_begin(&message, RTM_NEWLINK, 0, &info, sizeof(info));
	return netlink_do(fd, &message);
}

static int set_card(int fd, int index, const struct link *link)
{
	const struct ifinfomsg info = {.ifi_index = index};
	struct netlink_message message;

	netlink_begin(&message, RTM_NEWLINK, 0, &info, sizeof(info));
	netlink_add(&message, IFLA_IFNAME, link->name, strlen(link->name) + 1);
	if (link->mtu)
		netlink_add(&message, IFLA_MTU, &link->mtu, sizeof(link->mtu));
	return netlink_do(fd, &message) ?: netlink_up(fd, index);
}

static size_t size_of(uint32_t family)
{
	return family == AF_INET ? 4 : 16;
}

static int add_address(int fd, int index, const struct address *address)
{
	const struct ifaddrmsg info = {.ifa_family = (uint8_t)address->family,
		.ifa_prefixlen = (uint8_t)address->prefix,
		/* Whether it is taken the engine has seen to. */
		.ifa_flags = address->family == AF_INET6 ? IFA_F_NODAD : 0,
		.ifa_index = (unsigned)index};
	struct netlink_message message;

	netlink_begin(&message, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &info, sizeof(info));
	netlink_add(&message, IFA_LOCAL, address->bytes, size_of(address->family));
	netlink_add(&message, IFA_ADDRESS, address->bytes, size_of(address->family));
	return netlink_do(fd, &message);
}

static int add_route(int fd, int index, const struct route *route)
{
	const uint32_t family = route->to.family ? route->to.family : route->via.family;
	const struct rtmsg info = {.rtm_family = (uint8_t)family,
		.rtm_dst_len = (uint8_t)route->to.prefix,
		.rtm_table = RT_TABLE_MAIN,
		.rtm_protocol = RTPROT_BOOT,
		.rtm_scope = route->via.family ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK,
		.rtm_type = RTN_UNICAST};
	struct netlink_message message;

	netlink_begin(&message, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &info, sizeof(info));
	if (route->to.family)
		netlink_add(&message, RTA_DST, route->to.bytes, size_of(family));
	if (route->via.family)
		netlink_add(&message, RTA_GATEWAY, route->via.bytes, size_of(family));
	netlink_add(&message, RTA_OIF, &index, sizeof(index));
	if (route->metric)
		netlink_add(&message, RTA_PRIORITY, &route->metric, sizeof(route->metric));
	return netlink_do(fd, &message);
}

/* Routes on the link first: others lead over them. */
static int add_routes(int fd, int index, const struct link *link)
{
	int ret = 0;

	for (unsigned via = 0; via < 2; via++)
		for (uint32_t i = 0; i < link->route_count && ret == 0; i++)
			if (!!link->routes[i].via.family == via)
				ret = add_route(fd, index, &link->routes[i]);
	return ret;
}

int netlink_configure(int fd, const struct link *link)
{
	const int index = find_card(fd, link->mac);
	int ret = index < 0 ? index : set_card(fd, index, link);

	for (uint32_t i = 0; i < link->address_count && ret == 0; i++)
		ret = add_address(fd, index, &link->addresses[i]);
	return ret ?: add_routes(fd, index, link);
}
