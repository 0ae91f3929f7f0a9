/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moving data: each request is one io_uring operation in the common case. A short transfer, a
 * refusal that has a substitute and an interruption make it issue the next operation until it is
 * done; all of that is in completed().
 */
#include "backend/block_private.h"
#include "base/checked.h"

#include <errno.h>
#include <linux/falloc.h>
#include <linux/fs.h>

#define RETRIES_MAX 16

/* The ways to do a request, in the order tried. */
enum step {
	STEP_MOVE,       /* read, write, flush */
	STEP_DISCARD,    /* of a device, elsewhere: block_discard.c */
	STEP_PUNCH,      /* discard of a file, write zeroes that may unmap */
	STEP_ZERO_RANGE, /* write zeroes */
	STEP_ZEROES,     /* write zeroes by writing them */
	STEP_SYNC,       /* the data is there; make it durable */
	STEP_REPORT,     /* only the result is to be delivered */
};

static void completed(struct loop_op *op, int32_t res, uint32_t flags);

/* What goes through the page cache is copied when it is submitted, some bytes a nanosecond, and
 * the loop's other callbacks wait for it as they do for the one that asks. */
#define COPIED_IN_NS 8

/* Direct I/O wants everything aligned; a guest promises nothing about its buffers. */
static bool direct_can(
	const struct block *block, const struct iovec *segments, unsigned count, uint64_t offset)
{
	uint64_t low = offset & (block->file.direct_offset - 1);

	for (unsigned i = 0; i < count; i++) {
		low |= (uintptr_t)segments[i].iov_base & (block->file.direct_memory - 1);
		low |= segments[i].iov_len & (block->file.direct_offset - 1);
	}
	return low == 0;
}

static int pick_fd(const struct block_request *request, const struct iovec *segments,
	unsigned count, uint64_t offset)
{
	const struct block *block = request->block;

	if (block->file.buffered_fd < 0 ||
		(!request->buffered && direct_can(block, segments, count, offset)))
		return block->file.fd;
	return block->file.buffered_fd;
}

static void prep_one(
	struct io_uring_sqe *sqe, const struct block_request *request, const struct iovec *piece)
{
	uint64_t offset = request->offset + request->moved;
	int fd = pick_fd(request, piece, 1, offset);
	unsigned length = (unsigned)min_u64(piece->iov_len, 1U << 30);

	if (request->kind == BLOCK_READ)
		io_uring_prep_read(sqe, fd, piece->iov_base, length, offset);
	else
		io_uring_prep_write(sqe, fd, piece->iov_base, length, offset);
}

/* The rest of a half-moved segment goes alone, so that the caller's array is never changed. */
static void prep_move(struct io_uring_sqe *sqe, const struct block_request *request)
{
	const struct iovec *segments = request->segments;
	uint64_t offset = request->offset + request->moved;
	uint64_t skip = request->moved;
	unsigned count = request->count;
	int fd;

	while (count > 1 && skip >= segments->iov_len) {
		skip -= segments->iov_len;
		segments++;
		count--;
	}
	if (skip > 0 || count == 1) {
		struct iovec piece = {(char *)segments->iov_base + skip, segments->iov_len - skip};

		prep_one(sqe, request, &piece);
		return;
	}
	fd = pick_fd(request, segments, count, offset);
	if (request->kind == BLOCK_READ)
		io_uring_prep_readv(sqe, fd, segments, count, offset);
	else
		io_uring_prep_writev(sqe, fd, segments, count, offset);
}

static void prep_fallocate(struct io_uring_sqe *sqe, const struct block_request *request, int mode)
{
	io_uring_prep_fallocate(sqe, request->block->file.fd, mode | FALLOC_FL_KEEP_SIZE,
		(off_t)request->offset, (off_t)request->length);
}

static void prep_step(struct io_uring_sqe *sqe, const struct block_request *request)
{
	const struct block *block = request->block;

	switch ((enum step)request->step) {
	case STEP_MOVE:
		if (request->kind == BLOCK_FLUSH) {
			io_uring_prep_fsync(sqe, block->file.fd, IORING_FSYNC_DATASYNC);
			break;
		}
		prep_move(sqe, request);
		if (request->durable && request->kind == BLOCK_WRITE)
			sqe->rw_flags = RWF_DSYNC;
		break;
	case STEP_PUNCH:
		prep_fallocate(sqe, request, FALLOC_FL_PUNCH_HOLE);
		break;
	case STEP_ZERO_RANGE:
		prep_fallocate(sqe, request, FALLOC_FL_ZERO_RANGE);
		break;
	case STEP_ZEROES:
		prep_one(sqe, request,
			&(struct iovec){block->zeroes,
				min_u64(request->length - request->moved, BLOCK_ZEROES)});
		break;
	case STEP_SYNC:
		io_uring_prep_fsync(sqe, block->file.fd, IORING_FSYNC_DATASYNC);
		break;
	case STEP_DISCARD: /* does not come by here */
	case STEP_REPORT:
		io_uring_prep_nop(sqe);
		break;
	}
}

