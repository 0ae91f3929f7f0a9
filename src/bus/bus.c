/* SPDX-License-Identifier: Apache-2.0 */
#include "bus/bus.h"

#include "base/checked.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct bus {
	/* Accesses come from many vCPUs at once and seldom wait for a range that moves. */
	pthread_rwlock_t lock;
	struct bus_range **ranges; /* sorted by base */
	unsigned count, capacity;
	unsigned holed; /* how many of them have holes */
	_Atomic uint64_t unclaimed;
	pthread_mutex_t leaving;
	pthread_cond_t left;
	char name[16];
};

int bus_new(struct bus **out, const char *name)
{
	struct bus *bus = calloc(1, sizeof(*bus));

	if (!bus)
		return -ENOMEM;
	strncpy(bus->name, name, sizeof(bus->name) - 1);
	pthread_rwlock_init(&bus->lock, NULL);
	pthread_mutex_init(&bus->leaving, NULL);
	pthread_cond_init(&bus->left, NULL);
	*out = bus;
	return 0;
}

void bus_free(struct bus *bus)
{
	if (!bus)
		return;
	pthread_rwlock_destroy(&bus->lock);
	pthread_mutex_destroy(&bus->leaving);
	pthread_cond_destroy(&bus->left);
	free(bus->ranges);
	free(bus);
}

