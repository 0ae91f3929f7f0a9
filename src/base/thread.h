/* SPDX-License-Identifier: Apache-2.0 */
/* A thread beside the main thread. */
#ifndef DUET_BASE_THREAD_H
#define DUET_BASE_THREAD_H

#include <pthread.h>
#include <stddef.h>

/* Runs @run(@opaque) on a stack of @stack bytes, with every signal blocked, for they are the main
 * thread's, but SIGBUS, which belongs to the access that raised it. Returns 0, or an errno as
 * pthread_create() does. To be joined by the caller. A thread names itself: naming another one
 * needs /proc. */
int thread_start(pthread_t *thread, size_t stack, void *(*run)(void *opaque), void *opaque);

#endif
