/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-balloon (virtio 1.2, 5.5): life, configuration, and what the main thread may ask for. */
#include "virtio/devices/balloon_private.h"

#include <errno.h>
#include <stdlib.h>

#define DEVICE_BALLOON 5
#define CLASS_OTHER    0xff0000
#define QUEUE_SIZE     128 /* Linux reports 32 buffers in a chain, and hints as many blocks as fit */
#define CONFIG_SIZE    16
#define CONFIG_TARGET  0
#define CONFIG_ACTUAL  4
#define CONFIG_COMMAND 8
#define CONFIG_POISON  12
#define STATE_FORMAT   1

static struct balloon *balloon_of(struct virtio_device *device)
{
	return container_of(device, struct balloon, virtio);
}

static struct balloon *model_of(struct device *device)
{
	return balloon_of(virtio_pci_model(device));
}

static uint64_t features(struct virtio_device *device)
{
	return balloon_of(device)->offered;
}

static uint64_t config_read(struct virtio_device *device, unsigned offset, unsigned size)
{
	const struct balloon *balloon = balloon_of(device);
	uint8_t config[CONFIG_SIZE];

	store_le32(config + CONFIG_TARGET, atomic_load(&balloon->target));
	store_le32(config + CONFIG_ACTUAL, atomic_load(&balloon->actual));
	store_le32(config + CONFIG_COMMAND, atomic_load(&balloon->hints.host_command));
	store_le32(config + CONFIG_POISON, atomic_load(&balloon->poison));
	return config_load(config, sizeof(config), offset, size);
}

static void config_write(
	struct virtio_device *device, unsigned offset, unsigned size, uint64_t value)
{
	struct balloon *balloon = balloon_of(device);

	if (size != sizeof(uint32_t))
		return;
	if (offset == CONFIG_ACTUAL)
		atomic_store(&balloon->actual, (uint32_t)value);
	if (offset == CONFIG_POISON && virtio_has(device, VIRTIO_BALLOON_F_PAGE_POISON))
		atomic_store(&balloon->poison, (uint32_t)value);
}

/* ---- queues ---- */

static bool has_role(const struct balloon *balloon, unsigned role)
{
	static const int feature[BALLOON_QUEUES] = {
		[BALLOON_INFLATE] = -1,
		[BALLOON_DEFLATE] = -1,
		[BALLOON_STATISTICS] = VIRTIO_BALLOON_F_STATS_VQ,
		[BALLOON_HINT] = VIRTIO_BALLOON_F_FREE_PAGE_HINT,
		[BALLOON_REPORT] = VIRTIO_BALLOON_F_PAGE_REPORTING,
	};

	return feature[role] < 0 || virtio_has(&balloon->virtio, (unsigned)feature[role]);
}

/*
 * By the specification each queue has its number (5.5.2). Linux numbers those that it has from 0
 * on, and so do the devices it was written for. Which of the two a driver does is seen by the
 * queues that it has enabled; where both would fit they are the same.
 */
static void find_queues(struct balloon *balloon)
{
	bool literal = true;
	int next = 0;

	for (unsigned role = 0; role < BALLOON_QUEUES; role++)
		literal &= !has_role(balloon, role) || balloon->virtio.queues[role].enabled;
	for (unsigned role = 0; role < BALLOON_QUEUES; role++) {
		balloon->queue_of[role] = -1;
		if (has_role(balloon, role))
			balloon->queue_of[role] = literal ? (int)role : next++;
	}
}

/* BALLOON_QUEUES: the queue is for nothing. */
static enum balloon_role role_of(const struct balloon *balloon, const struct virtqueue *queue)
{
	unsigned role = 0;

	while (role < BALLOON_QUEUES && balloon->queue_of[role] != (int)queue->index)
		role++;
	return (enum balloon_role)role;
}

/* False: the turn is over and there is more of the chain. */
static bool serve(
	struct balloon *balloon, enum balloon_role role, const struct virtqueue_chain *chain)
{
	switch (role) {
	case BALLOON_INFLATE:
		return balloon_inflate(balloon, chain);
	case BALLOON_REPORT:
		return balloon_report(balloon, chain);
	case BALLOON_HINT:
		balloon_hint(balloon, chain);
		return true;
	default:
		/* Deflated pages come back by themselves, when they are written to: none of them
		 * may be given back after this. */
		if (!balloon_release(balloon))
			return false;
		balloon_add(balloon, BALLOON_DEFLATED, chain->readable_bytes / sizeof(uint32_t));
		return true;
	}
}

