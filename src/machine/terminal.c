/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/terminal.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define ESCAPE 0x01 /* Ctrl-A */

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
		if (write(STDERR_FILENO, help, sizeof(help) - 1) < 0)
			return -1;
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
		if (byte >= 0)
			terminal->pending[terminal->pending_length++] = (unsigned char)byte;
	}
}

static void stop_watching(struct terminal *terminal)
{
	if (terminal->watching)
		loop_unwatch(&terminal->watch, NULL);
	terminal->watching = false;
}

static void deliver(struct terminal *terminal)
{
	size_t taken = terminal->events->typed(
		terminal->opaque, terminal->pending, terminal->pending_length);

	terminal->pending_length -= taken;
	memmove(terminal->pending, terminal->pending + taken, terminal->pending_length);
}

void terminal_pump(struct terminal *terminal)
{
	unsigned char keys[sizeof(terminal->pending)];

	while (terminal->watching) {
		struct pollfd poll_fd = {.fd = terminal->fd, .events = POLLIN};
		ssize_t got;

		if (terminal->pending_length)
			deliver(terminal);
		if (terminal->pending_length || poll(&poll_fd, 1, 0) <= 0)
			return;
		got = read(terminal->fd, keys, sizeof(keys));
		if (got < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (got <= 0) {
			/* End of input: the guest goes on without a keyboard. */
			stop_watching(terminal);
			return;
		}
		take(terminal, keys, (size_t)got);
	}
}

static void readable(struct loop_watch *watch, uint32_t events)
{
	struct terminal *terminal =
		(struct terminal *)(void *)((char *)watch - offsetof(struct terminal, watch));

	if (events & POLLERR) {
		/* Not a pollable descriptor (a regular file): nothing to wait for. */
		terminal->watching = false;
		return;
	}
	terminal_pump(terminal);
}

void terminal_start(struct terminal *terminal, struct loop *loop, int fd,
	const struct terminal_events *events, void *opaque)
{
	struct termios raw;

	*terminal = (struct terminal){.events = events, .opaque = opaque, .loop = loop, .fd = fd};
	if (isatty(fd) && tcgetattr(fd, &terminal->before) == 0) {
		raw = terminal->before;
		cfmakeraw(&raw);
		if (tcsetattr(fd, TCSANOW, &raw) == 0)
			terminal->raw = true;
	}
	terminal->watching = true;
	loop_watch(loop, &terminal->watch, fd, POLLIN, readable);
}

void terminal_stop(struct terminal *terminal)
{
	stop_watching(terminal);
	if (terminal->raw)
		tcsetattr(terminal->fd, TCSANOW, &terminal->before);
	terminal->raw = false;
}
