/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DUET_LIB_HEAP_PRIVATE_H
#define DUET_LIB_HEAP_PRIVATE_H

/* heap.c's lock, held over fork() by the allocator's handlers. */
void heap_lock(void);
void heap_unlock(void);

#endif
