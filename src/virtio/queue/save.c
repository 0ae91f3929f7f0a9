/* SPDX-License-Identifier: Apache-2.0 */
/* Saved state of a queue: what virtqueue_enable() was told and how far the ring has come. */
#include "virtio/queue/ring.h"

#include <errno.h>
#include <string.h>

void virtqueue_save(const struct virtqueue *queue, struct state_writer *writer)
{
	const struct virtqueue_setup *setup = &queue->setup;

	state_put_bool(writer, queue->enabled);
	if (!queue->enabled)
		return;
	state_put_u16(writer, setup->size);
	state_put_bool(writer, setup->packed);
	state_put_bool(writer, setup->event_idx);
	state_put_bool(writer, setup->indirect);
	state_put_u64(writer, setup->descriptors.value);
	state_put_u64(writer, setup->driver.value);
	state_put_u64(writer, setup->device.value);
	state_put_u16(writer, queue->next_avail);
	state_put_u16(writer, queue->next_used);
	state_put_u32(writer, queue->unsignalled);
	state_put_bool(writer, queue->kicks_wanted);
	state_put_bool(writer, queue->broken);
}

static struct virtqueue_setup read_setup(struct state_reader *reader)
{
	struct virtqueue_setup setup;

	memset(&setup, 0, sizeof(setup));
	setup.size = state_get_u16(reader);
	setup.packed = state_get_bool(reader);
	setup.event_idx = state_get_bool(reader);
	setup.indirect = state_get_bool(reader);
	setup.descriptors = GPA(state_get_u64(reader));
	setup.driver = GPA(state_get_u64(reader));
	setup.device = GPA(state_get_u64(reader));
	return setup;
}

int virtqueue_restore(struct virtqueue *queue, struct memory *memory, struct state_reader *reader,
	struct error *err)
{
	struct virtqueue_setup setup;
	const struct ring_ops *ops;
	uint16_t next_avail, next_used;

	virtqueue_disable(queue);
	if (!state_get_bool(reader))
		return 0;
	setup = read_setup(reader);
	next_avail = state_get_u16(reader);
	next_used = state_get_u16(reader);
	ops = setup.packed ? &packed_ring_ops : &split_ring_ops;
	if (virtqueue_enable(queue, memory, &setup) < 0 ||
		!ops->position_valid(&setup, next_avail) ||
		!ops->position_valid(&setup, next_used)) {
		virtqueue_disable(queue);
		return error_set(err, EINVAL, "saved state of queue %u does not fit this guest",
			queue->index);
	}
	queue->next_avail = queue->avail_seen = next_avail;
	queue->next_used = next_used;
	queue->unsignalled = state_get_u32(reader);
	queue->kicks_wanted = state_get_bool(reader);
	if (state_get_bool(reader))
		virtqueue_break(queue, "it was broken when it was saved");
	/* The driver's area says what was asked; ask again at the next pop. */
	queue->armed = false;
	return 0;
}
