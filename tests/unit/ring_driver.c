/* SPDX-License-Identifier: Apache-2.0 */
#include "ring_driver.h"

#include "base/bytes.h"
#include "base/checked.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NEXT     1
#define WRITE    2
#define INDIRECT 4
#define AVAIL    0x80
#define USED     0x8000

static uint8_t *at(const struct ring_driver *driver, gpa_t area, uint64_t offset, uint64_t length)
{
	uint8_t *host = memory_begin(driver->memory, gpa_add(area, offset), length);

	if (!host) {
		fprintf(stderr, "ring driver: its own area is outside memory\n");
		abort();
	}
	return host;
}

static uint16_t get16(const struct ring_driver *driver, gpa_t area, uint64_t offset)
{
	return __atomic_load_n((uint16_t *)at(driver, area, offset, 2), __ATOMIC_ACQUIRE);
}

static void put16(const struct ring_driver *driver, gpa_t area, uint64_t offset, uint16_t value)
{
	__atomic_store_n((uint16_t *)at(driver, area, offset, 2), value, __ATOMIC_RELEASE);
}

uint64_t ring_driver_length(uint16_t size)
{
	return 16ULL * size + align_up(6 + 2ULL * size, 16) + align_up(6 + 8ULL * size, 16) +
	       16ULL * size * RING_DRIVER_INDIRECT_MAX;
}

void ring_driver_init(struct ring_driver *driver, struct memory *memory, uint64_t base,
	const struct virtqueue_setup *setup)
{
	uint16_t size = setup->size;

	memset(driver, 0, sizeof(*driver));
	driver->memory = memory;
	driver->setup = *setup;
	driver->setup.descriptors = GPA(base);
	driver->setup.driver = GPA(base + 16ULL * size);
	driver->setup.device = gpa_add(driver->setup.driver, align_up(6 + 2ULL * size, 16));
	driver->indirect_tables = driver->setup.device.value + align_up(6 + 8ULL * size, 16);
	memset(at(driver, GPA(base), 0, ring_driver_length(size)), 0, ring_driver_length(size));
	driver->free_count = size;
	for (unsigned i = 0; i < size; i++)
		driver->next[i] = (uint16_t)(i + 1);
	driver->avail_wrap = driver->used_wrap = true;
}

static void put_descriptor(uint8_t *to, const struct ring_buffer *buffer, uint16_t flags,
	uint16_t next_or_id, bool packed)
{
	store_le64(to, buffer->gpa);
	store_le32(to + 8, buffer->length);
	store_le16(to + (packed ? 12 : 14), next_or_id);
	if (packed) /* flags last: the descriptor counts from then on */
		__atomic_store_n((uint16_t *)(to + 14), flags, __ATOMIC_RELEASE);
	else
		store_le16(to + 12, flags);
}

/* Writes a table and returns the one buffer that stands for it. */
static struct ring_buffer put_table(
	struct ring_driver *driver, uint16_t id, const struct ring_buffer *buffers, unsigned count)
{
	uint64_t offset = 16ULL * RING_DRIVER_INDIRECT_MAX * id;
	uint8_t *table = at(driver, GPA(driver->indirect_tables), offset, 16ULL * count);

	for (unsigned i = 0; i < count; i++) {
		uint16_t flags = buffers[i].writable ? WRITE : 0;

		if (!driver->setup.packed && i + 1 < count)
			flags |= NEXT;
		put_descriptor(table + 16 * i, &buffers[i], flags, (uint16_t)(i + 1),
			driver->setup.packed);
	}
	return (struct ring_buffer){driver->indirect_tables + offset, 16 * count, false};
}

static void offer_split(struct ring_driver *driver, const struct ring_buffer *buffers,
	unsigned count, uint16_t extra_flags)
{
	uint16_t head = driver->free_head, slot = head;

	for (unsigned i = 0; i < count; i++) {
		uint16_t flags = (uint16_t)(extra_flags | (buffers[i].writable ? WRITE : 0));

		slot = driver->free_head;
		driver->free_head = driver->next[slot];
		if (i + 1 < count)
			flags |= NEXT;
		put_descriptor(at(driver, driver->setup.descriptors, 16ULL * slot, 16), &buffers[i],
			flags, driver->next[slot], false);
	}
	put16(driver, driver->setup.driver, 4 + 2ULL * (driver->avail % driver->setup.size), head);
	driver->avail++;
	put16(driver, driver->setup.driver, 2, driver->avail);
	driver->unkicked++;
}

static void step(const struct ring_driver *driver, uint16_t *position, bool *wrap, unsigned entries)
{
	*position = (uint16_t)(*position + entries);
	if (*position >= driver->setup.size) {
		*position = (uint16_t)(*position - driver->setup.size);
		*wrap = !*wrap;
	}
}

static void offer_packed(struct ring_driver *driver, uint16_t id, const struct ring_buffer *buffers,
	unsigned count, uint16_t extra_flags)
{
	uint16_t head = driver->avail, first_flags = 0;

	for (unsigned i = 0; i < count; i++) {
		uint16_t flags = (uint16_t)(extra_flags | (buffers[i].writable ? WRITE : 0) |
					    (driver->avail_wrap ? AVAIL : USED));
		uint8_t *slot = at(driver, driver->setup.descriptors, 16ULL * driver->avail, 16);

		if (i + 1 < count)
			flags |= NEXT;
		if (i == 0) {
			/* Uncovered last; until then as used as it was. */
			first_flags = flags;
			flags = load_le16(slot + 14);
		}
		put_descriptor(slot, &buffers[i], flags, id, true);
		step(driver, &driver->avail, &driver->avail_wrap, 1);
	}
	put16(driver, driver->setup.descriptors, 16ULL * head + 14, first_flags);
	driver->unkicked = (uint16_t)(driver->unkicked + count);
}

