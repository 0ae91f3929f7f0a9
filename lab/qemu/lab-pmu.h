/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A part of the lab's QEMU: AMD's four performance counters, with one event, retired instructions
 * (0xc0), in user space or kernel, in guests only or in the host only. There when the environment
 * asks for it (lab/lab up --pmu): an operating system that finds counters does work for them.
 *
 * Each translated block adds its instructions to lab_insns. When what is to be counted may change
 * (privilege, guest or host, a counter read or set) the sum so far is folded into the counters.
 * A block is counted when it is entered. There are no overflow interrupts.
 */
#ifndef LAB_PMU_H
#define LAB_PMU_H

#include <stdlib.h>

#define LAB_PMU_SELECT  0xc0010000
#define LAB_PMU_COUNTER 0xc0010004
#define LAB_PMU_END     0xc0010008
#define LAB_PMU_ENABLE  (1ULL << 22)

static inline bool lab_pmu_there(void)
{
    static int there; /* 0: not asked yet, 1: no, 2: yes */
    int known = __atomic_load_n(&there, __ATOMIC_RELAXED);

    if (!known) {
        const char *text = getenv("DUET_LAB_PMU");

        known = text && *text == '1' ? 2 : 1;
        __atomic_store_n(&there, known, __ATOMIC_RELAXED);
    }
    return known == 2;
}

static inline bool lab_pmu_has(uint32_t msr)
{
    return msr >= LAB_PMU_SELECT && msr < LAB_PMU_END && lab_pmu_there();
}

#endif
