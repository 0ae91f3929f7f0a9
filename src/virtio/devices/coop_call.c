/* SPDX-License-Identifier: Apache-2.0 */
/* Fast calls: the guest waits in the exit, so there is no lock, no allocation and no system call on
 * the way to the function that was asked for. */
#include "virtio/devices/coop_private.h"

#include <errno.h>
#include <string.h>

/* The guest's part, copied once; and where the answer goes. */
struct call {
	struct coop *coop;
	unsigned vcpu;
	uint32_t function;
	uint64_t arguments[6];
	uint64_t values[4];
};

/* ---- the functions ---- */

static int nop(struct call *call)
{
	call->values[0] = call->arguments[0];
	return 0;
}

static int yield(struct call *call)
{
	struct virtio_coop_host *host = call->coop->host;
	uint64_t holder = call->arguments[0];

	if (holder >= call->coop->vcpu_count || holder == call->vcpu)
		return -EINVAL;
	return host->ops->yield(host, call->vcpu, (unsigned)holder, call->arguments[1]);
}

static void copied(void *opaque, gpa_t to, uint64_t length)
{
	const struct call *call = opaque;
	struct virtio_coop_host *host = call->coop->host;

	if (host->ops->map_ahead)
		host->ops->map_ahead(host, call->vcpu, to.value, length);
}

static int copy(struct call *call)
{
	return coop_copy_each(
		call->coop->virtio.memory, GPA(call->arguments[0]), &call->values[0], copied, call);
}

/* The place of a counter in the list of those that this vCPU has open; name 0: a free one. Null:
 * there is none. */
static uint64_t *place_of(struct call *call, uint64_t name)
{
	uint64_t *names = call->coop->vcpus[call->vcpu].counters;

	for (unsigned i = 0; i < COOP_COUNTERS_MAX; i++)
		if (names[i] == name)
			return &names[i];
	return NULL;
}

static int counter_open(struct call *call)
{
	struct virtio_coop_host *host = call->coop->host;
	uint64_t kind = call->arguments[0], *place = place_of(call, 0), name = 0;
	int ret;

	if (kind >= DUET_COOP_COUNTERS)
		return -EINVAL;
	if (!place)
		return -ENOSPC;
	ret = host->ops->counter_open(host, call->vcpu, (unsigned)kind, &name);
	if (ret == 0)
		*place = call->values[0] = name;
	return ret;
}

static int read_counter(struct call *call)
{
	struct virtio_coop_host *host = call->coop->host;

	return host->ops->counter_read(host, call->vcpu, call->arguments[0], call->values);
}

static int counter_close(struct call *call)
{
	struct virtio_coop_host *host = call->coop->host;
	uint64_t *place = call->arguments[0] ? place_of(call, call->arguments[0]) : NULL;

	if (!place)
		return -EINVAL;
	host->ops->counter_close(host, call->vcpu, *place);
	*place = 0;
	return 0;
}

static int batch(struct call *call)
{
	struct memory *memory = call->coop->virtio.memory;
	const uint64_t count = call->arguments[2];
	struct iovec parts[2];
	struct virtqueue_chain chain = {.segments = parts, .readable = 1, .writable = 1};

	if (!count || count > DUET_COOP_BATCH_MAX)
		return -EINVAL;
	parts[0].iov_len = count * sizeof(struct duet_coop_request);
	parts[0].iov_base = memory_begin(memory, GPA(call->arguments[0]), parts[0].iov_len);
	parts[1].iov_len = count * sizeof(struct duet_coop_answer);
	parts[1].iov_base = memory_begin(memory, GPA(call->arguments[1]), parts[1].iov_len);
	if (!parts[0].iov_base || !parts[1].iov_base)
		return -EFAULT;
	coop_serve(call->coop, &chain, (unsigned)count, call->coop->vcpus[call->vcpu].calls);
	memory_end(memory, parts[1].iov_base, parts[1].iov_len);
	call->values[0] = count;
	return 0;
}

/* ---- a call ---- */

/* What can be called fast, and what must have been negotiated for it. */
static const struct {
	int (*serve)(struct call *call);
	unsigned feature;
} functions[COOP_FUNCTIONS] = {
	[DUET_COOP_NOP] = {nop, COOP_AGREED},
	[DUET_COOP_YIELD] = {yield, DUET_COOP_F_YIELD},
	[DUET_COOP_COPY] = {copy, DUET_COOP_F_COPY},
	[DUET_COOP_COUNTER_OPEN] = {counter_open, DUET_COOP_F_COUNTERS},
	[DUET_COOP_COUNTER_READ] = {read_counter, DUET_COOP_F_COUNTERS},
	[DUET_COOP_COUNTER_CLOSE] = {counter_close, DUET_COOP_F_COUNTERS},
	[DUET_COOP_BATCH] = {batch, COOP_AGREED},
};

