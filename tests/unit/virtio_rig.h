/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio device on a fake machine with a guest's driver at its registers. The model of its own,
 * for tests of the transport, answers each request with bytes of 0x5a in its writable part.
 * Tests of real models use the driver's half on their own device.
 */
#ifndef DUET_TESTS_VIRTIO_RIG_H
#define DUET_TESTS_VIRTIO_RIG_H

#include "fake_host.h"
#include "ring_driver.h"
#include "virtio/virtio.h"
#include "virtio_registers.h"

#define RIG_QUEUES    4
#define RIG_NEEDS_MAX 4

/* The guest's driver: what it found by walking the capabilities. */
struct virtio_driver {
	struct fake_machine *machine;
	unsigned slot;
	uint64_t common, isr, config, notify; /* addresses */
	uint64_t ports;                       /* the doorbells there */
	uint64_t msix;
	unsigned msix_capability, window_capability;
	uint32_t stride, port_stride; /* of doorbells in memory, of those at ports */
};

/* Turns decoding on and finds the structures. */
void driver_probe(struct virtio_driver *driver, struct fake_machine *machine, unsigned slot);
uint64_t driver_read(struct virtio_driver *driver, unsigned offset, unsigned size);
void driver_write(struct virtio_driver *driver, unsigned offset, unsigned size, uint64_t value);
/* Writes 0 to the status and waits for it to read so. False after FAKE_PATIENCE_MS.
 */
bool driver_reset(struct virtio_driver *driver);
uint64_t driver_features(struct virtio_driver *driver);
/* ACKNOWLEDGE, DRIVER, features, FEATURES_OK; false when the device refuses them. */
bool driver_negotiate(struct virtio_driver *driver, uint64_t features);
/* MSI-X on; vector V carries the data 0x100 + V. */
void driver_msix(struct virtio_driver *driver, unsigned vectors);
/* Ring of @setup's kind at @base; vector index + 1, or none with 0xffff. */
void driver_queue(struct virtio_driver *driver, unsigned index, struct ring_driver *ring,
	uint64_t base, const struct virtqueue_setup *setup, uint16_t vector);
void driver_ok(struct virtio_driver *driver);
void driver_kick(struct virtio_driver *driver, unsigned queue); /* at its port */
void driver_kick_memory(struct virtio_driver *driver, unsigned queue);
/* Waits for a used buffer. False after FAKE_PATIENCE_MS. */
bool driver_await(struct ring_driver *ring, uint64_t *token, uint32_t *written);

/* The test's model. */
struct rig_model {
	struct virtio_device virtio; /* first */
	_Atomic unsigned activations, quiesces, kicks;
	_Atomic unsigned
		hold_quiesce; /* so many queues have something in flight from quiesce() on */
	_Atomic bool fail_activate;
	_Atomic unsigned needs;    /* chains at a time: gives back what is less; 0: any number */
	_Atomic unsigned per_turn; /* chains, then there may be more; 0: all */
	_Atomic bool restless;     /* each turn says that there is more */
	_Atomic bool keeps;        /* requests are taken and not answered */
	_Atomic unsigned kept;
	/* Called on the I/O loop when it has found such a queue's end; may be null. */
	void (*at_end)(void *opaque);
	void *opaque;
	uint8_t turns[64]; /* the queues that had the first kicks, in their order */
	_Atomic bool *freed_flag;
	unsigned held; /* of them, not yet released; I/O loop */
	struct loop_task release;
	uint8_t config[16];
};
int rig_model_new(struct device **device, struct rig_model **model, unsigned queues,
	uint64_t ring_features, struct error *err);
/* Ends what is in flight of one more queue; what follows from that has happened then. */
void rig_release(struct rig_model *model);

#endif
