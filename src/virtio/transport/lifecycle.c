/* SPDX-License-Identifier: Apache-2.0 */
/* From DRIVER_OK to reset: see the picture in transport.h. */
#include "virtio/transport/transport.h"

#include "base/checked.h"

#include <string.h>

static bool should_be_active(struct virtio_pci *pci)
{
	return (pci->status & VIRTIO_STATUS_DRIVER_OK) && !pci->reset_pending && !pci->stopped &&
	       !atomic_load(&pci->faulted);
}

void virtio_post_work(struct virtio_pci *pci)
{
	if (!atomic_exchange(&pci->posted, true))
		loop_post(pci->place.io, &pci->work);
}

static void clear_queue(struct virtio_pci *pci, unsigned index)
{
	struct virtio_queue_registers *registers = &pci->queues[index];

	virtqueue_disable(&pci->model->queues[index]);
	registers->size = pci->model->queue_size_max;
	registers->enabled = false;
	atomic_store(&registers->vector_moved, false);
	atomic_store(&registers->handed_over, false);
	registers->descriptors = registers->driver = registers->device = 0;
	atomic_store(&registers->vector, VIRTIO_NO_VECTOR);
}

static void finish_reset_locked(struct virtio_pci *pci)
{
	const struct virtio_ops *ops = pci->model->ops;

	virtio_doorbell_remove_all(pci);
	for (unsigned i = 0; i < pci->model->queue_count; i++)
		clear_queue(pci, i);
	pci->device_feature_select = pci->driver_feature_select = 0;
	pci->driver_features = 0;
	pci->model->negotiated = 0;
	pci->queue_select = 0;
	pci->queues_ready = pci->fault_told = false;
	atomic_store(&pci->config_vector, VIRTIO_NO_VECTOR);
	atomic_store(&pci->faulted, false);
	virtio_take_isr(pci);
	if (ops->reset)
		ops->reset(pci->model);
	pci->offered = (ops->features ? ops->features(pci->model) : 0) | pci->model->ring_features |
		       VIRTIO_FEATURE(VIRTIO_F_INDIRECT_DESC) | VIRTIO_FEATURE(VIRTIO_F_EVENT_IDX) |
		       VIRTIO_FEATURE(VIRTIO_F_VERSION_1);
	if (pci->limit)
		pci->offered &= pci->limit;
	pci->reset_pending = false;
	pci->status = 0;
}

void virtio_begin_reset_locked(struct virtio_pci *pci)
{
	if (pci->phase == VIRTIO_IDLE) {
		finish_reset_locked(pci);
		return;
	}
	pci->reset_pending = true;
	virtio_post_work(pci);
}

static struct virtqueue_setup setup_of(
	const struct virtio_device *model, const struct virtio_queue_registers *registers)
{
	return (struct virtqueue_setup){
		.size = registers->size,
		.packed = virtio_has(model, VIRTIO_F_RING_PACKED),
		.event_idx = virtio_has(model, VIRTIO_F_EVENT_IDX),
		.indirect = virtio_has(model, VIRTIO_F_INDIRECT_DESC),
		.descriptors = GPA(registers->descriptors),
		.driver = GPA(registers->driver),
		.device = GPA(registers->device),
	};
}

static int enable_queue(struct virtio_pci *pci, unsigned index)
{
	struct virtqueue_setup setup = setup_of(pci->model, &pci->queues[index]);

	if (!pci->queues[index].enabled)
		return 0;
	if (pci->queues_ready)
		return virtqueue_refresh(&pci->model->queues[index]);
	return virtqueue_enable(&pci->model->queues[index], pci->model->memory, &setup);
}

static bool enable_queues_locked(struct virtio_pci *pci)
{
	int ret = 0;

	for (unsigned i = 0; ret == 0 && i < pci->model->queue_count; i++)
		ret = enable_queue(pci, i);
	if (ret < 0) {
		/* All or none: what is saved of it is restored by the same rule. */
		for (unsigned i = 0; i < pci->model->queue_count; i++)
			virtqueue_disable(&pci->model->queues[i]);
		pci->queues_ready = false;
		virtio_needs_reset(pci->model, "a queue's areas do not fit into memory");
		return false;
	}
	pci->queues_ready = true;
	for (unsigned i = 0; ret == 0 && i < pci->model->queue_count; i++)
		if (pci->queues[i].enabled)
			ret = virtio_doorbell_open(pci, i);
	if (ret < 0)
		virtio_needs_reset(pci->model, "no eventfd for a queue's doorbell");
	return ret == 0;
}

