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

/* Those that ask for the end come first. */
static const int watched[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGWINCH, SIGCONT};
#define ENDING 3

void signals_block(void)
{
	sigset_t set = signal_set_heeded(watched, ARRAY_SIZE(watched));

	sigprocmask(SIG_BLOCK, &set, NULL);
	/* Errors of the write that met them, not the end of the machine. */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
}

int signals_descriptor(bool only_ending)
{
	const sigset_t set = signal_set_heeded(watched, only_ending ? ENDING : ARRAY_SIZE(watched));
	int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);

	return fd < 0 ? -errno : fd;
}

void signals_default_ending(void)
{
	const sigset_t set = signal_set_heeded(watched, ENDING);

	for (unsigned i = 0; i < ENDING; i++)
		if (sigismember(&set, watched[i]))
			signals_default(watched[i]);
}

void signals_default(int number)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, number);
	signal(number, SIG_DFL);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
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
	*signals =
		(struct signals){.taken = taken, .opaque = opaque, .fd = signals_descriptor(false)};
	if (signals->fd < 0)
		return error_errno(err, -signals->fd, "signals");
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
