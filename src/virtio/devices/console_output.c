/* SPDX-License-Identifier: Apache-2.0 */
/* From the guest's transmit queue to a descriptor. */
#include "virtio/devices/console_private.h"

#include <errno.h>
#include <poll.h>

#define PATIENCE_NS 100000000ULL
#define FINISH_MS   200 /* each time that the reader takes nothing */

static void write_done(struct loop_op *op, int32_t res, uint32_t flags);
static void poll_done(struct loop_op *op, int32_t res, uint32_t flags);

static struct console *console_of_output(struct console_output *output)
{
	return container_of(output, struct console, output);
}

static void submit(struct console_output *output, struct io_uring_sqe *sqe, struct loop_op *op,
	void (*done)(struct loop_op *, int32_t, uint32_t))
{
	struct virtio_device *virtio = &console_of_output(output)->virtio;

	op->done = done;
	virtio_begin(virtio, &virtio->queues[CONSOLE_TRANSMIT]);
	loop_submit(virtio->io, sqe, op);
}

/* One on the loop, with all that follows from it. */
static void operation_over(struct console *console)
{
	if (!console->output.writing)
		loop_timer_stop(&console->output.patience);
	virtio_end(&console->virtio, &console->virtio.queues[CONSOLE_TRANSMIT]);
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
	if (output->writing || output->stopping || output->buffers[output->filling].length == 0)
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
	operation_over(container_of(op, struct console, output.cancel));
}

/* The reader takes nothing: what is being written waits here until the device goes on. */
static void lost_patience(struct loop_timer *timer)
{
	struct console_output *output = container_of(timer, struct console_output, patience);
	struct io_uring_sqe *sqe = loop_sqe(console_of_output(output)->virtio.io);

	output->stopping = true;
	io_uring_prep_cancel(sqe, &output->op, 0);
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
	output->taken = 0;
	return true;
}

static bool next_chain(struct console *console)
{
	struct console_output *output = &console->output;
	struct virtqueue *queue = &console->virtio.queues[CONSOLE_TRANSMIT];

	output->chain.segments = output->segments;
	output->chain.capacity = CONSOLE_SEGMENTS;
	output->pending = virtqueue_pop(queue, &output->chain) > 0;
	if (!output->pending)
		return false;
	output->taken = min_u64(output->taken, output->chain.readable_bytes);
	console_input_heard(console);
	return true;
}

static enum virtio_progress take_chains(struct console *console)
{
	const struct virtqueue *queue = &console->virtio.queues[CONSOLE_TRANSMIT];

	for (unsigned chains = 0; console->output.pending || next_chain(console); chains++) {
		if (!finish_chain(console))
			return VIRTIO_DONE;
		/* One line alone does not look at the clock. */
		if (chains && virtio_turn_over(queue))
			return VIRTIO_MORE;
	}
	return VIRTIO_DONE;
}

enum virtio_progress console_transmit(struct console *console)
{
	enum virtio_progress progress = take_chains(console);

	start_writing(&console->output);
	return progress;
}

static void wrote(struct console_output *output, size_t bytes)
{
	struct console_buffer *buffer = &output->buffers[!output->filling];

	output->sent += bytes;
	if (output->sent < buffer->length) {
		if (!output->stopping)
			issue_write(output);
		return;
	}
	buffer->length = 0;
	output->writing = false;
}

static void written(struct console_output *output, int32_t res)
{
	if (res > 0) {
		wrote(output, (size_t)res);
	} else if (res == -EINTR || res == -EAGAIN || res == -ECANCELED) {
		if (!output->stopping)
			(res == -EAGAIN ? issue_poll : issue_write)(output);
	} else {
		output->dead = true;
		discard(output);
	}
}

static void write_done(struct loop_op *op, int32_t res, uint32_t flags)
{
	struct console_output *output = container_of(op, struct console_output, op);
	struct console *console = console_of_output(output);

	written(output, res);
	start_writing(output);
	virtio_turn(&console->virtio, &console->virtio.queues[CONSOLE_TRANSMIT]);
	operation_over(console);
}

static void poll_done(struct loop_op *op, int32_t res, uint32_t flags)
{
	struct console_output *output = container_of(op, struct console_output, op);
	struct console *console = console_of_output(output);

	if (res < 0 && res != -EINTR && res != -ECANCELED) {
		output->dead = true;
		discard(output);
		virtio_turn(&console->virtio, &console->virtio.queues[CONSOLE_TRANSMIT]);
	} else if (!output->stopping) {
		issue_write(output);
	}
	operation_over(console);
}

void console_output_start(struct console *console)
{
	struct console_output *output = &console->output;

	output->dead = output->stopping = false;
	output->patience.expired = lost_patience;
	if (output->writing)
		issue_write(output);
	else
		start_writing(output);
}

void console_output_stop(struct console *console)
{
	struct console_output *output = &console->output;

	/* The guest gets its buffers back; what is copied of this one is not copied again. */
	if (output->pending)
		virtqueue_unpop(&console->virtio.queues[CONSOLE_TRANSMIT], &output->chain);
	output->pending = false;
	if (output->writing)
		loop_timer_after(console->virtio.io, &output->patience, PATIENCE_NS);
}

void console_output_finish(struct console *console, bool hurry)
{
	struct console_output *output = &console->output;
	const struct console_buffer *first = &output->buffers[!output->filling];
	const struct console_buffer *second = &output->buffers[output->filling];
	const size_t rest = output->writing ? first->length - output->sent : 0;
	const int each = hurry ? NOWAIT_HURRY_MS : FINISH_MS;
	const int all = hurry ? NOWAIT_HURRY_MS : NOWAIT_LAST_MS;

	/* Past the loop; the second has nothing to say that the first did not get to. */
	if (nowait_last(&output->now, first->bytes + output->sent, rest, each, all) == rest)
		nowait_last(&output->now, second->bytes, second->length, each, all);
	discard(output);
}

void console_output_save(const struct console_output *output, struct state_writer *writer)
{
	const struct console_buffer *first = &output->buffers[!output->filling];
	const struct console_buffer *second = &output->buffers[output->filling];
	size_t rest = output->writing ? first->length - output->sent : 0;

	state_put_u32(writer, (uint32_t)rest);
	state_put_bytes(writer, first->bytes + output->sent, rest);
	state_put_u32(writer, (uint32_t)second->length);
	state_put_bytes(writer, second->bytes, second->length);
	state_put_u64(writer, output->taken);
}

static int restore_buffer(struct console_buffer *buffer, struct state_reader *reader)
{
	buffer->length = state_get_u32(reader);
	if (buffer->length > sizeof(buffer->bytes)) {
		buffer->length = 0;
		return -EINVAL;
	}
	state_get_bytes(reader, buffer->bytes, buffer->length);
	return 0;
}

int console_output_restore(struct console_output *output, struct state_reader *reader)
{
	int ret;

	discard(output);
	ret = restore_buffer(&output->buffers[!output->filling], reader);
	if (ret == 0)
		ret = restore_buffer(&output->buffers[output->filling], reader);
	output->taken = state_get_u64(reader);
	output->writing = output->buffers[!output->filling].length > 0;
	if (ret < 0)
		discard(output);
	return ret;
}

void console_emergency(const struct console *console, char character)
{
	/* The guest is told nothing either way. */
	nowait_write(&console->output.now, &character, 1);
}

void console_output_init(struct console_output *output, int fd)
{
	output->fd = fd;
	nowait_open(&output->now, fd);
}

void console_output_destroy(struct console_output *output)
{
	nowait_close(&output->now);
}