static bool moves(const struct block_request *request)
{
	return request->step == STEP_ZEROES ||
	       (request->step == STEP_MOVE && request->kind != BLOCK_FLUSH);
}

/* Also with direct I/O, for what it cannot take. */
static bool goes_through_cache(const struct io_uring_sqe *sqe, const struct block_request *request)
{
	const struct block *block = request->block;

	return moves(request) &&
	       (block->file.buffered_fd < 0 || sqe->fd == block->file.buffered_fd);
}

/* What is too much for one turn is for the kernel's own threads. */
static void account_for_copy(struct io_uring_sqe *sqe, const struct block_request *request)
{
	uint64_t nanoseconds = (request->length - request->moved) / COPIED_IN_NS;

	if (nanoseconds > LOOP_TURN_NS)
		sqe->flags |= IOSQE_ASYNC;
	else
		loop_turn_add(request->block->loop, nanoseconds);
}

static void issue(struct block_request *request)
{
	struct block *block = request->block;
	struct io_uring_sqe *sqe;

	if (block->cancelled && request->step != STEP_REPORT) {
		request->step = STEP_REPORT;
		request->result = -ECANCELED;
	}
	if (request->step == STEP_DISCARD) {
		block_discard_submit(block->file.discard, request);
		return;
	}
	sqe = loop_sqe(block->loop);
	prep_step(sqe, request);
	if (block->file.waits && moves(request))
		sqe->flags |= IOSQE_ASYNC;
	else if (goes_through_cache(sqe, request))
		account_for_copy(sqe, request);
	request->op.done = completed;
	loop_submit(block->loop, sqe, &request->op);
}

static void finish(struct block_request *request, int result)
{
	struct block *block = request->block;

	block->in_flight--;
	/* First: after the last done() the block may be gone. */
	if (block->exchange)
		block_refresh_ended(block->exchange);
	request->done(request, result);
}

static void succeed(struct block_request *request)
{
	/* A write was made durable by its own flag. */
	if (!request->durable || request->step == STEP_MOVE || request->step == STEP_SYNC) {
		finish(request, 0);
		return;
	}
	request->step = STEP_SYNC;
	request->retries = 0;
	issue(request);
}

static void advance(struct block_request *request, uint32_t bytes)
{
	/* Nothing moved though the range is inside the disk: somebody cut the file short. */
	if (bytes == 0) {
		finish(request, -EIO);
		return;
	}
	request->moved += bytes;
	request->retries = 0;
	if (request->moved < request->length)
		issue(request);
	else
		succeed(request);
}

static bool try_again(struct block_request *request, int code)
{
	if ((code != EINTR && code != EAGAIN) || request->retries >= RETRIES_MAX)
		return false;
	request->retries++;
	issue(request);
	return true;
}

/* Before Linux 6.1 nobody tells what direct I/O asks of offsets, and it is 512 bytes or the sector
 * of the file system's device: a refusal says so. */
static bool try_buffered(struct block_request *request, int code)
{
	struct block *block = request->block;

	if (code != EINVAL || block->file.buffered_fd < 0 || request->buffered ||
		(request->step != STEP_MOVE && request->step != STEP_ZEROES))
		return false;
	request->buffered = true;
	if (block->file.direct_offset < BLOCK_DIRECT_SAFE)
		block->file.direct_offset = BLOCK_DIRECT_SAFE;
	issue(request);
	return true;
}

/* The next way, when the file system or the device does not know this one. */
static bool try_otherwise(struct block_request *request, int code)
{
	struct block *block = request->block;

	if (code != EOPNOTSUPP && code != ENOSYS)
		return false;
	if (request->step == STEP_PUNCH)
		block->file.no_punch = true;
	else if (request->step == STEP_ZERO_RANGE)
		block->file.no_zero_range = true;
	else
		return false;
	if (request->kind == BLOCK_DISCARD)
		return false;
	request->step = block->file.no_zero_range ? STEP_ZEROES : STEP_ZERO_RANGE;
	issue(request);
	return true;
}

