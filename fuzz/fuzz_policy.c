/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames of any kind at the gate of a network, by any rules. What goes out is judged again as the
 * back end got it, while the guest has scribbled over its own; and once more after the host has
 * filled in the checksum that virtio's header asks for, with bytes that the guest may have chosen.
 * What is refused on its way in leaves no byte in the guest's memory.
 */
#include "input.h"

#include "backend/frame.h"
#include "backend/net_private.h"
#include "base/bytes.h"
#include "base/iov.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define FRAME_ROOM 4096U
#define RULES      8U
#define MAC                                                                                        \
	{                                                                                          \
		0x52, 0x54, 0, 0, 0, 1                                                             \
	}
#define UNTOUCHED 0xa5

struct gate_fuzz {
	struct net net;
	struct net_policy *again; /* the same one, to judge by */
	uint8_t guest[NET_HEADER_SIZE + FRAME_ROOM], sent[NET_HEADER_SIZE + FRAME_ROOM];
	size_t length, sent_length;
	bool incoming;
};

static void must(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "fuzz_policy: %s\n", what);
	abort();
}

static struct gate_fuzz *fuzz_of(struct net *net)
{
	return container_of(net, struct gate_fuzz, net);
}

static void close_nothing(struct net *net)
{
}

static void set_nothing(struct net *net, unsigned number)
{
}

static int send_it(struct net *net, unsigned queue, const struct iovec *segments, unsigned count)
{
	struct gate_fuzz *fuzz = fuzz_of(net);

	/* The guest writes into what was judged a moment ago. */
	memset(fuzz->guest, 0xff, min_u64(fuzz->length, NET_HEADER_SIZE + FRAME_LOOK));
	fuzz->sent_length = iov_copy_from(segments, count, 0, fuzz->sent, sizeof(fuzz->sent));
	return 0;
}

static int receive_it(struct net *net, unsigned queue, const struct iovec *segments, unsigned count)
{
	struct gate_fuzz *fuzz = fuzz_of(net);

	if (!fuzz->incoming)
		return -EAGAIN;
	fuzz->incoming = false;
	return (int)iov_copy_to(segments, count, 0, fuzz->sent, fuzz->length);
}

static const struct net_ops ops = {.close = close_nothing,
	.set_offloads = set_nothing,
	.set_queues = set_nothing,
	.send = send_it,
	.receive = receive_it};

static struct net_prefix some_prefix(struct input *input)
{
	uint8_t kind = (uint8_t)input_number(input, 1);
	struct net_prefix prefix = {.family = kind & 1 ? 4 : 6};

	if (kind & 2)
		return (struct net_prefix){0};
	prefix.length = (uint8_t)((kind >> 2) % (prefix.family == 4 ? 33 : 65));
	prefix.address[0] = prefix.family == 4 ? 10 : 0xfd;
	prefix.address[prefix.family == 4 ? 3 : 15] = 2;
	return prefix;
}

static struct net_ports some_ports(struct input *input)
{
	uint16_t first = (uint16_t)input_number(input, 1), more = (uint16_t)input_number(input, 1);

	return (struct net_ports){first, (uint16_t)(first + more)};
}

static struct net_rule some_rule(struct input *input, unsigned index)
{
	uint8_t flags = (uint8_t)input_number(input, 1);
	uint8_t protocol = (uint8_t)input_number(input, 1);
	struct net_rule rule = {.name = {(char)('a' + index)},
		.allow = flags & 1,
		.directions = {flags & 2, flags & 4},
		.protocol = protocol};

	if (flags & 8)
		rule.protocol = flags & 16 ? NET_PROTOCOL_ARP : NET_PROTOCOL_ANY;
	if (flags & 32)
		rule.source = some_prefix(input);
	if (flags & 64)
		rule.destination = some_prefix(input);
	if (flags & 128) {
		rule.source_ports = some_ports(input);
		rule.destination_ports = some_ports(input);
	}
	return rule;
}

/* False: the rules make no sense, which somebody has to be told. */
static bool make_policies(struct gate_fuzz *fuzz, struct input *input)
{
	const struct net_prefix own[] = {{.family = 4, .length = 32, .address = {10, 0, 0, 2}},
		{.family = 6, .length = 128, .address = {0xfd, [15] = 2}}};
	uint8_t flags = (uint8_t)input_number(input, 1);
	struct net_rule rules[RULES];
	struct net_policy_options options = {.check_mac = flags & 1,
		.mac = MAC,
		.addresses = own,
		.address_count = flags & 2 ? ARRAY_SIZE(own) : 0,
		.rules = rules,
		.rule_count = (flags >> 3) % (RULES + 1),
		.deny = flags & 4};
	struct net_policy *policy = NULL;
	struct error err = {0};

	for (unsigned i = 0; i < options.rule_count; i++)
		rules[i] = some_rule(input, i);
	if (net_policy_new(&policy, &options, &err) < 0) {
		must(err.text[0] != 0, "refused without a word");
		return false;
	}
	must(net_policy_new(&fuzz->again, &options, &err) == 0, "the same rules, refused");
	must(net_set_policy(&fuzz->net, NULL, policy) == 0, "no policy");
	return true;
}

