/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/terminal.h"

#include "base/checked.h"
#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * #syscalls main: read fstat newfstatat poll
 * #syscalls main: ioctl(TCGETS) ioctl(TCSETS) ioctl(TCGETS2) ioctl(TCSETS2)
 * #syscalls main: ioctl(TIOCGPGRP) getpgrp
 */

#define ESCAPE 0x01 /* Ctrl-A */
#define READ   256

static const char help[] = "\r\nCtrl-A x  end the virtual machine\r\n"
			   "Ctrl-A a  send Ctrl-A\r\nCtrl-A h  this help\r\n";

/* The byte a key means to the guest, or -1 when it was a command to duet. */
static int after_escape(struct terminal *terminal, unsigned char key)
{
	switch (key) {
	case 'x':
	case 'X':
		terminal->events->end(terminal->opaque);
		return -1;
	case 'a':
	case ESCAPE:
		return ESCAPE;
	case 'h':
	case '?':
		log_text(help, sizeof(help) - 1);
		return -1;
	default:
		return key;
	}
}

static void take(struct terminal *terminal, const unsigned char *keys, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		int byte = keys[i];

		if (terminal->escaped) {
			terminal->escaped = false;
			byte = after_escape(terminal, keys[i]);
		} else if (terminal->raw && keys[i] == ESCAPE) {
			terminal->escaped = true;
			byte = -1;
		}
		/* Typed too far ahead of a guest that takes nothing: only commands count. */
		if (byte >= 0 && terminal->pending_length < sizeof(terminal->pending))
			terminal->pending[terminal->pending_length++] = (unsigned char)byte;
	}
}

/* Input has ended: the guest goes on without a keyboard. */
static void end_input(struct terminal *terminal)
{
	terminal->open = false;
	if (terminal->watching)
		loop_unwatch(&terminal->watch, NULL);
	terminal->watching = false;
}

/* To read or set the controlling terminal from the background stops the process. (There is no such
 * group, -1, for another terminal.) */
static bool may_use(const struct terminal *terminal)
{
	const pid_t foreground = terminal->tty ? tcgetpgrp(terminal->fd) : -1;

	return foreground < 0 || foreground == getpgrp();
}

static void deliver(struct terminal *terminal)
{
	size_t taken = terminal->events->typed(
		terminal->opaque, terminal->pending, terminal->pending_length);

	terminal->pending_length -= taken;
	memmove(terminal->pending, terminal->pending + taken, terminal->pending_length);
}

/* What is typed at a terminal is read on for the sake of its commands, whatever the guest takes;
 * what else there is loses nothing by waiting. */
void terminal_pump(struct terminal *terminal)
{
	unsigned char keys[READ];

	while (terminal->open) {
		struct pollfd poll_fd = {.fd = terminal->fd, .events = POLLIN};
		ssize_t got;

		if (terminal->pending_length)
			deliver(terminal);
		if ((terminal->pending_length && !terminal->raw) || !may_use(terminal) ||
			poll(&poll_fd, 1, 0) <= 0)
			return;
		got = read(terminal->fd, keys, sizeof(keys));
		if (got < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (got <= 0)
			end_input(terminal);
		else
			take(terminal, keys, (size_t)got);
	}
}

static void readable(struct loop_watch *watch, uint32_t events)
{
	(void)events;
	terminal_pump(container_of(watch, struct terminal, watch));
}

/* Files and devices like /dev/null are always ready: a watch on them would call back for ever.
 * They are read as the guest takes what they hold. */
static bool can_wait(const struct terminal *terminal)
{
	struct stat status;

	if (terminal->tty)
		return true;
	return fstat(terminal->fd, &status) == 0 &&
	       (S_ISFIFO(status.st_mode) || S_ISSOCK(status.st_mode));
}

static void set_raw(struct terminal *terminal)
{
	struct termios raw;

	if (!terminal->raw && tcgetattr(terminal->fd, &terminal->before) < 0)
		return;
	raw = terminal->before;
	cfmakeraw(&raw);
	if (tcsetattr(terminal->fd, TCSANOW, &raw) == 0)
		terminal->raw = true;
}

void terminal_resume(struct terminal *terminal)
{
	if (!terminal->open || !may_use(terminal))
		return;
	if (terminal->tty)
		set_raw(terminal);
	if (can_wait(terminal) && !terminal->watching) {
		terminal->watching = true;
		loop_watch(terminal->loop, &terminal->watch, terminal->fd, POLLIN, readable);
	}
	terminal_pump(terminal);
}

void terminal_start(struct terminal *terminal, struct loop *loop, int fd,
	const struct terminal_events *events, void *opaque)
{
	*terminal = (struct terminal){.events = events,
		.opaque = opaque,
		.loop = loop,
		.fd = fd,
		.tty = isatty(fd),
		.open = true};
	terminal_resume(terminal);
}

void terminal_stop(struct terminal *terminal)
{
	end_input(terminal);
	if (terminal->raw && may_use(terminal))
		tcsetattr(terminal->fd, TCSANOW, &terminal->before);
	terminal->raw = false;
}
