/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest-physical memory.
 *
 * A guest address is a type of its own, so that it cannot be dereferenced by accident; the only
 * way from a gpa_t to a host pointer is memory_begin(), which checks the whole range.
 *
 * Threads: regions come and go only while every device is at rest and no vCPU runs, so look-ups
 * need no lock. Each change is a new generation: who keeps a pointer over a rest compares and looks
 * anew. The guest may write any byte at any moment: copy, check the copy, use the copy.
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

enum memory_kind {
	MEMORY_ANONYMOUS, /* private: what KSM can merge */
	MEMORY_SHARED,    /* memfd: for vhost-user and other processes */
	MEMORY_FILE,      /* a file's bytes until they are written to: private, read as needed */
	MEMORY_BORROWED,  /* the caller's (tests, fuzzers) */
};

struct memory_region {
	gpa_t base;
	uint64_t size; /* bytes, a multiple of the page */
	/* @size bytes in this process, for who hands all of them to a kernel (tests/lint/layers.py
	 * has who); others: memory_begin() */
	uint8_t *mapped_at;
	enum memory_kind kind;
	int fd;              /* memfd behind a shared mapping, else -1; owned by the memory */
	uint64_t first_page; /* number of this region's first page in the dirty bitmap */
	const char *name;    /* "low", "high": static */
};

struct memory_late;

struct memory {
	/* memory/ only, as tests/lint/layers.py checks; others: memory_region() */
	struct memory_region regions[MEMORY_MAX_REGIONS];
	unsigned count;
	unsigned generation;    /* of the table of regions */
	unsigned pins;          /* somebody's DMA reaches the pages as they are: memory_pin() */
	_Atomic unsigned holes; /* made in mappings of files */
	uint64_t pages;
	/* One bit per page written by the monitor while logging is on, else null. */
	_Atomic(_Atomic uint64_t *) dirty;
	_Atomic(struct memory_late *) late; /* pages that come later (late.h); null: none */
};

void memory_init(struct memory *memory);
void memory_free(struct memory *memory);

/* Maps @size bytes (page multiple) of zeroed memory at @base. -EEXIST when it overlaps a region,
 * -ENOSPC when the table is full, -ENOMEM when the host says no, -EBUSY while it is pinned or
 * pages of it are to come. */
int memory_add(struct memory *memory, gpa_t base, uint64_t size, enum memory_kind kind,
	const char *name, struct error *err);
/* The same, with the bytes of @fd from @offset (page multiple) on; the file stays as it is, and
 * must not shrink. @fd stays the caller's. */
int memory_add_file(struct memory *memory, gpa_t base, uint64_t size, int fd, uint64_t offset,
	const char *name, struct error *err);
/* The same over memory of the caller's; @host outlives the struct memory. */
int memory_add_fixed(struct memory *memory, gpa_t base, uint64_t size, void *host);
/* The region that begins at @base goes. -ENOENT, -EBUSY as for memory_add(). */
int memory_remove(struct memory *memory, gpa_t base);

/* Region number @index, from 0 on; null behind the last. */
const struct memory_region *memory_region(const struct memory *memory, unsigned index);
/* The one that @gpa is in, and its number (unless @index is null); null: none. */
const struct memory_region *memory_region_at(
	const struct memory *memory, gpa_t gpa, unsigned *index);
/* 64-bit words in which @size bytes (page multiple) have a bit for each page. */
static inline uint64_t memory_words(uint64_t size)
{
	return (size / MEMORY_PAGE + 63) / 64;
}
static inline unsigned memory_generation(const struct memory *memory)
{
	return memory->generation;
}

/*
 * The monitor's own accesses. begin: host pointer for [gpa, gpa + length), or null when any byte is
 * outside one region. end: after an access by that pointer or one behind it, of which the first
 * @written bytes were written; none when it was for reading only, and then it may be left out. Any
 * thread, lock-free; end is one load and a branch while logging is off.
 */
