/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory of which pages come later, while the guest runs already: whoever touches one that is
 * not there yet waits, in the guest or in the kernel on its behalf, until it is put in its place
 * (userfaultfd(2)). What was never written to reads as zeroes, as ever.
 *
 *   memory_late_open()   while files may be opened
 *   lack()               for each page that is to come
 *   begin()              nobody touches memory until then, anybody from then on
 *   put() ...            as they come
 *   end()
 *
 * A page is put once: it is marked as lacking until then, and what comes a second time is left out.
 * Pages that are discarded meanwhile (memory_discard()) lack no longer: they are zeroes.
 *
 * Threads: open(), lack(), begin(), end() and free(): one, in this order; the others: any. A thread
 * "duet-faults" of its own reads who waits for what, from serve() on.
 */
#ifndef DUET_MEMORY_LATE_H
#define DUET_MEMORY_LATE_H

#include "memory/memory.h"

struct memory_late;

/* Asks the host for it, and whether it can have all of @memory, which stays as it is so far.
 * -ENOTSUP, -EPERM, with the remedy. To be freed before the regions are. */
int memory_late_open(struct memory_late **late, struct memory *memory, struct error *err);
/* Makes the thread, which has the caller's limits and gives up more. */
int memory_late_serve(struct memory_late *late, struct error *err);
/* 64 pages from @gpa on, at such a multiple from the start of its region: those of @bits lack. */
void memory_late_lack(struct memory_late *late, gpa_t gpa, uint64_t bits);
/* Pages that lack are taken away from where they are, and waited for from now on. */
int memory_late_begin(struct memory_late *late, struct error *err);
/* @length bytes (page multiple) that are memory's, at @bytes or zeroes (null): those pages of them
 * that lack. -ENOMEM. */
int memory_late_put(struct memory_late *late, gpa_t gpa, const uint8_t *bytes, uint64_t length,
	struct error *err);
/* As lack() has them: those that do so now. */
uint64_t memory_late_lacking(struct memory_late *late, gpa_t gpa);
/* How many that are. */
uint64_t memory_late_left(const struct memory_late *late);
/* A page that somebody waits for, each as often as somebody does; false: none. Where very many
 * wait, some are left out. */
bool memory_late_next(struct memory_late *late, gpa_t *page);
/* An eventfd: there is a page to be asked for, or none is left. Read it before you look. */
int memory_late_word(const struct memory_late *late);
/* Nobody waits any more: what lacks reads as zeroes. The kernel has no more to do with it, and the
 * thread ends. */
void memory_late_end(struct memory_late *late);
/* Null is allowed. The memory's regions are still there. */
void memory_late_free(struct memory_late *late);

#endif
