/* SPDX-License-Identifier: Apache-2.0 */
/* From the guest's transmit queue to a descriptor. */
#include "virtio/devices/console_private.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#define PATIENCE_NS (500L * 1000 * 1000)

static void write_done(struct loop_op *op, int32_t res, uint32_t flags);
static void poll_done(struct loop_op *op, int32_t res, uint32_t flags);

static struct console *console_of_output(struct console_output *output)
{
	return container_of(output, struct console, output);
}

static void submit(struct console_output *output, struct io_uring_sqe *sqe, struct loop_op *op,
	void (*done)(struct loop_op *, int32_t, uint32_t))
{
	op->done = done;
	output->in_flight++;
	loop_submit(console_of_output(output)->virtio.io, sqe, op);
}

static void issue_write(struct console_output *output)
{
	struct console_buffer *buffer = &output->buffers[!output->filling];
	struct io_uring_sqe *sqe = loop_sqe(console_of_output(output)->virtio.io);

	/* -1: at the file's own position. */
	io_uring_prep_write(sqe, output->fd, buffer->bytes + output->sent,
		(unsigned)(buffer->length - output->sent), (uint64_t)-1);
	submit(output, sqe, &output->op, write_done);
}

/* Somebody else made the descriptor non-blocking, and it is full. */
static void issue_poll(struct console_output *output)
{
	struct io_uring_sqe *sqe = loop_sqe(console_of_output(output)->virtio.io);

	io_uring_prep_poll_add(sqe, output->fd, POLLOUT);
	submit(output, sqe, &output->op, poll_done);
}

static void start_writing(struct console_output *output)
{
	if (output->writing || output->buffers[output->filling].length == 0)
		return;
	output->filling = !output->filling;
	output->sent = 0;
	output->writing = true;
	issue_write(output);
}

static void discard(struct console_output *output)
{
	output->buffers[0].length = output->buffers[1].length = 0;
	output->sent = 0;
	output->writing = false;
}

static void ignore_done(struct loop_op *op, int32_t res, uint32_t flags)
{
	struct console_output *output = container_of(op, struct console_output, cancel);

	output->in_flight--;
	console_try_finish_quiesce(console_of_output(output));
}

static void timeout_done(struct loop_op *op, int32_t res, uint32_t flags)
{
	struct console_output *output = container_of(op, struct console_output, timeout);
	struct io_uring_sqe *sqe;

	output->in_flight--;
	output->timing = false;
	if (res == -ETIME && output->writing) {
		output->dead = true;
		sqe = loop_sqe(console_of_output(output)->virtio.io);
		io_uring_prep_cancel(sqe, &output->op, 0);
		submit(output, sqe, &output->cancel, ignore_done);
	}
	console_try_finish_quiesce(console_of_output(output));
}

static void stop_timer(struct console_output *output)
{
	struct io_uring_sqe *sqe;

	if (!output->timing || output->writing)
		return;
	output->timing = false;
	sqe = loop_sqe(console_of_output(output)->virtio.io);
	io_uring_prep_timeout_remove(sqe, (uint64_t)(uintptr_t)&output->timeout, 0);
	submit(output, sqe, &output->cancel, ignore_done);
}

/* Copies of the chain what fits; true when it is done with. */
static bool take(struct console_output *output)
{
	const struct virtqueue_chain *chain = &output->chain;
	struct console_buffer *buffer = &output->buffers[output->filling];
	size_t room = sizeof(buffer->bytes) - buffer->length;

	if (output->dead)
		return true;
	room = min_u64(room, chain->readable_bytes - output->taken);
	iov_copy_from(chain->segments, chain->readable, output->taken,
		buffer->bytes + buffer->length, room);
	buffer->length += room;
	output->taken += room;
	return output->taken == chain->readable_bytes;
}