void *memory_begin(const struct memory *memory, gpa_t gpa, uint64_t length);
void memory_end_slow(struct memory *memory, const void *host, uint64_t written);
static inline void memory_end(struct memory *memory, const void *host, uint64_t written)
{
	if (__builtin_expect(atomic_load_explicit(&memory->dirty, memory_order_relaxed) != NULL, 0))
		memory_end_slow(memory, host, written);
}
/* As memory_end(), for an access that goes on: a ring that is written to for a device's life. */
void memory_wrote_slow(struct memory *memory, gpa_t gpa, uint64_t length);
static inline void memory_wrote(struct memory *memory, gpa_t gpa, uint64_t length)
{
	if (__builtin_expect(atomic_load_explicit(&memory->dirty, memory_order_relaxed) != NULL, 0))
		memory_wrote_slow(memory, gpa, length);
}

/* Where @host is, a pointer that memory_begin() gave or one into what it is for; false: nowhere.
 * Any thread, lock-free. */
bool memory_locate(const struct memory *memory, const void *host, gpa_t *gpa);

/* True when any byte of the range is RAM: a BAR must not lie there. */
bool memory_overlaps(const struct memory *memory, gpa_t gpa, uint64_t length);

/* Copies; all or nothing: -EFAULT when any byte is outside RAM. Ranges may span regions that touch.
 * A write marks the pages dirty. */
int memory_read(const struct memory *memory, gpa_t gpa, void *to, size_t length);
int memory_write(struct memory *memory, gpa_t gpa, const void *from, size_t length);

/* Gives pages back to the host: they read as zeroes from now on, whatever is behind them. @gpa and
 * @length are page multiples. -EFAULT outside RAM, -EBUSY while it is pinned. Any thread; the guest
 * has promised not to use them. */
int memory_discard(struct memory *memory, gpa_t gpa, uint64_t length);
/* All of it reads as zeroes: discarded, or written over while it is pinned. No vCPU runs. */
int memory_clear(struct memory *memory);
/* Pages of the range that are not there yet are taken from the host's node @node, 0 to 63, while it
 * has some (mbind(2), MPOL_PREFERRED). @gpa and @length are page multiples within one region, else
 * -EFAULT; -EINVAL when there is no such node. Also after the pages were discarded. */
int memory_prefer(struct memory *memory, gpa_t gpa, uint64_t length, unsigned node);
/* Up to MEMORY_PLACE_MAX pages, each at a GPA of its own. nodes: on which of the host's nodes each
 * is; -ENOENT where none is there yet, or another negative errno. move: each goes to the node that
 * @nodes says, and @nodes then says where it is, as nodes does (move_pages(2): what is written to
 * at that moment is moved all the same; what somebody holds for DMA is not). -ENODEV: no such node;
 * -EBUSY while it is pinned; others: the host's kernel does not do so. Any thread. */
#define MEMORY_PLACE_MAX 512
int memory_nodes(const struct memory *memory, const gpa_t *pages, int *nodes, unsigned count);
int memory_move(const struct memory *memory, const gpa_t *pages, int *nodes, unsigned count);
/* While it is pinned (as often as it was), the pages stay where they are and the regions too. */
void memory_pin(struct memory *memory, bool pinned);

/* Starts logging the monitor's own writes (KVM logs the guest's). -ENOMEM. */
int memory_dirty_start(struct memory *memory);
/* The I/O threads must be at rest: one of them might still hold the bitmap. */
void memory_dirty_stop(struct memory *memory);
static inline bool memory_is_logged(const struct memory *memory)
{
	return atomic_load_explicit(&memory->dirty, memory_order_relaxed) != NULL;
}
/* Takes and clears the 64 bits of pages [64 * @word, 64 * @word + 64) of the numbering in
 * memory_region.first_page. */
uint64_t memory_dirty_take(struct memory *memory, uint64_t word);

/* Pages of it that are still to come (late.h), and whoever touches one waits. Any thread. */
uint64_t memory_arriving(const struct memory *memory);

/* All of MEMORY_PAGE bytes, which the guest may write to meanwhile. Any thread. */
bool memory_page_is_zero(const void *page);

/* Bytes of RAM in all regions. */
uint64_t memory_size(const struct memory *memory);

#endif
