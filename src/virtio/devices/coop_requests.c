/* SPDX-License-Identifier: Apache-2.0 */
/* Batches: k requests in the readable part of a chain, k answers in its writable part; by the
 * queue, or by a fast call (coop_call.c). */
#include "virtio/devices/coop_private.h"

#include <string.h>

static int32_t nop(struct coop *coop, const struct duet_coop_request *request, uint64_t *values)
{
	(void)coop;
	values[0] = request->arguments[0];
	return 0;
}

static int32_t share(struct coop *coop, const struct duet_coop_request *request, uint64_t *values)
{
	(void)values;
	return coop_take_run(coop, VIRTIO_COOP_SHARE, request->arguments);
}

static int32_t locality(
	struct coop *coop, const struct duet_coop_request *request, uint64_t *values)
{
	(void)values;
	return coop_take_run(coop, VIRTIO_COOP_LOCALITY, request->arguments);
}

static const struct {
	int32_t (*serve)(
		struct coop *coop, const struct duet_coop_request *request, uint64_t *values);
	unsigned feature;
} functions[COOP_FUNCTIONS] = {
	[DUET_COOP_NOP] = {nop, COOP_AGREED},
	[DUET_COOP_SHARE] = {share, DUET_COOP_F_HINTS},
	[DUET_COOP_LOCALITY] = {locality, DUET_COOP_F_HINTS},
};

/* @usable is the same for all of a batch. A reset waits for a turn to end; of a batch by fast call
 * it may come in the middle, and a run that is too late is refused under the lock of the runs. */
static int32_t serve(struct coop *coop, uint64_t usable, const struct duet_coop_request *request,
	uint64_t *values, _Atomic uint64_t *served)
{
	const uint32_t function = request->function;

	if (!usable)
		return -DUET_COOP_EPERM;
	if (function >= COOP_FUNCTIONS || !functions[function].serve)
		return -DUET_COOP_ENOSYS;
	if (!(usable >> functions[function].feature & 1))
		return -DUET_COOP_EPERM;
	counter_add(&served[function], 1);
	return functions[function].serve(coop, request, values);
}

/* How many requests; 0: the chain is none of the contract's. */
static unsigned batch_of(const struct virtqueue_chain *chain)
{
	uint64_t count = chain->readable_bytes / sizeof(struct duet_coop_request);

	if (chain->readable_bytes % sizeof(struct duet_coop_request) ||
		count > DUET_COOP_BATCH_MAX ||
		chain->writable_bytes < count * sizeof(struct duet_coop_answer))
		return 0;
	return (unsigned)count;
}

/* The walk through pieces is most of a small request's work, and drivers' batches are in one. */
static void take(const struct virtqueue_chain *chain, unsigned i, struct duet_coop_request *request)
{
	const struct iovec *in = chain->segments;

	if (chain->readable == 1)
		memcpy(request, (const char *)in->iov_base + i * sizeof(*request),
			sizeof(*request));
	else
		iov_copy_from(in, chain->readable, i * sizeof(*request), request, sizeof(*request));
	/* The copy is what is checked and used: the compiler, too, reads the guest's only once. */
	atomic_signal_fence(memory_order_acq_rel);
}

static void give(
	const struct virtqueue_chain *chain, unsigned i, const struct duet_coop_answer *answer)
{
	const struct iovec *out = &chain->segments[chain->readable];

	if (chain->writable == 1)
		memcpy((char *)out->iov_base + i * sizeof(*answer), answer, sizeof(*answer));
	else
		iov_copy_to(out, chain->writable, i * sizeof(*answer), answer, sizeof(*answer));
}

void coop_serve(struct coop *coop, const struct virtqueue_chain *chain, unsigned count,
	_Atomic uint64_t *served)
{
	uint64_t usable = atomic_load_explicit(&coop->usable, memory_order_acquire);

	if (!(usable >> COOP_AGREED & 1))
		usable = 0;
	for (unsigned i = 0; i < count; i++) {
		struct duet_coop_request request;
		struct duet_coop_answer answer = {0};

		take(chain, i, &request);
		answer.status = serve(coop, usable, &request, answer.values, served);
		give(chain, i, &answer);
	}
}

/* Bytes of answers. */
static uint32_t answer(struct coop *coop, const struct virtqueue_chain *chain)
{
	unsigned count = batch_of(chain);

	coop_serve(coop, chain, count, coop->requests);
	counter_add(count ? &coop->batches : &coop->malformed, 1);
	return (uint32_t)(count * sizeof(struct duet_coop_answer));
}

enum virtio_progress coop_requests(struct coop *coop, struct virtqueue *queue)
{
	struct iovec segments[COOP_QUEUE_SIZE];
	struct virtqueue_chain chain = {.segments = segments, .capacity = COOP_QUEUE_SIZE};

	for (unsigned chains = 0; virtqueue_pop(queue, &chain) > 0; chains++) {
		virtqueue_push(queue, &chain, answer(coop, &chain));
		/* One batch alone does not look at the clock. */
		if (chains && virtio_turn_over(queue))
			return VIRTIO_MORE;
	}
	return VIRTIO_DONE;
}
