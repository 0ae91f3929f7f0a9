/* SPDX-License-Identifier: Apache-2.0 */
/* Rings of both kinds against a driver written from the specification, and against broken ones. */
#include "ring_driver.h"

#include "base/bytes.h"
#include "base/checked.h"
#include "virtio/queue/virtqueue.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define RAM_SIZE (4ULL << 20)
#define DATA     0x200000ULL /* buffers; the rings lie below */
#define SEGMENTS 40

struct rig {
	struct memory memory;
	uint8_t *ram;
	struct ring_driver driver;
	struct virtqueue queue;
	uint64_t seed;
};

static uint64_t random_number(struct rig *rig)
{
	/* xorshift64: the same run every time */
	rig->seed ^= rig->seed << 13;
	rig->seed ^= rig->seed >> 7;
	rig->seed ^= rig->seed << 17;
	return rig->seed;
}

static void rig_init(struct rig *rig, uint16_t size, bool packed, bool event_idx, bool indirect)
{
	struct virtqueue_setup setup = {
		.size = size, .packed = packed, .event_idx = event_idx, .indirect = indirect};

	memset(rig, 0, sizeof(*rig));
	rig->seed = 0x9e3779b97f4a7c15ULL + size;
	memory_init(&rig->memory);
	rig->ram = aligned_alloc(4096, RAM_SIZE);
	assert_non_null(rig->ram);
	memset(rig->ram, 0, RAM_SIZE);
	assert_int_equal(memory_add_fixed(&rig->memory, GPA(0), RAM_SIZE, rig->ram), 0);
	ring_driver_init(&rig->driver, &rig->memory, 0x1000, &setup);
	assert_int_equal(virtqueue_enable(&rig->queue, &rig->memory, &rig->driver.setup), 0);
}

static void rig_free(struct rig *rig)
{
	memory_free(&rig->memory);
	free(rig->ram);
}

static int pop(struct rig *rig, struct virtqueue_chain *chain, struct iovec *segments)
{
	chain->segments = segments;
	chain->capacity = SEGMENTS;
	return virtqueue_pop(&rig->queue, chain);
}

/* What the device does to a request: each byte of the answer is the sum of those asked. */
static uint8_t sum_of(const uint8_t *bytes, size_t length)
{
	uint8_t sum = 1;

	for (size_t i = 0; i < length; i++)
		sum = (uint8_t)(sum * 31 + bytes[i]);
	return sum;
}

struct request {
	bool offered;
	unsigned count;
	struct ring_buffer buffers[RING_DRIVER_INDIRECT_MAX];
	uint8_t sum;
	size_t writable;
};

#define REQUESTS     64
#define REQUEST_AREA 0x4000ULL

static void fill(struct rig *rig, struct request *request, unsigned index)
{
	uint64_t gpa = DATA + REQUEST_AREA * index;
	unsigned readable = (unsigned)random_number(rig) % 4;
	uint8_t *bytes = rig->ram + gpa;
	size_t asked = 0;

	request->count = 1 + readable + (unsigned)random_number(rig) % 4;
	request->writable = 0;
	for (unsigned i = 0; i < request->count; i++) {
		uint32_t length = (uint32_t)random_number(rig) % 300; /* 0 too */

		request->buffers[i] = (struct ring_buffer){gpa, length, i >= readable};
		gpa += length;
		if (i < readable)
			asked += length;
		else
			request->writable += length;
	}
	for (size_t i = 0; i < asked; i++)
		bytes[i] = (uint8_t)random_number(rig);
	memset(bytes + asked, 0, request->writable);
	request->sum = sum_of(bytes, asked);
}

static void offer_some(struct rig *rig, struct request *requests, bool indirect)
{
	for (unsigned i = 0; i < REQUESTS; i++) {
		if (requests[i].offered || random_number(rig) % 3)
			continue;
		fill(rig, &requests[i], i);
		requests[i].offered = ring_driver_offer(&rig->driver, requests[i].buffers,
			requests[i].count, indirect && random_number(rig) % 2, i);
	}
}

struct held {
	struct virtqueue_chain chain;
	struct iovec segments[SEGMENTS];
};

