/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that fork() copies in bulk, with the host's help: /dev/duet-heap of the module duet, and
 * an allocator on it. Where there is no such device all of it works on ordinary private memory, and
 * duet_heap_assisted() says so.
 *
 * Threads: any. A child has its own copy of everything, as it was at one instant; locks are held
 * over fork() by handlers of pthread_atfork(), so a child may allocate and free at once. When
 * memory is short at fork(), the child has no heap: touching it is SIGBUS. Other processes never
 * see it.
 */
#ifndef DUET_HEAP_H
#define DUET_HEAP_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* 1: the device is there; 0: not, errno says why (it is tried anew each time until it is there). */
int duet_heap_assisted(void);

/* @length bytes (rounded up to pages) of zeroes, readable and writable. Null: errno, of mmap(). */
void *duet_heap_map(size_t length);
/* Any whole pages of one or more mappings. 0, or -1 and errno. */
int duet_heap_unmap(void *address, size_t length);
/* The pages stay mapped and are zeroes from now on; their memory is the system's again. @address
 * and
 * @length are multiples of the page. 0, or -1 and errno, and then nothing has changed. */
int duet_heap_discard(void *address, size_t length);

/* As malloc(), calloc(), realloc(), aligned_alloc(), free() and malloc_usable_size(), errno
 * included. What one gives only the others take. */
void *duet_malloc(size_t size);
void *duet_calloc(size_t count, size_t size);
void *duet_realloc(void *memory, size_t size);
void *duet_aligned_alloc(size_t alignment, size_t size); /* a power of two, up to 256 MiB */
void duet_free(void *memory);
size_t duet_usable_size(const void *memory);
/* 1: @memory is what duet_malloc() or one of its kin gave. Constant time. */
int duet_owns(const void *memory);

#ifdef __cplusplus
}
#endif

#endif
