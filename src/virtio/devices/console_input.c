/* SPDX-License-Identifier: Apache-2.0 */
/* From a descriptor, or the main thread, to the guest's receive queue. */
#include "virtio/devices/console_private.h"

#include "base/clock.h"

#include <errno.h>
#include <poll.h>

/* Times quiet_ms, after the driver came up: it says nothing; it never stops. */
#define SETTLES_SILENT 4
#define SETTLES_AT_ALL 10

static void read_done(struct loop_op *op, int32_t res, uint32_t flags);
static void poll_done(struct loop_op *op, int32_t res, uint32_t flags);

size_t console_input_put(struct console *console, const void *bytes, size_t length)
{
	struct console_input *input = &console->input;
	const uint8_t *from = bytes;
	size_t taken;

	pthread_mutex_lock(&input->lock);
	taken = min_u64(length, sizeof(input->ring) - input->length);
	for (size_t i = 0; i < taken; i++)
		input->ring[(input->start + input->length++) % sizeof(input->ring)] = from[i];
	if (taken && !input->posted && console->virtio.io) {
		input->posted = true;
		loop_post(console->virtio.io, &input->task);
	}
	room_wanted(&input->room, taken < length);
	pthread_mutex_unlock(&input->lock);
	return taken;
}

static void try_receive(struct console *console)
{
	virtio_turn(&console->virtio, &console->virtio.queues[CONSOLE_RECEIVE]);
}

void console_input_task(struct loop_task *task)
{
	struct console_input *input = container_of(task, struct console_input, task);

	pthread_mutex_lock(&input->lock);
	input->posted = false;
	pthread_mutex_unlock(&input->lock);
	try_receive(container_of(input, struct console, input));
}

/* They are in the chain. */
static void taken_out(struct console_input *input, size_t count)
{
	pthread_mutex_lock(&input->lock);
	input->start = (input->start + count) % sizeof(input->ring);
	input->length -= count;
	if (input->length <= sizeof(input->ring) / 2)
		room_offer(&input->room);
	pthread_mutex_unlock(&input->lock);
}

/* Moves what is there into the chain; bytes. A page of the guest's may have yet to come
 * (post-copy), and the main thread wants the lock: it is not held over the copy. Only this thread
 * takes out, and what is in the ring stays as it is until then. */
static uint32_t fill(struct console_input *input, const struct virtqueue_chain *chain)
{
	const struct iovec *to = &chain->segments[chain->readable];
	size_t total, first;

	pthread_mutex_lock(&input->lock);
	total = min_u64(input->length, chain->writable_bytes);
	pthread_mutex_unlock(&input->lock);
	first = min_u64(total, sizeof(input->ring) - input->start);
	iov_copy_to(to, chain->writable, 0, input->ring + input->start, first);
	iov_copy_to(to, chain->writable, first, input->ring, total - first);
	taken_out(input, total);
	return (uint32_t)total;
}

static size_t waiting(struct console_input *input)
{
	size_t length;

	pthread_mutex_lock(&input->lock);
	length = input->length;
	pthread_mutex_unlock(&input->lock);
	return length;
}

static void read_more(struct console *console)
{
	struct console_input *input = &console->input;
	struct io_uring_sqe *sqe;

	if (input->fd < 0 || input->reading || input->ended ||
		sizeof(input->ring) - waiting(input) < sizeof(input->bytes))
		return;
	input->reading = true;
	virtio_begin(&console->virtio, &console->virtio.queues[CONSOLE_RECEIVE]);
	sqe = loop_sqe(console->virtio.io);
	if (input->empty)
		io_uring_prep_poll_add(sqe, input->fd, POLLIN);
	else
		io_uring_prep_read(
			sqe, input->fd, input->bytes, sizeof(input->bytes), (uint64_t)-1);
	input->op.done = input->empty ? poll_done : read_done;
	loop_submit(console->virtio.io, sqe, &input->op);
}

enum virtio_progress console_receive(struct console *console)
{
	struct virtqueue *queue = &console->virtio.queues[CONSOLE_RECEIVE];
	struct iovec segments[CONSOLE_SEGMENTS];
	struct virtqueue_chain chain = {.segments = segments, .capacity = CONSOLE_SEGMENTS};