static void serve(struct rig *rig, struct held *held)
{
	struct virtqueue_chain *chain = &held->chain;
	uint8_t asked[2048], answer[2048];
	size_t length = iov_copy_from(
		held->segments, chain->readable, 0, asked, (size_t)chain->readable_bytes);

	assert_int_equal(length, chain->readable_bytes);
	memset(answer, sum_of(asked, length), sizeof(answer));
	assert_int_equal(iov_copy_to(held->segments + chain->readable, chain->writable, 0, answer,
				 sizeof(answer)),
		chain->writable_bytes);
	virtqueue_push(&rig->queue, chain, (uint32_t)chain->writable_bytes);
}

static void pop_some(struct rig *rig, struct held *held, unsigned *count)
{
	while (*count < REQUESTS && random_number(rig) % 4) {
		struct held *next = &held[*count];
		int ret = pop(rig, &next->chain, next->segments);

		assert_in_range(ret, 0, 1);
		if (ret == 0)
			return;
		/* Now and then the device finds that it has no room. */
		if (random_number(rig) % 8 == 0) {
			virtqueue_unpop(&rig->queue, &next->chain);
			return;
		}
		++*count;
	}
}

static void push_some(struct rig *rig, struct held *held, unsigned *count)
{
	while (*count && random_number(rig) % 4) {
		unsigned victim = (unsigned)random_number(rig) % *count;

		serve(rig, &held[victim]);
		--*count;
		held[victim] = held[*count];
		held[victim].chain.segments = held[victim].segments;
	}
	virtqueue_flush(&rig->queue);
}

static unsigned take_all(struct rig *rig, struct request *requests)
{
	unsigned count = 0;
	uint32_t written;
	uint64_t token;

	while (ring_driver_take(&rig->driver, &token, &written)) {
		struct request *request = &requests[token];

		assert_true(token < REQUESTS && request->offered);
		assert_int_equal(written, request->writable);
		for (unsigned i = 0; i < request->count; i++)
			for (uint32_t at = 0;
				request->buffers[i].writable && at < request->buffers[i].length;
				at++)
				assert_int_equal(
					rig->ram[request->buffers[i].gpa + at], request->sum);
		request->offered = false;
		count++;
	}
	return count;
}

/* Everything offered comes back once, in any order of completion, with the right bytes. */
static void play(uint16_t size, bool packed, bool event_idx, bool indirect)
{
	struct request *requests = calloc(REQUESTS, sizeof(*requests));
	struct held *held = calloc(REQUESTS, sizeof(*held));
	unsigned in_device = 0, done = 0, left = 0;
	struct rig rig;

	rig_init(&rig, size, packed, event_idx, indirect);
	for (unsigned round = 0; round < 4000; round++) {
		offer_some(&rig, requests, indirect);
		pop_some(&rig, held, &in_device);
		push_some(&rig, held, &in_device);
		done += take_all(&rig, requests);
	}
	while (pop(&rig, &held[in_device].chain, held[in_device].segments) == 1)
		in_device++;
	while (in_device)
		push_some(&rig, held, &in_device);
	done += take_all(&rig, requests);
	for (unsigned i = 0; i < REQUESTS; i++)
		left += requests[i].offered;
	assert_int_equal(left, 0);
	assert_int_equal(rig.queue.in_flight, 0);
	assert_int_equal(rig.driver.free_count, size);
	assert_true(done > 4000);
	rig_free(&rig);
	free(requests);
	free(held);
}

static void test_everything_comes_back(void **state)
{
	static const uint16_t sizes[] = {8, 16, 64, 256};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++)
		for (unsigned kind = 0; kind < 8; kind++)
			play(sizes[i], kind & 1, kind & 2, kind & 4);
	play(7, true, true, true); /* packed rings of any size */
	play(100, true, false, true);
}

static void offer_one(struct rig *rig)
{
	struct ring_buffer buffer = {DATA, 16, true};

	assert_true(ring_driver_offer(&rig->driver, &buffer, 1, false, 0));
}

static void use_one(struct rig *rig)
{
	struct iovec segments[SEGMENTS];
	struct virtqueue_chain chain;

	assert_int_equal(pop(rig, &chain, segments), 1);
	virtqueue_push(&rig->queue, &chain, 1);
	virtqueue_flush(&rig->queue);
}

static void drain(struct rig *rig)
{
	uint32_t written;
	uint64_t token;

	while (ring_driver_take(&rig->driver, &token, &written))
		;
}

/* The driver asks for an interrupt at the Nth buffer from now: exactly that one gives it, and one
 * flush of many gives one. */
