/* SPDX-License-Identifier: Apache-2.0 */
/* What this process costs in memory, guest RAM apart, as /proc/self/smaps tells it. */
#ifndef DUET_CLI_FOOTPRINT_H
#define DUET_CLI_FOOTPRINT_H

#include "memory/memory.h"

#include <stdbool.h>
#include <stdint.h>

struct footprint { /* bytes */
	uint64_t guest_pss;
	uint64_t outside_pss, outside_rss;
};

/* What footprint_read() reads, opened while files can be (sandbox/); the caller's. -1 when /proc is
 * not there. */
int footprint_open(void);
/* Main thread; a few milliseconds. Negative errno, for @fd of -1 too. */
int footprint_read(int fd, const struct memory *memory, struct footprint *footprint);

/* Whether a mapping of this process that starts at address @start is the guest's. Any thread. */
bool footprint_is_guest(const struct memory *memory, unsigned long start);

/* Gives back what only setting up, or writing statistics, needed: the pages of its code and of
 * freed memory. What is used again comes back from the page cache by itself. Any thread. */
void footprint_trim(void);

#endif
