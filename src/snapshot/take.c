/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/take.h"

#include "base/checked.h"
#include "base/thread.h"
#include "machine/machine.h"
#include "state/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A page of /proc/self/pagemap, and a few frames. */
#define STACK_SIZE (128U << 10)

static void release(struct snapshot_take *take)
{
	free(take->config);
	free(take->state);
	free(take->names[0]);
	free(take->names[1]);
	take->config = NULL;
	take->state = NULL;
	take->names[0] = take->names[1] = NULL;
	take->running = false;
}

/* ---- on its thread ---- */

static void *write_it(void *opaque)
{
	struct snapshot_take *take = opaque;

	pthread_setname_np(pthread_self(), "duet-snapshot");
	take->result = snapshot_write(&take->content, &take->place, &take->progress, &take->err);
	loop_post(take->loop, &take->task);
	return NULL;
}

/* ---- on the loop ---- */

static void written(struct loop_task *task)
{
	struct snapshot_take *take = container_of(task, struct snapshot_take, task);

	pthread_join(take->thread, NULL);
	if (take->result == 0)
		snapshot_track_done(take->track, take->machine, &take->content.id);
	release(take);
	take->done(take, take->result, take->err.text);
}

static int copy_place(
	struct snapshot_take *take, const struct snapshot_place *place, struct error *err)
{
	take->names[0] = strdup(place->directory ? place->directory : place->state);
	take->names[1] = place->directory ? NULL : strdup(place->memory);
	if (!take->names[0] || (!place->directory && !take->names[1]))
		return error_errno(err, ENOMEM, "snapshot");
	if (place->directory)
		take->place.directory = take->names[0];
	else
		take->place =
			(struct snapshot_place){.state = take->names[0], .memory = take->names[1]};
	return 0;
}

static int save_machine(struct snapshot_take *take, struct error *err)
{
	struct state_writer writer;
	int ret = machine_config_write(machine_config(take->machine), &take->config, err);

	if (ret < 0)
		return ret;
	state_writer_init(&writer);
	ret = machine_save(take->machine, &writer, err);
	if (ret == 0 && state_writer_finish(&writer) < 0)
		ret = error_errno(err, ENOMEM, "snapshot: state of the machine");
	if (ret < 0) {
		state_writer_free(&writer);
		return ret;
	}
	take->state = writer.bytes;
	take->content.machine_length = writer.length;
	return 0;
}

static int prepare(struct snapshot_take *take, bool diff, struct error *err)
{
	struct snapshot_content *content = &take->content;
	int ret = save_machine(take, err);

	if (ret == 0)
		ret = snapshot_track_collect(take->track, take->machine, err);
	if (ret < 0)
		return ret;
	if (snapshot_id_new(&content->id) < 0)
		return error_errno(err, EAGAIN, "snapshot: no random numbers yet");
	content->memory = machine_memory(take->machine);
	content->config = take->config;
	content->machine = take->state;
	if (diff && take->track->changed) {
		content->parent = take->track->last;
		content->changed = take->track->changed;
	}
	return 0;
}

int snapshot_take_begin(struct snapshot_take *take, struct machine *machine,
	struct snapshot_track *track, const struct snapshot_place *place, bool diff,
	struct loop *loop, struct error *err)
{
	int ret;

	*take = (struct snapshot_take){.done = take->done,
		.machine = machine,
		.track = track,
		.loop = loop,
		.task.run = written};
	if (!machine_is_paused(machine))
		return error_set(err, EINVAL, "snapshot: the machine runs; pause it first");
	ret = copy_place(take, place, err);
	if (ret == 0)
		ret = prepare(take, diff, err);
	if (ret == 0) {
		ret = -thread_start(&take->thread, STACK_SIZE, write_it, take);
		if (ret < 0)
			error_errno(err, -ret, "snapshot: no thread to write it");
	}
	take->running = ret == 0;
	if (ret < 0)
		release(take);
	return ret;
}

void snapshot_take_cancel(struct snapshot_take *take)
{
	atomic_store(&take->progress.cancelled, true);
}

/* By the clock that pthread_timedjoin_np() goes by. Not pthread_clockjoin_np(), which the thread
 * sanitizer of today's clang does not know for a join. */
static struct timespec patience(void)
{
	struct timespec at;

	clock_gettime(CLOCK_REALTIME, &at);
	at.tv_sec += SNAPSHOT_PATIENCE_S;
	return at;
}

int snapshot_take_end(struct snapshot_take *take)
{
	const struct timespec at = patience();

	if (!take->running)
		return 0;
	snapshot_take_cancel(take);
	if (pthread_timedjoin_np(take->thread, NULL, &at) != 0)
		return -EBUSY;
	loop_unpost(take->loop, &take->task);
	release(take);
	return 0;
}
