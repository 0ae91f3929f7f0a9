/* SPDX-License-Identifier: Apache-2.0 */
/* A policy compiled, and its rules. */
#include "backend/policy_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const char *const net_verdict_names[NET_VERDICTS] = {
	[NET_PASS] = "passed",
	[NET_BROKEN] = "broken",
	[NET_FOREIGN_MAC] = "foreign_mac",
	[NET_FOREIGN_IP] = "foreign_ip",
	[NET_FALSE_CLAIM] = "false_claim",
	[NET_DENIED] = "denied",
	[NET_DENIED_OTHERS] = "denied_by_default",
	[NET_UNDECIDED] = "undecided",
};

static struct policy_match match_of(const struct net_prefix *prefix)
{
	struct policy_match match = {0};
	uint8_t mask[16] = {0};

	for (unsigned bit = 0; bit < prefix->length; bit++)
		mask[bit / 8] |= (uint8_t)(0x80 >> bit % 8);
	memcpy(match.mask, mask, sizeof(mask));
	memcpy(match.bits, prefix->address, sizeof(match.bits));
	return match;
}

static bool has_ports(const struct net_ports *ports)
{
	return ports->first || ports->last;
}

static bool prefix_is_good(const struct net_prefix *prefix)
{
	return prefix->family == 0 || (prefix->family == 4 && prefix->length <= 32) ||
	       (prefix->family == 6 && prefix->length <= 128);
}

static int check_rule(const struct net_rule *rule, struct error *err)
{
	bool ports = has_ports(&rule->source_ports) || has_ports(&rule->destination_ports);
	bool address = rule->source.family || rule->destination.family;

	if (!prefix_is_good(&rule->source) || !prefix_is_good(&rule->destination) ||
		rule->protocol < NET_PROTOCOL_ANY || rule->protocol > NET_PROTOCOL_ARP)
		return error_set(err, EINVAL, "rule %s: no address or protocol", rule->name);
	if (rule->source.family && rule->destination.family &&
		rule->source.family != rule->destination.family)
		return error_set(err, EINVAL,
			"rule %s: no packet goes from IPv4 to IPv6; make two rules of it",
			rule->name);
	if (rule->protocol == NET_PROTOCOL_ARP && address)
		return error_set(err, EINVAL,
			"rule %s: \"arp\" has no addresses here; leave \"source\" and "
			"\"destination\" out",
			rule->name);
	if (ports && rule->protocol != FRAME_TCP && rule->protocol != FRAME_UDP &&
		rule->protocol != 33 && rule->protocol != 132 && rule->protocol != 136)
		return error_set(err, EINVAL,
			"rule %s: ports are of a protocol; write \"protocol\": \"tcp\" or \"udp\"",
			rule->name);
	if (rule->source_ports.first > rule->source_ports.last ||
		rule->destination_ports.first > rule->destination_ports.last)
		return error_set(err, EINVAL,
			"rule %s: a range of ports goes from the smaller to the larger one",
			rule->name);
	if (!rule->directions[NET_OUT] && !rule->directions[NET_IN])
		return error_set(err, EINVAL, "rule %s: has no direction", rule->name);
	return 0;
}

static uint8_t looks_of(const struct net_rule *rule)
{
	unsigned looks = 0;

	if (rule->source.family || rule->destination.family)
		looks |= RULE_FAMILY;
	if (rule->source.length)
		looks |= RULE_SOURCE;
	if (rule->destination.length)
		looks |= RULE_DESTINATION;
	if (has_ports(&rule->source_ports) || has_ports(&rule->destination_ports))
		looks |= RULE_PORTS;
	return (uint8_t)looks;
}

static struct policy_rule compile(const struct net_rule *rule, unsigned index)
{
	struct policy_rule compiled = {.index = (uint16_t)index,
		.allow = rule->allow,
		.looks = looks_of(rule),
		.family = rule->source.family ? rule->source.family : rule->destination.family,
		.protocol =
			rule->protocol == NET_PROTOCOL_ANY ? FRAME_ANY : (uint16_t)rule->protocol,
		.source = match_of(&rule->source),
		.destination = match_of(&rule->destination),
		.source_ports = rule->source_ports,
		.destination_ports = rule->destination_ports};

