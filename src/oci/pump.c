/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/pump.h"

#include "base/checked.h"
#include "base/signal_set.h"

#include <errno.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

static const int passed[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGALRM};

enum {
	AT_CONNECTION,
	AT_SIGNALS,
	AT_SIDE,
	AT_IN,
	POLLS,
};

int pump_prepare(struct pump *pump)
{
	const sigset_t set = signal_set_heeded(passed, ARRAY_SIZE(passed));

	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	signal(SIGPIPE, SIG_IGN);
	pump->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	pump->room = FRAME_INPUT_ROOM;
	return pump->signals < 0 ? -errno : 0;
}

int terminal_make_raw(int fd, struct termios *before)
{
	struct termios now;

	if (tcgetattr(fd, before) < 0)
		return -errno;
	now = *before;
	cfmakeraw(&now);
	return tcsetattr(fd, TCSANOW, &now) < 0 ? -errno : 0;
}

static int pass_size(struct pump *pump)
{
	struct winsize size;

	if (!pump->terminal || ioctl(pump->in, TIOCGWINSZ, &size) < 0 || !size.ws_row)
		return 0;
	return frame_send_numbers(pump->fd, FRAME_RESIZE, size.ws_row, size.ws_col);
}

static int pass_signal(struct pump *pump, uint32_t number)
{
	return number == SIGWINCH ? pass_size(pump)
				  : frame_send_numbers(pump->fd, FRAME_SIGNAL, number, 0);
}

static int pass_signals(struct pump *pump)
{
	struct signalfd_siginfo info;
	int ret = 0;

	while (ret == 0 && read(pump->signals, &info, sizeof(info)) == (ssize_t)sizeof(info))
		ret = pass_signal(pump, info.ssi_signo);
	return ret;
}

static int pass_input(struct pump *pump)
{
	uint8_t some[FRAME_DATA_MAX];
	const size_t most = min_u64(pump->room, sizeof(some));
	const ssize_t got = read(pump->in, some, most);

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	/* A terminal whose other end is gone is an error to read. */
	pump->input_over = got <= 0;
	pump->room -= got > 0 ? (uint32_t)got : 0;
	return frame_send(pump->fd, FRAME_INPUT, some, got > 0 ? (uint32_t)got : 0);
}

/* Where nobody reads it goes nowhere, and the process goes on. */
static void write_all(int fd, const uint8_t *bytes, size_t length)
{
	struct pollfd item = {.fd = fd, .events = POLLOUT};

	while (length) {
		const ssize_t written = write(fd, bytes, length);

		if (written < 0 && errno == EAGAIN)
			poll(&item, 1, -1);
		else if (written < 0 && errno != EINTR)
			return;
		bytes += written > 0 ? written : 0;
		length -= written > 0 ? (size_t)written : 0;
	}
}

static int give_room(struct pump *pump, const struct frame *frame)
{
	uint32_t room, none;

	if (frame_numbers(frame, &room, &none) < 0 || room > FRAME_INPUT_ROOM - pump->room)
		return -EPROTO;
	pump->room += room;
	return 0;
}

/* 1: the end. */
static int take_frame(struct pump *pump, const struct frame *frame, uint32_t *status)
{
	uint32_t none;

	switch (frame->type) {
	case FRAME_OUTPUT:
		write_all(pump->out, frame->payload, frame->length);
		return 0;
	case FRAME_ERRORS:
		write_all(pump->err, frame->payload, frame->length);
		return 0;
	case FRAME_TAKEN:
		return give_room(pump, frame);
	case FRAME_EXIT:
		if (frame_numbers(frame, status, &none) < 0 || *status > 255)
			return -EPROTO;
		return 1;
	default:
		return -EPROTO;
	}
}

static int take_frames(struct pump *pump, uint32_t *status)
{
	struct frame frame;
	int ret;

	do {
		ret = frame_take(pump->input, pump->fd, &frame);
		if (ret <= 0)
			return ret == -EPIPE ? -ECONNRESET : ret;
		ret = take_frame(pump, &frame, status);
	} while (ret == 0);
	return ret;
}

int pump_run(struct pump *pump, uint32_t *status)
{
	struct pollfd items[POLLS];
	int ret = pass_size(pump);

	while (ret == 0) {
		items[AT_CONNECTION] = (struct pollfd){.fd = pump->fd, .events = POLLIN};
		items[AT_SIGNALS] = (struct pollfd){.fd = pump->signals, .events = POLLIN};
		items[AT_SIDE] = (struct pollfd){.fd = pump->side, .events = POLLIN};
		items[AT_IN] = (struct pollfd){
			.fd = pump->input_over || !pump->room ? -1 : pump->in, .events = POLLIN};
		if (poll(items, POLLS, -1) < 0 && errno != EINTR)
			return -errno;
		/* What is said when the connection ends is an end too: nobody is told of more. */
		if (items[AT_SIGNALS].revents)
			ret = pass_signals(pump);
		if (items[AT_IN].revents && (ret == 0 || ret == -EPIPE))
			ret = pass_input(pump);
		if (items[AT_SIDE].revents && !pump->take_side(pump->opaque))
			pump->side = -1;
		/* It may have said how it ended before it went. */
		if (items[AT_CONNECTION].revents || ret < 0)
			ret = take_frames(pump, status);
	}
	return ret > 0 ? 0 : ret;
}
