/* SPDX-License-Identifier: Apache-2.0 */
/* What frames say, and what hostile ones only pretend. */
#include "backend/frame.h"
#include "base/bytes.h"
#include "base/checked.h"
#include "frames.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

/* Read from memory of just that length, so that a sanitizer sees each step too far. */
static struct frame_facts facts_of(const struct frame *frame)
{
	uint32_t have = (uint32_t)min_u64(frame->length, FRAME_LOOK);
	struct frame_facts facts;
	uint8_t *copy = malloc(have ? have : 1);

	memcpy(copy, frame->bytes, have);
	frame_read(&facts, copy, have, frame->length, frame->header[1] != 0);
	free(copy);
	return facts;
}

static void reads_what_is_there(void **state)
{
	static const struct {
		const char *source, *destination;
		uint8_t protocol;
		bool ports;
	} cases[] = {
		{"10.0.0.1", "10.0.0.2", 6, true},
		{"10.0.0.1", "10.0.0.2", 17, true},
		{"10.0.0.1", "10.0.0.2", 132, true},
		{"10.0.0.1", "10.0.0.2", 1, false},
		{"fd00::1", "fd00::2", 6, true},
		{"fd00::1", "fd00::2", 17, true},
		{"fd00::1", "fd00::2", 58, false},
		{"fd00::1", "fd00::2", 50, false},
	};
	struct frame frame;

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct frame_facts facts;

		frame_packet(
			&frame, cases[i].source, cases[i].destination, cases[i].protocol, 1000, 22);
		facts = facts_of(&frame);
		assert_false(facts.broken || facts.fragment);
		assert_int_equal(facts.family, frame.family);
		assert_int_equal(facts.protocol, cases[i].protocol);
		assert_int_equal(facts.transport, frame.ip + (frame.family == 4 ? 20 : 40));
		assert_int_equal(facts.end, frame.length);
		assert_int_equal(facts.ports, cases[i].ports);
		assert_int_equal(facts.destination_port, cases[i].ports ? 22 : 0);
		assert_int_equal(facts.source_port, cases[i].ports ? 1000 : 0);
		assert_memory_equal(facts.source,
			frame.bytes + frame.ip + (frame.family == 4 ? 12 : 8),
			frame.family == 4 ? 4 : 16);
	}
	frame_begin(&frame, 0x88b5);
	assert_int_equal(facts_of(&frame).protocol, FRAME_OTHER);
	assert_int_equal(facts_of(&frame).family, 0);
}

/* Each cut of each frame: nothing is read behind it, and nothing is believed that is not there. */
static void reads_no_further(void **state)
{
	struct frame frame;

	for (unsigned kind = 0; kind < 6; kind++) {
		uint32_t whole, head;

		frame_packet(&frame, kind & 1 ? "fd00::1" : "10.0.0.1",
			kind & 1 ? "fd00::2" : "10.0.0.2", 6, 1, 2);
		if (kind >= 4)
			frame_begin(&frame, kind & 1 ? 0x8100 : 0x0806);
		head = kind >= 4 ? 0 : frame.ip + (kind & 1 ? 40 : 20);
		whole = frame.length;
		for (frame.length = 0; frame.length < whole; frame.length++) {
			struct frame_facts facts = facts_of(&frame);

			if (frame.length < 14 || (head && kind < 4) || kind >= 4)
				assert_true(facts.broken);
		}
	}
	/* Cut behind IP's header, and IP says so: it is a packet without ports. */
	frame_begin(&frame, 0x0800);
	frame_ip(&frame, "10.0.0.1", "10.0.0.2", 6);
	frame_zeroes(&frame, 3);
	assert_false(facts_of(&frame).broken);
	assert_false(facts_of(&frame).ports);
	frame_zeroes(&frame, 1);
	assert_true(facts_of(&frame).ports);
}

static void sees_false_lengths(void **state)
{
	struct frame frame;

	frame_packet(&frame, "10.0.0.1", "10.0.0.2", 17, 1, 2);
	frame.bytes[frame.ip] = 0x44; /* a header of 16 bytes */
	assert_true(facts_of(&frame).broken);
	frame.bytes[frame.ip] = 0x4f; /* of 60, and the packet has 28 */
	assert_true(facts_of(&frame).broken);
	frame.bytes[frame.ip] = 0x65;
	assert_true(facts_of(&frame).broken);
	frame.bytes[frame.ip] = 0x45;
	frame.bytes[frame.ip + 3] += 1; /* longer than the frame */
	assert_true(facts_of(&frame).broken);
	frame.bytes[frame.ip + 3] = 0; /* 0 means "see the frame" for what is to be cut alone */
	assert_true(facts_of(&frame).broken);
	frame.header[1] = 1;
	assert_false(facts_of(&frame).broken);
	assert_int_equal(facts_of(&frame).end, frame.length);
	/* Shorter than the frame: what is behind it is padding, also where ports would be. */
	frame.header[1] = 0;
	frame.bytes[frame.ip + 3] = 22;
	assert_false(facts_of(&frame).broken || facts_of(&frame).ports);
	frame_packet(&frame, "fd00::1", "fd00::2", 17, 1, 2);
	frame.bytes[frame.ip + 5] += 1;
	assert_true(facts_of(&frame).broken);
	frame.bytes[frame.ip + 5] = 0;
	assert_false(facts_of(&frame).broken || facts_of(&frame).ports);
	frame.header[1] = 4;
	assert_true(facts_of(&frame).ports);
}

