/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a guest may send and receive by a network: limits, whose addresses are its own, rules. A
 * policy is compiled from plain data, and is not changed afterwards; only what it counts is.
 *
 * Threads: new and free on the main thread; who judges is the I/O loop of the network it was given
 * to (net_set_policy()). What is counted any thread may read.
 */
#ifndef DUET_BACKEND_POLICY_H
#define DUET_BACKEND_POLICY_H

#include "base/bucket.h"
#include "base/error.h"

#include <stdatomic.h>

struct frame_facts;

/* As the guest sees it. */
enum net_direction {
	NET_OUT,
	NET_IN,
	NET_DIRECTIONS,
};

struct net_prefix {
	uint8_t family; /* 4, 6; 0: any packet */
	uint8_t length; /* bits */
	uint8_t address[16];
};

struct net_ports {
	uint16_t first, last; /* both 0: any */
};

#define NET_RULES_MAX     256
#define NET_ADDRESSES_MAX 64
#define NET_RULE_NAME     24 /* the null included */

enum net_protocol {
	NET_PROTOCOL_ANY = -1, /* frames that are no IP too */
	NET_PROTOCOL_ARP = 256,
};

struct net_rule {
	char name[NET_RULE_NAME]; /* what is counted is kept by it when a policy is replaced */
	bool allow;
	bool directions[NET_DIRECTIONS];
	int protocol; /* of IP, 0 to 255, or one of enum net_protocol */
	struct net_prefix source, destination;
	struct net_ports source_ports, destination_ports;
};

struct net_policy_options {
	/* Bytes of frames, and packets as the wire has them, in each direction. */
	struct bucket_limits limits[NET_DIRECTIONS];
	bool check_mac; /* it sends from @mac alone */
	uint8_t mac[6];
	/* It sends from these alone; with one of IPv6 from the link-local address of @mac too. */
	const struct net_prefix *addresses;
	unsigned address_count; /* 0: from any */
	const struct net_rule *rules;
	unsigned rule_count;
	bool deny; /* what matches none of the rules */
};

/* What becomes of a frame. */
enum net_verdict {
	NET_PASS,
	NET_BROKEN,        /* headers that are not what they say */
	NET_FOREIGN_MAC,   /* sent from an address that is not its own */
	NET_FOREIGN_IP,    /* ... */
	NET_FALSE_CLAIM,   /* ARP or neighbour discovery that tells what is not its own */
	NET_DENIED,        /* by a rule */
	NET_DENIED_OTHERS, /* by none */
	NET_UNDECIDED,     /* a rule asks for ports or a protocol that do not show */
	NET_VERDICTS,
};
extern const char *const net_verdict_names[NET_VERDICTS];

struct net_counts {
	_Atomic uint64_t packets, bytes;
};

struct net_policy;

/* Messages begin with the rule: "rule ssh: ...". */
int net_policy_new(
	struct net_policy **policy, const struct net_policy_options *options, struct error *err);
/* Null is allowed. */
void net_policy_free(struct net_policy *policy);
/* Whether frames of the direction have to be looked at; whether there is anything to do at all. */
bool net_policy_filters(const struct net_policy *policy, enum net_direction direction);
bool net_policy_is_empty(const struct net_policy *policy);
const struct bucket_limits *net_policy_limits(
	const struct net_policy *policy, enum net_direction direction);

/* *@rule: the one that decided, or -1. */
enum net_verdict net_policy_judge(const struct net_policy *policy, enum net_direction direction,
	const struct frame_facts *facts, int *rule);

/* One writer: the loop that judges. */
void net_policy_count(struct net_policy *policy, int rule, uint64_t bytes);
/* What rules of the same name counted in @old goes on in @policy. */
void net_policy_inherit(struct net_policy *policy, const struct net_policy *old);
/* Null behind the last rule. */
const char *net_policy_rule(
	const struct net_policy *policy, unsigned rule, const struct net_counts **counts);

static inline void net_count(struct net_counts *counts, uint64_t bytes)
{
	atomic_store_explicit(&counts->packets,
		atomic_load_explicit(&counts->packets, memory_order_relaxed) + 1,
		memory_order_relaxed);
	atomic_store_explicit(&counts->bytes,
		atomic_load_explicit(&counts->bytes, memory_order_relaxed) + bytes,
		memory_order_relaxed);
}

#endif
