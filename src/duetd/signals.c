/* SPDX-License-Identifier: Apache-2.0 */
#include "duetd/signals.h"
#include "base/checked.h"
#include "base/log.h"
#include "base/signal_set.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

static void signalled(struct loop_watch *watch, uint32_t events)
{
	struct signals *signals = container_of(watch, struct signals, watch);
	struct signalfd_siginfo info;

	if (read(signals->fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
		return;
	log_info("signal %u: %s", info.ssi_signo, signals->words);
	loop_stop(signals->loop);
}

int signals_open(struct signals *signals, struct loop *loop, const char *words, struct error *err)
{
	static const int ending[] = {SIGTERM, SIGINT, SIGHUP};
	const sigset_t set = signal_set_heeded(ending, ARRAY_SIZE(ending));

	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	signals->loop = loop;
	signals->words = words;
	signals->fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (signals->fd < 0)
		return error_errno(err, errno, "signals");
	return loop_watch(loop, &signals->watch, signals->fd, POLLIN, signalled);
}

int signals_run(struct signals *signals, struct error *err)
{
	int ret;

	log_set_patience(0);
	ret = loop_run(signals->loop);
	log_set_patience(SIGNALS_LOG_PATIENCE_MS);
	return ret < 0 ? error_errno(err, -ret, "io_uring") : 0;
}

void signals_close(struct signals *signals)
{
	if (signals->fd < 0)
		return;
	loop_unwatch(&signals->watch, NULL);
	close(signals->fd);
	signals->fd = -1;
}

struct ending {
	struct loop_timer timer;
	struct loop *loop;
};

static void end_now(struct loop_timer *timer)
{
	loop_stop(container_of(timer, struct ending, timer)->loop);
}

void signals_settle(struct loop *loop)
{
	struct ending ending = {.timer.expired = end_now, .loop = loop};

	loop_timer_after(loop, &ending.timer, 1000000);
	loop_run(loop);
}
