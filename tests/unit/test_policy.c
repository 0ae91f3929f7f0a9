/* SPDX-License-Identifier: Apache-2.0 */
/* Rules, and whose addresses a frame may tell. */
#include "backend/policy_private.h"
#include "base/checked.h"
#include "frames.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define BOTH                                                                                       \
	{                                                                                          \
		true, true                                                                         \
	}
#define PORTS(x)                                                                                   \
	{                                                                                          \
		(x), (x)                                                                           \
	}

static struct net_prefix prefix(const char *text, unsigned length)
{
	struct net_prefix prefix = {.family = strchr(text, ':') ? 6 : 4, .length = (uint8_t)length};

	inet_pton(prefix.family == 6 ? AF_INET6 : AF_INET, text, prefix.address);
	return prefix;
}

static struct net_policy *made(const struct net_policy_options *options)
{
	struct net_policy *policy = NULL;
	struct error err = {0};

	if (net_policy_new(&policy, options, &err) < 0)
		fail_msg("%s", err.text);
	return policy;
}

static enum net_verdict judged(const struct net_policy *policy, enum net_direction direction,
	const struct frame *frame, int *rule)
{
	struct frame_facts facts;

	frame_read(&facts, frame->bytes, (uint32_t)min_u64(frame->length, FRAME_LOOK),
		frame->length, false);
	return net_policy_judge(policy, direction, &facts, rule);
}

static enum net_verdict out(const struct net_policy *policy, const struct frame *frame)
{
	int rule;

	return judged(policy, NET_OUT, frame, &rule);
}

#define PACKET(frame, ...) (frame_packet(frame, __VA_ARGS__), frame)

static void first_rule_decides(void **state)
{
	struct net_rule rules[] = {
		{.name = "ssh",
			.allow = true,
			.directions = BOTH,
			.protocol = 6,
			.destination_ports = PORTS(22)},
		{.name = "bad",
			.directions = BOTH,
			.protocol = NET_PROTOCOL_ANY,
			.destination = prefix("10.1.0.0", 16)},
		{.name = "dns",
			.allow = true,
			.directions = {[NET_OUT] = true},
			.protocol = 17,
			.destination = prefix("10.0.0.53", 32),
			.destination_ports = PORTS(53)},
		{.name = "high",
			.allow = true,
			.directions = {[NET_IN] = true},
			.protocol = 17,
			.source_ports = {1024, 65535}},
		{.name = "six",
			.allow = true,
			.directions = BOTH,
			.protocol = NET_PROTOCOL_ANY,
			.source = prefix("2001:db8::", 33)},
		{.name = "ping", .allow = true, .directions = BOTH, .protocol = 1},
		{.name = "arp", .allow = true, .directions = BOTH, .protocol = NET_PROTOCOL_ARP},
	};
	const struct {
		const char *source, *destination;
		uint8_t protocol;
		uint16_t source_port, port;
		int out, in; /* the rule; -1: none */
	} cases[] = {
		{"10.0.0.1", "10.1.2.3", 6, 9, 22, 0, 0},
		{"fd00::1", "fd00::2", 6, 9, 22, 0, 0},
		{"10.0.0.1", "10.1.2.3", 6, 22, 23, 1, 1},
		{"10.0.0.1", "10.2.0.0", 6, 22, 23, -1, -1},
		{"10.0.0.1", "10.0.0.53", 17, 1023, 53, 2, -1},
		{"10.0.0.1", "10.0.0.54", 17, 1024, 53, -1, 3},
		{"10.0.0.1", "10.0.0.54", 17, 65535, 53, -1, 3},
		{"2001:db8:7fff::1", "::1", 99, 0, 0, 4, 4},
		{"2001:db8:8000::1", "::1", 99, 0, 0, -1, -1},
		{"10.0.0.1", "10.0.0.2", 1, 0, 0, 5, 5},
		{"fd00::1", "fd00::2", 58, 0, 0, -1, -1},
	};
	struct net_policy_options options = {.rules = rules, .rule_count = ARRAY_SIZE(rules)};
	struct net_policy *policies[2];
	uint8_t mac[] = FRAMES_MAC;
	struct frame frame;
	int rule;

	policies[0] = made(&options);
	options.deny = true;
	policies[1] = made(&options);
	for (unsigned i = 0; i < ARRAY_SIZE(cases) * 4; i++) {
		unsigned at = i / 4, deny = i & 1;
		int expected = i & 2 ? cases[at].in : cases[at].out;
		enum net_verdict verdict = judged(policies[deny], i & 2 ? NET_IN : NET_OUT,
			PACKET(&frame, cases[at].source, cases[at].destination, cases[at].protocol,
				cases[at].source_port, cases[at].port),
			&rule);

		assert_int_equal(rule, expected);
		if (expected < 0)
			assert_int_equal(verdict, deny ? NET_DENIED_OTHERS : NET_PASS);
		else
			assert_int_equal(verdict, rules[expected].allow ? NET_PASS : NET_DENIED);
	}
	frame_arp(&frame, mac, "10.0.0.1");
	assert_int_equal(judged(policies[1], NET_IN, &frame, &rule), NET_PASS);
	assert_int_equal(rule, 6);
	frame_begin(&frame, 0x88b5);
	assert_int_equal(judged(policies[1], NET_IN, &frame, &rule), NET_DENIED_OTHERS);
	net_policy_free(policies[0]);
	net_policy_free(policies[1]);
}