	if (!has_ports(&rule->source_ports))
		compiled.source_ports.last = UINT16_MAX;
	if (!has_ports(&rule->destination_ports))
		compiled.destination_ports.last = UINT16_MAX;
	return compiled;
}

static void add_rule(struct net_policy *policy, const struct net_rule *rule, unsigned index)
{
	for (unsigned direction = 0; direction < NET_DIRECTIONS; direction++)
		if (rule->directions[direction])
			policy->rules[direction][policy->rule_counts[direction]++] =
				compile(rule, index);
	memcpy(policy->counts[index].name, rule->name, sizeof(rule->name));
	policy->counts[index].name[NET_RULE_NAME - 1] = 0;
}

static int add_rules(
	struct net_policy *policy, const struct net_policy_options *options, struct error *err)
{
	unsigned count = options->rule_count;
	int ret = 0;

	if (count > NET_RULES_MAX)
		return error_set(err, EINVAL, "more than %d rules", NET_RULES_MAX);
	policy->count = count;
	policy->counts = calloc(count + 1, sizeof(*policy->counts));
	for (unsigned direction = 0; direction < NET_DIRECTIONS; direction++)
		policy->rules[direction] = calloc(count + 1, sizeof(*policy->rules[0]));
	if (!policy->counts || !policy->rules[NET_OUT] || !policy->rules[NET_IN])
		return error_errno(err, ENOMEM, "rules");
	for (unsigned i = 0; ret == 0 && i < count; i++) {
		ret = check_rule(&options->rules[i], err);
		if (ret == 0)
			add_rule(policy, &options->rules[i], i);
	}
	return ret;
}

/* RFC 4291, 2.5.6 and appendix A. */
static struct net_prefix link_local(const uint8_t mac[6])
{
	return (struct net_prefix){.family = 6,
		.length = 128,
		.address = {0xfe, 0x80, [8] = mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3],
			mac[4], mac[5]}};
}

static void add_own(struct net_policy *policy, const struct net_prefix *prefix)
{
	policy->own[policy->own_count].family = prefix->family;
	policy->own[policy->own_count++].match = match_of(prefix);
}

static int add_addresses(
	struct net_policy *policy, const struct net_policy_options *options, struct error *err)
{
	struct net_prefix local = link_local(options->mac);
	bool ipv6 = false;

	if (options->address_count > NET_ADDRESSES_MAX)
		return error_set(err, EINVAL, "more than %d addresses", NET_ADDRESSES_MAX);
	for (unsigned i = 0; i < options->address_count; i++) {
		const struct net_prefix *prefix = &options->addresses[i];

		if (!prefix->family || !prefix_is_good(prefix))
			return error_set(err, EINVAL, "address %u is none", i + 1);
		add_own(policy, prefix);
		ipv6 |= prefix->family == 6;
	}
	if (ipv6)
		add_own(policy, &local);
	policy->check_ip = options->address_count > 0;
	return 0;
}

int net_policy_new(
	struct net_policy **out, const struct net_policy_options *options, struct error *err)
{
	struct net_policy *policy = calloc(1, sizeof(*policy));
	int ret;

	if (!policy)
		return error_errno(err, ENOMEM, "policy");
	memcpy(policy->limits, options->limits, sizeof(policy->limits));
	memcpy(policy->mac, options->mac, sizeof(policy->mac));
	policy->check_mac = options->check_mac;
	policy->deny = options->deny;
	ret = add_addresses(policy, options, err);
	if (ret == 0)
		ret = add_rules(policy, options, err);
	if (ret < 0) {
		net_policy_free(policy);
		return ret;
	}
	*out = policy;
	return 0;
}

void net_policy_free(struct net_policy *policy)
{
	if (!policy)
		return;
	free(policy->rules[NET_OUT]);
	free(policy->rules[NET_IN]);
	free(policy->counts);
	free(policy);
}

bool net_policy_filters(const struct net_policy *policy, enum net_direction direction)
{
	return policy->deny || policy->rule_counts[direction] ||
	       (direction == NET_OUT && (policy->check_mac || policy->check_ip));
}

bool net_policy_is_empty(const struct net_policy *policy)
{
	return !net_policy_filters(policy, NET_OUT) && !net_policy_filters(policy, NET_IN) &&
	       !bucket_limits_any(&policy->limits[NET_OUT]) &&
	       !bucket_limits_any(&policy->limits[NET_IN]);
}