static enum virtio_progress process(
	struct balloon *balloon, struct virtqueue *queue, enum balloon_role role)
{
	struct iovec segments[BALLOON_SEGMENTS];
	struct virtqueue_chain chain = {.segments = segments, .capacity = BALLOON_SEGMENTS};

	while (virtqueue_pop(queue, &chain) > 0) {
		if (!serve(balloon, role, &chain)) {
			virtqueue_unpop(queue, &chain);
			return VIRTIO_MORE;
		}
		virtqueue_push(queue, &chain, 0);
		if (virtio_turn_over(queue))
			return VIRTIO_MORE;
	}
	return VIRTIO_DONE;
}

static enum virtio_progress kick(struct virtio_device *device, struct virtqueue *queue)
{
	struct balloon *balloon = balloon_of(device);
	enum balloon_role role = role_of(balloon, queue);

	if (role == BALLOON_STATISTICS)
		balloon_statistics_take(balloon);
	else if (role != BALLOON_QUEUES)
		return process(balloon, queue, role);
	return VIRTIO_DONE;
}

/* ---- life ---- */

static void ask(struct loop_timer *timer)
{
	balloon_statistics_ask(container_of(timer, struct balloon, timer));
}

/* A turn of the loop at a time. */
static void release(struct loop_timer *timer)
{
	struct balloon *balloon = container_of(timer, struct balloon, release);

	if (!balloon_release(balloon))
		loop_timer_after(balloon->virtio.io, timer, 0);
}

/* The driver hears of what it did not ask for: a round, or the end of one. */
static void fulfil_hint_wish(struct balloon *balloon)
{
	int wish = atomic_exchange(&balloon->hint_wish, BALLOON_WISH_NONE);

	if (wish == BALLOON_WISH_NONE)
		return;
	if (wish == BALLOON_WISH_ROUND)
		balloon_hints_begin(balloon);
	else
		balloon_hints_end(balloon, BALLOON_DONE);
	virtio_config_changed(&balloon->virtio);
}

static void fulfil(struct loop_task *task)
{
	struct balloon *balloon = container_of(task, struct balloon, wishes);

	atomic_store(&balloon->wishes_posted, false);
	/* Else activate() will. */
	if (!balloon->active)
		return;
	fulfil_hint_wish(balloon);
	if (atomic_exchange(&balloon->interval_changed, false))
		balloon_statistics_ask(balloon);
}

static int activate(struct virtio_device *device)
{
	struct balloon *balloon = balloon_of(device);

	find_queues(balloon);
	balloon->active = true;
	balloon_statistics_start(balloon);
	fulfil_hint_wish(balloon);
	return 0;
}

static void quiesce(struct virtio_device *device)
{
	struct balloon *balloon = balloon_of(device);

	balloon->active = false;
	loop_timer_stop(&balloon->timer);
	loop_timer_stop(&balloon->release);
	balloon_release_all(balloon);
}

/* The driver starts with an empty balloon; what the owner wants of it stays. */
static void reset(struct virtio_device *device)
{
	struct balloon *balloon = balloon_of(device);

	atomic_store(&balloon->actual, 0);
	atomic_store(&balloon->poison, 0);
	atomic_store(&balloon->guest.present, 0);
	atomic_store(&balloon->hints.guest_command, 0);
	atomic_store(&balloon->hint_wish, BALLOON_WISH_NONE);
	balloon_hints_end(balloon, BALLOON_STOP);
	balloon->inflating = balloon->reporting = (struct balloon_batch){0};
}

static void save(struct virtio_device *device, struct state_writer *writer)
{
	const struct balloon *balloon = balloon_of(device);

	state_put_u8(writer, STATE_FORMAT);
	state_put_u32(writer, atomic_load(&balloon->target));
	state_put_u32(writer, atomic_load(&balloon->actual));
	state_put_u32(writer, atomic_load(&balloon->poison));
	state_put_u32(writer, atomic_load(&balloon->interval));
	state_put_u32(writer, atomic_load(&balloon->hints.host_command));
	state_put_u32(writer, atomic_load(&balloon->hints.guest_command));
	state_put_u32(writer, balloon->hints.last_round);
}

