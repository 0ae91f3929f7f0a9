// SPDX-License-Identifier: GPL-2.0-only
/*
 * Copying a heap's pages: lists of runs for the host, and by the guest itself where the host does
 * not.
 */
#include "heap.h"

#include <linux/gfp.h>
#include <linux/highmem.h>
#include <linux/io.h>
#include <linux/module.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

/* Interrupts are off during a call. */
#define CALL_PAGES  1024
#define BLOCK_ORDER 4

static bool heap_by_host = true;
module_param(heap_by_host, bool, 0644);
MODULE_PARM_DESC(heap_by_host, "the host copies the pages of a heap at fork; off: the guest does");

struct heap_counts heap_counts;

struct copier {
	struct duet *duet;
	struct duet_coop_copy *list; /* a page */
	unsigned int pages;	     /* in the list */
};

struct page *heap_pool_take(struct heap_pool *pool)
{
	struct page *block;

	if (!pool->left) {
		block = alloc_pages(GFP_KERNEL_ACCOUNT | __GFP_NOWARN | __GFP_NORETRY, BLOCK_ORDER);
		if (!block)
			return alloc_page(HEAP_FORK_GFP);
		split_page(block, BLOCK_ORDER);
		pool->next = block;
		pool->left = 1 << BLOCK_ORDER;
	}
	pool->left--;
	return pool->next++;
}

void heap_pool_drain(struct heap_pool *pool)
{
	while (pool->left) {
		pool->left--;
		__free_page(pool->next++);
	}
}

static void copy_list_here(struct copier *copier)
{
	const struct duet_coop_copy *list = copier->list;
	unsigned int i, j;

	for (i = 0; i < list->count; i++) {
		const struct duet_coop_copy_run *run = &list->runs[i];

		for (j = i ? 0 : list->skip; j < run->pages; j++)
			copy_page(phys_to_virt(run->to + (u64)j * PAGE_SIZE),
				  phys_to_virt(run->from + (u64)j * PAGE_SIZE));
	}
	atomic64_add(copier->pages, &heap_counts.pages_by_guest);
}

/* The first @done pages of the list are copied: it begins behind them from now on. */
static void advance(struct copier *copier, unsigned int done)
{
	struct duet_coop_copy *list = copier->list;
	unsigned int whole = 0;

	copier->pages -= done;
	list->skip += done;
	while (whole < list->count && list->skip >= list->runs[whole].pages)
		list->skip -= list->runs[whole++].pages;
	list->count -= whole;
	memmove(list->runs, list->runs + whole, list->count * sizeof(list->runs[0]));
}

static int copy_some_there(struct copier *copier)
{
	u64 argument = virt_to_phys(copier->list), values[4] = { 0 };
	int ret = duet_call(copier->duet, DUET_COOP_COPY, &argument, 1, values);

	if (ret)
		return ret;
	/* None is no progress, more than were asked for no count. */
	if (!values[0] || values[0] > copier->pages)
		return -EPROTO;
	atomic64_add(values[0], &heap_counts.pages_by_host);
	advance(copier, values[0]);
	return 0;
}

static void copy_list(struct copier *copier)
{
	int ret = READ_ONCE(heap_by_host) ? 0 : -ECANCELED;

	while (copier->pages && !ret)
		ret = copy_some_there(copier);
	if (copier->pages) {
		copy_list_here(copier);
		if (ret != -ECANCELED) {
			atomic64_inc(&heap_counts.fallbacks);
			pr_warn_once("duet: the host does not copy a heap's pages (%d): the guest does\n",
				     ret);
		}
	}
	copier->pages = 0;
	copier->list->count = 0;
	copier->list->skip = 0;
}

static void copy_one(struct copier *copier, struct page *from, struct page *to)
{
	struct duet_coop_copy *list = copier->list;
	struct duet_coop_copy_run *last = list->count ? &list->runs[list->count - 1] : NULL;
	u64 length = last ? (u64)last->pages * PAGE_SIZE : 0;

	if (last && last->from + length == page_to_phys(from) &&
	    last->to + length == page_to_phys(to)) {
		last->pages++;
	} else {
		list->runs[list->count++] = (struct duet_coop_copy_run){
			.from = page_to_phys(from),
			.to = page_to_phys(to),
			.pages = 1,
		};
	}
	if (++copier->pages == CALL_PAGES || list->count == DUET_COOP_COPY_RUNS)
		copy_list(copier);
}

