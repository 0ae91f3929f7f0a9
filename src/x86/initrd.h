/* SPDX-License-Identifier: Apache-2.0 */
/* The initrd: opened and measured first, so that the kernel can be placed beside it, read later.
 * Main thread. */
#ifndef DUET_X86_INITRD_H
#define DUET_X86_INITRD_H

#include "base/error.h"
#include "memory/memory.h"

struct initrd {
	int fd; /* -1: none was asked for */
	uint64_t size;
};

/* @path may be null. To be closed in any case. Messages name --initrd and the file. */
int initrd_open(struct initrd *initrd, const char *path, struct error *err);
void initrd_close(struct initrd *initrd);
/* Reads it to @address. */
int initrd_read(const struct initrd *initrd, struct memory *memory, uint64_t address,
	const char *path, struct error *err);

#endif
