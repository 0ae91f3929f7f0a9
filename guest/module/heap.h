/* SPDX-License-Identifier: GPL-2.0-only */
/* What heap.c and heap_copy.c share. */
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

/* Copies @from's pages to the pages of the same index in @to. Nobody writes to @from meanwhile.
 * -EINTR when the caller is being killed; then @to's are not to be used. */
int heap_copy_pages(struct duet *duet, struct xarray *from, struct xarray *to);

/* Pages for a copy, taken from larger blocks where there are some: neighbours make long runs. Their
 * content is anything. */
struct heap_pool {
	struct page *next;
	unsigned int left;
};
struct page *heap_pool_take(struct heap_pool *pool); /* null: no memory, or the group's limit */
void heap_pool_drain(struct heap_pool *pool);

int heap_copy_selftest(struct duet *duet);

#endif
