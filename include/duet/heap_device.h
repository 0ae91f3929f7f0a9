/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * /dev/duet-heap, as a program of the guest sees it; duet-heap(4) explains it.
 *
 * A MAP_SHARED mapping of it is memory of zeroes whose pages a child gets as a copy at fork(). All
 * mappings of one open file, by one process, are copied as they are at one instant. The offset of
 * mmap() is 0 always: mappings share nothing with each other.
 */
#ifndef DUET_HEAP_DEVICE_H
#define DUET_HEAP_DEVICE_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define DUET_HEAP_DEVICE "/dev/duet-heap"

struct duet_heap_range {
	__u64 address, length; /* bytes, multiples of the page */
};

/* The range's pages are given back: it reads as zeroes from now on. -EINVAL for a range that is
 * empty, misaligned, or not mapped from this file as a whole; then nothing is done. */
#define DUET_HEAP_FREE _IOW(0xd7, 0x40, struct duet_heap_range)

#endif
