/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/signals.h"

#include "base/checked.h"
#include "base/signal_set.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

/* #syscalls main: read signalfd4 */

static const int watched[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGWINCH, SIGCONT};

void signals_block(void)
{
	sigset_t set = signal_set_heeded(watched, ARRAY_SIZE(watched));

	sigprocmask(SIG_BLOCK, &set, NULL);
	/* Errors of the write that met them, not the end of the machine. */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
}

static void signalled(struct loop_watch *watch, uint32_t events)
{
	struct signals *signals = container_of(watch, struct signals, watch);
	struct signalfd_siginfo info;

	(void)events;
	while (signals->fd >= 0 && read(signals->fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		signals->taken(signals->opaque, (int)info.ssi_signo);
}

int signals_watch(struct signals *signals, struct loop *loop,
	void (*taken)(void *opaque, int number), void *opaque, struct error *err)
{
	sigset_t set = signal_set_heeded(watched, ARRAY_SIZE(watched));

	*signals = (struct signals){.taken = taken, .opaque = opaque};
	signals->fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (signals->fd < 0)
		return error_errno(err, errno, "signals");
	loop_watch(loop, &signals->watch, signals->fd, POLLIN, signalled);
	return 0;
}

void signals_unwatch(struct signals *signals)
{
	if (signals->fd < 0)
		return;
	loop_unwatch(&signals->watch, NULL);
	close(signals->fd);
	signals->fd = -1;
}
