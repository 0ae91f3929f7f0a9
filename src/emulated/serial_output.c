/* SPDX-License-Identifier: Apache-2.0 */
#include "emulated/serial_output.h"

#include "base/checked.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define FULL_WAIT_MS   50
#define FINISH_WAIT_MS 250

/* O_NONBLOCK belongs to the open file, which a terminal shares with the shell: so pipes and
 * terminals are opened a second time. A regular file would get a position of its own that way. */
static int open_again(int fd)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

static enum serial_output_kind kind_of(int fd)
{
	struct stat stat;

	if (fstat(fd, &stat) < 0)
		return OUTPUT_POLLED;
	if (S_ISFIFO(stat.st_mode) || S_ISCHR(stat.st_mode))
		return OUTPUT_NONBLOCKING;
	if (S_ISSOCK(stat.st_mode))
		return OUTPUT_SOCKET;
	return S_ISREG(stat.st_mode) ? OUTPUT_FILE : OUTPUT_POLLED;
}

void serial_output_init(struct serial_output *output, int fd)
{
	output->kind = kind_of(fd);
	output->fd = fd;
	if (output->kind != OUTPUT_NONBLOCKING)
		return;
	output->fd = open_again(fd);
	if (output->fd < 0) {
		output->fd = fd;
		output->kind = OUTPUT_POLLED;
	}
}

void serial_output_destroy(struct serial_output *output)
{
	if (output->loop) {
		loop_timer_stop(&output->delay);
		loop_unpost(output->loop, &output->arm);
	}
	if (output->kind == OUTPUT_NONBLOCKING)
		close(output->fd);
	output->fd = -1;
}

static bool wait_room(const struct serial_output *output, int milliseconds)
{
	struct pollfd poll_fd = {.fd = output->fd, .events = POLLOUT};

	return poll(&poll_fd, 1, milliseconds) == 1;
}

static ssize_t write_some(struct serial_output *output)
{
	output->writes++;
	if (output->kind == OUTPUT_SOCKET)
		return send(
			output->fd, output->buffer, output->length, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (output->kind == OUTPUT_POLLED && !wait_room(output, 0)) {
		errno = EAGAIN;
		return -1;
	}
	return write(output->fd, output->buffer, output->length);
}

/* False when the file takes no more now. */
static bool write_out(struct serial_output *output)
{
	while (output->length) {
		const ssize_t sent = write_some(output);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0 && errno == EAGAIN)
			return false;
		if (sent <= 0) {
			/* Nobody will ever read it (EPIPE, EIO, a full disk). */
			output->dropped += output->length;
			output->length = 0;
			break;
		}
		output->stuck = false;
		output->bytes += (size_t)sent;
		output->length -= (unsigned)sent;
		memmove(output->buffer, output->buffer + sent, output->length);
	}
	return true;
}

void serial_output_flush(struct serial_output *output)
{
	if (output->length && !output->stuck)
		write_out(output);
}

void serial_output_finish(struct serial_output *output)
{
	while (!write_out(output))
		if (!wait_room(output, FINISH_WAIT_MS))
			break;
	output->dropped += output->length;
	output->length = 0;
}

static void set_timer(struct serial_output *output)
{
	loop_timer_after(output->loop, &output->delay, SERIAL_OUTPUT_DELAY_MS * 1000000ULL);
}

static void arm(struct loop_task *task)
{
	set_timer(container_of(task, struct serial_output, arm));
}

/* Goes on while there is output or something to be retried, then rests: an idle guest costs no
 * wake-up. */
static void expired(struct loop_timer *timer)
{
	struct serial_output *output = container_of(timer, struct serial_output, delay);

	pthread_mutex_lock(output->lock);
	write_out(output);
	output->timer = output->length || output->put_since;
	output->put_since = false;
	if (output->timer)
		set_timer(output);
	pthread_mutex_unlock(output->lock);
}

void serial_output_attach(struct serial_output *output, struct loop *loop, pthread_mutex_t *lock)
{
	output->loop = loop;
	output->lock = lock;
	output->arm.run = arm;
	output->delay.expired = expired;
}

static void start_timer(struct serial_output *output)
{
	output->put_since = true;
	if (output->timer || !output->loop)
		return;
	output->timer = true;
	loop_post(output->loop, &output->arm);
}

void serial_output_start(struct serial_output *output)
{
	if (output->length)
		start_timer(output);
}

/* The buffer is full. The reader gets one moment; once it let that pass, what comes is dropped
 * until it reads again. */
static bool make_room(struct serial_output *output)
{
	if (write_out(output) || output->length < sizeof(output->buffer))
		return true;
	if (output->stuck || !wait_room(output, FULL_WAIT_MS)) {
		output->stuck = true;
		return false;
	}
	write_out(output);
	return output->length < sizeof(output->buffer);
}

void serial_output_put(struct serial_output *output, char byte)
{
	if (output->length == sizeof(output->buffer) && !make_room(output)) {
		output->dropped++;
		return;
	}
	output->buffer[output->length++] = byte;
	if (byte == '\n')
		serial_output_flush(output);
	start_timer(output);
}