static void steps_over_tags(void **state)
{
	static const uint16_t kinds[] = {0x8100, 0x88a8, 0x9100, 0x9200, 0x9300};
	struct frame frame;

	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
		frame_begin(&frame, 0);
		for (unsigned tags = 1; tags <= 3; tags++) {
			struct frame at;

			frame_tag(&frame, kinds[i], 0x0800);
			at = frame;
			frame_ip(&at, "10.0.0.1", "10.0.0.2", 17);
			frame_be16(&at, 5);
			frame_be16(&at, 6);
			assert_int_equal(facts_of(&at).broken, tags == 3);
			if (tags < 3)
				assert_int_equal(facts_of(&at).destination_port, 6);
		}
	}
}

/* The first part of a packet has ports, no other has. */
static void knows_fragments(void **state)
{
	struct frame frame;
	struct frame_facts facts;
	uint8_t *extension;

	frame_packet(&frame, "10.0.0.1", "10.0.0.2", 17, 1, 2);
	frame.bytes[frame.ip + 6] = 0x20; /* more follow */
	facts = facts_of(&frame);
	assert_true(facts.fragment && facts.ports);
	frame.bytes[frame.ip + 7] = 1;
	facts = facts_of(&frame);
	assert_true(facts.fragment && !facts.ports && !facts.broken && !facts.transport);
	frame.bytes[frame.ip + 6] = 0x40; /* "may not be fragmented", but is */
	assert_true(facts_of(&frame).fragment && !facts_of(&frame).ports);
	frame.bytes[frame.ip + 9] = 6; /* would write over TCP's flags */
	assert_true(facts_of(&frame).broken);
	frame.bytes[frame.ip + 7] = 2;
	assert_false(facts_of(&frame).broken);

	frame_begin(&frame, 0x86dd);
	frame_ip(&frame, "fd00::1", "fd00::2", 17);
	extension = frame_extension(&frame, 44, 8);
	frame_zeroes(&frame, 8);
	facts = facts_of(&frame);
	assert_true(!facts.fragment && facts.ports); /* an "atomic" one */
	extension[3] = 1;
	facts = facts_of(&frame);
	assert_true(facts.fragment && facts.ports);
	extension[2] = 1;
	facts = facts_of(&frame);
	assert_true(facts.fragment && !facts.ports && facts.protocol == 17);
	extension[0] = 60; /* what follows is anybody's guess */
	assert_int_equal(facts_of(&frame).protocol, FRAME_UNKNOWN);
}

static void follows_extensions(void **state)
{
	static const uint8_t kinds[] = {0, 43, 60, 51};
	struct frame frame;
	struct frame_facts facts;
	uint8_t *extension = NULL;

	frame_begin(&frame, 0x86dd);
	frame_ip(&frame, "fd00::1", "fd00::2", 6);
	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++)
		extension = frame_extension(&frame, kinds[i], 24);
	frame_be16(&frame, 7);
	frame_be16(&frame, 8);
	facts = facts_of(&frame);
	assert_true(facts.ports && facts.protocol == 6);
	assert_int_equal(facts.destination_port, 8);
	/* A length that leads out of the packet. */
	extension[1] = 60;
	assert_int_equal(facts_of(&frame).protocol, FRAME_UNKNOWN);
	/* More of them than anybody sends, and more than is looked at. */
	for (unsigned size = 8; size <= 64; size += 56) {
		frame_begin(&frame, 0x86dd);
		frame_ip(&frame, "fd00::1", "fd00::2", 6);
		for (unsigned i = 0; i < 9; i++)
			frame_extension(&frame, 60, size);
		frame_zeroes(&frame, 20);
		facts = facts_of(&frame);
		assert_int_equal(facts.protocol, FRAME_UNKNOWN);
		assert_false(facts.ports || facts.broken);
		assert_int_equal(facts.judged, frame.length);
	}
	/* One alone that is longer than the look. */
	frame_begin(&frame, 0x86dd);
	frame_ip(&frame, "fd00::1", "fd00::2", 6);
	frame_extension(&frame, 60, 256);
	frame_zeroes(&frame, 20);
	facts = facts_of(&frame);
	assert_true(facts.protocol == 6 && !facts.ports);
}