static enum net_verdict judge(
	const struct gate_fuzz *fuzz, enum net_direction direction, struct frame_facts *facts)
{
	uint32_t length = (uint32_t)fuzz->sent_length - NET_HEADER_SIZE;
	int rule;

	frame_read(facts, fuzz->sent + NET_HEADER_SIZE, (uint32_t)min_u64(length, FRAME_LOOK),
		length, fuzz->sent[1] != 0);
	return net_policy_judge(fuzz->again, direction, facts, &rule);
}

/* What the kernel behind the tap does with VIRTIO_NET_HDR_F_NEEDS_CSUM. */
static void fill_in_checksum(struct gate_fuzz *fuzz, uint16_t sum)
{
	size_t place =
		NET_HEADER_SIZE + (size_t)load_le16(fuzz->sent + 6) + load_le16(fuzz->sent + 8);

	if ((fuzz->sent[0] & 1) && place + 2 <= fuzz->sent_length)
		store_le16(fuzz->sent + place, sum);
}

static void check_sent(struct gate_fuzz *fuzz, uint16_t sum)
{
	struct frame_facts facts;

	must(fuzz->sent_length == fuzz->length, "a frame of another length");
	if (!net_policed(&fuzz->net))
		return;
	if (!net_policy_filters(fuzz->again, NET_OUT))
		return;
	must(judge(fuzz, NET_OUT, &facts) == NET_PASS, "what was sent may not be sent");
	must(frame_offload_is_true(&facts, fuzz->sent), "an offload that is not true");
	fill_in_checksum(fuzz, sum);
	must(judge(fuzz, NET_OUT, &facts) == NET_PASS, "a checksum changes what a frame is");
}

/* In two or more pieces. */
static unsigned cut(
	struct gate_fuzz *fuzz, struct input *input, struct iovec *pieces, unsigned most)
{
	size_t step = input_number(input, 1) + 1, at = 0;
	unsigned count = 0;

	for (; at < fuzz->length; count++) {
		size_t part =
			count + 1 == most ? fuzz->length - at : min_u64(step, fuzz->length - at);

		pieces[count] = (struct iovec){fuzz->guest + at, part};
		at += part;
	}
	return count;
}

static void one_out(struct gate_fuzz *fuzz, struct input *input)
{
	struct iovec pieces[32];
	unsigned count = cut(fuzz, input, pieces, ARRAY_SIZE(pieces));
	uint16_t sum = (uint16_t)input_number(input, 2);

	if (net_send(&fuzz->net, 0, pieces, count) == 0)
		check_sent(fuzz, sum);
}

static void one_in(struct gate_fuzz *fuzz, struct input *input)
{
	struct iovec pieces[32];
	unsigned count = cut(fuzz, input, pieces, ARRAY_SIZE(pieces));
	struct frame_facts facts;
	int got;

	memcpy(fuzz->sent, fuzz->guest, fuzz->length);
	memset(fuzz->guest, UNTOUCHED, fuzz->length);
	fuzz->sent_length = fuzz->length;
	fuzz->incoming = true;
	got = net_receive(&fuzz->net, 0, pieces, count);
	if (got >= 0) {
		must(memcmp(fuzz->guest, fuzz->sent, fuzz->length) == 0, "another frame came in");
		must(!net_policed(&fuzz->net) || !net_policy_filters(fuzz->again, NET_IN) ||
				judge(fuzz, NET_IN, &facts) == NET_PASS,
			"what came in may not come in");
		return;
	}
	for (size_t i = 0; i < fuzz->length; i++)
		must(fuzz->guest[i] == UNTOUCHED, "refused, and yet in the guest's memory");
}

static void run(struct gate_fuzz *fuzz, struct input *input)
{
	while (input->left > NET_HEADER_SIZE) {
		uint8_t kind = (uint8_t)input_number(input, 1);
		size_t length = input_number(input, kind & 2 ? 2 : 1) % FRAME_ROOM;

		fuzz->length = NET_HEADER_SIZE + length;
		input_bytes(input, fuzz->guest, fuzz->length);
		if (length >= FRAME_HEADER && (kind & 1))
			one_in(fuzz, input);
		else
			one_out(fuzz, input);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct gate_fuzz fuzz;
	struct input input = {data, size};

	memset(&fuzz.net, 0, sizeof(fuzz.net));
	must(net_init(&fuzz.net, &ops, 1, NULL) == 0, "no memory");
	if (make_policies(&fuzz, &input)) {
		run(&fuzz, &input);
		net_policy_free(fuzz.again);
	}
	net_close(&fuzz.net);
	return 0;
}