bool ring_driver_offer(struct ring_driver *driver, const struct ring_buffer *buffers,
	unsigned count, bool indirect, uint64_t token)
{
	unsigned entries = indirect ? 1 : count;
	uint16_t id = driver->free_head;
	struct ring_buffer table;

	if (entries > driver->free_count || id >= driver->setup.size)
		return false;
	driver->free_count = (uint16_t)(driver->free_count - entries);
	driver->entries[id] = (uint16_t)entries;
	driver->tokens[id] = token;
	if (indirect) {
		table = put_table(driver, id, buffers, count);
		buffers = &table;
		count = 1;
	}
	if (driver->setup.packed) {
		driver->free_head = driver->next[id];
		offer_packed(driver, id, buffers, count, indirect ? INDIRECT : 0);
	} else {
		offer_split(driver, buffers, count, indirect ? INDIRECT : 0);
	}
	return true;
}

static bool passed(uint16_t event, uint16_t to, uint16_t from)
{
	return (uint16_t)(to - event - 1) < (uint16_t)(to - from);
}

static bool kick_split(struct ring_driver *driver, uint16_t count)
{
	uint64_t event = 4 + 8ULL * driver->setup.size;

	if (!driver->setup.event_idx)
		return !(get16(driver, driver->setup.device, 0) & 1);
	return passed(get16(driver, driver->setup.device, event), driver->avail,
		(uint16_t)(driver->avail - count));
}

static bool kick_packed(struct ring_driver *driver, uint16_t count)
{
	uint16_t flags = get16(driver, driver->setup.device, 2), event;

	if (flags != 2)
		return flags == 0;
	event = get16(driver, driver->setup.device, 0);
	if (!!(event & 0x8000) != driver->avail_wrap)
		event = (uint16_t)((event & 0x7fff) - driver->setup.size);
	else
		event &= 0x7fff;
	return passed(event, driver->avail, (uint16_t)(driver->avail - count));
}

bool ring_driver_kick(struct ring_driver *driver)
{
	uint16_t count = driver->unkicked;

	driver->unkicked = 0;
	if (count == 0)
		return false;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return driver->setup.packed ? kick_packed(driver, count) : kick_split(driver, count);
}

static void give_back(struct ring_driver *driver, uint32_t id)
{
	uint16_t slot;

	if (id >= driver->setup.size || driver->entries[id] == 0) {
		fprintf(stderr, "ring driver: buffer %u used, which was not offered\n", id);
		abort();
	}
	driver->free_count = (uint16_t)(driver->free_count + driver->entries[id]);
	/* Split: the chain's links still stand; its end is linked to the list. */
	slot = (uint16_t)id;
	for (unsigned i = 1; !driver->setup.packed && i < driver->entries[id]; i++)
		slot = driver->next[slot];
	driver->next[slot] = driver->free_head;
	driver->free_head = (uint16_t)id;
	driver->entries[id] = 0;
}

static bool take_split(struct ring_driver *driver, uint64_t *token, uint32_t *written)
{
	const uint8_t *element;
	uint32_t id;

	if (driver->used == get16(driver, driver->setup.device, 2))
		return false;
	element =
		at(driver, driver->setup.device, 4 + 8ULL * (driver->used % driver->setup.size), 8);
	id = load_le32(element);
	*written = load_le32(element + 4);
	driver->used++;
	*token = id < driver->setup.size ? driver->tokens[id] : 0;
	give_back(driver, id);
	return true;
}

static bool take_packed(struct ring_driver *driver, uint64_t *token, uint32_t *written)
{
	uint64_t offset = 16ULL * driver->used;
	uint16_t flags = get16(driver, driver->setup.descriptors, offset + 14), id, entries;
	const uint8_t *slot = at(driver, driver->setup.descriptors, offset, 16);

	if (!!(flags & AVAIL) != driver->used_wrap || !!(flags & USED) != driver->used_wrap)
		return false;
	id = load_le16(slot + 12);
	*written = load_le32(slot + 8);
	*token = id < driver->setup.size ? driver->tokens[id] : 0;
	entries = id < driver->setup.size ? driver->entries[id] : 0;
	give_back(driver, id);
	step(driver, &driver->used, &driver->used_wrap, entries);
	return true;
}

bool ring_driver_take(struct ring_driver *driver, uint64_t *token, uint32_t *written)
{
	return driver->setup.packed ? take_packed(driver, token, written)
				    : take_split(driver, token, written);
}

static void event_packed(struct ring_driver *driver, uint16_t later)
{
	uint16_t position = driver->used;
	bool wrap = driver->used_wrap;

	if (!driver->setup.event_idx) {
		put16(driver, driver->setup.driver, 2, 0);
		return;
	}
	step(driver, &position, &wrap, later);
	put16(driver, driver->setup.driver, 0, (uint16_t)(position | (wrap ? 0x8000 : 0)));
	put16(driver, driver->setup.driver, 2, 2);
}

void ring_driver_interrupts_on(struct ring_driver *driver, uint16_t later)
{
	uint64_t event = 4 + 2ULL * driver->setup.size;

	if (driver->setup.packed)
		event_packed(driver, later);
	else if (driver->setup.event_idx)
		put16(driver, driver->setup.driver, event, (uint16_t)(driver->used + later));
	else
		put16(driver, driver->setup.driver, 0, 0);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

void ring_driver_interrupts_off(struct ring_driver *driver)
{
	if (driver->setup.packed)
		put16(driver, driver->setup.driver, 2, 1);
	else if (!driver->setup.event_idx)
		put16(driver, driver->setup.driver, 0, 1);
}
