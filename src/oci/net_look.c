/* SPDX-License-Identifier: Apache-2.0 */
/* The cards of this network namespace, and what the engine has given them. */
#include "oci/net_private.h"
#include "oci/netlink.h"

#include <errno.h>
#include <linux/if.h>
#include <linux/if_arp.h>
#include <string.h>
#include <sys/socket.h>

struct look {
	struct setup *setup;
	int *indices;
	int failed;
};

static size_t size_of(uint32_t family)
{
	return family == AF_INET ? 4 : 16;
}

static void take_link(void *opaque, const struct nlmsghdr *head)
{
	struct look *look = opaque;
	const struct ifinfomsg *info = NLMSG_DATA(head);
	const char *name = netlink_find(head, sizeof(*info), IFLA_IFNAME, 1);
	const uint8_t *mac = netlink_find(head, sizeof(*info), IFLA_ADDRESS, 6);
	const uint32_t *mtu = netlink_find(head, sizeof(*info), IFLA_MTU, 4);
	struct link *link;

	if (head->nlmsg_type != RTM_NEWLINK || info->ifi_type != ARPHRD_ETHER ||
		info->ifi_flags & IFF_LOOPBACK || !(info->ifi_flags & IFF_UP) || !name || !mac)
		return;
	if (look->setup->link_count == SETUP_LINKS_MAX) {
		look->failed = -E2BIG;
		return;
	}
	look->indices[look->setup->link_count] = info->ifi_index;
	link = &look->setup->links[look->setup->link_count++];
	link->name = strndup(name, LINK_NAME_SIZE - 1);
	link->mtu = mtu ? *mtu : 0;
	for (unsigned i = 0; i < 6; i++)
		link->mac = link->mac << 8 | mac[i];
	if (!link->name)
		look->failed = -ENOMEM;
}

static struct link *find(const struct look *look, int index)
{
	for (uint32_t i = 0; i < look->setup->link_count; i++)
		if (look->indices[i] == index)
			return &look->setup->links[i];
	return NULL;
}

static void take_address(void *opaque, const struct nlmsghdr *head)
{
	const struct look *look = opaque;
	const struct ifaddrmsg *info = NLMSG_DATA(head);
	const size_t size = size_of(info->ifa_family);
	const void *bytes = netlink_find(head, sizeof(*info), IFA_LOCAL, size);
	struct link *link = find(look, (int)info->ifa_index);
	struct address *address;

	if (!bytes)
		bytes = netlink_find(head, sizeof(*info), IFA_ADDRESS, size);
	/* The guest makes its own address on the link. */
	if (head->nlmsg_type != RTM_NEWADDR || !link || !bytes ||
		info->ifa_scope == RT_SCOPE_LINK ||
		(info->ifa_family != AF_INET && info->ifa_family != AF_INET6))
		return;
	if (link->address_count == LINK_ADDRESSES_MAX)
		return;
	address = &link->addresses[link->address_count++];
	*address = (struct address){.family = info->ifa_family, .prefix = info->ifa_prefixlen};
	memcpy(address->bytes, bytes, size);
}

static void take_route(void *opaque, const struct nlmsghdr *head)
{
	const struct look *look = opaque;
	const struct rtmsg *info = NLMSG_DATA(head);
	const size_t size = size_of(info->rtm_family);
	const int *index = netlink_find(head, sizeof(*info), RTA_OIF, 4);
	const void *to = netlink_find(head, sizeof(*info), RTA_DST, size);
	const void *via = netlink_find(head, sizeof(*info), RTA_GATEWAY, size);
	const uint32_t *metric = netlink_find(head, sizeof(*info), RTA_PRIORITY, 4);
	struct link *link = index ? find(look, *index) : NULL;
	struct route *route;

	/* Those that come with an address come so in the guest too. */
	if (head->nlmsg_type != RTM_NEWROUTE || !link || info->rtm_table != RT_TABLE_MAIN ||
		info->rtm_type != RTN_UNICAST || info->rtm_protocol == RTPROT_KERNEL ||
		(info->rtm_family != AF_INET && info->rtm_family != AF_INET6) ||
		link->route_count == LINK_ROUTES_MAX)
		return;
	route = &link->routes[link->route_count++];
	*route = (struct route){.metric = metric ? *metric : 0};
	route->to = (struct address){.family = info->rtm_family, .prefix = info->rtm_dst_len};
	if (to)
		memcpy(route->to.bytes, to, size);
	if (via) {
		route->via.family = info->rtm_family;
		memcpy(route->via.bytes, via, size);
	}
}

int net_look(int fd, struct setup *setup, int indices[SETUP_LINKS_MAX])
{
	struct look look = {.setup = setup, .indices = indices};
	const struct ifinfomsg links = {.ifi_family = AF_UNSPEC};
	const struct ifaddrmsg addresses = {.ifa_family = AF_UNSPEC};
	const struct rtmsg routes = {.rtm_family = AF_UNSPEC};
	struct netlink_message message;
	int ret;

	netlink_begin(&message, RTM_GETLINK, 0, &links, sizeof(links));
	ret = netlink_dump(fd, &message, take_link, &look) ?: look.failed;
	if (ret < 0)
		return ret;
	netlink_begin(&message, RTM_GETADDR, 0, &addresses, sizeof(addresses));
	ret = netlink_dump(fd, &message, take_address, &look);
	if (ret < 0)
		return ret;
	netlink_begin(&message, RTM_GETROUTE, 0, &routes, sizeof(routes));
	return netlink_dump(fd, &message, take_route, &look);
}
