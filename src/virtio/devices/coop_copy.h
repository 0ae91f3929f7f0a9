/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cooperation device's bulk copy of guest pages (DUET_COOP_COPY in duet/coop.h): what a guest's
 * fork of a large heap asks for.
 *
 * Threads: any, several at once; lock-free. The caller's vCPU is out of the guest meanwhile, so a
 * call is bounded by COOP_COPY_PAGES and says how far it came.
 */
#ifndef DUET_VIRTIO_DEVICES_COOP_COPY_H
#define DUET_VIRTIO_DEVICES_COOP_COPY_H

#include "memory/memory.h"

#include <stdint.h>

/* Of one call, at most: 4 MiB, about half a millisecond where the memory is there. */
#define COOP_COPY_PAGES 1024U

/* Told of each piece that was copied: @length bytes (whole pages) at @to, within RAM. */
typedef void coop_copied(void *opaque, gpa_t to, uint64_t length);

/*
 * Copies the runs of the duet_coop_copy at @list. It is read once; when any of it is wrong, nothing
 * is copied. *@pages_done: whole pages of this call. @copied may be null. Returns 0; -EINVAL for a
 * list that is misaligned, empty or too long, a run without pages or off the page grid, or a skip
 * behind its first run; -EFAULT when the list or a run is not within one region of RAM.
 */
int coop_copy_each(
	struct memory *memory, gpa_t list, uint64_t *pages_done, coop_copied *copied, void *opaque);
static inline int coop_copy(struct memory *memory, gpa_t list, uint64_t *pages_done)
{
	return coop_copy_each(memory, list, pages_done, NULL, NULL);
}

#endif
