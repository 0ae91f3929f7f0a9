/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a vCPU's thread is told whose schedule is not its owner's at the moment: its guest's other
 * vCPUs lend to it (machine/boost.h). Nice and slice are set by one call and the slice is this
 * then, so whoever sets a thread's slice and has to give a nice with it (duetd) sees that what he
 * reads is lent, and would stay for good if he wrote it.
 */
#ifndef DUET_BASE_LENT_H
#define DUET_BASE_LENT_H

/* Nanoseconds; the least that Linux takes is 100000, and nobody chooses this one. */
#define LENT_SLICE_NS 100003U

#endif