static void interrupts_by_event(bool packed)
{
	struct rig rig;

	rig_init(&rig, 16, packed, true, false);
	for (unsigned round = 0; round < 100; round++) {
		unsigned later = round % 5, wanted = 0;

		ring_driver_interrupts_on(&rig.driver, (uint16_t)later);
		for (unsigned i = 0; i < 8; i++) {
			offer_one(&rig);
			use_one(&rig);
			if (virtqueue_wants_interrupt(&rig.queue)) {
				assert_int_equal(i, later);
				wanted++;
			}
		}
		assert_int_equal(wanted, 1);
		drain(&rig);
	}
	rig_free(&rig);
}

static void test_interrupts_by_event(void **state)
{
	(void)state;
	interrupts_by_event(false);
	interrupts_by_event(true);
}

static void interrupts_by_flag(bool packed, bool event_idx)
{
	struct rig rig;

	rig_init(&rig, 16, packed, event_idx, false);
	ring_driver_interrupts_off(&rig.driver);
	offer_one(&rig);
	use_one(&rig);
	assert_false(virtqueue_wants_interrupt(&rig.queue));
	drain(&rig);
	ring_driver_interrupts_on(&rig.driver, 0);
	assert_false(virtqueue_wants_interrupt(&rig.queue)); /* nothing new */
	offer_one(&rig);
	use_one(&rig);
	assert_true(virtqueue_wants_interrupt(&rig.queue));
	assert_false(virtqueue_wants_interrupt(&rig.queue));
	rig_free(&rig);
}

static void test_interrupts_by_flag(void **state)
{
	(void)state;
	interrupts_by_flag(false, false);
	interrupts_by_flag(true, false);
	interrupts_by_flag(true, true);
}

/* A device that pops until the ring is empty gets one kick for each time it was found so. */
static void kicks(bool packed, bool event_idx)
{
	struct iovec segments[SEGMENTS];
	struct virtqueue_chain chain;
	struct rig rig;

	rig_init(&rig, 16, packed, event_idx, false);
	for (unsigned round = 0; round < 50; round++) {
		offer_one(&rig);
		assert_true(ring_driver_kick(&rig.driver));
		use_one(&rig);
		assert_int_equal(pop(&rig, &chain, segments), 0);
		drain(&rig);
	}
	virtqueue_kicks_off(&rig.queue);
	for (unsigned i = 0; i < 5; i++) {
		offer_one(&rig);
		/* With EVENT_IDX on a split ring the event stands at entry 50, the next one. */
		if (packed || !event_idx || i > 0)
			assert_false(ring_driver_kick(&rig.driver));
		else
			ring_driver_kick(&rig.driver);
		use_one(&rig);
		drain(&rig);
	}
	assert_false(virtqueue_kicks_on(&rig.queue));
	offer_one(&rig);
	assert_true(ring_driver_kick(&rig.driver));
	virtqueue_kicks_off(&rig.queue);
	assert_true(virtqueue_kicks_on(&rig.queue)); /* there is something in it */
	rig_free(&rig);
}

static void test_kicks(void **state)
{
	(void)state;
	for (unsigned kind = 0; kind < 4; kind++)
		kicks(kind & 1, kind & 2);
}

/* Several pushes, one flush: the driver sees nothing before it, everything after. */
static void batch(bool packed)
{
	struct virtqueue_chain chain[4];
	struct iovec segments[4][SEGMENTS];
	uint32_t written;
	uint64_t token;
	struct rig rig;

	rig_init(&rig, 8, packed, false, false);
	for (unsigned i = 0; i < 4; i++) {
		offer_one(&rig);
		assert_int_equal(pop(&rig, &chain[i], segments[i]), 1);
	}
	for (unsigned i = 0; i < 4; i++)
		virtqueue_push(&rig.queue, &chain[i], i);
	assert_false(ring_driver_take(&rig.driver, &token, &written));
	virtqueue_flush(&rig.queue);
	for (unsigned i = 0; i < 4; i++) {
		assert_true(ring_driver_take(&rig.driver, &token, &written));
		assert_int_equal(written, i);
	}
	rig_free(&rig);
}

static void test_batch(void **state)
{
	(void)state;
	batch(false);
	batch(true);
}

static void put_split(struct rig *rig, unsigned slot, uint64_t address, uint32_t length,
	uint16_t flags, uint16_t next)
{
	uint8_t *to = rig->ram + rig->driver.setup.descriptors.value + 16 * slot;

	store_le64(to, address);
	store_le32(to + 8, length);
	store_le16(to + 12, flags);
	store_le16(to + 14, next);
}

