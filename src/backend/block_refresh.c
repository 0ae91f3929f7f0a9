/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Another size of the file, or another file, while requests come. The new file is opened on the
 * main thread, as a block of its own. On the I/O loop the two exchange their files once nothing is
 * under way: until then requests are held back, so that none is done half here and half there. The
 * old file is closed on the main thread again, which may wait for a device.
 */
#include "backend/block_private.h"
#include "base/checked.h"

#include <errno.h>
#include <stdlib.h>

struct block_refresh {
	struct block *block;
	struct loop *control;
	struct loop_task begin; /* on the I/O loop, waited for */
	struct loop_task close; /* on @control */
	struct block *other;    /* with the new file, and then with the old one; null: none */
	uint64_t size;          /* of the same file */
	bool deferred;          /* @begin had to leave it to the last request's end */
	bool busy;              /* until @close was run; main thread */
	bool hurried;           /* whose those are comes to rest; I/O loop */
	/* Held back; I/O loop. */
	struct block_request *first, **last;
	unsigned held;
};

static void tell(const struct block *block)
{
	if (block->resized)
		block->resized(block->opaque, block->file.size);
}

static struct block_request *take_all(struct block_refresh *refresh)
{
	struct block_request *first = refresh->first;

	refresh->first = NULL;
	refresh->last = &refresh->first;
	refresh->held = 0;
	return first;
}

static void exchange(struct block_refresh *refresh)
{
	struct block *block = refresh->block, *other = refresh->other;
	const struct block_file file = block->file;

	block->file = other->file;
	other->file = file;
	if (block->file.discard)
		block_discard_move(block->file.discard, block);
	if (other->file.discard)
		block_discard_move(other->file.discard, other);
	block->exchange = NULL;
	tell(block);
}

static bool idle(const struct block_refresh *refresh)
{
	return refresh->block->in_flight == refresh->held;
}

static void begin(struct loop_task *task)
{
	struct block_refresh *refresh = container_of(task, struct block_refresh, begin);
	struct block *block = refresh->block;

	refresh->deferred = false;
	if (!refresh->other) {
		block->file.size = refresh->size;
		tell(block);
		return;
	}
	if (idle(refresh)) {
		exchange(refresh);
		return;
	}
	refresh->deferred = true;
	refresh->hurried = false;
	/* What waits for a token came before: it would hold up the rest. */
	block_hurry(block);
	block->exchange = refresh;
}

void block_refresh_hold(struct block_refresh *refresh, struct block_request *request)
{
	request->next = NULL;
	*refresh->last = request;
	refresh->last = &request->next;
	refresh->held++;
}

void block_refresh_hurry(struct block_refresh *refresh)
{
	refresh->hurried = true;
}

void block_refresh_ended(struct block_refresh *refresh)
{
	struct block_request *next;

	if (!idle(refresh))
		return;
	exchange(refresh);
	for (struct block_request *request = take_all(refresh); request; request = next) {
		next = request->next;
		block_resume(request);
	}
	if (refresh->hurried)
		block_hurry(refresh->block);
	loop_post(refresh->control, &refresh->close);
}

void block_refresh_drop(struct block_refresh *refresh)
{
	struct block_request *next;

	for (struct block_request *request = take_all(refresh); request; request = next) {
		next = request->next;
		block_give_up(request, -ECANCELED);
	}
}

static void close_old(struct loop_task *task)
{
	struct block_refresh *refresh = container_of(task, struct block_refresh, close);

	block_close(refresh->other);
	refresh->other = NULL;
	refresh->busy = false;
}

static struct block_refresh *prepare(struct block *block)
{
	struct block_refresh *refresh = block->refresh;

	if (refresh)
		return refresh;
	refresh = calloc(1, sizeof(*refresh));
	if (!refresh)
		return NULL;
	refresh->block = block;
	refresh->begin.run = begin;
	refresh->close.run = close_old;
	refresh->last = &refresh->first;
	block->refresh = refresh;
	return refresh;
}

/* The guest's driver has read the size of its sectors for good. */
static int open_other(struct block_refresh *refresh, const char *path, struct error *err)
{
	const struct block *block = refresh->block;
	const struct block_options options = {.path = path,
		.readonly = block->readonly,
		.cache = block->file.buffered_fd >= 0 ? BLOCK_CACHE_DIRECT : BLOCK_CACHE_WRITEBACK,
		.lock = block->lock};
	struct block *other;
	int ret = block_open(&other, &options, err);

	/* Landlock may be why, which nothing tells apart from the file's own mode. */
	if (ret == -EACCES)
		return error_set(err, EACCES,
			"--disk path=%s: no permission to open it; change its owner or mode with "
			"chown or chmod, or start the machine with --allow and its directory: in "
			"its sandbox it opens no file that it was not given",
			path);
	if (ret < 0)
		return ret;
	if (other->file.logical_size != block->file.logical_size) {
		ret = error_set(err, EINVAL,
			"--disk path=%s: has sectors of %u bytes, the guest knows its disk with "
			"%u; name one with such, or start the machine anew",
			path, other->file.logical_size, block->file.logical_size);
		block_close(other);
		return ret;
	}
	refresh->other = other;
	return 0;
}

int block_refresh(struct block *block, struct loop *io, struct loop *control, const char *path,
	struct error *err)
{
	struct block_refresh *refresh = prepare(block);
	int ret;

	if (!refresh)
		return error_errno(err, ENOMEM, "--disk");
	if (refresh->busy)
		return error_set(err, EBUSY,
			"requests to the file before are still under way; try again later");
	if (!path || block_is_file(block, path))
		ret = block_find_size(block, &refresh->size, err);
	else
		ret = open_other(refresh, path, err);
	if (ret < 0)
		return ret;
	refresh->control = control;
	refresh->busy = true;
	loop_call(io, &refresh->begin);
	if (!refresh->deferred)
		close_old(&refresh->close);
	return 0;
}

void block_on_resize(
	struct block *block, void (*resized)(void *opaque, uint64_t size), void *opaque)
{
	block->resized = resized;
	block->opaque = opaque;
}

void block_refresh_free(struct block_refresh *refresh)
{
	if (!refresh)
		return;
	if (refresh->control)
		loop_unpost(refresh->control, &refresh->close);
	block_close(refresh->other);
	free(refresh);
}
