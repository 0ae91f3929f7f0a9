/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a guest says of itself is its own: the source addresses of its frames, what its ARP (RFC
 * 826) and neighbour discovery (RFC 4861) tell others. What it needs while it has no address yet
 * may come from none: DHCP, ARP's probes (RFC 5227), duplicate address detection (RFC 4862).
 */
#include "backend/policy_private.h"
#include "base/bytes.h"
#include "base/checked.h"

#define SOURCE_MAC 6 /* in an Ethernet header */

#define ARP_SENDER_MAC 8
#define ARP_SENDER_IP  14

#define DHCP_CLIENT 68
#define DHCP_SERVER 67

/* Types of ICMPv6, and where the options begin in those of neighbour discovery. */
#define MLD_REPORT           131
#define ROUTER_SOLICITATION  133
#define ROUTER_ADVERTISEMENT 134
#define NEIGHBOUR_SOLICIT    135
#define NEIGHBOUR_ADVERTISE  136
#define REDIRECT             137
#define MLD2_REPORT          143
#define TARGET               8
#define SOURCE_LINK_ADDRESS  1 /* options */
#define TARGET_LINK_ADDRESS  2

static bool is_mac(const struct net_policy *policy, const uint8_t *mac)
{
	return memcmp(mac, policy->mac, sizeof(policy->mac)) == 0;
}

static bool is_own(const struct net_policy *policy, uint8_t family, const uint64_t address[2])
{
	for (unsigned i = 0; i < policy->own_count; i++)
		if (policy->own[i].family == family &&
			policy_matches(&policy->own[i].match, address))
			return true;
	return false;
}

static bool is_own_at(const struct net_policy *policy, uint8_t family, const uint8_t *address)
{
	uint64_t words[2] = {0};

	memcpy(words, address, family == 4 ? 4 : 16);
	return is_own(policy, family, words);
}

/* "I am MAC, IP": it is; an address of zeroes is a probe's. */
static bool arp_is_true(const struct net_policy *policy, const struct frame_facts *facts)
{
	static const uint8_t ethernet_ipv4[] = {0, 1, 8, 0, 6, 4}, none[4];
	const uint8_t *arp = facts->bytes + facts->network;

	if (memcmp(arp, ethernet_ipv4, sizeof(ethernet_ipv4)) != 0)
		return false;
	if (policy->check_mac && !is_mac(policy, arp + ARP_SENDER_MAC))
		return false;
	return !policy->check_ip || memcmp(arp + ARP_SENDER_IP, none, sizeof(none)) == 0 ||
	       is_own_at(policy, 4, arp + ARP_SENDER_IP);
}

static uint32_t options_of(uint8_t type)
{
	switch (type) {
	case ROUTER_SOLICITATION:
		return 8;
	case ROUTER_ADVERTISEMENT:
		return 16;
	case NEIGHBOUR_SOLICIT:
	case NEIGHBOUR_ADVERTISE:
		return 24;
	case REDIRECT:
		return 40;
	default:
		return 0; /* not neighbour discovery */
	}
}

/* The link-layer addresses it tells are its own. */
static bool options_are_true(
	const struct net_policy *policy, const struct frame_facts *facts, uint32_t at)
{
	while (at < facts->end) {
		const uint8_t *option = facts->bytes + at;
		uint32_t left = facts->end - at;

		if (left < 8 || option[1] == 0 || option[1] * 8U > left)
			return false;
		if ((option[0] == SOURCE_LINK_ADDRESS || option[0] == TARGET_LINK_ADDRESS) &&
			!is_mac(policy, option + 2))
			return false;
		at += option[1] * 8U;
	}
	return true;
}

static bool comes_from_nowhere(const struct frame_facts *facts)
{
	return (facts->source[0] | facts->source[1]) == 0;
}

/* The address that an advertisement is about, or a solicitation that asks whether it is free. */
static bool target_is_own(
	const struct net_policy *policy, const struct frame_facts *facts, uint8_t type)
{
	if (type != NEIGHBOUR_ADVERTISE &&
		!(type == NEIGHBOUR_SOLICIT && comes_from_nowhere(facts)))
		return true;
	return is_own_at(policy, 6, facts->bytes + facts->transport + TARGET);
}

static bool discovery_is_true(const struct net_policy *policy, const struct frame_facts *facts)
{
	uint8_t type;
	uint32_t options;

	/* A later part: its first one says what it is, and is judged. */
	if (!facts->transport)
		return true;
	if (facts->transport >= min_u64(facts->end, facts->have))
		return false;
	type = facts->bytes[facts->transport];
	options = options_of(type);
	if (!options)
		return true;
	/* In parts it is not to be taken (RFC 6980); what is not all here cannot be judged. */
	if (facts->fragment || facts->end > facts->have || facts->transport + options > facts->end)
		return false;
	if (policy->check_ip && (type == ROUTER_ADVERTISEMENT || type == REDIRECT ||
					!target_is_own(policy, facts, type)))
		return false;
	return !policy->check_mac || options_are_true(policy, facts, facts->transport + options);
}

static bool is_dhcp(const struct frame_facts *facts)
{
	uint64_t everybody[2] = {0};

	memset(everybody, 0xff, 4);
	return facts->protocol == FRAME_UDP && facts->ports && facts->source_port == DHCP_CLIENT &&
	       facts->destination_port == DHCP_SERVER &&
	       memcmp(facts->destination, everybody, sizeof(everybody)) == 0;
}

/* What a guest without an address has to say. */
static bool may_come_from_nowhere(const struct frame_facts *facts)
{
	uint8_t type;

	if (facts->family == 4)
		return is_dhcp(facts);
	if (facts->protocol != FRAME_ICMPV6 || !facts->transport ||
		facts->transport >= min_u64(facts->end, facts->have))
		return false;
	type = facts->bytes[facts->transport];
	return type == NEIGHBOUR_SOLICIT || type == ROUTER_SOLICITATION || type == MLD_REPORT ||
	       type == MLD2_REPORT;
}

static bool source_is_own(const struct net_policy *policy, const struct frame_facts *facts)
{
	if (comes_from_nowhere(facts) && may_come_from_nowhere(facts))
		return true;
	return is_own(policy, facts->family, facts->source);
}

enum net_verdict policy_check_own(const struct net_policy *policy, const struct frame_facts *facts)
{
	if (policy->check_mac && !is_mac(policy, facts->bytes + SOURCE_MAC))
		return NET_FOREIGN_MAC;
	if (facts->protocol == FRAME_ARP)
		return arp_is_true(policy, facts) ? NET_PASS : NET_FALSE_CLAIM;
	/* What is neither IP nor ARP may carry either. */
	if (policy->check_ip && (!facts->family || !source_is_own(policy, facts)))
		return NET_FOREIGN_IP;
	/* Neighbour discovery may hide behind what does not show. */
	if (facts->family == 6 && facts->protocol == FRAME_UNKNOWN)
		return NET_UNDECIDED;
	if (facts->family == 6 && facts->protocol == FRAME_ICMPV6 &&
		!discovery_is_true(policy, facts))
		return NET_FALSE_CLAIM;
	return NET_PASS;
}
