/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A part of the lab's QEMU, included by accel/tcg/tb-maint.c.
 *
 * QEMU takes every store to a page that has translations for one that may change code: it locks
 * the pages of all of them, from a tree built for this store, and looks at each. A lab host's
 * memory is full of such pages, for a guest's memory is another guest's soon after, with code that
 * nobody runs any more: it was a third of the time of a guest's start. So a page knows which of its
 * pieces of 64 bytes have code, and stores to others pass; and when many stores came since it was
 * last translated from, all its translations go, and stores to it cost nothing again.
 */
#define LAB_MANY 128 /* stores beside the code that a page bears */
#define LAB_HIT  16  /* one that changes code is as many of these */

static uint64_t lab_pieces(unsigned first, unsigned last)
{
    return (UINT64_MAX << (first / 64)) & (UINT64_MAX >> (63 - last / 64));
}

/* Where in its page N, the first or the second, a translation has code. */
static uint64_t lab_pieces_of(const TranslationBlock *tb, unsigned n)
{
    unsigned first = tb_page_addr0(tb) & ~TARGET_PAGE_MASK;
    unsigned last = first + tb->size - 1;

    if (n == 0) {
        return lab_pieces(first, MIN(last, TARGET_PAGE_SIZE - 1));
    }
    return lab_pieces(0, last & ~TARGET_PAGE_MASK);
}

/* Both with the page's lock. */
static void lab_page_has(PageDesc *p, const TranslationBlock *tb, unsigned n)
{
    p->lab_code = (p->first_tb ? p->lab_code : 0) | lab_pieces_of(tb, n);
    p->lab_stores = 0;
}

static void lab_page_look(PageDesc *p)
{
    TranslationBlock *tb;
    PageForEachNext n;

    p->lab_code = 0;
    PAGE_FOR_EACH_TB(unused, unused, p, tb, n) {
        p->lab_code |= lab_pieces_of(tb, n);
    }
}

/* Whether a store has nothing to do with code. Who translates meanwhile has the page's lock, and what it
 * translates is there when this gets it. */
static bool lab_beside_code(tb_page_addr_t start, unsigned size)
{
    PageDesc *p = page_find(start >> TARGET_PAGE_BITS);
    unsigned first = start & ~TARGET_PAGE_MASK;
    bool hit;

    if (!p) {
        return true;
    }
    page_lock(p);
    if (!p->first_tb) {
        tlb_unprotect_code(start);
    }
    hit = p->lab_code & lab_pieces(first, first + size - 1);
    p->lab_stores += hit ? LAB_HIT : 1;
    hit |= p->lab_stores >= LAB_MANY;
    page_unlock(p);
    return !hit;
}

/*
 * With the page's lock, before its bytes are read: a store from now on looks here. QEMU does so only
 * when the translation is ready, so that of a page that had none before it may be of bytes that
 * were stored over meanwhile.
 */
static void lab_page_read(const PageDesc *p, tb_page_addr_t addr)
{
    if (!p->first_tb) {
        tlb_protect_code(addr & TARGET_PAGE_MASK);
    }
}

/* All of the page, if it had too many stores. */
static void lab_widen(const PageDesc *p, tb_page_addr_t *start, tb_page_addr_t *last)
{
    if (p->lab_stores >= LAB_MANY) {
        *start &= TARGET_PAGE_MASK;
        *last = *start | ~TARGET_PAGE_MASK;
    }
}
