/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/vigil.h"

#include "base/checked.h"
#include "base/clock.h"
#include "base/leftover.h"
#include "base/log.h"
#include "base/thread.h"
#include "cli/signals.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

/* #syscalls main: signalfd4 eventfd2 poll read write */

/* That of the I/O thread, which gets this one's when it has ended. */
#define STACK_SIZE (128U << 10)

static void set_deadline(struct vigil *vigil, int milliseconds)
{
	const uint64_t then = clock_ns() + (uint64_t)milliseconds * MS_NS;

	if (!vigil->deadline || then < vigil->deadline)
		vigil->deadline = then;
}

static void take_signal(struct vigil *vigil)
{
	struct signalfd_siginfo info;

	if (read(vigil->signals, &info, sizeof(info)) != (ssize_t)sizeof(info))
		return;
	if (vigil->terms.spares && !vigil->spared) {
		vigil->spared = (int)info.ssi_signo;
		return;
	}
	vigil->number = (int)info.ssi_signo;
	vigil->told = clock_ns();
	set_deadline(vigil, vigil->terms.grace);
}

static int time_left(const struct vigil *vigil)
{
	const uint64_t now = clock_ns();

	if (!vigil->deadline)
		return -1;
	return vigil->deadline > now ? (int)((vigil->deadline - now) / MS_NS) + 1 : 0;
}

/* False: the main thread is back. */
static bool wait_for_deadline(struct vigil *vigil)
{
	struct pollfd fds[] = {
		{.fd = vigil->stop, .events = POLLIN}, {.fd = vigil->signals, .events = POLLIN}};

	for (;;) {
		const int left = time_left(vigil);

		if (left == 0)
			return true;
		if (poll(fds, ARRAY_SIZE(fds), left) <= 0)
			continue;
		if (fds[0].revents)
			return false;
		take_signal(vigil);
	}
}

/* From its first step on another signal ends the process by itself, should even the removal hang. A
 * process that is the first of its container does not end by a signal of its own. */
static void end_process(const struct vigil *vigil)
{
	const int number = vigil->number ? vigil->number : SIGTERM;
	char after[32] = "";

	signals_default_ending();
	signals_default(number);
	leftover_remove_all();
	if (vigil->number)
		snprintf(after, sizeof(after), ", %u ms after it",
			(unsigned)((clock_ns() - vigil->told) / MS_NS));
	log_warning("ended %s%s%s; if the host's storage or kernel does not let go, the process "
		    "goes when it does",
		vigil->number ? "by a signal " : "", vigil->terms.meanwhile, after);
	if (vigil->terms.status < 0)
		raise(number);
	_exit(vigil->terms.status < 0 ? 128 + number : vigil->terms.status);
}

static void *keep(void *opaque)
{
	struct vigil *vigil = opaque;

	pthread_setname_np(pthread_self(), "duet-vigil");
	if (wait_for_deadline(vigil))
		end_process(vigil);
	return NULL;
}

static int open_both(struct vigil *vigil)
{
	vigil->stop = eventfd(0, EFD_CLOEXEC);
	if (vigil->stop < 0)
		return -errno;
	vigil->signals = signals_descriptor(true);
	if (vigil->signals >= 0)
		return 0;
	close(vigil->stop);
	return vigil->signals;
}

static void close_both(const struct vigil *vigil)
{
	close(vigil->signals);
	close(vigil->stop);
}

int vigil_begin(struct vigil *vigil, const struct vigil_terms *terms, struct error *err)
{
	int ret;

	if (vigil->kept)
		return 0;
	*vigil = (struct vigil){.terms = *terms};
	if (terms->limit >= 0)
		set_deadline(vigil, terms->limit);
	ret = open_both(vigil);
	if (ret < 0)
		return error_errno(err, -ret, "signals");
	ret = thread_start(&vigil->thread, STACK_SIZE, keep, vigil);
	if (ret) {
		close_both(vigil);
		return error_errno(err, ret, "signals: thread");
	}
	vigil->kept = true;
	return 0;
}

int vigil_end(struct vigil *vigil)
{
	if (!vigil->kept)
		return 0;
	eventfd_write(vigil->stop, 1);
	pthread_join(vigil->thread, NULL);
	close_both(vigil);
	vigil->kept = false;
	return vigil->spared;
}
