/* SPDX-License-Identifier: GPL-2.0-only */
/* What heap.c, heap_copy.c and heap_pages.c share. */
#ifndef DUET_MODULE_HEAP_H
#define DUET_MODULE_HEAP_H

#include "duet.h"

#include <linux/mm.h>
#include <linux/xarray.h>

/* Of all heaps, since the module was loaded. */
struct heap_counts {
	atomic64_t forks;	   /* that found a heap to copy */
	atomic64_t failed;	   /* of them: memory was short or a signal came, the child has no heap */
	atomic64_t pages_by_host;
	atomic64_t pages_by_guest;
	atomic64_t fallbacks;	   /* lists that the guest copied because the host did not */
};
extern struct heap_counts heap_counts;

/* No page of a fork is worth the OOM killer, a memory group's neither: it would choose the parent. */
#define HEAP_FORK_GFP (GFP_KERNEL_ACCOUNT | __GFP_NOWARN | __GFP_RETRY_MAYFAIL)

/* Pages for a copy, taken from larger blocks where there are some: neighbours make long runs. Their
 * content is anything. */
struct heap_pool {
	struct page *next;
	unsigned int left;
	unsigned long leaves; /* that heap_pages_like() has filled */
};
struct page *heap_pool_take(struct heap_pool *pool); /* null: no memory, or the group's limit */
void heap_pool_drain(struct heap_pool *pool);

/* A heap's pages: an array of leaves, each of HEAP_LEAF pages or null by offset. */
#define HEAP_LEAF 64
struct heap_leaf {
	struct page *page[HEAP_LEAF];
};

/* The slots of leaf number @leaf that offsets @first to @end are in. */
void heap_slots(unsigned long leaf, unsigned long first, unsigned long end, unsigned int *from,
		unsigned int *to);
/* The page at @offset with a reference for the caller, or null. */
struct page *heap_page(struct xarray *pages, unsigned long offset);
/* The same, which is @page now unless there was another; null: no memory. May sleep. */
struct page *heap_add_page(struct xarray *pages, unsigned long offset, struct page *page);
/* Of two that free a page, one does. May sleep. */
void heap_free_pages(struct xarray *pages, unsigned long first, unsigned long end);
/* Whether so many pages could be had now. May sleep. */
bool heap_room(unsigned long count);
/* A page in @pages for each of @model's from @first to @end; -ENOMEM, -EINTR: for some of them.
 * Nobody changes either meanwhile. May sleep. */
int heap_pages_like(struct xarray *pages, struct xarray *model, unsigned long first,
		    unsigned long end, struct heap_pool *pool);

/* Copies @from's pages to the pages of the same offset in @to; @from has all that @to has. Nobody
 * changes @from, @to or the pages meanwhile. -EINTR when the caller is being killed; then @to's are
 * not to be used. */
int heap_copy_pages(struct duet *duet, struct xarray *from, struct xarray *to);

int heap_copy_selftest(struct duet *duet);

#endif