/* Where ports or protocol would decide and do not show, nothing passes, whatever comes behind. */
static void refuses_what_does_not_show(void **state)
{
	static const struct net_rule ports[] = {
		{.name = "p", .directions = BOTH, .protocol = 6, .destination_ports = PORTS(22)}};
	static const struct net_rule protocol[] = {
		{.name = "u", .directions = BOTH, .protocol = 17}};
	struct net_policy_options options = {.rules = ports, .rule_count = 1};
	struct net_policy *by_ports = made(&options), *by_protocol;
	struct frame later, tiny, hidden, udp;

	options.rules = protocol;
	by_protocol = made(&options);
	frame_packet(&later, "10.0.0.1", "10.0.0.2", 6, 22, 22);
	later.bytes[later.ip + 7] = 9;
	frame_begin(&tiny, 0x0800);
	frame_ip(&tiny, "10.0.0.1", "10.0.0.2", 6);
	frame_zeroes(&tiny, 3);
	frame_begin(&hidden, 0x86dd);
	frame_ip(&hidden, "fd00::1", "fd00::2", 6);
	for (unsigned i = 0; i < 9; i++)
		frame_extension(&hidden, 60, 8);
	frame_packet(&udp, "10.0.0.1", "10.0.0.2", 17, 22, 22);
	assert_int_equal(out(by_ports, &later), NET_UNDECIDED);
	assert_int_equal(out(by_ports, &tiny), NET_UNDECIDED);
	assert_int_equal(out(by_ports, &hidden), NET_UNDECIDED);
	assert_int_equal(out(by_ports, &udp), NET_PASS);
	assert_int_equal(out(by_protocol, &later), NET_PASS);
	assert_int_equal(out(by_protocol, &hidden), NET_UNDECIDED);
	assert_int_equal(out(by_protocol, &udp), NET_DENIED);
	later.bytes[later.ip] = 0x46;
	assert_int_equal(out(by_protocol, &later), NET_PASS);
	later.bytes[later.ip] = 0x44;
	assert_int_equal(out(by_protocol, &later), NET_BROKEN);
	net_policy_free(by_ports);
	net_policy_free(by_protocol);
}

/* An allowing rule with ports lets no fragment without them through either. */
static void lets_no_fragment_through(void **state)
{
	static const struct net_rule rules[] = {{.name = "p",
		.allow = true,
		.directions = BOTH,
		.protocol = 6,
		.destination_ports = PORTS(22)}};
	struct net_policy *policy =
		made(&(struct net_policy_options){.rules = rules, .rule_count = 1, .deny = true});
	struct frame frame;

	frame_packet(&frame, "10.0.0.1", "10.0.0.2", 6, 1, 22);
	assert_int_equal(out(policy, &frame), NET_PASS);
	frame.bytes[frame.ip + 7] = 9;
	assert_int_equal(out(policy, &frame), NET_UNDECIDED);
	net_policy_free(policy);
}

