/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cooperation device: life and configuration (coop.c), fast calls (coop_call.c), batches of
 * requests (coop_requests.c), what the guest tells of itself and is asked for (coop_hints.c).
 *
 * Threads. A fast call runs on the thread of the vCPU that makes it, without a lock: what it needs
 * is either that vCPU's own (struct coop_vcpu), atomic, or fixed at the start. A vCPU that makes a
 * call for another one's page is refused before it touches anything of it. The queues belong to the
 * I/O loop; runs are everybody's, under @runs_lock, which a batch may wait for.
 *
 * At rest no fast call is under way: a call lasts from an exit to the next KVM_RUN of its vCPU's
 * thread, and a machine at rest has all of these at the gate, where they come between the two. A
 * reset by the driver, while other vCPUs run, may come in the middle of their calls; so it touches
 * nothing of theirs but for atomic fields, and each vCPU clears up at its next call (@epoch).
 */
#ifndef DUET_VIRTIO_DEVICES_COOP_PRIVATE_H
#define DUET_VIRTIO_DEVICES_COOP_PRIVATE_H

#include "virtio/devices.h"
#include "virtio/devices/common.h"
#include "virtio/devices/coop_copy.h"

#include <duet/coop.h>
#include <pthread.h>

#define COOP_VCPUS_MAX    256 /* as many as there are ports in a BAR */
#define COOP_FUNCTIONS    (DUET_COOP_BATCH + 1)
#define COOP_COUNTERS_MAX 16 /* open at a time, of a vCPU */
#define COOP_QUEUE_SIZE   128

/* In coop.usable, beside the features: a version that both speak was agreed on. */
#define COOP_AGREED 63

/* Its own thread's, but at rest; cache lines of its own. */
struct coop_vcpu {
	_Alignas(64) _Atomic uint64_t calls[COOP_FUNCTIONS];
	_Atomic uint64_t refused;
	unsigned epoch;                       /* of the device, when it last called */
	uint64_t counters[COOP_COUNTERS_MAX]; /* names of those that are open; 0: a free place */
};

struct coop_runs {
	struct virtio_coop_run *runs;
	unsigned count, room;
	uint64_t pages, refused;
	uint32_t told;
	bool complete;
};

struct coop {
	struct virtio_device virtio;
	struct virtio_coop_host *host;
	uint64_t offered;
	unsigned vcpu_count;
	struct duet_coop_page *pages; /* the guest writes there at any moment */
	struct coop_vcpu *vcpus;
	_Atomic uint32_t driver_version;
	_Atomic uint64_t usable; /* features that may be used now, and COOP_AGREED */
	_Atomic unsigned epoch;  /* resets and restores so far */

	/* Main thread, at rest. */
	_Atomic uint64_t away_ns;
	uint64_t stopped_at;
	bool stopped;

	/* Wishes: numbered by the main thread, due until the I/O loop has told the driver. */
	_Atomic uint32_t wished[VIRTIO_COOP_KINDS];
	_Atomic bool due[VIRTIO_COOP_KINDS];
	struct loop_task wishes;
	_Atomic bool wishes_posted;
	bool active;

	pthread_mutex_t runs_lock;
	struct coop_runs runs[VIRTIO_COOP_KINDS];

	/* I/O loop */
	_Atomic uint64_t requests[COOP_FUNCTIONS];
	_Atomic uint64_t batches, malformed, wishes_told;
};

static inline struct coop *coop_of(struct virtio_device *device)
{
	return container_of(device, struct coop, virtio);
}

static inline struct coop *coop_model_of(struct device *device)
{
	return coop_of(virtio_pci_model(device));
}

/* Any thread. @feature may be COOP_AGREED. Without that there is none. */
static inline bool coop_may(const struct coop *coop, unsigned feature)
{
	uint64_t usable = atomic_load_explicit(&coop->usable, memory_order_acquire);

	return (usable >> COOP_AGREED & 1) && (usable >> feature & 1);
}

/* coop.c: what is returned to the guest for a 0 or negative errno of ours. */
int32_t coop_status(int ret);

/* coop_call.c */
void coop_call(struct virtio_device *device, unsigned index);
/* At rest, as all three: closes what the guest has left open, and forgets it. */
void coop_counters_drop(struct coop *coop);
void coop_counters_save(struct coop *coop, struct state_writer *writer);
bool coop_counters_restore(struct coop *coop, struct state_reader *reader);

/* coop_requests.c. I/O loop. */
enum virtio_progress coop_requests(struct coop *coop, struct virtqueue *queue);
/* Any thread: the @count requests in @chain's readable part, which has them; its writable part has
 * room for the answers. @served counts them by function, and is the calling thread's. */
void coop_serve(struct coop *coop, const struct virtqueue_chain *chain, unsigned count,
	_Atomic uint64_t *served);

/* coop_hints.c. Any thread: a run of the guest's. */
int32_t coop_take_run(struct coop *coop, enum virtio_coop_kind kind, const uint64_t arguments[6]);
/* I/O loop: the queue of wishes has buffers, or a wish came. */
void coop_tell_wishes(struct coop *coop);
void coop_wishes_init(struct coop *coop);
/* At rest, or the driver's reset: nothing was told, and nothing is due. */
void coop_runs_forget(struct coop *coop);
void coop_runs_save(struct coop *coop, struct state_writer *writer);
bool coop_runs_restore(struct coop *coop, struct state_reader *reader);
void coop_runs_tell(struct coop *coop, struct stats_sink *sink);

#endif
