/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of the PCI transport (virtio 1.2, 4.1): what its files share.
 *
 * Threads. Registers: vCPU threads, under @lock. The model runs on the I/O loop without the lock.
 * The loop alone moves @phase, so it may read it without the lock:
 *
 *     IDLE --(DRIVER_OK, started)--> ACTIVE --(reset, quiesce, fault)--> QUIESCING --> IDLE
 *
 * Whoever changes what the phase should be posts @work; the loop then takes the next step. A reset
 * asked for while the model is not IDLE is finished when it has become so, and the status register
 * reads non-zero until then (2.1: the driver waits for 0).
 *
 * Locks, outermost first: the PCI bus's, @lock, @isr_lock, those of interrupts and doorbells.
 */
#ifndef DUET_VIRTIO_TRANSPORT_TRANSPORT_H
#define DUET_VIRTIO_TRANSPORT_TRANSPORT_H

#include "base/pace.h"
#include "pci/pci.h"
#include "virtio/virtio.h"

#include <pthread.h>

#define VIRTIO_STATUS_ACKNOWLEDGE 1
#define VIRTIO_STATUS_DRIVER      2
#define VIRTIO_STATUS_DRIVER_OK   4
#define VIRTIO_STATUS_FEATURES_OK 8
#define VIRTIO_STATUS_NEEDS_RESET 64
#define VIRTIO_STATUS_FAILED      128

#define VIRTIO_NO_VECTOR  0xffff
#define VIRTIO_ISR_QUEUE  1
#define VIRTIO_ISR_CONFIG 2

/* BAR 0: one page for each structure, so that none shares a page's protection with another. */
#define VIRTIO_BAR           0
#define VIRTIO_MSIX_BAR      1
#define VIRTIO_PART          0x1000
#define VIRTIO_COMMON        0x0000
#define VIRTIO_ISR           0x1000
#define VIRTIO_CONFIG        0x2000
#define VIRTIO_NOTIFY        0x3000
#define VIRTIO_BAR_SIZE      0x4000
#define VIRTIO_NOTIFY_STRIDE 4
/* BAR 2: the doorbells as ports, which drivers find first. */
#define VIRTIO_PORT_BAR      2
#define VIRTIO_PORT_BAR_SIZE 256 /* the most that PCI allows */
#define VIRTIO_PORT_STRIDE   2
/* BARs 4 and 5: the memory that driver and model share, of models that have some. Their own ports,
 * of those that have calls, are VIRTIO_CALL_BAR. */
#define VIRTIO_SHARED_BAR    4
#define VIRTIO_WINDOW_LENGTH 20 /* of the VIRTIO_PCI_CAP_PCI_CFG capability */

enum virtio_phase {
	VIRTIO_IDLE,
	VIRTIO_ACTIVE,
	VIRTIO_QUIESCING,
};

struct virtio_pci;

/* What serves one queue: of the queue's own loop (virtqueue.io) alone, so that queues may come to
 * have different ones. What a model needs for a turn is on the stack, or the queue's too. */
struct virtio_queue_context {
	struct loop_task turn; /* the next one, of a queue that goes on */
	bool turn_posted;
	bool in_turn, asked; /* a turn is under way; in it the model has asked for one more */
	unsigned in_flight;  /* begun and not ended */
	/* linger.c: while @look is set kicks are off, and it ends that. */
	struct loop_timer look;
	struct pace pace;
	uint64_t seen; /* of the queue's chains */
};

/* The registers of one queue and its doorbell. */
struct virtio_queue_registers {
	struct virtio_pci *pci;
	struct virtio_queue_context context;
	uint16_t size;
	bool enabled;
	uint64_t descriptors, driver, device;
	_Atomic uint16_t vector;
	/* -1 until the queue is first used; then for the device's life. */
	int doorbell;
	bool doorbell_placed; /* the guest's write signals it without an exit */
	bool watched;
	_Atomic bool handed_over; /* see virtio_ops.hands_over; as the last activation left it */
	_Atomic bool ever_handed_over;
	_Atomic bool vector_moved;
	struct loop_watch watch;
};

/* A model's memory in the guest. */
enum virtio_shared {
	VIRTIO_SHARED_AWAY,    /* its BAR has no place */
	VIRTIO_SHARED_UNSEEN,  /* nobody has looked: the first access will exit */
	VIRTIO_SHARED_SHOWN,   /* a window of the guest's */
	VIRTIO_SHARED_REFUSED, /* the host has no window left: each access exits */
};

struct virtio_pci {
	struct pci_function function;
	struct device_ops device_ops;
	struct virtio_device *model;
	struct device_place place;
	unsigned window; /* offset of the access window's capability */
	char name[sizeof(((struct device *)0)->name)];

