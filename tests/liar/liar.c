/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A cooperation device that lies: what a guest's module must live with. Linked around duet itself,
 * whose device is made as ever and then has some of its functions replaced.
 *
 * DUET_LIAR=SEED:LIES; the lies that it knows are in the table below, separated by commas. With
 * each of its driver's resets the device turns to another of them, so that a module that is loaded
 * again and again meets all.
 */
#include "base/bytes.h"
#include "virtio/devices.h"
#include "virtio/virtio.h"

#include <duet/coop.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define CHAIN_MAX 128
#define FLOOD     1000

enum lie {
	LIE_CONFIG,   /* version, number of pages, their size, the ports' BAR */
	LIE_CALLS,    /* status and values of fast calls */
	LIE_REQUESTS, /* answers, and how long they are */
	LIE_WISHES,   /* that nobody has, in a queue that is never left alone */
	LIE_PAGES,    /* all that is in them, the driver's own parts too */
	LIE_SILENCE,  /* requests are taken and never answered */
	LIE_FLOOD,    /* one buffer for wishes is given back again and again; always */
	LIES,
};

static const char *const names[LIES] = {
	"config", "calls", "requests", "wishes", "pages", "silence", "flood"};

/* One machine to a process. The real device's functions are @honest. */
static struct {
	struct virtio_ops ops;
	const struct virtio_ops *honest;
	enum lie known[LIES];
	unsigned count;
	_Atomic unsigned resets;
	_Atomic uint64_t random;
} liar;

/* vCPUs and the I/O loop draw from it in any order. */
static uint64_t drawn(void)
{
	uint64_t x = atomic_fetch_add(&liar.random, 0x9e3779b97f4a7c15ULL);

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

static bool is_turn_of(enum lie lie)
{
	return liar.known[atomic_load(&liar.resets) % liar.count] == lie;
}

/* Now and then it tells the truth, so that the driver goes on to where the next lie meets it. */
static bool lies(enum lie lie)
{
	return is_turn_of(lie) && drawn() % 4 == 0;
}

static uint64_t any(void)
{
	const uint64_t edges[] = {0, 1, 255, 4096, INT32_MAX, UINT32_MAX, INT64_MAX, UINT64_MAX};
	uint64_t which = drawn();

	return which & 1 ? drawn() : edges[which >> 1 & 7];
}

static void scribble(void *at, size_t length)
{
	uint64_t word;

	for (size_t done = 0; done + sizeof(word) <= length; done += sizeof(word)) {
		word = any();
		memcpy((char *)at + done, &word, sizeof(word));
	}
}

static uint64_t config_read(struct virtio_device *device, unsigned offset, unsigned size)
{
	return lies(LIE_CONFIG) ? any() : liar.honest->config_read(device, offset, size);
}

static void call(struct virtio_device *device, unsigned index)
{
	struct duet_coop_page *page = (struct duet_coop_page *)device->shared + index;
	bool within = (index + 1ULL) * sizeof(*page) <= device->shared_length;

	if (within && lies(LIE_CALLS) && drawn() & 1)
		return; /* not even that */
	liar.honest->call(device, index);
	if (within && lies(LIE_CALLS)) {
		scribble(page->call.values, sizeof(page->call.values));
		page->call.status = drawn() & 1 ? 0 : (int32_t)any();
	}
	if (lies(LIE_PAGES))
		scribble(device->shared, device->shared_length);
}

/* Each chain that is there, with whatever in it and of whatever length. */
static enum virtio_progress make_up(struct virtqueue *queue)
{
	struct iovec segments[CHAIN_MAX];
	struct virtqueue_chain chain = {.segments = segments, .capacity = CHAIN_MAX};

	while (virtqueue_pop(queue, &chain) > 0) {
		for (unsigned i = 0; i < chain.writable; i++)
			scribble(segments[chain.readable + i].iov_base,
				segments[chain.readable + i].iov_len);
		virtqueue_push(
			queue, &chain, (uint32_t)(drawn() & 1 ? chain.writable_bytes : any()));
	}
	return VIRTIO_DONE;
}

/* More often than the ring has entries: a driver that gives a buffer to the device while it still
 * takes others finds that one filled each time. */
static enum virtio_progress flood(struct virtqueue *queue)
{
	struct iovec segments[CHAIN_MAX];
	struct virtqueue_chain chain = {.segments = segments, .capacity = CHAIN_MAX};

	if (virtqueue_pop(queue, &chain) > 0)
		for (unsigned i = 0; i < FLOOD; i++) {
			queue->in_flight += i > 0;
			virtqueue_push(queue, &chain, (uint32_t)chain.writable_bytes);
		}
	return VIRTIO_DONE;
}

static enum virtio_progress swallow(struct virtqueue *queue)
{
	struct iovec segments[CHAIN_MAX];
	struct virtqueue_chain chain = {.segments = segments, .capacity = CHAIN_MAX};

	while (virtqueue_pop(queue, &chain) > 0)
		;
	return VIRTIO_DONE;
}

static enum virtio_progress kick(struct virtio_device *device, struct virtqueue *queue)
{
	if (queue->index == DUET_COOP_EVENTS && is_turn_of(LIE_FLOOD))
		return flood(queue);
	if (queue->index == DUET_COOP_EVENTS && lies(LIE_WISHES))
		return make_up(queue);
	if (queue->index == DUET_COOP_REQUESTS && lies(LIE_REQUESTS))
		return make_up(queue);
	if (queue->index == DUET_COOP_REQUESTS && lies(LIE_SILENCE))
		return swallow(queue);
	return liar.honest->kick(device, queue);
}

static void reset(struct virtio_device *device)
{
	atomic_fetch_add(&liar.resets, 1);
	liar.honest->reset(device);
}

static bool knows(const char *list, const char *name)
{
	const size_t length = strlen(name);

	for (const char *at = list; (at = strstr(at, name)) != NULL; at += length)
		if (at[length] == '\0' || at[length] == ',')
			return true;
	return false;
}

/* False: it has nothing to lie about. */
static bool learn(const char *text)
{
	char *list;

	if (!text)
		return false;
	atomic_store(&liar.random, strtoull(text, &list, 0));
	for (unsigned lie = 0; lie < LIES; lie++)
		if (knows(list, names[lie]))
			liar.known[liar.count++] = lie;
	return liar.count != 0;
}

int __real_virtio_coop_new(struct device **device, const char *name,
	const struct virtio_coop_options *options, struct error *err);
int __wrap_virtio_coop_new(struct device **device, const char *name,
	const struct virtio_coop_options *options, struct error *err);

int __wrap_virtio_coop_new(struct device **device, const char *name,
	const struct virtio_coop_options *options, struct error *err)
{
	int ret = __real_virtio_coop_new(device, name, options, err);
	struct virtio_device *model;

	if (ret < 0 || !learn(getenv("DUET_LIAR")))
		return ret;
	model = virtio_pci_model(*device);
	liar.honest = model->ops;
	liar.ops = *model->ops;
	liar.ops.config_read = config_read;
	liar.ops.call = call;
	liar.ops.kick = kick;
	liar.ops.reset = reset;
	model->ops = &liar.ops;
	return 0;
}