static void sees_source_routes(void **state)
{
	static const struct {
		uint8_t options[4];
		bool broken;
	} cases[] = {
		{{0, 131, 3, 4}, false}, /* behind the end of the list */
		{{1, 1, 1, 0}, false},
		{{148, 4, 0, 0}, false}, /* router alert */
		{{131, 4, 4, 0}, true},
		{{137, 4, 4, 0}, true},
		{{1, 131, 3, 4}, true},
		{{148, 0, 0, 0}, true},
		{{1, 1, 1, 148}, true},
	};
	struct frame frame;
	uint8_t *extension;

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		frame_begin(&frame, 0x0800);
		frame_ip(&frame, "10.0.0.1", "10.0.0.2", 17);
		frame.bytes[frame.ip] = 0x46;
		frame_put(&frame, cases[i].options, 4);
		frame_zeroes(&frame, 8);
		assert_int_equal(facts_of(&frame).broken, cases[i].broken);
	}
	frame_begin(&frame, 0x86dd);
	frame_ip(&frame, "fd00::1", "fd00::2", 17);
	extension = frame_extension(&frame, 43, 24);
	frame_zeroes(&frame, 8);
	assert_false(facts_of(&frame).broken);
	extension[3] = 1;
	assert_true(facts_of(&frame).broken);
}

static bool offload(
	struct frame *frame, uint8_t flags, uint8_t kind, unsigned start, unsigned offset)
{
	struct frame_facts facts;

	frame->header[0] = flags;
	frame->header[1] = kind;
	store_le16(frame->header + 6, (uint16_t)start);
	store_le16(frame->header + 8, (uint16_t)offset);
	facts = facts_of(frame);
	return frame_offload_is_true(&facts, frame->header);
}

/* A checksum is two bytes that the guest has chosen: they go nowhere but where one is. */
static void checksums_stay_in_place(void **state)
{
	struct frame frame;

	frame_packet(&frame, "10.0.0.1", "10.0.0.2", 6, 1, 22);
	frame_zeroes(&frame, 100);
	assert_true(offload(&frame, 0, 0, 0, 0));
	assert_true(offload(&frame, 1, 0, 34, 16));
	for (unsigned place = 0; place < 34 + 20; place++)
		assert_int_equal(offload(&frame, 1, 0, place, 0), place == 50);
	for (unsigned place = 0; place < 34 + 20; place++)
		assert_int_equal(offload(&frame, 1, 0, 0, place), place == 50);
	/* What is inside of it (a tunnel's) is payload. */
	assert_true(offload(&frame, 1, 0, 34 + 20, 6));
	assert_true(offload(&frame, 1, 0, 65535, 65535));
	frame_packet(&frame, "fd00::1", "fd00::2", 17, 1, 22);
	for (unsigned place = 0; place < 54 + 8; place++)
		assert_int_equal(offload(&frame, 1, 0, place, 0), place == 60);
	frame_packet(&frame, "fd00::1", "fd00::2", 58, 1, 22);
	for (unsigned place = 0; place < frame.length; place++)
		assert_int_equal(offload(&frame, 1, 0, place, 0), place == 56);
	frame_begin(&frame, 0x88b5);
	frame_zeroes(&frame, 46);
	for (unsigned place = 0; place < frame.length; place++)
		assert_int_equal(offload(&frame, 1, 0, place, 0), place >= 14);
}

static void segments_are_what_they_say(void **state)
{
	struct frame tcp4, tcp6, udp4, other;

	frame_packet(&tcp4, "10.0.0.1", "10.0.0.2", 6, 1, 22);
	frame_packet(&tcp6, "fd00::1", "fd00::2", 6, 1, 22);
	frame_packet(&udp4, "10.0.0.1", "10.0.0.2", 17, 1, 22);
	frame_begin(&other, 0x88b5);
	for (unsigned kind = 1; kind < 256; kind++) {
		unsigned alone = kind & 0x7f;

		assert_int_equal(offload(&tcp4, 1, (uint8_t)kind, 34, 16), alone == 1);
		assert_int_equal(offload(&tcp6, 1, (uint8_t)kind, 54, 16), alone == 4);
		assert_int_equal(offload(&udp4, 1, (uint8_t)kind, 34, 6), alone == 3 || alone == 5);
		assert_false(offload(&other, 0, (uint8_t)kind, 0, 0));
	}
	tcp4.bytes[tcp4.ip + 6] = 0x20; /* a part is not cut again */
	assert_false(offload(&tcp4, 1, 1, 34, 16));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_what_is_there),
		cmocka_unit_test(reads_no_further),
		cmocka_unit_test(sees_false_lengths),
		cmocka_unit_test(steps_over_tags),
		cmocka_unit_test(knows_fragments),
		cmocka_unit_test(follows_extensions),
		cmocka_unit_test(sees_source_routes),
		cmocka_unit_test(checksums_stay_in_place),
		cmocka_unit_test(segments_are_what_they_say),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
