/* SPDX-License-Identifier: Apache-2.0 */
/* What the guest tells of itself: in its pages at any time, and in runs when it is asked. All of it
 * is passed on as the guest says it; what can be checked is. */
#include "virtio/devices/coop_private.h"

#include <errno.h>
#include <stdlib.h>

/* ---- the pages ---- */

/* A guest that writes all the time is met between two writes, or not at all. */
#define TRIES 8

static void read_guest_part(
	struct duet_coop_guest_part *copy, const volatile struct duet_coop_guest_part *part)
{
	copy->runnable = part->runnable;
	copy->burst_ns = part->burst_ns;
	copy->switches = part->switches;
	copy->updated_ns = part->updated_ns;
	copy->working_set = part->working_set;
	copy->refaults = part->refaults;
	for (unsigned i = 0; i < ARRAY_SIZE(copy->pressure); i++)
		copy->pressure[i] = part->pressure[i];
	copy->heartbeat = part->heartbeat;
}

/* False: the guest never wrote, or was always writing. */
static bool read_whole(
	struct duet_coop_guest_part *copy, const volatile struct duet_coop_guest_part *part)
{
	for (unsigned i = 0; i < TRIES; i++) {
		uint32_t before = __atomic_load_n(&part->sequence, __ATOMIC_ACQUIRE);

		if (before & 1)
			continue;
		read_guest_part(copy, part);
		atomic_thread_fence(memory_order_acquire);
		if (before == __atomic_load_n(&part->sequence, __ATOMIC_RELAXED))
			return before != 0;
	}
	return false;
}

bool virtio_coop_vcpu_hints(
	struct device *device, unsigned vcpu, struct virtio_coop_vcpu_hints *hints)
{
	struct coop *coop = coop_model_of(device);
	struct duet_coop_guest_part part;

	*hints = (struct virtio_coop_vcpu_hints){0};
	if (!coop_may(coop, DUET_COOP_F_HINTS) || vcpu >= coop->vcpu_count)
		return false;
	if (!read_whole(&part, &coop->pages[vcpu].guest))
		return true;
	*hints = (struct virtio_coop_vcpu_hints){.valid = true,
		.runnable = part.runnable,
		.burst_ns = part.burst_ns,
		.switches = part.switches,
		.updated_ns = part.updated_ns};
	return true;
}

bool virtio_coop_machine_hints(struct device *device, struct virtio_coop_machine_hints *hints)
{
	struct coop *coop = coop_model_of(device);
	struct duet_coop_guest_part part;

	*hints = (struct virtio_coop_machine_hints){0};
	if (!coop_may(coop, DUET_COOP_F_HINTS))
		return false;
	if (!read_whole(&part, &coop->pages[0].guest))
		return true;
	*hints = (struct virtio_coop_machine_hints){.valid = true,
		.working_set = part.working_set,
		.refaults = part.refaults,
		.heartbeat = part.heartbeat};
	for (unsigned i = 0; i < VIRTIO_COOP_PRESSURES; i++)
		hints->pressure[i] = part.pressure[i];
	return true;
}

/* ---- wishes ---- */

static const uint32_t wish_kinds[VIRTIO_COOP_KINDS] = {
	[VIRTIO_COOP_SHARE] = DUET_COOP_WISH_SHARE,
	[VIRTIO_COOP_LOCALITY] = DUET_COOP_WISH_LOCALITY,
};

/* False: the driver has no buffer there, or one that a wish does not fit into. */
static bool tell(struct coop *coop, struct virtqueue *queue, enum virtio_coop_kind kind)
{
	const struct duet_coop_wish wish = {
		.kind = wish_kinds[kind], .number = atomic_load(&coop->wished[kind])};
	struct iovec segments[COOP_QUEUE_SIZE];
	struct virtqueue_chain chain = {.segments = segments, .capacity = COOP_QUEUE_SIZE};
	int ret = virtqueue_pop(queue, &chain);
	size_t written;

	if (ret < 0)
		virtio_needs_reset(&coop->virtio, queue->fault);
	if (ret <= 0)
		return false;
	written = iov_copy_to(&segments[chain.readable], chain.writable, 0, &wish, sizeof(wish));
	virtqueue_push(queue, &chain, (uint32_t)written);
	return written == sizeof(wish);
}