static struct net_policy *own(bool mac)
{
	const struct net_prefix addresses[] = {
		prefix("10.0.0.2", 32), prefix("10.8.0.0", 16), prefix("2001:db8::2", 128)};

	return made(&(struct net_policy_options){.check_mac = mac,
		.mac = FRAMES_MAC,
		.addresses = addresses,
		.address_count = ARRAY_SIZE(addresses)});
}

static void sends_from_its_own(void **state)
{
	static const struct {
		const char *source, *destination;
		uint8_t protocol;
		uint16_t source_port, port;
		enum net_verdict verdict;
	} cases[] = {
		{"10.0.0.2", "1.1.1.1", 6, 1, 2, NET_PASS},
		{"10.0.0.3", "1.1.1.1", 6, 1, 2, NET_FOREIGN_IP},
		{"10.8.255.255", "1.1.1.1", 6, 1, 2, NET_PASS},
		{"2001:db8::2", "::1", 6, 1, 2, NET_PASS},
		{"2001:db8::3", "::1", 6, 1, 2, NET_FOREIGN_IP},
		{"fe80::5054:ff:fe00:1", "::1", 6, 1, 2, NET_PASS},
		{"fe80::1", "::1", 6, 1, 2, NET_FOREIGN_IP},
		/* DHCP, and nothing else, from nowhere. */
		{"0.0.0.0", "255.255.255.255", 17, 68, 67, NET_PASS},
		{"0.0.0.0", "255.255.255.255", 17, 68, 53, NET_FOREIGN_IP},
		{"0.0.0.0", "10.0.0.1", 17, 68, 67, NET_FOREIGN_IP},
		{"0.0.0.0", "255.255.255.255", 6, 68, 67, NET_FOREIGN_IP},
		{"::", "ff02::1", 17, 68, 67, NET_FOREIGN_IP},
		/* Ports of 0x8500 and on: types of ICMPv6. */
		{"::", "ff02::2", 58, 133 << 8, 0, NET_PASS},
		{"::", "ff02::16", 58, 143 << 8, 0, NET_PASS},
		{"::", "ff02::16", 58, 128 << 8, 0, NET_FOREIGN_IP},
	};
	struct net_policy *policy = own(true);
	struct frame frame;

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(out(policy, PACKET(&frame, cases[i].source, cases[i].destination,
						     cases[i].protocol, cases[i].source_port,
						     cases[i].port)),
			cases[i].verdict);
	/* In a VLAN too. */
	frame_begin(&frame, 0);
	frame_tag(&frame, 0x8100, 0x0800);
	frame_ip(&frame, "10.0.0.3", "1.1.1.1", 17);
	assert_int_equal(out(policy, &frame), NET_FOREIGN_IP);
	frame_packet(&frame, "10.0.0.2", "1.1.1.1", 6, 1, 2);
	frame.bytes[11] = 2;
	assert_int_equal(out(policy, &frame), NET_FOREIGN_MAC);
	frame_begin(&frame, 0x8847); /* MPLS: who knows */
	assert_int_equal(out(policy, &frame), NET_FOREIGN_IP);
	net_policy_free(policy);
	policy = made(&(struct net_policy_options){.check_mac = true, .mac = FRAMES_MAC});
	assert_int_equal(out(policy, &frame), NET_PASS);
	net_policy_free(policy);
}

static void arp_tells_its_own(void **state)
{
	static const uint8_t mac[6] = FRAMES_MAC, other[6] = {0x52, 0x54, 0, 0, 0, 2};
	struct net_policy *policy = own(true);
	struct frame frame;

	frame_arp(&frame, mac, "10.0.0.2");
	assert_int_equal(out(policy, &frame), NET_PASS);
	frame.bytes[17] = 7; /* addresses of another kind */
	assert_int_equal(out(policy, &frame), NET_FALSE_CLAIM);
	frame_arp(&frame, mac, "0.0.0.0");
	assert_int_equal(out(policy, &frame), NET_PASS);
	frame_arp(&frame, mac, "10.0.0.1");
	assert_int_equal(out(policy, &frame), NET_FALSE_CLAIM);
	frame_arp(&frame, other, "10.0.0.2");
	assert_int_equal(out(policy, &frame), NET_FALSE_CLAIM);
	frame.bytes[12] = 0x80; /* RARP is read as ARP */
	frame.bytes[13] = 0x35;
	assert_int_equal(out(policy, &frame), NET_FALSE_CLAIM);
	frame_begin(&frame, 0x0806);
	frame_zeroes(&frame, 27);
	assert_int_equal(out(policy, &frame), NET_BROKEN);
	net_policy_free(policy);
	policy = own(false);
	frame_arp(&frame, other, "10.0.0.2");
	assert_int_equal(out(policy, &frame), NET_PASS);
	net_policy_free(policy);
}

