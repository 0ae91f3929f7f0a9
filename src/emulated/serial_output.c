/* SPDX-License-Identifier: Apache-2.0 */
#include "emulated/serial_output.h"

#include "base/checked.h"
#include "base/clock.h"

#include <errno.h>
#include <string.h>

#define FINISH_WAIT_MS 250

void serial_output_init(struct serial_output *output, int fd)
{
	nowait_open(&output->to, fd);
}

void serial_output_destroy(struct serial_output *output)
{
	if (output->loop) {
		loop_timer_stop(&output->delay);
		loop_unpost(output->loop, &output->arm);
	}
	nowait_close(&output->to);
}

static void drop(struct serial_output *output)
{
	output->dropped += output->length;
	output->length = 0;
}

/* False when the file takes no more now. */
static bool write_out(struct serial_output *output)
{
	while (output->length) {
		const ssize_t sent = nowait_write(&output->to, output->buffer, output->length);

		output->writes++;
		if (sent == -EAGAIN)
			return false;
		output->stuck = false;
		output->full_since = 0;
		if (sent <= 0) {
			/* Nobody will ever read it (EPIPE, EIO, a full disk). */
			drop(output);
			break;
		}
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

void serial_output_finish(struct serial_output *output, bool hurry)
{
	const size_t taken = nowait_last(&output->to, output->buffer, output->length,
		hurry ? NOWAIT_HURRY_MS : FINISH_WAIT_MS, hurry ? NOWAIT_HURRY_MS : NOWAIT_LAST_MS);

	output->writes += output->length > 0;
	output->bytes += taken;
	output->length -= (unsigned)taken;
	output->stuck = false;
	output->full_since = 0;
	drop(output);
}

bool serial_output_full(const struct serial_output *output)
{
	return output->length > sizeof(output->buffer) - SERIAL_OUTPUT_ROOM;
}

bool serial_output_ready(struct serial_output *output)
{
	uint64_t now;

	if (!serial_output_full(output))
		return true;
	write_out(output);
	if (!serial_output_full(output) || output->stuck)
		return true;
	now = clock_ns();
	if (!output->full_since)
		output->full_since = now;
	output->stuck = now - output->full_since >= SERIAL_OUTPUT_PATIENCE_MS * MS_NS;
	return output->stuck;
}

/* A guest that waits for its transmitter's interrupt is served sooner. */
static void set_timer(struct serial_output *output)
{
	const bool waited_for = serial_output_full(output) && !output->stuck;

	loop_timer_after(output->loop, &output->delay,
		(waited_for ? SERIAL_OUTPUT_RETRY_MS : SERIAL_OUTPUT_DELAY_MS) * MS_NS);
}

static void arm(struct loop_task *task)
{
	struct serial_output *output = container_of(task, struct serial_output, arm);

	pthread_mutex_lock(output->lock);
	set_timer(output);
	pthread_mutex_unlock(output->lock);
}

/* Goes on while there is output or something to be retried, then rests: an idle guest costs no
 * wake-up. */
static void expired(struct loop_timer *timer)
{
	struct serial_output *output = container_of(timer, struct serial_output, delay);

	pthread_mutex_lock(output->lock);
	write_out(output);
	output->retried(output);
	output->timer = output->length || output->put_since;
	output->put_since = false;
	if (output->timer)
		set_timer(output);
	pthread_mutex_unlock(output->lock);
}

void serial_output_attach(struct serial_output *output, struct loop *loop, pthread_mutex_t *lock,
	void (*retried)(struct serial_output *output))
{
	output->loop = loop;
	output->lock = lock;
	output->retried = retried;
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

void serial_output_put(struct serial_output *output, char byte)
{
	if (output->length == sizeof(output->buffer))
		write_out(output);
	if (output->length == sizeof(output->buffer)) {
		output->dropped++;
		return;
	}
	output->buffer[output->length++] = byte;
	if (byte == '\n')
		serial_output_flush(output);
	start_timer(output);
}