void coop_tell_wishes(struct coop *coop)
{
	struct virtqueue *queue = &coop->virtio.queues[DUET_COOP_EVENTS];

	for (unsigned kind = 0; kind < VIRTIO_COOP_KINDS; kind++) {
		if (!atomic_load(&coop->due[kind]) || queue->broken)
			continue;
		/* First: a wish that comes from here on is a new one. */
		atomic_store(&coop->due[kind], false);
		if (tell(coop, queue, kind))
			counter_add(&coop->wishes_told, 1);
		else
			atomic_store(&coop->due[kind], true);
	}
}

static void wishes_came(struct loop_task *task)
{
	struct coop *coop = container_of(task, struct coop, wishes);

	atomic_store(&coop->wishes_posted, false);
	/* Else the first turn of the queue does it. */
	if (coop->active)
		virtio_turn(&coop->virtio, &coop->virtio.queues[DUET_COOP_EVENTS]);
}

void coop_wishes_init(struct coop *coop)
{
	coop->wishes.run = wishes_came;
}

int virtio_coop_wish(struct device *device, enum virtio_coop_kind kind, struct error *err)
{
	struct coop *coop = coop_model_of(device);

	if (!coop_may(coop, DUET_COOP_F_WISHES) || !coop_may(coop, DUET_COOP_F_HINTS))
		return error_set(err, ENOTSUP,
			"%s: no driver in the guest that gives hints; it needs the module duet, "
			"and "
			"--coop hints=on",
			coop->virtio.name);
	/* 0 is no number. */
	if (atomic_fetch_add(&coop->wished[kind], 1) == UINT32_MAX)
		atomic_store(&coop->wished[kind], 1);
	atomic_store(&coop->due[kind], true);
	if (!atomic_exchange(&coop->wishes_posted, true))
		loop_post(coop->virtio.io, &coop->wishes);
	return 0;
}

/* ---- runs ---- */

static bool make_room(struct coop_runs *runs)
{
	unsigned room = runs->room ? runs->room * 2 : 64;
	struct virtio_coop_run *more;

	if (runs->count < runs->room)
		return true;
	more = realloc(runs->runs, room * sizeof(*more));
	if (!more)
		return false;
	runs->runs = more;
	runs->room = room;
	return true;
}

static int check_run(const struct coop *coop, const struct virtio_coop_run *run)
{
	if (run->gpa % MEMORY_PAGE || run->vcpu >= coop->vcpu_count)
		return -EINVAL;
	if (run->pages > UINT64_MAX / MEMORY_PAGE ||
		!memory_begin(coop->virtio.memory, GPA(run->gpa), run->pages * MEMORY_PAGE))
		return -EFAULT;
	return 0;
}

static int add_run(struct coop *coop, struct coop_runs *runs, const struct virtio_coop_run *run)
{
	unsigned total = 0;
	int ret = check_run(coop, run);

	for (unsigned kind = 0; kind < VIRTIO_COOP_KINDS; kind++)
		total += coop->runs[kind].count;
	if (ret < 0)
		return ret;
	if (total >= VIRTIO_COOP_RUNS_MAX)
		return -ENOSPC;
	if (!make_room(runs))
		return -ENOMEM;
	runs->runs[runs->count++] = *run;
	runs->pages += run->pages;
	return 0;
}

static void forget(struct coop_runs *runs)
{
	free(runs->runs);
	*runs = (struct coop_runs){.refused = runs->refused};
}

/* An answer to the last wish, whose first run takes the place of what was told before. */
static int take_locked(struct coop *coop, enum virtio_coop_kind kind, uint64_t number,
	const struct virtio_coop_run *run)
{
	struct coop_runs *runs = &coop->runs[kind];

	if (!number || number != atomic_load(&coop->wished[kind]) ||
		(runs->told == number && runs->complete))
		return -EINVAL;
	if (runs->told != number)
		forget(runs);
	runs->told = (uint32_t)number;
	if (run->pages)
		return add_run(coop, runs, run);
	runs->complete = true;
	return 0;
}

int32_t coop_take_run(struct coop *coop, enum virtio_coop_kind kind, const uint64_t arguments[6])
{
	const bool local = kind == VIRTIO_COOP_LOCALITY;
	struct virtio_coop_run run = {
		.gpa = arguments[0], .pages = arguments[1], .used = local ? arguments[3] : 0};
	int ret = -EINVAL;

	pthread_mutex_lock(&coop->runs_lock);
	/* A batch may be under way while the driver resets the device, which forgets all runs. */
	if (!coop_may(coop, DUET_COOP_F_HINTS)) {
		ret = -EPERM;
	} else if (!local || arguments[2] < coop->vcpu_count) {
		run.vcpu = local ? (uint32_t)arguments[2] : 0;
		ret = take_locked(coop, kind, arguments[4], &run);
	}
	coop->runs[kind].refused += ret < 0;
	pthread_mutex_unlock(&coop->runs_lock);
	return coop_status(ret);
}