/* A message of @type for @target, with @count options of link-layer addresses that end in @mac. */
static void discover(struct frame *frame, const char *source, uint8_t type, const char *target,
	unsigned count, uint8_t mac)
{
	uint8_t option[8] = {1, 1, 0x52, 0x54, 0, 0, 0, mac};

	frame_begin(frame, 0x86dd);
	frame_ip(frame, source, "ff02::1", 58);
	frame_zeroes(frame, type == 134 ? 16 : 8)[0] = type;
	if (target)
		frame_address(frame, target);
	if (type == 137)
		frame_zeroes(frame, 16);
	for (unsigned i = 0; i < count; i++) {
		option[0] = (uint8_t)(i + 1);
		frame_put(frame, option, sizeof(option));
	}
}

static void neighbour_discovery_tells_its_own(void **state)
{
	static const struct {
		const char *source;
		uint8_t type;
		const char *target;
		uint8_t options, mac;
		enum net_verdict verdict;
	} cases[] = {
		{"2001:db8::2", 135, "2001:db8::9", 1, 1, NET_PASS},
		{"2001:db8::2", 135, "2001:db8::9", 1, 2, NET_FALSE_CLAIM},
		{"2001:db8::2", 135, "2001:db8::9", 0, 0, NET_PASS},
		{"2001:db8::2", 136, "2001:db8::2", 2, 1, NET_PASS},
		{"2001:db8::2", 136, "2001:db8::9", 2, 1, NET_FALSE_CLAIM},
		{"2001:db8::2", 136, "2001:db8::2", 2, 2, NET_FALSE_CLAIM},
		{"2001:db8::2", 136, "fe80::5054:ff:fe00:1", 0, 0, NET_PASS},
		{"::", 135, "2001:db8::2", 0, 0, NET_PASS},
		{"::", 135, "2001:db8::9", 0, 0, NET_FALSE_CLAIM},
		{"::", 136, "2001:db8::2", 0, 0, NET_FOREIGN_IP},
		{"2001:db8::2", 133, NULL, 1, 1, NET_PASS},
		{"2001:db8::2", 133, NULL, 1, 2, NET_FALSE_CLAIM},
		{"2001:db8::2", 134, NULL, 1, 1, NET_FALSE_CLAIM},
		{"2001:db8::2", 137, "2001:db8::2", 2, 1, NET_FALSE_CLAIM},
		{"2001:db8::2", 128, NULL, 0, 0, NET_PASS},
	};
	struct net_policy *policy = own(true);
	struct frame frame;
	uint8_t *extension;

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		discover(&frame, cases[i].source, cases[i].type, cases[i].target, cases[i].options,
			cases[i].mac);
		assert_int_equal(out(policy, &frame), cases[i].verdict);
	}
	/* Hidden behind other headers, in parts, cut short, with options that end nowhere. */
	frame_begin(&frame, 0x86dd);
	frame_ip(&frame, "2001:db8::2", "ff02::1", 58);
	frame_extension(&frame, 0, 8);
	extension = frame_extension(&frame, 44, 8);
	frame_zeroes(&frame, 8)[0] = 136;
	frame_address(&frame, "2001:db8::9");
	assert_int_equal(out(policy, &frame), NET_FALSE_CLAIM);
	frame.bytes[frame.length - 1] = 2;
	assert_int_equal(out(policy, &frame), NET_PASS);
	extension[3] = 1;
	assert_int_equal(out(policy, &frame), NET_FALSE_CLAIM);
	extension[3] = 8; /* a later part: the first one never got through */
	assert_int_equal(out(policy, &frame), NET_PASS);
	extension[0] = 60;
	assert_int_equal(out(policy, &frame), NET_UNDECIDED);
	discover(&frame, "2001:db8::2", 136, "2001:db8::2", 0, 0);
	for (unsigned length = 1; length < 300; length++) {
		struct frame longer = frame;

		memset(frame_zeroes(&longer, length), 0, length);
		assert_int_equal(out(policy, &longer), NET_FALSE_CLAIM);
	}
	net_policy_free(policy);
}

