/* SPDX-License-Identifier: Apache-2.0 */
/* Threads beside the main thread, and what each kind gives up once it has what it needs. */
#ifndef DUET_BASE_THREAD_H
#define DUET_BASE_THREAD_H

#include <pthread.h>
#include <stddef.h>

/* By what they may ask of the host's kernel: the classes of the `#syscalls` comments (sandbox/). */
enum thread_kind {
	THREAD_MAIN,
	THREAD_CALLER, /* the main thread of a process that may call other hosts */
	THREAD_VCPU,
	THREAD_IO,
	THREAD_DISCARD, /* made by an I/O thread, whose limits it has too */
	THREAD_ARRIVE,  /* memory that comes while the guest runs, from another host */
	THREAD_KINDS,
};

/* Runs @run(@opaque) on a stack of @stack bytes, with every signal blocked, for they are the main
 * thread's, but SIGBUS and SIGSYS, which belong to what the thread itself did. Returns 0, or an
 * errno as pthread_create() does. To be joined by the caller. A thread names itself: naming another
 * one needs /proc. */
int thread_start(pthread_t *thread, size_t stack, void *(*run)(void *opaque), void *opaque);

/* The calling thread is of @kind and about to meet a guest's data: it gives up the rest, for good.
 * Does not return when it cannot. Without thread_confine_by() nothing happens. */
void thread_confine(enum thread_kind kind);
/* How; of the whole process, before there are threads. Null: not at all. */
void thread_confine_by(void (*confine)(enum thread_kind kind));

#endif