/* Number of ranges whose base is at or below @address. */
static unsigned count_up_to(const struct bus *bus, uint64_t address)
{
	unsigned low = 0, high = bus->count;

	while (low < high) {
		unsigned middle = (low + high) / 2;

		if (bus->ranges[middle]->base <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool lies_within(const struct bus_range *inner, const struct bus_range *outer)
{
	return inner->length < outer->length && inner->base >= outer->base &&
	       inner->base - outer->base <= outer->length - inner->length;
}

static bool may_coexist(const struct bus_range *a, const struct bus_range *b)
{
	uint64_t last_a = a->base + (a->length - 1), last_b = b->base + (b->length - 1);

	if (last_a < b->base || last_b < a->base)
		return true;
	return (a->holes && lies_within(b, a)) || (b->holes && lies_within(a, b));
}

static int check_free(const struct bus *bus, const struct bus_range *range)
{
	/* Mapping is rare; looking at all of them needs no thought about holes. */
	for (unsigned i = 0; i < bus->count; i++)
		if (!may_coexist(range, bus->ranges[i]))
			return -EEXIST;
	return 0;
}

static int reserve_one(struct bus *bus)
{
	unsigned capacity = bus->capacity ? bus->capacity * 2 : 32;
	struct bus_range **ranges;

	if (bus->count < bus->capacity)
		return 0;
	ranges = reallocarray(bus->ranges, capacity, sizeof(*ranges));
	if (!ranges)
		return -ENOMEM;
	bus->ranges = ranges;
	bus->capacity = capacity;
	return 0;
}

static int insert(struct bus *bus, struct bus_range *range)
{
	int ret = check_free(bus, range);
	unsigned at;

	if (ret == 0)
		ret = reserve_one(bus);
	if (ret < 0)
		return ret;
	at = count_up_to(bus, range->base);
	/* Of two with the same base the inner one comes last, where the search meets it first. */
	while (at > 0 && bus->ranges[at - 1]->base == range->base &&
		bus->ranges[at - 1]->length < range->length)
		at--;
	memmove(&bus->ranges[at + 1], &bus->ranges[at], (bus->count - at) * sizeof(*bus->ranges));
	bus->ranges[at] = range;
	bus->count++;
	bus->holed += range->holes;
	range->mapped = true;
	return 0;
}

int bus_map(struct bus *bus, struct bus_range *range, uint64_t base, uint64_t length)
{
	uint64_t last;
	int ret;

	if (range->mapped || length == 0 || add_overflows(base, length - 1, &last))
		return -EINVAL;
	pthread_rwlock_wrlock(&bus->lock);
	range->base = base;
	range->length = length;
	ret = insert(bus, range);
	pthread_rwlock_unlock(&bus->lock);
	return ret;
}

void bus_unmap(struct bus *bus, struct bus_range *range)
{
	pthread_rwlock_wrlock(&bus->lock);
	for (unsigned i = 0; i < bus->count; i++) {
		if (bus->ranges[i] != range)
			continue;
		bus->count--;
		bus->holed -= range->holes;
		memmove(&bus->ranges[i], &bus->ranges[i + 1],
			(bus->count - i) * sizeof(*bus->ranges));
		range->mapped = false;
		break;
	}
	pthread_rwlock_unlock(&bus->lock);
}

/* The innermost range that holds the whole access; holes go before what is around them. */
static struct bus_range *search(const struct bus *bus, uint64_t address, unsigned size)
{
	for (unsigned i = count_up_to(bus, address); i-- > 0;) {
		struct bus_range *range = bus->ranges[i];

		if (range_within(address - range->base, size, range->length))
			return range;
		/* Only a range with holes can lie around those nearer to the address. */
		if (bus->holed == 0)
			return NULL;
	}
	return NULL;
}

/* Of bus_range.users: somebody waits for the last one. */
#define AWAITED (1U << 31)

/* The offset is taken under the lock: the range may move right after. A range that is found stays
 * until leave(). */
static struct bus_range *enter(struct bus *bus, uint64_t address, unsigned size, uint64_t *offset)
{
	struct bus_range *range;

	pthread_rwlock_rdlock(&bus->lock);
	range = search(bus, address, size);
	if (range) {
		*offset = address - range->base;
		atomic_fetch_add_explicit(&range->users, 1, memory_order_relaxed);
	}
	pthread_rwlock_unlock(&bus->lock);
	if (!range)
		atomic_fetch_add_explicit(&bus->unclaimed, 1, memory_order_relaxed);
	return range;
}

static void leave(struct bus *bus, struct bus_range *range)
{
	/* Nothing of the range is touched after this. */
	if (atomic_fetch_sub_explicit(&range->users, 1, memory_order_acq_rel) != (AWAITED | 1))
		return;
	pthread_mutex_lock(&bus->leaving);
	pthread_cond_broadcast(&bus->left);
	pthread_mutex_unlock(&bus->leaving);
}

void bus_wait_unused(struct bus *bus, struct bus_range *range)
{
	pthread_mutex_lock(&bus->leaving);
	atomic_fetch_or(&range->users, AWAITED);
	while (atomic_load(&range->users) != AWAITED)
		pthread_cond_wait(&bus->left, &bus->leaving);
	atomic_store(&range->users, 0);
	pthread_mutex_unlock(&bus->leaving);
}

static uint64_t all_ones(unsigned size)
{
	return size >= 8 ? UINT64_MAX : (1ULL << (8 * size)) - 1;
}

bool bus_read(struct bus *bus, uint64_t address, unsigned size, uint64_t *value)
{
	uint64_t offset;
	struct bus_range *range = enter(bus, address, size, &offset);

	*value = all_ones(size);
	if (!range)
		return false;
	atomic_fetch_add_explicit(&range->reads, 1, memory_order_relaxed);
	if (range->ops->read)
		*value &= range->ops->read(range->device, offset, size);
	leave(bus, range);
	return true;
}

bool bus_write(struct bus *bus, uint64_t address, unsigned size, uint64_t value)
{
	uint64_t offset;
	struct bus_range *range = enter(bus, address, size, &offset);

	if (!range)
		return false;
	atomic_fetch_add_explicit(&range->writes, 1, memory_order_relaxed);
	if (range->ops->write)
		range->ops->write(range->device, offset, size, value & all_ones(size));
	leave(bus, range);
	return true;
}

uint64_t bus_unclaimed(const struct bus *bus)
{
	return atomic_load_explicit(&bus->unclaimed, memory_order_relaxed);
}

void bus_each(
	struct bus *bus, void (*visit)(const struct bus_range *range, void *opaque), void *opaque)
{
	pthread_rwlock_rdlock(&bus->lock);
	for (unsigned i = 0; i < bus->count; i++)
		visit(bus->ranges[i], opaque);
	pthread_rwlock_unlock(&bus->lock);
}