/* Called and returns locked; the model runs without the lock. */
static void activate(struct virtio_pci *pci)
{
	const struct virtio_ops *ops = pci->model->ops;
	int ret;

	if (!enable_queues_locked(pci))
		return;
	pci->phase = VIRTIO_ACTIVE;
	pthread_mutex_unlock(&pci->lock);
	ret = ops->activate ? ops->activate(pci->model) : 0;
	if (ret == 0) {
		virtio_turns_all(pci);
		virtio_polling_start(pci);
	}
	pthread_mutex_lock(&pci->lock);
	if (ret == 0) {
		/* After the first look, so that the guest's first kicks found their eventfd. */
		virtio_doorbell_place_all(pci);
		return;
	}
	virtio_needs_reset(pci->model, strerror(-ret));
	pci->phase = VIRTIO_IDLE;
	virtio_turns_end(pci);
	if (pci->reset_pending)
		finish_reset_locked(pci);
}

static void quiesce(struct virtio_pci *pci)
{
	pci->phase = VIRTIO_QUIESCING;
	pci->model->dropping = pci->reset_pending || pci->drop;
	virtio_polling_stop(pci);
	virtio_turns_end(pci);
	pthread_mutex_unlock(&pci->lock);
	if (pci->model->ops->quiesce)
		pci->model->ops->quiesce(pci->model);
	pthread_mutex_lock(&pci->lock);
}

/* Called and returns locked. What has ended since the last turns is told without the lock, which
 * the main thread takes: a ring's page may have yet to come (post-copy). */
static void come_to_rest(struct virtio_pci *pci)
{
	pthread_mutex_unlock(&pci->lock);
	for (unsigned i = 0; i < pci->model->queue_count; i++)
		virtio_interrupt(pci->model, &pci->model->queues[i]);
	pthread_mutex_lock(&pci->lock);
	pci->phase = VIRTIO_IDLE;
	if (pci->reset_pending)
		finish_reset_locked(pci);
	/* It may have been told to go on in the meantime, or have watches to remove. */
	virtio_post_work(pci);
}

static void watch_removed(struct loop_watch *watch)
{
	struct virtio_pci *pci = container_of(watch, struct virtio_queue_registers, watch)->pci;

	pthread_mutex_lock(&pci->lock);
	pci->watches--;
	if (--pci->removing == 0)
		virtio_post_work(pci);
	pthread_mutex_unlock(&pci->lock);
}

/* A device at rest leaves nothing on the loop. Called without the lock, which watch_removed takes;
 * nobody else touches the watches of a device that is idle and not about to be active. */
static void remove_watches(struct virtio_pci *pci)
{
	for (unsigned i = 0; i < pci->model->queue_count; i++) {
		if (!pci->queues[i].watched)
			continue;
		pci->queues[i].watched = false;
		pthread_mutex_lock(&pci->lock);
		pci->removing++;
		pthread_mutex_unlock(&pci->lock);
		loop_unwatch(&pci->queues[i].watch, watch_removed);
	}
}

/* The number of the asking that is to be told that this is at rest, or 0. What is posted will come
 * by here again. */
static unsigned rest_reached_locked(struct virtio_pci *pci)
{
	unsigned asking = pci->asking;

	if (pci->phase != VIRTIO_IDLE || pci->watches || atomic_load(&pci->posted))
		return 0;
	pci->asking = 0;
	return asking;
}

/* The driver hears of a fault by a configuration interrupt (2.1.2). */
static void tell_fault_locked(struct virtio_pci *pci)
{
	if (!atomic_load(&pci->faulted) || pci->fault_told ||
		!(pci->status & VIRTIO_STATUS_DRIVER_OK))
		return;
	pci->fault_told = true;
	virtio_config_interrupt(pci);
}

