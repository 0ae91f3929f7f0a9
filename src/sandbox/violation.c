/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a process that made a call which its thread may not. */
#include "base/log.h"
#include "sandbox/private.h"

#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

/* libc has no name for it. */
#ifndef SYS_SECCOMP
#define SYS_SECCOMP 1
#endif

static _Thread_local enum thread_kind own_kind;

static const char *const kinds[] = {[THREAD_MAIN] = "main",
	[THREAD_CALLER] = "main",
	[THREAD_VCPU] = "vCPU",
	[THREAD_IO] = "I/O",
	[THREAD_DISCARD] = "discard",
	[THREAD_ARRIVE] = "post-copy"};

/* The log takes no lock and no memory, and nothing after this needs what was interrupted. */
static void end_process(int number, siginfo_t *info, void *context)
{
	(void)number;
	(void)context;
	if (info->si_code != SYS_SECCOMP)
		return; /* somebody's kill(2) */
	log_error("sandbox: the %s thread called %s (system call %d), which it may not: duet has a "
		  "fault, or the guest has broken into it; the machine ends at once",
		kinds[own_kind], filter_call_name(info->si_syscall), info->si_syscall);
	/* Not _exit(): sanitizers do more there than a filter lets them. */
	syscall(SYS_exit_group, SANDBOX_EXIT_STATUS);
}

int violation_watch(void)
{
	struct sigaction action = {.sa_sigaction = end_process, .sa_flags = SA_SIGINFO};

	sigfillset(&action.sa_mask);
	return sigaction(SIGSYS, &action, NULL) < 0 ? -errno : 0;
}

void violation_of(enum thread_kind kind)
{
	sigset_t set;

	own_kind = kind;
	/* Blocked, it would end the process without a word. */
	sigemptyset(&set);
	sigaddset(&set, SIGSYS);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}