	pthread_mutex_t lock;
	uint64_t offered, driver_features;
	uint64_t limit; /* of what is offered; 0: none */
	uint32_t device_feature_select, driver_feature_select;
	uint16_t queue_select;
	uint8_t status;
	bool reset_pending;
	bool stopped;      /* by the machine; so at first */
	unsigned asking;   /* the machine waits for device_at_rest(); 0: it does not */
	bool drop;         /* a reset of the machine follows */
	bool anew;         /* hands_over() has changed its mind; the loop's */
	bool queues_ready; /* virtqueue_enable() was done since DRIVER_OK */
	bool fault_told;   /* the driver was interrupted for it */
	enum virtio_phase phase;
	unsigned watches;   /* on the loop */
	unsigned removing;  /* of them, those that it has been asked to let go of */
	bool notify_mapped; /* BAR 2 is mapped at: */
	uint64_t notify_port;
	enum virtio_shared shared_state;
	uint64_t shared_address; /* of its BAR, unless AWAY */
	unsigned shared_window;  /* SHOWN */
	_Atomic uint16_t config_vector;
	_Atomic uint8_t generation;
	_Atomic bool faulted; /* needs a reset */
	_Atomic uint64_t faults;

	pthread_mutex_t isr_lock;
	uint8_t isr;

	struct loop_poller poller; /* on the loop while ACTIVE, of a model that polls */
	struct loop_task work, hurry;
	_Atomic bool posted, hurrying;
	struct virtio_queue_registers *queues;
};

static inline struct virtio_pci *virtio_pci_of(struct device *device)
{
	return (struct virtio_pci *)device;
}

/* registers.c: BAR 0. */
extern const struct bus_ops virtio_bar_ops, virtio_port_ops;
uint64_t virtio_bar_read(void *device, uint64_t offset, unsigned size);
void virtio_bar_write(void *device, uint64_t offset, unsigned size, uint64_t value);

/* lifecycle.c; "locked": under @lock. */
void virtio_post_work(struct virtio_pci *pci); /* any thread */
void virtio_work(struct loop_task *task);
void virtio_hurry(struct loop_task *task);
void virtio_begin_reset_locked(struct virtio_pci *pci);
int virtio_pci_start(struct device *device, struct error *err);
void virtio_pci_quiesce(struct device *device, unsigned asking, bool drop);
void virtio_pci_hurry(struct device *device);
void virtio_pci_reset(struct device *device);

/* doorbell.c; locked. */
void virtio_doorbell_moved(
	struct pci_function *function, unsigned bar, bool mapped, uint64_t address);
int virtio_doorbell_open(struct virtio_pci *pci, unsigned index); /* I/O loop */
void virtio_doorbell_place_all(struct virtio_pci *pci);
void virtio_doorbell_remove_all(struct virtio_pci *pci);
void virtio_doorbell_ring(struct virtio_pci *pci, unsigned index);
void virtio_doorbell_moved_vectors(struct virtio_pci *pci); /* I/O loop, ACTIVE, unlocked */
void virtio_doorbell_close(struct virtio_pci *pci);         /* at the end */

/* shared.c; at realize: describes the BARs of the model's shared memory and ports. */
void virtio_describe_shared(struct virtio_pci *pci);

/* turn.c; I/O loop. The model serves the queue: the device is ACTIVE, and nobody else has it. */
bool virtio_queue_is_live(const struct virtio_queue_registers *registers);
bool virtio_is_in_flight(const struct virtio_pci *pci);
void virtio_turns_prepare(struct virtio_pci *pci); /* at realize */
void virtio_turns_all(struct virtio_pci *pci);     /* one of each queue */
void virtio_turns_end(struct virtio_pci *pci);     /* those that were to come do not */

/* linger.c; I/O loop. */
bool virtio_lingers(const struct virtio_device *device);
/* After a turn that found the queue's end: whether it is looked at again soon. Else the driver is
 * to be asked for a kick. */
bool virtio_linger(struct virtio_queue_context *context, const struct virtqueue *queue);

/* poll.c; I/O loop */
void virtio_polling_start(struct virtio_pci *pci);
void virtio_polling_stop(struct virtio_pci *pci);

/* interrupt.c; any thread, also under @lock. */
void virtio_raise(struct virtio_pci *pci, uint8_t cause);
uint8_t virtio_take_isr(struct virtio_pci *pci);
void virtio_config_interrupt(struct virtio_pci *pci);

/* save.c */
void virtio_pci_save(struct device *device, struct state_writer *writer);
int virtio_pci_restore(struct device *device, struct state_reader *reader, struct error *err);

#endif
