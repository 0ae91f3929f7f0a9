/* SPDX-License-Identifier: Apache-2.0 */
#include "base/thread.h"

#include <signal.h>

int thread_start(pthread_t *thread, size_t stack, void *(*run)(void *opaque), void *opaque)
{
	pthread_attr_t attributes;
	sigset_t all, before;
	int ret;

	/* A new thread begins with its creator's mask. */
	sigfillset(&all);
	/* A fault of the thread's own cannot wait: blocked, it ends the process without a word. */
	sigdelset(&all, SIGBUS);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, stack);
	ret = pthread_create(thread, &attributes, run, opaque);
	pthread_attr_destroy(&attributes);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return ret;
}