static bool finish_chain(struct console *console)
{
	struct console_output *output = &console->output;

	while (!take(output)) {
		if (output->writing)
			return false;
		start_writing(output);
	}
	counter_add(&console->bytes_out, output->chain.readable_bytes);
	virtqueue_push(&console->virtio.queues[CONSOLE_TRANSMIT], &output->chain, 0);
	output->pending = false;
	return true;
}

static bool next_chain(struct console *console)
{
	struct console_output *output = &console->output;
	struct virtqueue *queue = &console->virtio.queues[CONSOLE_TRANSMIT];
	int ret;

	if (console->quiescing || queue->broken)
		return false;
	output->chain.segments = output->segments;
	output->chain.capacity = CONSOLE_SEGMENTS;
	ret = virtqueue_pop(queue, &output->chain);
	if (ret < 0)
		virtio_needs_reset(&console->virtio, queue->fault);
	output->pending = ret > 0;
	output->taken = 0;
	return ret > 0;
}

static void go_on(struct loop_task *task)
{
	struct console *console = container_of(task, struct console, again);

	console->again_posted = false;
	console_transmit(console);
	console_try_finish_quiesce(console);
}

void console_transmit(struct console *console)
{
	struct console_output *output = &console->output;
	unsigned left = CONSOLE_CHAINS;

	while (left && (output->pending || next_chain(console)) && finish_chain(console))
		left--;
	start_writing(output);
	if (left == 0 && !console->again_posted) {
		console->again_posted = true;
		console->again.run = go_on;
		loop_post(console->virtio.io, &console->again);
	}
	virtio_interrupt(&console->virtio, &console->virtio.queues[CONSOLE_TRANSMIT]);
}

static void written(struct console_output *output, int32_t res)
{
	struct console_buffer *buffer = &output->buffers[!output->filling];

	if (output->dead || (res <= 0 && res != -EINTR && res != -EAGAIN)) {
		output->dead = true;
		discard(output);
	} else if (res == -EINTR) {
		issue_write(output);
	} else if (res == -EAGAIN) {
		issue_poll(output);
	} else {
		output->sent += (size_t)res;
		if (output->sent < buffer->length) {
			issue_write(output);
			return;
		}
		buffer->length = 0;
		output->writing = false;
	}
}

static void write_done(struct loop_op *op, int32_t res, uint32_t flags)
{
	struct console_output *output = container_of(op, struct console_output, op);
	struct console *console = console_of_output(output);

	output->in_flight--;
	written(output, res);
	if (!output->writing)
		console_transmit(console);
	if (console->quiescing)
		stop_timer(output);
	console_try_finish_quiesce(console);
}

static void poll_done(struct loop_op *op, int32_t res, uint32_t flags)
{
	struct console_output *output = container_of(op, struct console_output, op);

	output->in_flight--;
	if (output->dead || (res < 0 && res != -EINTR)) {
		output->dead = true;
		discard(output);
		console_transmit(console_of_output(output));
	} else {
		issue_write(output);
	}
	console_try_finish_quiesce(console_of_output(output));
}

void console_output_stop(struct console *console)
{
	struct console_output *output = &console->output;
	struct io_uring_sqe *sqe;

	if (!output->writing || output->timing)
		return;
	output->timing = true;
	output->patience.tv_nsec = PATIENCE_NS;
	sqe = loop_sqe(console->virtio.io);
	io_uring_prep_timeout(sqe, &output->patience, 0, 0);
	submit(output, sqe, &output->timeout, timeout_done);
}

bool console_output_idle(const struct console *console)
{
	return console->output.in_flight == 0 && !console->output.pending;
}

void console_emergency(const struct console *console, char character)
{
	struct pollfd poll_fd = {.fd = console->output.fd, .events = POLLOUT};

	if (poll(&poll_fd, 1, 0) > 0 && (poll_fd.revents & POLLOUT) &&
		write(poll_fd.fd, &character, 1) < 0)
		return; /* the guest is told nothing either way */
}