void virtio_hand_over_anew(struct virtio_device *device)
{
	struct virtio_pci *pci = device->transport;

	/* Whoever is not active asks when it becomes so. */
	if (pci->phase != VIRTIO_ACTIVE)
		return;
	pci->anew = true;
	virtio_post_work(pci);
}

/* Between quiesce and activate: a queue that is handed over is not watched. */
static void begin_anew(struct virtio_pci *pci)
{
	pci->anew = false;
	pthread_mutex_unlock(&pci->lock);
	remove_watches(pci);
	pthread_mutex_lock(&pci->lock);
}

void virtio_work(struct loop_task *task)
{
	struct virtio_pci *pci = container_of(task, struct virtio_pci, work);
	unsigned asking;
	bool idle;

	/* First: what is asked for from here on is either seen below or posted again. */
	atomic_store(&pci->posted, false);
	pthread_mutex_lock(&pci->lock);
	if (pci->phase == VIRTIO_IDLE && pci->anew)
		begin_anew(pci);
	if (pci->phase == VIRTIO_IDLE && should_be_active(pci) && pci->removing == 0)
		activate(pci);
	if (pci->phase == VIRTIO_ACTIVE && (pci->anew || !should_be_active(pci)))
		quiesce(pci);
	if (pci->phase == VIRTIO_QUIESCING && !virtio_is_in_flight(pci))
		come_to_rest(pci);
	tell_fault_locked(pci);
	idle = pci->stopped && pci->phase == VIRTIO_IDLE;
	asking = rest_reached_locked(pci);
	pthread_mutex_unlock(&pci->lock);
	if (asking)
		device_at_rest(&pci->function.device, asking);
	else if (idle)
		remove_watches(pci);
	else if (pci->phase == VIRTIO_ACTIVE)
		virtio_doorbell_moved_vectors(pci);
}

void virtio_needs_reset(struct virtio_device *device, const char *reason)
{
	struct virtio_pci *pci = device->transport;

	/* What follows until the model is quiesced is the same fault, or of no more interest. */
	if (atomic_exchange(&pci->faulted, true))
		return;
	log_guest(&device->guest_log, pci->name, "%s; the device needs a reset", reason);
	atomic_fetch_add_explicit(&pci->faults, 1, memory_order_relaxed);
	virtio_post_work(pci);
}

int virtio_pci_start(struct device *device, struct error *err)
{
	struct virtio_pci *pci = virtio_pci_of(device);

	(void)err;
	pthread_mutex_lock(&pci->lock);
	pci->stopped = pci->drop = false;
	pci->asking = 0;
	if (should_be_active(pci))
		virtio_post_work(pci);
	pthread_mutex_unlock(&pci->lock);
	return 0;
}

/* Interrupts the model sent go out before the watches do: their removal submits the ring. */
void virtio_pci_quiesce(struct device *device, unsigned asking, bool drop)
{
	struct virtio_pci *pci = virtio_pci_of(device);

	pthread_mutex_lock(&pci->lock);
	pci->stopped = true;
	pci->asking = asking;
	pci->drop = drop;
	virtio_post_work(pci);
	pthread_mutex_unlock(&pci->lock);
}

void virtio_hurry(struct loop_task *task)
{
	struct virtio_pci *pci = container_of(task, struct virtio_pci, hurry);

	atomic_store(&pci->hurrying, false);
	pci->model->ops->hurry(pci->model);
}

void virtio_pci_hurry(struct device *device)
{
	struct virtio_pci *pci = virtio_pci_of(device);

	if (pci->model->ops->hurry && !atomic_exchange(&pci->hurrying, true))
		loop_post(pci->place.io, &pci->hurry);
}

void virtio_pci_reset(struct device *device)
{
	struct virtio_pci *pci = virtio_pci_of(device);

	pthread_mutex_lock(&pci->lock);
	virtio_begin_reset_locked(pci);
	pthread_mutex_unlock(&pci->lock);
	pci_reset(&pci->function);
}