	while (console->input.settled && waiting(&console->input) &&
		virtqueue_pop(queue, &chain) > 0) {
		uint32_t filled = fill(&console->input, &chain);

		/* Each buffer takes a byte at least, so this ends however fast they come. */
		if (filled == 0) {
			virtio_needs_reset(&console->virtio, "receive buffer not writable");
			break;
		}
		counter_add(&console->bytes_in, filled);
		virtqueue_push(queue, &chain, filled);
	}
	read_more(console);
	return VIRTIO_DONE;
}

/* One on the loop, with all that follows from it. */
static void operation_over(struct console *console)
{
	virtio_end(&console->virtio, &console->virtio.queues[CONSOLE_RECEIVE]);
}

static void poll_done(struct loop_op *op, int32_t res, uint32_t flags)
{
	struct console_input *input = container_of(op, struct console_input, op);
	struct console *console = container_of(input, struct console, input);

	input->reading = input->empty = false;
	if (res < 0 && res != -EINTR && res != -ECANCELED)
		input->ended = true;
	try_receive(console);
	operation_over(console);
}

static void read_done(struct loop_op *op, int32_t res, uint32_t flags)
{
	struct console_input *input = container_of(op, struct console_input, op);
	struct console *console = container_of(input, struct console, input);

	input->reading = false;
	input->empty = res == -EAGAIN;
	if (res > 0)
		console_input_put(console, input->bytes, (size_t)res);
	else if (res != -EINTR && res != -ECANCELED && res != -EAGAIN)
		input->ended = true;
	try_receive(console);
	operation_over(console);
}

static void cancelled(struct loop_op *op, int32_t res, uint32_t flags)
{
	operation_over(container_of(op, struct console, input.cancel));
}

/* Linux throws away what it is given before the port has its console, and does not say when it has:
 * by then it has repeated the kernel's log there. */
static void settle(struct console *console)
{
	struct console_input *input = &console->input;
	const uint64_t quiet = input->quiet_ms * MS_NS, now = clock_ns();

	input->settled |= !quiet;
	if (input->settled)
		return;
	input->settled_by = now + SETTLES_AT_ALL * quiet;
	loop_timer_at(console->virtio.io, &input->settling, now + SETTLES_SILENT * quiet);
}

void console_input_heard(struct console *console)
{
	struct console_input *input = &console->input;
	const uint64_t quiet = input->quiet_ms * MS_NS;

	if (!input->settled)
		loop_timer_at(console->virtio.io, &input->settling,
			min_u64(clock_ns() + quiet, input->settled_by));
}

void console_input_settled(struct loop_timer *timer)
{
	struct console *console = container_of(timer, struct console, input.settling);

	console->input.settled = true;
	try_receive(console);
}

void console_input_start(struct console *console)
{
	console->input.ended = console->input.empty = false;
	settle(console);
	read_more(console);
}

void console_input_stop(struct console *console)
{
	struct console_input *input = &console->input;
	struct io_uring_sqe *sqe;

	loop_timer_stop(&input->settling);
	if (!input->reading)
		return;
	virtio_begin(&console->virtio, &console->virtio.queues[CONSOLE_RECEIVE]);
	input->cancel.done = cancelled;
	sqe = loop_sqe(console->virtio.io);
	io_uring_prep_cancel(sqe, &input->op, 0);
	loop_submit(console->virtio.io, sqe, &input->cancel);
}

void console_input_save(struct console_input *input, struct state_writer *writer)
{
	pthread_mutex_lock(&input->lock);
	state_put_u16(writer, (uint16_t)input->length);
	for (size_t i = 0; i < input->length; i++)
		state_put_u8(writer, input->ring[(input->start + i) % sizeof(input->ring)]);
	pthread_mutex_unlock(&input->lock);
}

int console_input_restore(struct console_input *input, struct state_reader *reader)
{
	const size_t length = state_get_u16(reader);

	if (length > sizeof(input->ring))
		return -EINVAL;
	/* The driver was there before; when it was not, it is as if it had been. */
	input->settled = true;
	pthread_mutex_lock(&input->lock);
	state_get_bytes(reader, input->ring, length);
	input->start = 0;
	input->length = reader->failed ? 0 : length;
	pthread_mutex_unlock(&input->lock);
	return 0;
}