static void copy_leaf(struct copier *copier, const struct heap_leaf *from,
		      const struct heap_leaf *to)
{
	unsigned int i;

	for (i = 0; i < HEAP_LEAF; i++)
		if (to->page[i])
			copy_one(copier, from->page[i], to->page[i]);
}

int heap_copy_pages(struct duet *duet, struct xarray *from, struct xarray *to)
{
	struct copier copier = { .duet = duet };
	struct heap_leaf *leaf;
	unsigned long index;
	int ret = 0;

	copier.list = (void *)get_zeroed_page(GFP_KERNEL | __GFP_NOWARN | __GFP_RETRY_MAYFAIL);
	if (!copier.list)
		return -ENOMEM;
	xa_for_each(to, index, leaf) {
		copy_leaf(&copier, xa_load(from, index), leaf);
		cond_resched();
		if (fatal_signal_pending(current)) {
			ret = -EINTR;
			break;
		}
	}
	if (!ret && copier.pages)
		copy_list(&copier);
	free_page((unsigned long)copier.list);
	return ret;
}

/* The self-test: pages of known content, in single pages and in runs. */

#define TEST_PAGES 700

static int fill(struct xarray *pages, u32 seed)
{
	struct heap_pool pool = { 0 };
	unsigned int i;
	int ret = 0;

	for (i = 0; i < TEST_PAGES && !ret; i++) {
		struct page *page = i % 3 ? heap_pool_take(&pool) : alloc_page(GFP_KERNEL);

		if (!page) {
			ret = -ENOMEM;
			break;
		}
		memset32(page_address(page), seed + i, PAGE_SIZE / 4);
		/* Every third offset is missing: a sparse heap. */
		if (heap_add_page(pages, i * 3 / 2, page) != page)
			ret = -ENOMEM;
		/* The one reference is the heap's, or nobody's. */
		put_page(page);
	}
	heap_pool_drain(&pool);
	return ret;
}

static int compare(struct xarray *from, struct xarray *to)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < TEST_PAGES && !ret; i++) {
		struct page *one = heap_page(from, i * 3 / 2), *other = heap_page(to, i * 3 / 2);

		if (!one || !other || memcmp(page_address(one), page_address(other), PAGE_SIZE)) {
			pr_err("duet: heap self-test: page %u is no copy\n", i * 3 / 2);
			ret = -EIO;
		}
		if (one)
			put_page(one);
		if (other)
			put_page(other);
	}
	return ret;
}

static int refused_list(struct duet *duet, u64 list, int expected)
{
	int ret = duet_call(duet, DUET_COOP_COPY, &list, 1, NULL);

	if (ret == expected)
		return 0;
	pr_err("duet: heap self-test: a bad list was answered by %d, not %d\n", ret, expected);
	return -EIO;
}

static int refusals(struct duet *duet)
{
	struct duet_coop_copy *list = (void *)get_zeroed_page(GFP_KERNEL);
	int ret;

	if (!list)
		return -ENOMEM;
	ret = refused_list(duet, virt_to_phys(list), -EINVAL);
	list->count = 1;
	list->runs[0] = (struct duet_coop_copy_run){
		.from = 1ULL << 51,
		.to = virt_to_phys(list),
		.pages = 1,
	};
	if (!ret)
		ret = refused_list(duet, virt_to_phys(list), -EFAULT);
	if (!ret)
		ret = refused_list(duet, 1ULL << 51, -EFAULT);
	free_page((unsigned long)list);
	return ret;
}

int heap_copy_selftest(struct duet *duet)
{
	u64 before = atomic64_read(&heap_counts.pages_by_host);
	struct xarray from, to;
	int ret;

	xa_init(&from);
	xa_init(&to);
	ret = fill(&from, 1);
	if (!ret)
		ret = fill(&to, 1U << 31);
	if (!ret)
		ret = heap_copy_pages(duet, &from, &to);
	if (!ret)
		ret = compare(&from, &to);
	if (!ret && heap_by_host &&
	    atomic64_read(&heap_counts.pages_by_host) - before < TEST_PAGES) {
		pr_err("duet: heap self-test: the host copied fewer than %d pages\n", TEST_PAGES);
		ret = -EIO;
	}
	heap_free_pages(&from, 0, ULONG_MAX);
	heap_free_pages(&to, 0, ULONG_MAX);
	if (!ret && !(xa_empty(&from) && xa_empty(&to))) {
		pr_err("duet: heap self-test: pages that were freed have left leaves\n");
		ret = -EIO;
	}
	return ret ?: refusals(duet);
}
