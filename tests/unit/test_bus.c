/* SPDX-License-Identifier: Apache-2.0 */
#include "bus/bus.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct probe {
	uint64_t offset, value;
	unsigned size;
};

static uint64_t probe_read(void *device, uint64_t offset, unsigned size)
{
	struct probe *probe = device;

	probe->offset = offset;
	probe->size = size;
	return 0x1122334455667788;
}

static void probe_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	*(struct probe *)device = (struct probe){offset, value, size};
}

static const struct bus_ops probe_ops = {.read = probe_read, .write = probe_write};

static struct bus *new_bus(void)
{
	struct bus *bus;

	assert_int_equal(bus_new(&bus, "test"), 0);
	return bus;
}

static void test_dispatch(void **state)
{
	struct probe probe = {0};
	struct bus_range range = {.name = "a", .ops = &probe_ops, .device = &probe};
	struct bus *bus = new_bus();
	uint64_t value;

	(void)state;
	assert_int_equal(bus_map(bus, &range, 0x100, 16), 0);
	assert_true(bus_read(bus, 0x10c, 4, &value));
	assert_int_equal(value, 0x55667788); /* no more than was asked for */
	assert_int_equal(probe.offset, 0xc);
	assert_true(bus_write(bus, 0x100, 2, 0xabcdef));
	assert_int_equal(probe.value, 0xcdef);
	/* Unclaimed: beside, and across the ends. */
	assert_false(bus_read(bus, 0x110, 1, &value));
	assert_int_equal(value, 0xff);
	assert_false(bus_read(bus, 0x10d, 4, &value));
	assert_false(bus_read(bus, 0xff, 2, &value));
	assert_int_equal(value, 0xffff);
	assert_false(bus_write(bus, 0x10f, 2, 0));
	assert_int_equal(bus_unclaimed(bus), 4);
	assert_int_equal(range.reads, 1);
	assert_int_equal(range.writes, 1);
	bus_unmap(bus, &range);
	assert_false(bus_read(bus, 0x100, 8, &value));
	assert_true(value == UINT64_MAX);
	bus_free(bus);
}

static void test_overlaps(void **state)
{
	struct bus_range a = {.ops = &probe_ops}, b = {.ops = &probe_ops};
	struct bus *bus = new_bus();

	(void)state;
	assert_int_equal(bus_map(bus, &a, 0x100, 0x10), 0);
	assert_int_equal(bus_map(bus, &a, 0x200, 0x10), -EINVAL); /* mapped already */
	assert_int_equal(bus_map(bus, &b, 0x10f, 1), -EEXIST);
	assert_int_equal(bus_map(bus, &b, 0xff, 2), -EEXIST);
	assert_int_equal(bus_map(bus, &b, 0, UINT64_MAX), -EEXIST);
	assert_int_equal(bus_map(bus, &b, 0x110, 0), -EINVAL);
	assert_int_equal(bus_map(bus, &b, UINT64_MAX, 2), -EINVAL);
	assert_int_equal(bus_map(bus, &b, UINT64_MAX, 1), 0);
	bus_unmap(bus, &b);
	assert_int_equal(bus_map(bus, &b, 0x110, 1), 0);
	bus_free(bus);
}

/* The reset port 0xcf9 in the PCI address register, whichever comes first. */
static void holes(bool hole_first)
{
	struct probe inside = {0}, outside = {0};
	struct bus_range hole = {.ops = &probe_ops, .device = &inside};
	struct bus_range around = {.ops = &probe_ops, .device = &outside, .holes = true};
	struct bus *bus = new_bus();

	if (hole_first)
		assert_int_equal(bus_map(bus, &hole, 0xcf9, 1), 0);
	assert_int_equal(bus_map(bus, &around, 0xcf8, 4), 0);
	if (!hole_first)
		assert_int_equal(bus_map(bus, &hole, 0xcf9, 1), 0);
	assert_true(bus_write(bus, 0xcf9, 1, 6));
	assert_int_equal(inside.value, 6);
	assert_true(bus_write(bus, 0xcf8, 4, 0x80000000));
	assert_int_equal(outside.value, 0x80000000);
	assert_true(bus_write(bus, 0xcfb, 1, 1));
	assert_int_equal(outside.offset, 3);
	assert_true(bus_write(bus, 0xcf9, 2, 1)); /* more than the hole */
	assert_int_equal(outside.offset, 1);
	assert_false(bus_write(bus, 0xcfb, 2, 1));
	bus_unmap(bus, &hole);
	assert_true(bus_write(bus, 0xcf9, 1, 7));
	assert_int_equal(outside.value, 7);
	bus_free(bus);
}