static void publish_split(struct rig *rig, uint16_t head, uint16_t index)
{
	uint8_t *avail = rig->ram + rig->driver.setup.driver.value;

	store_le16(avail + 4, head);
	store_le16(avail + 2, index);
}

/* Broken for the reason given, and silent from then on. */
static void assert_broken(struct rig *rig, const char *fault)
{
	struct iovec segments[SEGMENTS];
	struct virtqueue_chain chain;

	assert_int_equal(pop(rig, &chain, segments), -EPROTO);
	assert_string_equal(rig->queue.fault, fault);
	assert_int_equal(pop(rig, &chain, segments), -EPROTO);
	rig_free(rig);
}

struct split_case {
	const char *fault;
	uint64_t address;
	uint32_t length;
	uint16_t flags, next, head, index;
};

static void test_broken_split(void **state)
{
	static const struct split_case cases[] = {
		{"available index jumped", DATA, 16, 0, 0, 0, 9},
		{"available index jumped", DATA, 16, 0, 0, 0, 0xffff},
		{"descriptor number out of range", DATA, 16, 0, 0, 8, 1},
		{"descriptor number out of range", DATA, 16, 1, 8, 0, 1},
		{"chain that does not end", DATA, 16, 1, 0, 0, 1},
		{"chain that does not end", DATA, 0, 1, 0, 0, 1},
		{"buffer outside memory", RAM_SIZE - 8, 9, 0, 0, 0, 1},
		{"buffer outside memory", UINT64_MAX - 8, 64, 0, 0, 0, 1},
		{"buffer outside memory", 0, UINT32_MAX, 0, 0, 0, 1},
		{"indirect table of a wrong length", DATA, 17, 4, 0, 0, 1},
		{"indirect table of a wrong length", DATA, 0, 4, 0, 0, 1},
		{"indirect table outside memory", RAM_SIZE, 16, 4, 0, 0, 1},
		{"indirect table in the middle of a chain", DATA, 16, 5, 1, 0, 1},
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct split_case *c = &cases[i];
		struct rig rig;

		rig_init(&rig, 8, false, false, true);
		put_split(&rig, 0, c->address, c->length, c->flags, c->next);
		publish_split(&rig, c->head, c->index);
		assert_broken(&rig, c->fault);
	}
}

static void test_broken_order_and_features(void **state)
{
	struct rig rig;

	(void)state;
	rig_init(&rig, 8, false, false, true);
	put_split(&rig, 0, DATA, 16, 3, 1);
	put_split(&rig, 1, DATA, 16, 0, 0);
	publish_split(&rig, 0, 1);
	assert_broken(&rig, "readable buffer behind a writable one");
	rig_init(&rig, 8, false, false, false);
	put_split(&rig, 0, DATA, 16, 4, 0);
	publish_split(&rig, 0, 1);
	assert_broken(&rig, "indirect table without the feature");
}

static void put_table_entry(struct rig *rig, unsigned slot, uint64_t address, uint32_t length,
	uint16_t flags, uint16_t next)
{
	uint8_t *to = rig->ram + DATA + 16 * slot;

	store_le64(to, address);
	store_le32(to + 8, length);
	store_le16(to + 12, flags);
	store_le16(to + 14, next);
}

static void broken_table(uint16_t flags, uint16_t next, const char *fault)
{
	struct rig rig;

	rig_init(&rig, 8, false, false, true);
	put_table_entry(&rig, 0, DATA, 16, flags, next);
	put_table_entry(&rig, 1, DATA, 0, 1, 0);
	put_split(&rig, 0, DATA, 32, 4, 0);
	publish_split(&rig, 0, 1);
	assert_broken(&rig, fault);
}

static void test_broken_tables(void **state)
{
	(void)state;
	broken_table(4, 0, "indirect table within an indirect table");
	broken_table(1, 2, "link out of an indirect table");
	broken_table(1, 0, "chain with too many buffers");
}

static void test_endless_table_of_nothing(void **state)
{
	struct rig rig;

	(void)state;
	rig_init(&rig, 8, false, false, true);
	put_table_entry(&rig, 0, DATA, 0, 1, 1);
	put_table_entry(&rig, 1, DATA, 0, 1, 0);
	put_split(&rig, 0, DATA, 32, 4, 0);
	publish_split(&rig, 0, 1);
	assert_broken(&rig, "indirect chain that does not end");
}

