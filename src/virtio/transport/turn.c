/* SPDX-License-Identifier: Apache-2.0 */
/* Turns: the only way by which a model is told to look at a queue. What is in flight. */
#include "virtio/transport/transport.h"

#include "base/checked.h"

static struct virtio_queue_registers *registers_of(
	const struct virtio_device *device, const struct virtqueue *queue)
{
	return &((struct virtio_pci *)device->transport)->queues[queue->index];
}

bool virtio_queue_is_live(const struct virtio_queue_registers *registers)
{
	const struct virtio_pci *pci = registers->pci;
	const struct virtqueue *queue = &pci->model->queues[registers - pci->queues];

	/* Only this thread moves the phase. */
	return pci->phase == VIRTIO_ACTIVE && queue->enabled &&
	       !atomic_load_explicit(&registers->handed_over, memory_order_relaxed);
}

/* A queue that lingers is as one that is polled until it is decided that nobody looks. */
static enum virtio_progress serve(
	struct virtio_device *device, struct virtio_queue_context *context, struct virtqueue *queue)
{
	enum virtio_progress progress;

	if (!virtio_lingers(device))
		return device->ops->kick(device, queue);
	virtqueue_poll(queue);
	progress = device->ops->kick(device, queue);
	/* Asked for kicks first, then looked once more: what came in between is not lost. */
	if (progress == VIRTIO_DONE && !virtio_linger(context, queue) && virtqueue_sleep(queue))
		progress = device->ops->kick(device, queue);
	return progress;
}

/* Not for a queue that goes on: what is new is found by its next turn. */
void virtio_turn(struct virtio_device *device, struct virtqueue *queue)
{
	struct virtio_queue_registers *registers = registers_of(device, queue);
	struct virtio_queue_context *context = &registers->context;
	enum virtio_progress progress;

	/* Of a device that is not active the queues are the driver's thread's. */
	if (context->turn_posted || !virtio_queue_is_live(registers) || queue->broken ||
		atomic_load_explicit(&registers->pci->faulted, memory_order_relaxed))
		return;
	/* Turns do not nest: chains would overtake one another, and two turns post one task. */
	if (context->in_turn) {
		context->asked = true;
		return;
	}
	context->asked = false;
	context->in_turn = true;
	progress = serve(device, context, queue);
	context->in_turn = false;
	if (progress == VIRTIO_MORE || context->asked) {
		context->turn_posted = true;
		loop_post(queue->io, &context->turn);
	}
	if (queue->broken)
		virtio_needs_reset(device, queue->fault);
	virtio_interrupt(device, queue);
}

static void next_turn(struct loop_task *task)
{
	struct virtio_queue_registers *registers =
		container_of(task, struct virtio_queue_registers, context.turn);
	struct virtio_pci *pci = registers->pci;

	registers->context.turn_posted = false;
	virtio_turn(pci->model, &pci->model->queues[registers - pci->queues]);
}

static void look_again(struct loop_timer *timer)
{
	struct virtio_queue_registers *registers =
		container_of(timer, struct virtio_queue_registers, context.look);
	struct virtio_pci *pci = registers->pci;

	virtio_turn(pci->model, &pci->model->queues[registers - pci->queues]);
}

void virtio_look(struct virtio_device *device, struct virtqueue *queue)
{
	if (loop_timer_set(&registers_of(device, queue)->context.look) && virtqueue_poll(queue))
		virtio_turn(device, queue);
}

void virtio_begin(struct virtio_device *device, struct virtqueue *queue)
{
	registers_of(device, queue)->context.in_flight++;
}

void virtio_end(struct virtio_device *device, struct virtqueue *queue)
{
	struct virtio_queue_registers *registers = registers_of(device, queue);

	/* At rest the device may be freed: not before the caller has returned. */
	if (--registers->context.in_flight == 0 && registers->pci->phase == VIRTIO_QUIESCING)
		virtio_post_work(registers->pci);
}

bool virtio_is_in_flight(const struct virtio_pci *pci)
{
	for (unsigned i = 0; i < pci->model->queue_count; i++)
		if (pci->queues[i].context.in_flight)
			return true;
	return false;
}

void virtio_turns_prepare(struct virtio_pci *pci)
{
	for (unsigned i = 0; i < pci->model->queue_count; i++) {
		pci->model->queues[i].io = pci->place.io;
		pci->queues[i].context.turn.run = next_turn;
		pci->queues[i].context.look.expired = look_again;
	}
}

void virtio_turns_all(struct virtio_pci *pci)
{
	for (unsigned i = 0; i < pci->model->queue_count; i++)
		virtio_turn(pci->model, &pci->model->queues[i]);
}

void virtio_turns_end(struct virtio_pci *pci)
{
	for (unsigned i = 0; i < pci->model->queue_count; i++) {
		struct virtio_queue_context *context = &pci->queues[i].context;

		if (context->turn_posted)
			loop_unpost(pci->model->queues[i].io, &context->turn);
		context->turn_posted = false;
		loop_timer_stop(&context->look);
	}
}