static void completed(struct loop_op *op, int32_t res, uint32_t flags)
{
	struct block_request *request = container_of(op, struct block_request, op);

	if (request->step == STEP_REPORT) {
		finish(request, request->result);
		return;
	}
	if (res < 0 && request->block->cancelled) {
		finish(request, -ECANCELED);
		return;
	}
	if (res < 0) {
		if (!try_again(request, -res) && !try_buffered(request, -res) &&
			!try_otherwise(request, -res))
			finish(request, res);
		return;
	}
	if (request->step == STEP_ZEROES ||
		(request->step == STEP_MOVE && request->kind != BLOCK_FLUSH))
		advance(request, (uint32_t)res);
	else
		succeed(request);
}

static enum step first_step(const struct block_request *request)
{
	const struct block *block = request->block;

	if (request->kind == BLOCK_DISCARD)
		return block->file.discard ? STEP_DISCARD : STEP_PUNCH;
	if (request->kind != BLOCK_WRITE_ZEROES)
		return STEP_MOVE;
	if (request->unmap && !block->file.no_punch)
		return STEP_PUNCH;
	return block->file.no_zero_range ? STEP_ZEROES : STEP_ZERO_RANGE;
}

static int check(const struct block_request *request)
{
	const struct block *block = request->block;
	uint64_t sum = 0;

	if (request->kind == BLOCK_FLUSH)
		return 0;
	if (request->kind != BLOCK_READ && block->readonly)
		return -EROFS;
	if (request->length == 0 ||
		!range_within(request->offset, request->length, block->file.size))
		return -EINVAL;
	if (request->kind == BLOCK_DISCARD)
		return block->file.no_punch && !block->file.discard ? -EOPNOTSUPP : 0;
	if (request->kind == BLOCK_WRITE_ZEROES)
		return 0;
	for (unsigned i = 0; i < request->count; i++)
		if (add_overflows(sum, request->segments[i].iov_len, &sum))
			return -EINVAL;
	return sum == request->length ? 0 : -EINVAL;
}

static void enter(struct block *block, struct block_request *request)
{
	int ret = check(request);

	request->result = ret;
	request->step = ret < 0 ? STEP_REPORT : (uint8_t)first_step(request);
	if (block->throttle && ret == 0)
		block_throttle_submit(block->throttle, request);
	else
		issue(request);
}

void block_submit(struct block *block, struct block_request *request)
{
	block->in_flight++;
	request->block = block;
	request->moved = 0;
	request->retries = 0;
	request->buffered = false;
	if (block->exchange)
		block_refresh_hold(block->exchange, request);
	else
		enter(block, request);
}

void block_resume(struct block_request *request)
{
	enter(request->block, request);
}

void block_begin(struct block_request *request)
{
	issue(request);
}

void block_hurry(struct block *block)
{
	if (block->throttle)
		block_throttle_release(block->throttle);
	if (block->exchange)
		block_refresh_hurry(block->exchange);
}

void block_give_up(struct block_request *request, int result)
{
	request->step = STEP_REPORT;
	request->result = result;
	issue(request);
}

void block_step_ended(struct block_request *request, int result)
{
	completed(&request->op, result, 0);
}

void block_drop(struct block *block)
{
	if (block->throttle)
		block_throttle_drop(block->throttle);
	if (block->file.discard)
		block_discard_drop(block->file.discard);
	if (block->exchange)
		block_refresh_drop(block->exchange);
}

/* Not on kernels before 5.19: what is under way there ends when it ends. */
static void cancel_on(struct block *block, int fd)
{
	struct io_uring_sqe *sqe = loop_sqe(block->loop);

	io_uring_prep_cancel_fd(sqe, fd, IORING_ASYNC_CANCEL_ALL);
	loop_submit(block->loop, sqe, &block->cancel);
}

static void cancel_done(struct loop_op *op, int32_t res, uint32_t flags)
{
	/* Each request tells its own end. */
}

void block_cancel(struct block *block)
{
	block->cancelled = true;
	if (!block->loop)
		return;
	block_hurry(block);
	if (block->file.discard)
		block_discard_drop(block->file.discard);
	block->cancel.done = cancel_done;
	cancel_on(block, block->file.fd);
	if (block->file.buffered_fd >= 0)
		cancel_on(block, block->file.buffered_fd);
}