static void put_packed(struct rig *rig, unsigned slot, uint64_t address, uint32_t length,
	uint16_t id, uint16_t flags)
{
	uint8_t *to = rig->ram + rig->driver.setup.descriptors.value + 16 * slot;

	store_le64(to, address);
	store_le32(to + 8, length);
	store_le16(to + 12, id);
	store_le16(to + 14, flags);
}

static void test_broken_packed(void **state)
{
	struct rig rig;

	(void)state;
	rig_init(&rig, 4, true, false, true);
	for (unsigned i = 0; i < 4; i++)
		put_packed(&rig, i, DATA, 0, 0, 0x81);
	assert_broken(&rig, "chain that does not end");
	rig_init(&rig, 4, true, false, true);
	put_packed(&rig, 0, RAM_SIZE - 1, 2, 0, 0x80);
	assert_broken(&rig, "buffer outside memory");
	rig_init(&rig, 4, true, false, true);
	put_packed(&rig, 0, DATA, 16 * (VIRTQUEUE_SIZE_MAX + 1), 0, 0x84);
	assert_broken(&rig, "indirect table longer than any ring");
	rig_init(&rig, 4, true, false, true);
	put_packed(&rig, 0, DATA, 16, 0, 0x84);
	store_le16(rig.ram + DATA + 14, 4);
	assert_broken(&rig, "indirect table within an indirect table");
}

/* The same head again and again without having got it back. */
static void test_offered_twice(void **state)
{
	struct iovec segments[SEGMENTS];
	struct virtqueue_chain chain;
	struct rig rig;

	(void)state;
	rig_init(&rig, 4, false, false, false);
	put_split(&rig, 0, DATA, 16, 0, 0);
	publish_split(&rig, 0, 4);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(pop(&rig, &chain, segments), 1);
	publish_split(&rig, 0, 5);
	assert_broken(&rig, "buffers offered twice");
}

static int enable(struct rig *rig, uint16_t size, bool packed, uint64_t descriptors,
	uint64_t driver, uint64_t device)
{
	struct virtqueue queue = {0};
	struct virtqueue_setup setup = {.size = size,
		.packed = packed,
		.descriptors = GPA(descriptors),
		.driver = GPA(driver),
		.device = GPA(device)};

	return virtqueue_enable(&queue, &rig->memory, &setup);
}

static void test_enable_checks(void **state)
{
	struct rig rig;

	(void)state;
	rig_init(&rig, 8, false, false, false);
	assert_int_equal(enable(&rig, 8, false, 0x1000, 0x2000, 0x3000), 0);
	assert_int_equal(enable(&rig, 0, false, 0x1000, 0x2000, 0x3000), -EINVAL);
	assert_int_equal(enable(&rig, 7, false, 0x1000, 0x2000, 0x3000), -EINVAL);
	assert_int_equal(enable(&rig, 7, true, 0x1000, 0x2000, 0x3000), 0);
	assert_int_equal(enable(&rig, 2048, false, 0x1000, 0x2000, 0x3000), -EINVAL);
	assert_int_equal(enable(&rig, 8, false, 0x1008, 0x2000, 0x3000), -EINVAL);
	assert_int_equal(enable(&rig, 8, false, 0x1000, 0x2001, 0x3000), -EINVAL);
	assert_int_equal(enable(&rig, 8, false, 0x1000, 0x2000, 0x3002), -EINVAL);
	assert_int_equal(enable(&rig, 8, true, 0x1000, 0x2002, 0x3000), -EINVAL);
	assert_int_equal(enable(&rig, 8, false, RAM_SIZE - 112, 0x2000, 0x3000), -EFAULT);
	assert_int_equal(enable(&rig, 8, false, 0x1000, RAM_SIZE - 20, 0x3000), -EFAULT);
	assert_int_equal(enable(&rig, 8, false, 0x1000, 0x2000, RAM_SIZE - 68), -EFAULT);
	assert_int_equal(enable(&rig, 8, false, 0xfffffffffffffff0, 0x2000, 0x3000), -EFAULT);
	rig_free(&rig);
}

static void dirty_pages(bool packed)
{
	struct ring_buffer buffer = {DATA + 0x1ff0, 0x2020, true};
	struct iovec segments[SEGMENTS];
	struct virtqueue_chain chain;
	struct rig rig;
	uint64_t first_data = DATA / 4096 + 1;

	rig_init(&rig, 8, packed, false, false);
	assert_int_equal(memory_dirty_start(&rig.memory), 0);
	assert_true(ring_driver_offer(&rig.driver, &buffer, 1, false, 0));
	assert_int_equal(pop(&rig, &chain, segments), 1);
	virtqueue_push(&rig.queue, &chain, 0x11);
	virtqueue_flush(&rig.queue);
	/* 17 bytes across a page boundary, not the rest of the buffer. */
	assert_int_equal(memory_dirty_take(&rig.memory, first_data / 64), 3ULL << first_data % 64);
	assert_true(memory_dirty_take(&rig.memory, 0) & 2); /* the ring itself */
	memory_dirty_stop(&rig.memory);
	rig_free(&rig);
}