static void test_holes(void **state)
{
	(void)state;
	holes(false);
	holes(true);
}

static void note_order(const struct bus_range *range, void *opaque)
{
	uint64_t *last = opaque;

	assert_true(range->base > *last);
	*last = range->base;
}

#define MANY 200

/* As a plain list would say, after many maps and unmaps. */
static void test_many(void **state)
{
	struct bus_range ranges[MANY] = {0};
	struct probe probes[MANY] = {0};
	struct bus *bus = new_bus();
	uint64_t last = 0, value;

	(void)state;
	for (unsigned i = 0; i < MANY; i++) {
		unsigned at = i * 77 % MANY; /* in no order */

		ranges[at].ops = &probe_ops;
		ranges[at].device = &probes[at];
		assert_int_equal(bus_map(bus, &ranges[at], 0x1000 + at * 16, 8), 0);
	}
	for (unsigned i = 0; i < MANY; i += 3)
		bus_unmap(bus, &ranges[i]);
	bus_each(bus, note_order, &last);
	for (unsigned i = 0; i < MANY; i++) {
		assert_int_equal(bus_read(bus, 0x1000 + i * 16 + 5, 1, &value), i % 3 != 0);
		assert_int_equal(probes[i].offset, i % 3 ? 5 : 0);
		assert_false(bus_read(bus, 0x1000 + i * 16 + 8, 1, &value));
	}
	bus_free(bus);
}

struct mover {
	struct bus *bus;
	_Atomic bool stop;
};

static void *read_all_the_time(void *opaque)
{
	struct mover *mover = opaque;
	uint64_t value;

	while (!mover->stop)
		bus_read(mover->bus, 0x1004, 4, &value);
	return NULL;
}

/* A range that moves while others look it up: its device never sees an offset outside. */
static uint64_t bounded_read(void *device, uint64_t offset, unsigned size)
{
	(void)device;
	if (offset + size > 0x10)
		abort();
	return 0;
}

static void test_moving_under_readers(void **state)
{
	static const struct bus_ops ops = {.read = bounded_read};
	struct bus_range range = {.ops = &ops}, other = {.ops = &ops};
	struct mover mover = {.bus = new_bus()};
	pthread_t reader;

	(void)state;
	bus_map(mover.bus, &other, 0x9000, 0x10);
	pthread_create(&reader, NULL, read_all_the_time, &mover);
	for (unsigned i = 0; i < 20000; i++) {
		assert_int_equal(bus_map(mover.bus, &range, i & 1 ? 0x1000 : 0x8000, 0x10), 0);
		bus_unmap(mover.bus, &range);
	}
	mover.stop = true;
	pthread_join(reader, NULL);
	bus_free(mover.bus);
}

/* A device goes while vCPUs access it: none of them is inside when it is freed. */
struct doomed {
	_Atomic bool alive;
	_Atomic unsigned inside;
};

static uint64_t doomed_read(void *device, uint64_t offset, unsigned size)
{
	struct doomed *doomed = device;

	(void)offset;
	(void)size;
	doomed->inside++;
	sched_yield();
	if (!doomed->alive)
		abort();
	doomed->inside--;
	return 0;
}

static void test_removed_under_readers(void **state)
{
	static const struct bus_ops ops = {.read = doomed_read};
	struct mover mover = {.bus = new_bus()};
	pthread_t readers[2];

	(void)state;
	for (unsigned i = 0; i < 2; i++)
		pthread_create(&readers[i], NULL, read_all_the_time, &mover);
	for (unsigned i = 0; i < 500; i++) {
		struct doomed *doomed = calloc(1, sizeof(*doomed));
		struct bus_range *range = calloc(1, sizeof(*range));

		doomed->alive = true;
		range->ops = &ops;
		range->device = doomed;
		assert_int_equal(bus_map(mover.bus, range, 0x1000, 0x10), 0);
		while (!range->reads)
			sched_yield();
		bus_unmap(mover.bus, range);
		bus_wait_unused(mover.bus, range);
		doomed->alive = false;
		assert_int_equal(doomed->inside, 0);
		free(range);
		free(doomed);
	}
	mover.stop = true;
	for (unsigned i = 0; i < 2; i++)
		pthread_join(readers[i], NULL);
	bus_free(mover.bus);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dispatch),
		cmocka_unit_test(test_overlaps),
		cmocka_unit_test(test_holes),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_moving_under_readers),
		cmocka_unit_test(test_removed_under_readers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
