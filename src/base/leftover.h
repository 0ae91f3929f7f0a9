/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What outlives the process unless it is taken away: a socket's file, a program that it has
 * started. Who makes such a thing lists it here until it is gone, so that a process that ends at
 * once, whatever its threads wait in, leaves none behind.
 *
 * The list is the process's, as the files and programs are. Threads: any.
 */
#ifndef DUET_BASE_LEFTOVER_H
#define DUET_BASE_LEFTOVER_H

struct leftover {
	struct leftover *next;
	/* Takes it away and waits for nothing. Called on any thread, perhaps twice, and while its
	 * owner does the same. */
	void (*remove)(struct leftover *leftover);
};

/* @leftover stays the caller's, who keeps it in its place until leftover_forget(). */
void leftover_add(struct leftover *leftover, void (*remove)(struct leftover *leftover));
/* After it was taken away. Safe for one that was not added. */
void leftover_forget(struct leftover *leftover);
/* All that is listed, which stays so. */
void leftover_remove_all(void);

#endif
