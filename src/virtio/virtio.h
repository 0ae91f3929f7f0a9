/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio 1.2: what a device model sees. The PCI transport (section 4.1) is below it, the rings
 * (2.7 split, 2.8 packed) beside it in queue/.
 *
 * Threads: registers are written by vCPU threads under the device's lock, in the transport. The
 * model's activate, kick and quiesce run on the device's I/O loop, so a model's data path
 * needs no lock of its own. config_read and config_write run on a vCPU thread under the lock.
 *
 * A driver that breaks the rules gets DEVICE_NEEDS_RESET (2.1.2): virtio_needs_reset(), from any
 * thread; the model is quiesced and stays silent until the driver resets it.
 */
#ifndef DUET_VIRTIO_VIRTIO_H
#define DUET_VIRTIO_VIRTIO_H

#include "base/log.h"
#include "base/loop.h"
#include "bus/device.h"
#include "virtio/queue/virtqueue.h"

#define VIRTIO_F_INDIRECT_DESC     28
#define VIRTIO_F_EVENT_IDX         29
#define VIRTIO_F_VERSION_1         32
#define VIRTIO_F_RING_PACKED       34
#define VIRTIO_F_IN_ORDER          35
#define VIRTIO_F_NOTIFICATION_DATA 38
#define VIRTIO_FEATURE(bit)        (1ULL << (bit))

#define VIRTIO_QUEUES_MAX 65

#define VIRTIO_CALL_BAR   3 /* of virtio_ops.call */
#define VIRTIO_CALL_PORTS 256

struct virtio_device;

/* How a turn of a queue ended. */
enum virtio_progress {
	VIRTIO_DONE, /* nothing is left to do, or the model itself says when to go on */
	VIRTIO_MORE, /* the time is over: the next turn comes after the other queues' */
};

struct virtio_ops {
	const char *type;    /* in statistics and saved state: "virtio-net" */
	uint16_t id;         /* section 5: 1 network, 2 block, 3 console, 4 entropy */
	uint32_t class_code; /* PCI class */
	/* Device features offered, without the ring features, which the core adds. May be null. */
	uint64_t (*features)(struct virtio_device *device);
	/* The driver's settings go back to what they were at first; may be null. Quiesced, under
	 * the device's lock. */
	void (*reset)(struct virtio_device *device);
	/* DRIVER_OK: device->negotiated and the enabled queues are final. Return a negative errno
	 * to make the device need a reset; quiesce does not follow then. Also called when a stopped
	 * machine goes on, with the queues where they were. May be null. */
	int (*activate)(struct virtio_device *device);
	/* A turn of an enabled @queue: the driver kicked it, it was not at its end in the last
	 * turn, the model asked (virtio_turn()), or the device was just activated. Only between
	 * activate and quiesce, and not for one that is broken or handed over. Takes chains for as
	 * long as virtio_turn_over() allows. The core then interrupts for what was pushed, and a
	 * queue that virtqueue_pop() found broken makes the device need a reset. */
	enum virtio_progress (*kick)(struct virtio_device *device, struct virtqueue *queue);
	/* Whether somebody outside this process serves queue @index from the next activate on: it
	 * has no turns then. Under the device's lock, with device->negotiated. May be null: no. */
	bool (*hands_over)(struct virtio_device *device, unsigned index);
	/* virtio_call_fd() of a queue that was handed over changed. I/O loop. */
	void (*vector_changed)(struct virtio_device *device, unsigned index);
	/* No turns come any more. Hurries what is under way; when all that was begun has ended
	 * (virtio_begin()) the core interrupts for what was pushed, and the device is at rest:
	 * nothing of the model touches guest memory until activate, and it may be freed. Timers are
	 * stopped here. May be null. */
	void (*quiesce)(struct virtio_device *device);
	/* The machine is about to end: what is in flight may fail. I/O loop, at any time. May be
	 * null. */
	void (*hurry)(struct virtio_device *device);
	/* Device-specific configuration space. @offset + @size is within config_size; null: it is 0
	 * bytes long. */
	uint64_t (*config_read)(struct virtio_device *device, unsigned offset, unsigned size);
	void (*config_write)(struct virtio_device *device, unsigned offset, unsigned size,
		uint64_t value); /* may be null: read-only */
	/* The model's own fields, in the device's section; may be null. Quiesced. */
	void (*save)(struct virtio_device *device, struct state_writer *writer);
	int (*restore)(
		struct virtio_device *device, struct state_reader *reader, struct error *err);
	void (*stats)(struct virtio_device *device, struct stats_sink *sink); /* may be null */
	/* A byte of whatever value was written to port @index of the model's own ports, which are
	 * in BAR VIRTIO_CALL_BAR. On the thread of the vCPU that wrote it, without any lock, in
	 * every state of the device but while it is at rest by the machine's wish: vCPUs have
	 * stopped then. Null: there are no such ports. */
	void (*call)(struct virtio_device *device, unsigned index);
	/* Frees the model's parts and the struct itself. */
	void (*free)(struct virtio_device *device);
};

