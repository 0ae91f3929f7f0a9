// SPDX-License-Identifier: GPL-2.0-only
/*
 * A heap's pages by their offsets. An array's entry is a leaf of many pages: what a fork does with
 * each page is a step through a leaf then, where a walk down the array for each was more than half
 * of what it cost the guest.
 *
 * Leaves come and go under the array's lock, and so do the pages in them; who keeps faults and other
 * changes out otherwise, as a fork does, reads them without.
 */
#include "heap.h"

#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/string.h>

#define QUIET (GFP_KERNEL_ACCOUNT | __GFP_NOWARN)

void heap_slots(unsigned long leaf, unsigned long first, unsigned long end, unsigned int *from,
		unsigned int *to)
{
	unsigned long base = leaf * HEAP_LEAF;

	*from = first > base ? first - base : 0;
	*to = min(end - base, (unsigned long)HEAP_LEAF);
}

/* Null: no memory. */
static struct heap_leaf *leaf_at(struct xarray *pages, unsigned long index, gfp_t gfp)
{
	struct heap_leaf *leaf = xa_load(pages, index), *other;

	if (leaf)
		return leaf;
	leaf = kzalloc(sizeof(*leaf), gfp);
	if (!leaf)
		return NULL;
	other = xa_cmpxchg(pages, index, NULL, leaf, gfp);
	if (!other)
		return leaf;
	kfree(leaf);
	return xa_is_err(other) ? NULL : other;
}

/* What is at @offset, else @page, which is there from now on if it is not null; with a reference for
 * the caller. Null: there is none, or no leaf for it. */
static struct page *look_or_put(struct xarray *pages, unsigned long offset, struct page *page)
{
	struct page *there = NULL, **slot;
	struct heap_leaf *leaf;

	xa_lock(pages);
	leaf = xa_load(pages, offset / HEAP_LEAF);
	if (leaf) {
		slot = &leaf->page[offset % HEAP_LEAF];
		if (!*slot)
			*slot = page;
		there = *slot;
	}
	if (there)
		get_page(there);
	xa_unlock(pages);
	return there;
}

struct page *heap_page(struct xarray *pages, unsigned long offset)
{
	return look_or_put(pages, offset, NULL);
}

struct page *heap_add_page(struct xarray *pages, unsigned long offset, struct page *page)
{
	struct page *there = look_or_put(pages, offset, page);

	/* A leaf without pages may go again before there is one in it. */
	while (!there) {
		if (!leaf_at(pages, offset / HEAP_LEAF, QUIET))
			return NULL;
		there = look_or_put(pages, offset, page);
	}
	return there;
}

/* Takes the pages in slots @from to @to out of a leaf; the leaf goes if that were all. */
static unsigned int take(struct xarray *pages, unsigned long index, unsigned int from,
			 unsigned int to, struct page **taken)
{
	struct heap_leaf *leaf;
	unsigned int i, count = 0;

	xa_lock(pages);
	leaf = xa_load(pages, index);
	for (i = from; leaf && i < to; i++) {
		if (leaf->page[i])
			taken[count++] = leaf->page[i];
		leaf->page[i] = NULL;
	}
	if (leaf && !memchr_inv(leaf, 0, sizeof(*leaf))) {
		__xa_erase(pages, index);
		kfree(leaf);
	}
	xa_unlock(pages);
	return count;
}

void heap_free_pages(struct xarray *pages, unsigned long first, unsigned long end)
{
	struct page *taken[HEAP_LEAF];
	unsigned int from, to, count;
	struct heap_leaf *leaf;
	unsigned long index;

	if (first >= end)
		return;
	xa_for_each_range(pages, index, leaf, first / HEAP_LEAF, (end - 1) / HEAP_LEAF) {
		heap_slots(index, first, end, &from, &to);
		count = take(pages, index, from, to, taken);
		while (count)
			put_page(taken[--count]);
		cond_resched();
	}
}

static int fill(struct heap_leaf *leaf, const struct heap_leaf *model, unsigned int from,
		unsigned int to, struct heap_pool *pool)
{
	unsigned int i;

	for (i = from; i < to; i++) {
		if (!model->page[i])
			continue;
		leaf->page[i] = heap_pool_take(pool);
		if (!leaf->page[i])
			return -ENOMEM;
	}
	return 0;
}

int heap_pages_like(struct xarray *pages, struct xarray *model, unsigned long first,
		    unsigned long end, struct heap_pool *pool)
{
	struct heap_leaf *leaf, *model_leaf;
	unsigned int from, to;
	unsigned long index;

	xa_for_each_range(model, index, model_leaf, first / HEAP_LEAF, (end - 1) / HEAP_LEAF) {
		heap_slots(index, first, end, &from, &to);
		leaf = leaf_at(pages, index, HEAP_FORK_GFP);
		if (!leaf || fill(leaf, model_leaf, from, to, pool))
			return -ENOMEM;
		if (fatal_signal_pending(current))
			return -EINTR;
		pool->leaves++;
		cond_resched();
	}
	return 0;
}

bool heap_room(unsigned long count)
{
	struct page *page, *other;
	LIST_HEAD(taken);
	unsigned long i;

	for (i = 0; i < count; i++) {
		page = alloc_page(HEAP_FORK_GFP);
		if (!page)
			break;
		list_add(&page->lru, &taken);
		if (i % HEAP_LEAF == 0)
			cond_resched();
	}
	list_for_each_entry_safe(page, other, &taken, lru)
		__free_page(page);
	return i == count;
}
