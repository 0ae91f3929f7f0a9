/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lingering: a driver with many requests under way gives them one by one, each with a kick if the
 * device has gone to sleep in the meantime, and a fast device always has. So its queue is looked at
 * again soon instead of asking for the kick, as long as something is found: by a timer, and by
 * whatever else wakes the loop for the queue before (virtio_look()). No request waits for another.
 */
#include "virtio/transport/transport.h"

#include "base/clock.h"

/* The longest wait, in system calls: half a millisecond, a turn's time, on a host that makes one in
 * half a microsecond. What comes slower than that can be kicked for. */
#define LINGER_CALLS 4096U

bool virtio_lingers(const struct virtio_device *device)
{
	return device->lingers && !device->polls;
}

/* For depth 1 this is all that lingering costs: a clock is read for each eighth request. */
static void count(
	struct virtio_queue_context *context, const struct virtqueue *queue, unsigned taken)
{
	/* What was found while kicks were off came before its driver knew of an answer. */
	bool together = taken > 1 || queue->in_flight > 1 || loop_timer_set(&context->look);

	if (pace_count(&context->pace, taken, together))
		pace_measure(&context->pace, clock_ns());
}

bool virtio_linger(struct virtio_queue_context *context, const struct virtqueue *queue)
{
	uint64_t chains = atomic_load_explicit(&queue->stats.chains, memory_order_relaxed);
	unsigned taken = (unsigned)(chains - context->seen);

	context->seen = chains;
	/* Before its time is over an empty look changes nothing. */
	if (taken == 0)
		return loop_timer_set(&context->look);
	count(context, queue, taken);
	if (!context->pace.wait || queue->broken ||
		context->pace.wait > LINGER_CALLS * loop_call_ns(queue->io)) {
		loop_timer_stop(&context->look);
		return false;
	}
	loop_timer_after(queue->io, &context->look, context->pace.wait);
	return true;
}