/* First member of each model's own struct. Transport-private parts are in transport/. */
struct virtio_device {
	const struct virtio_ops *ops;
	const char *name; /* device.name of the transport, for messages */
	struct memory *memory;
	struct loop *io;
	unsigned queue_count;
	uint16_t queue_size_max; /* power of two */
	unsigned config_size;
	/* Host memory that driver and model share without exits (2.10): whole pages, there for the
	 * device's life, the model's to free and to save: it is in no log of writes. Length 0:
	 * there is none. */
	void *shared;
	uint64_t shared_length;
	uint8_t shared_id;
	uint64_t negotiated;      /* from FEATURES_OK on; 0 before */
	uint64_t ring_features;   /* VIRTIO_F_RING_PACKED or 0; the core offers the others always */
	bool polls;               /* the transport looks at the rings and calls kick() */
	bool lingers;             /* kicks stay off while requests come fast; see virtio_look() */
	bool dropping;            /* at quiesce: a reset follows, what has not begun need not */
	struct virtqueue *queues; /* queue_count of them, allocated by the transport */
	struct log_guest_limit guest_log;
	void *transport;
};

/* Makes the PCI device for @model, which it owns from now on, even when it fails. @name as in
 * struct device. The struct device returned is not realized yet. */
int virtio_pci_new(
	struct device **device, struct virtio_device *model, const char *name, struct error *err);
/* The model behind a device made by virtio_pci_new(). */
struct virtio_device *virtio_pci_model(struct device *device);

/* Main thread, realized and never started: what a device made by virtio_pci_new() offers its
 * driver, ring features included; and to offer exactly @features. -ENOTSUP: it has not all of them.
 */
uint64_t virtio_offered(const struct device *device);
int virtio_offer(struct device *device, uint64_t features, struct error *err);

/* Any thread. The first one since the last reset goes to the log (rate-limited) and is counted. */
void virtio_needs_reset(struct virtio_device *device, const char *reason);
/* I/O loop: something of @queue that outlives a turn is under way, and has ended; any number at
 * once. The last end brings a device that is quiesced to rest, in a later task of the loop: the
 * caller may still use what is its own, and begin something else. */
void virtio_begin(struct virtio_device *device, struct virtqueue *queue);
void virtio_end(struct virtio_device *device, struct virtqueue *queue);
/* Any thread, not from a callback under the device's lock. The configuration changed (link state,
 * size): a new generation, and an interrupt from DRIVER_OK on. */
void virtio_config_changed(struct virtio_device *device);
/* I/O loop: a turn of @queue now, since something that it waited for is there. Nothing happens when
 * it has none (see kick) or one is to come anyway. */
void virtio_turn(struct virtio_device *device, struct virtqueue *queue);
/* I/O loop, of a model that lingers, when the loop is awake for @queue anyway: a turn if kicks are
 * off and something is there. */
void virtio_look(struct virtio_device *device, struct virtqueue *queue);
/* I/O loop, for what was pushed outside of turns: flushes it, and interrupts the driver if the used
 * buffers since the last call ask for it. The interrupt goes out with the loop's next wait. */
void virtio_interrupt(struct virtio_device *device, struct virtqueue *queue);
/* For queues that are handed over, between activate and quiesce, on the I/O loop; descriptors stay
 * the core's. The eventfd that the driver's kicks signal. */
int virtio_doorbell_fd(struct virtio_device *device, unsigned index);
/* The eventfd that interrupts the driver for the queue, by MSI-X; -1: it wants none. */
int virtio_call_fd(struct virtio_device *device, unsigned index);
/* As a kick of the driver's. */
void virtio_ring_doorbell(struct virtio_device *device, unsigned index);
bool virtio_handed_over(struct virtio_device *device, unsigned index);
/* I/O loop, at any time: hands_over() says something else. An active model is quiesced and
 * activated anew, with the queues where they were; the driver sees nothing of it. */
void virtio_hand_over_anew(struct virtio_device *device);
/* Any thread. */
bool virtio_msix_on(struct virtio_device *device);

/* In a turn of @queue: whether its time is over, as loop_turn_over() says. */
static inline bool virtio_turn_over(const struct virtqueue *queue)
{
	return loop_turn_over(queue->io);
}

static inline bool virtio_has(const struct virtio_device *device, unsigned feature)
{
	return device->negotiated >> feature & 1;
}

#endif
