/* SPDX-License-Identifier: Apache-2.0 */
/* What late.c and late_host.c share. */
#ifndef DUET_MEMORY_LATE_PRIVATE_H
#define DUET_MEMORY_LATE_PRIVATE_H

#include "memory/late.h"

#include <pthread.h>

/* More than threads that wait, in all but the strangest guest. */
#define LATE_ASKED_MAX 1024

struct memory_late {
	struct memory *memory;
	int fd;         /* userfaultfd */
	int word, stop; /* eventfds */
	pthread_t thread;
	bool serves, watches; /* the thread is there; the kernel tells of faults */

	pthread_mutex_t lock; /* of all that follows */
	uint64_t *lacking;    /* a bit for each page, by memory_region.first_page */
	_Atomic uint64_t left;
	uint64_t asked[LATE_ASKED_MAX]; /* GPAs: a ring */
	unsigned first, count;
};

/* late_host.c: what is asked of the host's kernel. */
int late_open_host(struct memory_late *late, struct error *err);
/* The kernel tells of faults in all of memory, or no longer. */
int late_watch(struct memory_late *late, struct error *err);
void late_unwatch(struct memory_late *late);
/* @length bytes at @to, of which nothing is there; @from null: zeroes. Who waits goes on. 0 or a
 * negative errno. */
int late_place(const struct memory_late *late, void *to, const void *from, uint64_t length);
/* Who waits for any of it looks again. */
void late_wake(const struct memory_late *late, void *to, uint64_t length);

/* regions.c: these pages are about to be discarded: what is to come for them is not wanted. */
void memory_late_drop(struct memory *memory, const struct memory_region *region, uint64_t offset,
	uint64_t length);

#endif
