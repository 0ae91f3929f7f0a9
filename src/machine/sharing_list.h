/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sets of pages as lists of runs, in order and apart from each other: what machine/sharing.c
 * reckons with. Sizes are in bytes. Functions that need memory return -ENOMEM, and the list is then
 * empty. Any thread.
 */
#ifndef DUET_MACHINE_SHARING_LIST_H
#define DUET_MACHINE_SHARING_LIST_H

#include "machine/sharing.h"

void sharing_list_free(struct sharing_list *list);
/* At the end, whatever the order: sharing_list_join() follows. A length of 0 is left out. */
int sharing_list_add(struct sharing_list *list, uint64_t gpa, uint64_t length);
/* In order; those that touch or overlap become one. */
void sharing_list_join(struct sharing_list *list);
/* Those of @more too; what is in the parts is forgotten. */
int sharing_list_unite(struct sharing_list *list, const struct sharing_list *more);
/* Calls for each run of @list that no run of @without covers; ends at a negative answer of @visit,
 * which it returns. */
int sharing_list_each_but(const struct sharing_list *list, const struct sharing_list *without,
	int (*visit)(void *opaque, uint64_t gpa, uint64_t length), void *opaque);
/* The shortest go until @most are left; the bytes that went. */
uint64_t sharing_list_cut(struct sharing_list *list, unsigned most);
uint64_t sharing_list_bytes(const struct sharing_list *list);
/* The run that is just this one; null: there is none. */
struct memory_part *sharing_list_find(
	const struct sharing_list *list, uint64_t gpa, uint64_t length);

#endif
