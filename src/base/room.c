/* SPDX-License-Identifier: Apache-2.0 */
#include "base/room.h"

#include "base/checked.h"

#include <stddef.h>

static void tell(struct loop_task *task)
{
	struct room *room = container_of(task, struct room, task);

	pthread_mutex_lock(room->lock);
	room->posted = room->wanted = false;
	pthread_mutex_unlock(room->lock);
	room->call(room->opaque);
}

void room_init(struct room *room, pthread_mutex_t *lock)
{
	*room = (struct room){.lock = lock, .task.run = tell};
}

void room_tell(struct room *room, struct loop *loop, void (*call)(void *opaque), void *opaque)
{
	room->loop = loop;
	room->call = call;
	room->opaque = opaque;
}

void room_wanted(struct room *room, bool wanted)
{
	room->wanted = wanted;
}

void room_offer(struct room *room)
{
	if (!room->wanted || !room->call || room->posted)
		return;
	room->wanted = false;
	room->posted = true;
	loop_post(room->loop, &room->task);
}

void room_stop(struct room *room)
{
	if (room->loop)
		loop_unpost(room->loop, &room->task);
}