/* The hints of a round are not moved: it ends here, and the driver has its pages back. */
static int restore(struct virtio_device *device, struct state_reader *reader, struct error *err)
{
	struct balloon *balloon = balloon_of(device);
	uint8_t format = state_get_u8(reader);
	uint32_t target, command;

	if (format != STATE_FORMAT)
		return error_set(err, EINVAL, "%s: saved by another duet, in format %u, not %d",
			device->name, format, STATE_FORMAT);
	target = state_get_u32(reader);
	if (target > memory_size(device->memory) / MEMORY_PAGE)
		return error_set(err, EINVAL,
			"%s: saved with a target beyond this machine's memory", device->name);
	atomic_store(&balloon->target, target);
	atomic_store(&balloon->actual, state_get_u32(reader));
	atomic_store(&balloon->poison, state_get_u32(reader));
	atomic_store(&balloon->interval, state_get_u32(reader));
	command = state_get_u32(reader);
	atomic_store(&balloon->hints.guest_command, state_get_u32(reader));
	balloon->hints.last_round = state_get_u32(reader);
	balloon_hints_end(balloon, command == BALLOON_STOP ? BALLOON_STOP : BALLOON_DONE);
	if (command >= BALLOON_FIRST_ROUND)
		atomic_store(&balloon->hint_wish, BALLOON_WISH_DONE);
	return 0;
}

static void stats(struct virtio_device *device, struct stats_sink *sink)
{
	static const char *const names[BALLOON_COUNTS] = {
		[BALLOON_INFLATED] = "inflated_pages",
		[BALLOON_DEFLATED] = "deflated_pages",
		[BALLOON_REPORTED] = "reported_pages",
		[BALLOON_HINTED] = "hinted_pages",
		[BALLOON_DISCARDED] = "discarded_pages",
		[BALLOON_RUNS_GONE] = "discards",
		[BALLOON_REFUSED] = "refused",
		[BALLOON_FAILED] = "failed_pages",
	};
	const struct balloon *balloon = balloon_of(device);

	sink->count(sink, NULL, "target_pages", atomic_load(&balloon->target));
	sink->count(sink, NULL, "actual_pages", atomic_load(&balloon->actual));
	for (unsigned i = 0; i < BALLOON_COUNTS; i++)
		sink->count(sink, NULL, names[i], counter_read(&balloon->counts[i]));
	balloon_statistics_tell(balloon, sink);
}

static void balloon_free(struct virtio_device *device)
{
	struct balloon *balloon = balloon_of(device);

	if (device->io)
		loop_unpost(device->io, &balloon->wishes);
	free(balloon->hints.runs);
	free(balloon);
}

static const struct virtio_ops balloon_ops = {
	.type = "virtio-balloon",
	.id = DEVICE_BALLOON,
	.class_code = CLASS_OTHER,
	.features = features,
	.reset = reset,
	.activate = activate,
	.kick = kick,
	.quiesce = quiesce,
	.config_read = config_read,
	.config_write = config_write,
	.save = save,
	.restore = restore,
	.stats = stats,
	.free = balloon_free,
};

static uint64_t feature_if(bool on, unsigned bit)
{
	return on ? VIRTIO_FEATURE(bit) : 0;
}

int virtio_balloon_new(struct device **device, const char *name,
	const struct virtio_balloon_options *options, struct error *err)
{
	struct balloon *balloon = calloc(1, sizeof(*balloon));

	if (!balloon)
		return error_errno(err, ENOMEM, "%s", name);
	/* With poison the driver says what its free pages hold, without it none of them are
	 * reported where that matters. */
	balloon->offered = VIRTIO_FEATURE(VIRTIO_BALLOON_F_MUST_TELL_HOST) |
			   VIRTIO_FEATURE(VIRTIO_BALLOON_F_STATS_VQ) |
			   VIRTIO_FEATURE(VIRTIO_BALLOON_F_PAGE_POISON) |
			   feature_if(options->deflate_on_oom, VIRTIO_BALLOON_F_DEFLATE_ON_OOM) |
			   feature_if(options->reporting, VIRTIO_BALLOON_F_PAGE_REPORTING) |
			   feature_if(options->hinting, VIRTIO_BALLOON_F_FREE_PAGE_HINT);
	atomic_store(&balloon->target, (uint32_t)(options->size / MEMORY_PAGE));
	atomic_store(&balloon->interval, options->interval);
	balloon->wishes.run = fulfil;
	balloon->timer.expired = ask;
	balloon->release.expired = release;
	balloon->virtio.ops = &balloon_ops;
	balloon->virtio.queue_count = BALLOON_QUEUES;
	balloon->virtio.queue_size_max = QUEUE_SIZE;
	balloon->virtio.config_size = CONFIG_SIZE;
	balloon->virtio.ring_features = options->packed ? VIRTIO_FEATURE(VIRTIO_F_RING_PACKED) : 0;
	return virtio_pci_new(device, &balloon->virtio, name, err);
}