static void refuses_what_makes_no_sense(void **state)
{
	static const struct {
		struct net_rule rule;
		const char *words;
	} cases[] = {
		{{.name = "a", .directions = BOTH, .protocol = -1, .destination_ports = PORTS(1)},
			"rule a: ports are of a protocol"},
		{{.name = "b", .directions = BOTH, .protocol = 1, .destination_ports = PORTS(1)},
			"rule b: ports are of a protocol"},
		{{.name = "c", .directions = BOTH, .protocol = 6, .source_ports = {2, 1}},
			"rule c: a range"},
		{{.name = "d", .directions = BOTH, .protocol = 256, .source = {.family = 4}},
			"rule d: \"arp\" has no addresses"},
		{{.name = "e",
			 .directions = BOTH,
			 .protocol = -1,
			 .source = {.family = 4},
			 .destination = {.family = 6}},
			"rule e: no packet goes"},
		{{.name = "f", .protocol = -1}, "rule f: has no direction"},
		{{.name = "g",
			 .directions = BOTH,
			 .protocol = -1,
			 .source = {.family = 4, .length = 33}},
			"rule g:"},
		{{.name = "h", .directions = BOTH, .protocol = 257}, "rule h:"},
	};
	struct net_policy *policy;
	struct error err = {0};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct net_policy_options options = {.rules = &cases[i].rule, .rule_count = 1};

		assert_int_equal(net_policy_new(&policy, &options, &err), -EINVAL);
		assert_non_null(strstr(err.text, cases[i].words));
	}
	assert_int_equal(
		net_policy_new(&policy, &(struct net_policy_options){.address_count = 65}, &err),
		-EINVAL);
	assert_int_equal(
		net_policy_new(&policy, &(struct net_policy_options){.rule_count = 257}, &err),
		-EINVAL);
}

static void counts_by_name(void **state)
{
	struct net_rule rules[] = {
		{.name = "a", .directions = BOTH, .protocol = -1},
		{.name = "b", .directions = BOTH, .protocol = -1},
	};
	struct net_policy *old, *policy;
	const struct net_counts *counts;

	old = made(&(struct net_policy_options){.rules = rules, .rule_count = 2});
	net_policy_count(old, 1, 100);
	net_policy_count(old, 1, 50);
	net_policy_count(old, -1, 50);
	memcpy(rules[0].name, "b", 2);
	memcpy(rules[1].name, "c", 2);
	policy = made(&(struct net_policy_options){.rules = rules, .rule_count = 2});
	net_policy_inherit(policy, old);
	assert_string_equal(net_policy_rule(policy, 0, &counts), "b");
	assert_int_equal(counts->packets, 2);
	assert_int_equal(counts->bytes, 150);
	assert_string_equal(net_policy_rule(policy, 1, &counts), "c");
	assert_int_equal(counts->packets, 0);
	assert_null(net_policy_rule(policy, 2, &counts));
	assert_false(net_policy_is_empty(policy));
	net_policy_free(old);
	net_policy_free(policy);
	policy = made(&(struct net_policy_options){0});
	assert_true(net_policy_is_empty(policy));
	net_policy_free(policy);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(first_rule_decides),
		cmocka_unit_test(refuses_what_does_not_show),
		cmocka_unit_test(lets_no_fragment_through),
		cmocka_unit_test(sends_from_its_own),
		cmocka_unit_test(arp_tells_its_own),
		cmocka_unit_test(neighbour_discovery_tells_its_own),
		cmocka_unit_test(refuses_what_makes_no_sense),
		cmocka_unit_test(counts_by_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
