/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Port and memory-mapped dispatch: from an exit's address to the device that owns it.
 *
 * Threads: vCPU threads call bus_read() and bus_write() at the same time; handlers are called
 * without any lock of the bus, so a device protects its own registers and a handler may map and
 * unmap (a BAR that moves). An access that was under way when its range was unmapped still reaches
 * the device: bus_wait_unused() before it is freed.
 */
#ifndef DUET_BUS_BUS_H
#define DUET_BUS_BUS_H

#include "base/error.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* @offset is relative to the range; @size is 1, 2, 4 or 8 and the access lies within the range. */
struct bus_ops {
	uint64_t (*read)(void *device, uint64_t offset, unsigned size);
	void (*write)(void *device, uint64_t offset, unsigned size, uint64_t value);
};

/* A range as its device owns it; must stay while mapped. Zero-initialise, fill the first part. */
struct bus_range {
	const char *name; /* for statistics: "serial", "virtio-block0 common"; outlives the range */
	const struct bus_ops *ops;
	void *device;
	bool holes; /* smaller ranges may lie inside it and win: the reset port in PCI's 0xcf8 */
	/* the bus's own */
	uint64_t base, length;
	bool mapped;
	_Atomic unsigned users; /* accesses that are inside, and whether their end is awaited */
	_Atomic uint64_t reads, writes; /* exits that were dispatched here */
};

struct bus;

int bus_new(struct bus **bus, const char *name);
void bus_free(struct bus *bus);

/* -EEXIST when it overlaps a mapped range (but for a hole, see above), -EINVAL when empty or
 * wrapping, -ENOMEM. */
int bus_map(struct bus *bus, struct bus_range *range, uint64_t base, uint64_t length);
void bus_unmap(struct bus *bus, struct bus_range *range);
/* After bus_unmap(): waits until the accesses that were under way have left the device, which may
 * be freed then. Not from a handler. */
void bus_wait_unused(struct bus *bus, struct bus_range *range);

/* Unclaimed addresses read as all ones and swallow writes; returns false for them, and they are
 * counted. An access that straddles the end of a range is unclaimed. */
bool bus_read(struct bus *bus, uint64_t address, unsigned size, uint64_t *value);
bool bus_write(struct bus *bus, uint64_t address, unsigned size, uint64_t value);
uint64_t bus_unclaimed(const struct bus *bus);

/* Calls @visit for every mapped range in order of address (statistics, documentation). */
void bus_each(
	struct bus *bus, void (*visit)(const struct bus_range *range, void *opaque), void *opaque);

#endif