/* ---- the main thread's wishes ---- */

static void post_wishes(struct balloon *balloon)
{
	if (!atomic_exchange(&balloon->wishes_posted, true))
		loop_post(balloon->virtio.io, &balloon->wishes);
}

int virtio_balloon_set_target(struct device *device, uint64_t bytes, struct error *err)
{
	struct balloon *balloon = model_of(device);
	uint64_t memory = memory_size(balloon->virtio.memory);

	if (bytes > memory)
		return error_set(err, EINVAL,
			"%s: %llu bytes are more than the guest has; at most %llu",
			balloon->virtio.name, (unsigned long long)bytes,
			(unsigned long long)memory);
	atomic_store(&balloon->target, (uint32_t)(bytes / MEMORY_PAGE));
	virtio_config_changed(&balloon->virtio);
	return 0;
}

void virtio_balloon_set_interval(struct device *device, unsigned seconds)
{
	struct balloon *balloon = model_of(device);

	atomic_store(&balloon->interval, seconds);
	atomic_store(&balloon->interval_changed, true);
	post_wishes(balloon);
}

void virtio_balloon_statistics(struct device *device, struct virtio_balloon_statistics *statistics)
{
	const struct balloon *balloon = model_of(device);

	statistics->target = atomic_load(&balloon->target) * MEMORY_PAGE;
	statistics->actual = atomic_load(&balloon->actual) * MEMORY_PAGE;
	statistics->interval = atomic_load(&balloon->interval);
	statistics->answers = counter_read(&balloon->guest.answers);
	statistics->present = atomic_load(&balloon->guest.present);
	for (unsigned tag = 0; tag < VIRTIO_BALLOON_TAGS; tag++)
		statistics->values[tag] = atomic_load(&balloon->guest.values[tag]);
}

int virtio_balloon_hint_start(struct device *device, struct error *err)
{
	struct balloon *balloon = model_of(device);

	if (!virtio_has(&balloon->virtio, VIRTIO_BALLOON_F_FREE_PAGE_HINT))
		return error_set(err, ENOTSUP,
			"%s: the guest's driver gives no hints; --balloon hinting=on offers them",
			balloon->virtio.name);
	atomic_store(&balloon->hint_wish, BALLOON_WISH_ROUND);
	post_wishes(balloon);
	return 0;
}

void virtio_balloon_hint_stop(struct device *device)
{
	struct balloon *balloon = model_of(device);

	atomic_store(&balloon->hint_wish, BALLOON_WISH_DONE);
	post_wishes(balloon);
}

void virtio_balloon_hint_status(struct device *device, struct virtio_balloon_hints *status)
{
	const struct balloon_hints *hints = &model_of(device)->hints;

	status->host_command = atomic_load(&hints->host_command);
	status->guest_command = atomic_load(&hints->guest_command);
	status->complete = atomic_load(&hints->complete);
	status->bytes = counter_read(&hints->pages) * MEMORY_PAGE;
}

/* Of one hinted run, those pages that the guest has not written to, in runs again. */
static uint64_t give_back_unwritten(struct balloon *balloon, const struct balloon_run *run,
	bool (*written)(void *opaque, gpa_t page), void *opaque)
{
	uint32_t end = run->first + run->count, from = run->first;
	uint64_t given = 0;

	for (uint32_t page = run->first; page <= end; page++) {
		if (page < end && !written(opaque, GPA(page * MEMORY_PAGE)))
			continue;
		if (page > from)
			balloon_give_back(balloon, from, page - from);
		given += page - from;
		from = page + 1;
	}
	return given;
}

uint64_t virtio_balloon_hints_give_back(
	struct device *device, bool (*written)(void *opaque, gpa_t page), void *opaque)
{
	struct balloon *balloon = model_of(device);
	uint64_t pages = 0;

	for (unsigned i = 0; i < balloon->hints.count; i++)
		pages += give_back_unwritten(balloon, &balloon->hints.runs[i], written, opaque);
	balloon->hints.count = 0;
	return pages * MEMORY_PAGE;
}
