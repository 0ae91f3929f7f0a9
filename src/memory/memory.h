/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest-physical memory.
 *
 * A guest address is a type of its own, so that it cannot be dereferenced by accident; the only
 * way from a gpa_t to a host pointer is memory_at(), which checks the whole range.
 *
 * Threads: regions are added before the first vCPU runs and stay until memory_free(), so pointers
 * from memory_at() stay valid for the machine's life and all look-ups need no lock. The guest may
 * write any byte at any moment: copy, check the copy, use the copy.
 */
#ifndef DUET_MEMORY_MEMORY_H
#define DUET_MEMORY_MEMORY_H

#include "base/error.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
	uint64_t value;
} gpa_t;

#define GPA(address) ((gpa_t){(address)})

static inline gpa_t gpa_add(gpa_t gpa, uint64_t offset)
{
	return GPA(gpa.value + offset);
}

#define MEMORY_PAGE        4096ULL
#define MEMORY_MAX_REGIONS 8

struct memory_region {
	gpa_t base;
	uint64_t size;       /* bytes, a multiple of the page */
	uint8_t *host;       /* mapping of @size bytes in this process */
	int fd;              /* memfd behind a shared mapping, else -1; owned by the memory */
	uint64_t first_page; /* number of this region's first page in the dirty bitmap */
	const char *name;    /* "low", "high": static */
};

struct memory {
	struct memory_region regions[MEMORY_MAX_REGIONS];
	unsigned count;
	uint64_t pages;
	/* One bit per page written by the monitor while logging is on, else null. */
	_Atomic(_Atomic uint64_t *) dirty;
};

enum memory_kind {
	MEMORY_ANONYMOUS, /* private: what KSM can merge */
	MEMORY_SHARED,    /* memfd: for vhost-user and other processes */
};

void memory_init(struct memory *memory);
void memory_free(struct memory *memory);

/* Maps @size bytes (page multiple) of zeroed memory at @base. -EEXIST when it overlaps a region,
 * -ENOSPC when the table is full, -ENOMEM when the host says no. */
int memory_add(struct memory *memory, gpa_t base, uint64_t size, enum memory_kind kind,
	const char *name, struct error *err);
/* The same over memory of the caller's (tests, fuzzers); @host outlives the struct memory. */
int memory_add_fixed(struct memory *memory, gpa_t base, uint64_t size, void *host);

/* Host pointer for [gpa, gpa + length), or null when any byte is outside one region. */
void *memory_at(const struct memory *memory, gpa_t gpa, uint64_t length);
/* True when any byte of the range is RAM: a BAR must not lie there. */
bool memory_overlaps(const struct memory *memory, gpa_t gpa, uint64_t length);

/* Copies; all or nothing: -EFAULT when any byte is outside RAM. Ranges may span regions that touch.
 * A write marks the pages dirty. */
int memory_read(const struct memory *memory, gpa_t gpa, void *to, size_t length);
int memory_write(struct memory *memory, gpa_t gpa, const void *from, size_t length);

/* To be called after the monitor wrote through a pointer of memory_at(). Any thread, lock-free;
 * one load and a branch while logging is off. */
void memory_mark_dirty_slow(struct memory *memory, gpa_t gpa, uint64_t length);
static inline void memory_mark_dirty(struct memory *memory, gpa_t gpa, uint64_t length)
{
	if (__builtin_expect(atomic_load_explicit(&memory->dirty, memory_order_relaxed) != NULL, 0))
		memory_mark_dirty_slow(memory, gpa, length);
}

/* The same by the host pointer that memory_at() gave. */
void memory_mark_dirty_host_slow(struct memory *memory, const void *host, uint64_t length);
static inline void memory_mark_dirty_host(struct memory *memory, const void *host, uint64_t length)
{
	if (__builtin_expect(atomic_load_explicit(&memory->dirty, memory_order_relaxed) != NULL, 0))
		memory_mark_dirty_host_slow(memory, host, length);
}

/* Starts logging the monitor's own writes (KVM logs the guest's). -ENOMEM. */
int memory_dirty_start(struct memory *memory);
void memory_dirty_stop(struct memory *memory);
/* Takes and clears the 64 bits of pages [64 * @word, 64 * @word + 64) of the numbering in
 * memory_region.first_page. */
uint64_t memory_dirty_take(struct memory *memory, uint64_t word);

/* Bytes of RAM in all regions. */
uint64_t memory_size(const struct memory *memory);

#endif