void virtio_coop_runs(
	struct device *device, enum virtio_coop_kind kind, struct virtio_coop_runs *runs)
{
	struct coop *coop = coop_model_of(device);

	pthread_mutex_lock(&coop->runs_lock);
	*runs = (struct virtio_coop_runs){.wished = atomic_load(&coop->wished[kind]),
		.told = coop->runs[kind].told,
		.complete = coop->runs[kind].complete,
		.count = coop->runs[kind].count,
		.pages = coop->runs[kind].pages,
		.refused = coop->runs[kind].refused};
	pthread_mutex_unlock(&coop->runs_lock);
}

void virtio_coop_each_run(struct device *device, enum virtio_coop_kind kind,
	void (*visit)(void *opaque, const struct virtio_coop_run *run), void *opaque)
{
	struct coop *coop = coop_model_of(device);

	pthread_mutex_lock(&coop->runs_lock);
	for (unsigned i = 0; i < coop->runs[kind].count; i++)
		visit(opaque, &coop->runs[kind].runs[i]);
	pthread_mutex_unlock(&coop->runs_lock);
}

/* ---- life ---- */

void coop_runs_forget(struct coop *coop)
{
	pthread_mutex_lock(&coop->runs_lock);
	for (unsigned kind = 0; kind < VIRTIO_COOP_KINDS; kind++) {
		forget(&coop->runs[kind]);
		atomic_store(&coop->due[kind], false);
	}
	pthread_mutex_unlock(&coop->runs_lock);
}

static void save_runs(const struct coop_runs *runs, struct state_writer *writer)
{
	state_put_u32(writer, runs->told);
	state_put_bool(writer, runs->complete);
	state_put_u32(writer, runs->count);
	for (unsigned i = 0; i < runs->count; i++) {
		state_put_u64(writer, runs->runs[i].gpa);
		state_put_u64(writer, runs->runs[i].pages);
		state_put_u32(writer, runs->runs[i].vcpu);
		state_put_u64(writer, runs->runs[i].used);
	}
}

void coop_runs_save(struct coop *coop, struct state_writer *writer)
{
	for (unsigned kind = 0; kind < VIRTIO_COOP_KINDS; kind++) {
		state_put_u32(writer, atomic_load(&coop->wished[kind]));
		state_put_bool(writer, atomic_load(&coop->due[kind]));
		save_runs(&coop->runs[kind], writer);
	}
}

static bool restore_runs(struct coop *coop, struct coop_runs *runs, struct state_reader *reader)
{
	uint32_t count;

	runs->told = state_get_u32(reader);
	runs->complete = state_get_bool(reader);
	count = state_get_u32(reader);
	for (uint32_t i = 0; i < count && !reader->failed; i++) {
		struct virtio_coop_run run = {.gpa = state_get_u64(reader),
			.pages = state_get_u64(reader),
			.vcpu = state_get_u32(reader),
			.used = state_get_u64(reader)};

		if (!run.pages || add_run(coop, runs, &run) < 0)
			return false;
	}
	return true;
}

bool coop_runs_restore(struct coop *coop, struct state_reader *reader)
{
	bool good = true;

	coop_runs_forget(coop);
	pthread_mutex_lock(&coop->runs_lock);
	for (unsigned kind = 0; good && kind < VIRTIO_COOP_KINDS; kind++) {
		atomic_store(&coop->wished[kind], state_get_u32(reader));
		atomic_store(&coop->due[kind], state_get_bool(reader));
		good = restore_runs(coop, &coop->runs[kind], reader);
	}
	pthread_mutex_unlock(&coop->runs_lock);
	return good;
}

void coop_runs_tell(struct coop *coop, struct stats_sink *sink)
{
	static const char *const groups[VIRTIO_COOP_KINDS] = {
		[VIRTIO_COOP_SHARE] = "share", [VIRTIO_COOP_LOCALITY] = "locality"};

	pthread_mutex_lock(&coop->runs_lock);
	for (unsigned kind = 0; kind < VIRTIO_COOP_KINDS; kind++) {
		sink->count(sink, groups[kind], "runs", coop->runs[kind].count);
		sink->count(sink, groups[kind], "pages", coop->runs[kind].pages);
		sink->count(sink, groups[kind], "refused", coop->runs[kind].refused);
	}
	pthread_mutex_unlock(&coop->runs_lock);
	sink->count(sink, NULL, "wishes", counter_read(&coop->wishes_told));
}