static void test_dirty_pages(void **state)
{
	(void)state;
	dirty_pages(false);
	dirty_pages(true);
}

static void save_and_restore(bool packed)
{
	struct virtqueue restored = {0};
	struct state_writer writer;
	struct state_reader reader;
	struct error err;
	struct rig rig;

	rig_init(&rig, 8, packed, true, true);
	for (unsigned i = 0; i < 13; i++) {
		offer_one(&rig);
		use_one(&rig);
		drain(&rig);
	}
	state_writer_init(&writer);
	state_section_begin(&writer, "queue", 1);
	virtqueue_save(&rig.queue, &writer);
	state_section_close(&writer);
	assert_int_equal(state_writer_finish(&writer), 0);
	assert_int_equal(state_reader_init(&reader, writer.bytes, writer.length, &err), 0);
	assert_int_equal(state_section_next(&reader, &err), 1);
	assert_int_equal(virtqueue_restore(&restored, &rig.memory, &reader, &err), 0);
	assert_int_equal(state_section_end(&reader, &err), 0);
	rig.queue = restored;
	/* The ring goes on where it was. */
	ring_driver_interrupts_on(&rig.driver, 0);
	for (unsigned i = 0; i < 13; i++) {
		offer_one(&rig);
		use_one(&rig);
		drain(&rig);
	}
	assert_int_equal(rig.driver.free_count, 8);
	state_writer_free(&writer);
	rig_free(&rig);
}

static void test_save_and_restore(void **state)
{
	(void)state;
	save_and_restore(false);
	save_and_restore(true);
}

static void test_restore_refuses(void **state)
{
	struct virtqueue restored = {0};
	struct state_writer writer;
	struct state_reader reader;
	struct error err;
	struct rig rig;

	(void)state;
	rig_init(&rig, 8, true, false, false);
	rig.queue.next_avail = 8; /* outside the ring */
	state_writer_init(&writer);
	state_section_begin(&writer, "queue", 1);
	virtqueue_save(&rig.queue, &writer);
	state_section_close(&writer);
	assert_int_equal(state_writer_finish(&writer), 0);
	assert_int_equal(state_reader_init(&reader, writer.bytes, writer.length, &err), 0);
	assert_int_equal(state_section_next(&reader, &err), 1);
	assert_int_equal(virtqueue_restore(&restored, &rig.memory, &reader, &err), -EINVAL);
	assert_false(restored.enabled);
	state_writer_free(&writer);
	rig_free(&rig);
}

static void test_iov_bounds(void **state)
{
	uint8_t a[3], b[5], flat[16];
	struct iovec segments[] = {{a, sizeof(a)}, {b, sizeof(b)}};

	(void)state;
	assert_int_equal(iov_copy_to(segments, 2, 1, "0123456789", 10), 7);
	assert_memory_equal(b, "23456", 5);
	assert_int_equal(iov_copy_from(segments, 2, 2, flat, 3), 3);
	assert_memory_equal(flat, "123", 3);
	assert_int_equal(iov_copy_from(segments, 2, 8, flat, 3), 0);
	assert_int_equal(iov_copy_from(segments, 2, SIZE_MAX, flat, 3), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_everything_comes_back),
		cmocka_unit_test(test_interrupts_by_event),
		cmocka_unit_test(test_interrupts_by_flag),
		cmocka_unit_test(test_kicks),
		cmocka_unit_test(test_batch),
		cmocka_unit_test(test_broken_split),
		cmocka_unit_test(test_broken_order_and_features),
		cmocka_unit_test(test_broken_tables),
		cmocka_unit_test(test_endless_table_of_nothing),
		cmocka_unit_test(test_broken_packed),
		cmocka_unit_test(test_offered_twice),
		cmocka_unit_test(test_enable_checks),
		cmocka_unit_test(test_dirty_pages),
		cmocka_unit_test(test_save_and_restore),
		cmocka_unit_test(test_restore_refuses),
		cmocka_unit_test(test_iov_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
