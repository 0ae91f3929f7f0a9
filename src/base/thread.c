/* SPDX-License-Identifier: Apache-2.0 */
#include "base/thread.h"

#include <signal.h>
#include <stdatomic.h>

/* The process's, as its privileges are. */
static void (*_Atomic confinement)(enum thread_kind kind);

/*
 * What libc does on any thread: locks, memory, its end; and starting one.
 * #syscalls all: futex brk mmap(2 & PROT_EXEC = 0) mprotect(2 & PROT_EXEC = 0) munmap mremap
 * #syscalls all: madvise rt_sigprocmask rt_sigreturn restart_syscall exit exit_group getpid gettid
 * #syscalls all: clock_gettime gettimeofday sched_yield tgkill(0 = OWN_PID) close
 * #syscalls main io discard arrive: set_robust_list rseq prctl(0 = PR_SET_NAME) clone(0 = THREAD_FLAGS)
 * libc falls back to clone(), whose flags can be looked at.
 * #syscalls all: clone3!ENOSYS
 */
int thread_start(pthread_t *thread, size_t stack, void *(*run)(void *opaque), void *opaque)
{
	pthread_attr_t attributes;
	sigset_t all, before;
	int ret;

	/* A new thread begins with its creator's mask. */
	sigfillset(&all);
	/* Faults of the thread's own; blocked, they would end the process without a word. */
	sigdelset(&all, SIGBUS);
	sigdelset(&all, SIGSYS);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, stack);
	ret = pthread_create(thread, &attributes, run, opaque);
	pthread_attr_destroy(&attributes);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return ret;
}

void thread_confine_by(void (*confine)(enum thread_kind kind))
{
	atomic_store(&confinement, confine);
}

void thread_confine(enum thread_kind kind)
{
	void (*confine)(enum thread_kind) = atomic_load(&confinement);

	if (confine)
		confine(kind);
}
