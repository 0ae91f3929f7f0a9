/* SPDX-License-Identifier: Apache-2.0 */
/* A compiled policy: policy.c makes it and has the rules, policy_own.c what is the guest's own. */
#ifndef DUET_BACKEND_POLICY_PRIVATE_H
#define DUET_BACKEND_POLICY_PRIVATE_H

#include "backend/frame.h"
#include "backend/policy.h"

/* Bits of an address in memory that have to be these. */
struct policy_match {
	uint64_t bits[2], mask[2];
};

/* In a frame's facts, or FRAME_ANY. */
#define FRAME_ANY 0xffffU

/* What of it has to be looked at: rules are gone through for each frame. */
#define RULE_FAMILY      1U
#define RULE_SOURCE      2U
#define RULE_DESTINATION 4U
#define RULE_PORTS       8U

struct policy_rule {
	uint16_t protocol;
	uint8_t looks, family;
	uint16_t index; /* in the policy's counts and names */
	bool allow;
	struct net_ports source_ports, destination_ports;
	struct policy_match source, destination;
};

struct policy_counts {
	char name[NET_RULE_NAME];
	struct net_counts counts;
};

struct net_policy {
	struct bucket_limits limits[NET_DIRECTIONS];
	/* In order; those of one direction alone. */
	struct policy_rule *rules[NET_DIRECTIONS];
	unsigned rule_counts[NET_DIRECTIONS];
	bool deny, check_mac, check_ip;
	uint8_t mac[6];
	struct {
		uint8_t family;
		struct policy_match match;
	} own[NET_ADDRESSES_MAX + 1];
	unsigned own_count;
	/* Of all rules, in the order in which they were given. */
	struct policy_counts *counts;
	unsigned count;
};

static inline bool policy_matches(const struct policy_match *match, const uint64_t address[2])
{
	return (((address[0] ^ match->bits[0]) & match->mask[0]) |
		       ((address[1] ^ match->bits[1]) & match->mask[1])) == 0;
}

/* NET_PASS: what the frame says of its sender is the guest's own. */
enum net_verdict policy_check_own(const struct net_policy *policy, const struct frame_facts *facts);

#endif
