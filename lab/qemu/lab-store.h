/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A part of the lab's QEMU, included by accel/tcg/cputlb.c.
 *
 * A store to a page that holds translated code throws the translations away and then stores. In
 * between another vCPU may translate the old bytes again, and would go on running them: a kernel
 * that patches itself through a breakpoint then meets the breakpoint for ever. So once more, after
 * the store.
 */
static void lab_after_store(MMULookupPageData *p)
{
    ram_addr_t ram_addr = p->addr + p->full->xlat_section;

    /* The store before the look: the other vCPU marks the page, then reads the code. */
    smp_mb();
    if (!cpu_physical_memory_get_dirty_flag(ram_addr, DIRTY_MEMORY_CODE)) {
        tb_invalidate_phys_range_fast(ram_addr, p->size, 0);
    }
}