const struct bucket_limits *net_policy_limits(
	const struct net_policy *policy, enum net_direction direction)
{
	return &policy->limits[direction];
}

/* What an IP packet carries may not show; it is IP in any case. */
static bool is_hidden(const struct policy_rule *rule, const struct frame_facts *facts)
{
	return facts->protocol == FRAME_UNKNOWN && rule->protocol != FRAME_ARP;
}

static bool is_among(uint16_t port, const struct net_ports *ports)
{
	return (uint16_t)(port - ports->first) <= (uint16_t)(ports->last - ports->first);
}

static bool ports_match(const struct policy_rule *rule, const struct frame_facts *facts)
{
	return is_among(facts->destination_port, &rule->destination_ports) &&
	       is_among(facts->source_port, &rule->source_ports);
}

/* What shows of a packet is what the rule is for; it may ask for more. What tells most rules from
 * each other comes first. */
static bool may_match(const struct policy_rule *rule, const struct frame_facts *facts)
{
	if (rule->protocol != facts->protocol && rule->protocol != FRAME_ANY &&
		!is_hidden(rule, facts))
		return false;
	if ((rule->looks & RULE_PORTS) && facts->ports && !ports_match(rule, facts))
		return false;
	if ((rule->looks & RULE_FAMILY) && rule->family != facts->family)
		return false;
	if ((rule->looks & RULE_SOURCE) && !policy_matches(&rule->source, facts->source))
		return false;
	return !(rule->looks & RULE_DESTINATION) ||
	       policy_matches(&rule->destination, facts->destination);
}

static bool shows(const struct policy_rule *rule, const struct frame_facts *facts)
{
	return (rule->protocol == FRAME_ANY || facts->protocol != FRAME_UNKNOWN) &&
	       (!(rule->looks & RULE_PORTS) || facts->ports);
}

static enum net_verdict apply_rules(const struct net_policy *policy, enum net_direction direction,
	const struct frame_facts *facts, int *rule)
{
	const struct policy_rule *at = policy->rules[direction];
	const struct policy_rule *end = at + policy->rule_counts[direction];

	for (; at < end; at++) {
		if (!may_match(at, facts))
			continue;
		*rule = at->index;
		if (!shows(at, facts))
			return NET_UNDECIDED;
		return at->allow ? NET_PASS : NET_DENIED;
	}
	*rule = -1;
	return policy->deny ? NET_DENIED_OTHERS : NET_PASS;
}

enum net_verdict net_policy_judge(const struct net_policy *policy, enum net_direction direction,
	const struct frame_facts *facts, int *rule)
{
	enum net_verdict verdict = NET_PASS;

	*rule = -1;
	if (facts->broken)
		return NET_BROKEN;
	if (direction == NET_OUT && (policy->check_mac || policy->check_ip))
		verdict = policy_check_own(policy, facts);
	return verdict == NET_PASS ? apply_rules(policy, direction, facts, rule) : verdict;
}

void net_policy_count(struct net_policy *policy, int rule, uint64_t bytes)
{
	if (rule >= 0)
		net_count(&policy->counts[rule].counts, bytes);
}

static void carry(struct net_counts *to, const struct net_counts *from)
{
	atomic_store_explicit(&to->packets,
		atomic_load_explicit(&from->packets, memory_order_relaxed), memory_order_relaxed);
	atomic_store_explicit(&to->bytes, atomic_load_explicit(&from->bytes, memory_order_relaxed),
		memory_order_relaxed);
}

void net_policy_inherit(struct net_policy *policy, const struct net_policy *old)
{
	for (unsigned i = 0; i < policy->count; i++)
		for (unsigned k = 0; k < old->count; k++)
			if (strcmp(policy->counts[i].name, old->counts[k].name) == 0)
				carry(&policy->counts[i].counts, &old->counts[k].counts);
}

const char *net_policy_rule(
	const struct net_policy *policy, unsigned rule, const struct net_counts **counts)
{
	if (rule >= policy->count)
		return NULL;
	*counts = &policy->counts[rule].counts;
	return policy->counts[rule].name;
}