static void drop_counters(struct coop *coop, unsigned vcpu)
{
	uint64_t *names = coop->vcpus[vcpu].counters;

	for (unsigned i = 0; i < COOP_COUNTERS_MAX; i++) {
		if (names[i])
			coop->host->ops->counter_close(coop->host, vcpu, names[i]);
		names[i] = 0;
	}
}

/* The device was reset since the last call: what was open is nobody's any more. */
static void follow_epoch(struct coop *coop, unsigned vcpu)
{
	unsigned epoch = atomic_load_explicit(&coop->epoch, memory_order_acquire);

	if (coop->vcpus[vcpu].epoch == epoch)
		return;
	drop_counters(coop, vcpu);
	coop->vcpus[vcpu].epoch = epoch;
}

static int32_t serve(struct call *call)
{
	struct coop *coop = call->coop;

	if (!coop_may(coop, COOP_AGREED))
		return -DUET_COOP_EPERM;
	if (call->function >= COOP_FUNCTIONS || !functions[call->function].serve)
		return -DUET_COOP_ENOSYS;
	if (!coop_may(coop, functions[call->function].feature))
		return -DUET_COOP_EPERM;
	follow_epoch(coop, call->vcpu);
	counter_add(&coop->vcpus[call->vcpu].calls[call->function], 1);
	return coop_status(functions[call->function].serve(call));
}

/* Each word once, whatever the guest's other vCPUs do to the page meanwhile. */
static void copy_in(struct call *call, const struct duet_coop_call_part *part)
{
	call->function = __atomic_load_n(&part->function, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < ARRAY_SIZE(call->arguments); i++)
		call->arguments[i] = __atomic_load_n(&part->arguments[i], __ATOMIC_RELAXED);
}

static void copy_out(const struct call *call, struct duet_coop_call_part *part, int32_t status)
{
	for (unsigned i = 0; i < ARRAY_SIZE(call->values); i++)
		__atomic_store_n(&part->values[i], call->values[i], __ATOMIC_RELAXED);
	__atomic_store_n(&part->status, status, __ATOMIC_RELEASE);
}

void coop_call(struct virtio_device *device, unsigned index)
{
	struct coop *coop = coop_of(device);
	struct virtio_coop_host *host = coop->host;
	struct call call = {.coop = coop, .vcpu = index};
	int32_t status;

	/* Somebody else's page: it is not touched, and the caller's own says nothing either. */
	if (index >= coop->vcpu_count ||
		(host->ops->is_current && !host->ops->is_current(host, index)))
		return;
	copy_in(&call, &coop->pages[index].call);
	status = serve(&call);
	if (status)
		counter_add(&coop->vcpus[index].refused, 1);
	copy_out(&call, &coop->pages[index].call, status);
}

/* ---- at rest ---- */

void coop_counters_drop(struct coop *coop)
{
	for (unsigned i = 0; i < coop->vcpu_count; i++)
		drop_counters(coop, i);
}

/* Their names: what they have counted is the host's to save. */
void coop_counters_save(struct coop *coop, struct state_writer *writer)
{
	for (unsigned i = 0; i < coop->vcpu_count; i++) {
		bool stale = coop->vcpus[i].epoch != atomic_load(&coop->epoch);

		state_put_bool(writer, stale);
		for (unsigned j = 0; j < COOP_COUNTERS_MAX; j++)
			state_put_u64(writer, coop->vcpus[i].counters[j]);
	}
}

bool coop_counters_restore(struct coop *coop, struct state_reader *reader)
{
	/* A machine without them has nobody to close one. */
	const bool may = coop->offered >> DUET_COOP_F_COUNTERS & 1;
	bool sound = true;

	coop_counters_drop(coop);
	for (unsigned i = 0; i < coop->vcpu_count; i++) {
		unsigned epoch = atomic_load(&coop->epoch);

		coop->vcpus[i].epoch = state_get_bool(reader) ? epoch - 1 : epoch;
		for (unsigned j = 0; j < COOP_COUNTERS_MAX; j++) {
			uint64_t name = state_get_u64(reader);

			sound = sound && (may || !name);
			coop->vcpus[i].counters[j] = may ? name : 0;
		}
	}
	return sound;
}
