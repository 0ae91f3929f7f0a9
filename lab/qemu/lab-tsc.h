/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A part of the lab's QEMU, included by hw/i386/x86-cpu.c and target/i386/tcg/misc_helper.c: the
 * frequency of the machine's TSC, and TSC scaling of AMD's SVM.
 */
#ifndef LAB_TSC_H
#define LAB_TSC_H

#include <stdlib.h>

/* 32 bits of fraction, as the processor's own ratio has. */
static inline uint64_t lab_scale(uint64_t ticks, uint64_t ratio)
{
    return (uint64_t)(((unsigned __int128)ticks * ratio) >> 32);
}

/* What lab/lab up --tsc-ratio asks for. Several threads may come to the same answer at once. */
static inline uint64_t lab_machine_ticks(uint64_t ticks)
{
    static uint64_t ratio;
    uint64_t known = __atomic_load_n(&ratio, __ATOMIC_RELAXED);

    if (!known) {
        const char *text = getenv("DUET_LAB_TSC_RATIO");
        double value = text ? atof(text) : 1.0;

        known = (uint64_t)((value > 0.01 && value < 100.0 ? value : 1.0) * 4294967296.0);
        __atomic_store_n(&ratio, known, __ATOMIC_RELAXED);
    }
    return lab_scale(ticks, known);
}

#endif
