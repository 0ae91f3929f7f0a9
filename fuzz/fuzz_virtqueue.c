/* SPDX-License-Identifier: Apache-2.0 */
/* Rings in memory that the input wrote, and rewrites while the device works on them. */
#include "input.h"
#include "virtio/queue/virtqueue.h"

#include <stdlib.h>

#define RAM      0x8000
#define SEGMENTS 16
#define HELD     8

static uint8_t ram[RAM] __attribute__((aligned(4096)));

struct held {
	struct virtqueue_chain chain;
	struct iovec segments[SEGMENTS];
};

/* Every byte of every segment must be guest memory: the sanitizer does not know that. */
static void check(const struct virtqueue_chain *chain)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < chain->readable + chain->writable; i++) {
		uintptr_t offset = (uintptr_t)chain->segments[i].iov_base - (uintptr_t)ram;

		if (!range_within(offset, chain->segments[i].iov_len, RAM))
			abort();
		sum += chain->segments[i].iov_len;
	}
	if (chain->readable + chain->writable > SEGMENTS ||
		sum != chain->readable_bytes + chain->writable_bytes)
		abort();
}

static void step(struct virtqueue *queue, struct held *held, unsigned *count, struct input *input)
{
	struct held *next = &held[*count];
	unsigned at;

	switch (input_number(input, 1) % 8) {
	case 0:
	case 1:
		next->chain.segments = next->segments;
		next->chain.capacity = SEGMENTS;
		if (*count < HELD - 1 && virtqueue_pop(queue, &next->chain) == 1) {
			check(&next->chain);
			++*count;
		}
		break;
	case 2:
		if (*count) {
			--*count;
			virtqueue_push(
				queue, &held[*count].chain, (uint32_t)input_number(input, 4));
		}
		break;
	case 3:
		virtqueue_flush(queue);
		virtqueue_wants_interrupt(queue);
		break;
	case 4:
		virtqueue_kicks_off(queue);
		break;
	case 5:
		virtqueue_kicks_on(queue);
		break;
	case 6:
		at = input_number(input, 2) % (RAM - 16);
		input_bytes(input, ram + at, 1 + input_number(input, 1) % 16);
		break;
	default:
		if (*count) {
			--*count;
			virtqueue_unpop(queue, &held[*count].chain);
		}
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};
	struct virtqueue queue = {0};
	struct held held[HELD] = {0};
	struct virtqueue_setup setup = {0};
	struct memory memory;
	uint8_t kind = (uint8_t)input_number(&input, 1);
	unsigned count = 0;

	memset(ram, 0, sizeof(ram));
	memory_init(&memory);
	memory_add_fixed(&memory, GPA(0), RAM, ram);
	setup.size = kind & 0x80 ? (uint16_t)input_number(&input, 2) : 1U << (kind >> 3 & 7);
	setup.packed = kind & 1;
	setup.event_idx = kind & 2;
	setup.indirect = kind & 4;
	setup.descriptors = GPA(input_number(&input, 2));
	setup.driver = GPA(input_number(&input, 2));
	setup.device = GPA(input_number(&input, 2));
	/* Half of the input is what the guest wrote first. */
	input_bytes(&input, ram + input_number(&input, 1) * 16,
		min_u64(input.left / 2, RAM - 256 * 16));
	if (kind & 0x40)
		memory_dirty_start(&memory);
	if (virtqueue_enable(&queue, &memory, &setup) == 0)
		while (input.left)
			step(&queue, held, &count, &input);
	memory_free(&memory);
	return 0;
}
