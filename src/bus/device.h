/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device interface: what every device model, emulated, virtio or passed through, gives the
 * machine.
 *
 * Life: the device's own create function allocates it from its configuration (files opened, no
 * guest-visible effect); realize() wires ports, BARs and interrupts, at boot and at restore alike.
 * Then it is at rest: it touches no guest memory, raises no interrupt, has no I/O in flight.
 * start() lets it go, before vCPUs run; quiesce() asks it to come to rest again, once they have
 * stopped.
 *
 *                 start()
 *      AT REST ----------> MOVING        at rest: reset(), save(), restore(), free()
 *          ^                  |
 *          |     quiesce()    |
 *          +---- COMING <-----+          coming: hurry(); start() takes the wish back
 *
 * Threads: realize, start, quiesce, hurry, reset, save, restore, free: the main thread, while no
 * vCPU runs. stats(): the main thread, at any time.
 */
#ifndef DUET_BUS_DEVICE_H
#define DUET_BUS_DEVICE_H

#include "base/error.h"
#include "bus/bus.h"
#include "bus/host.h"
#include "memory/memory.h"
#include "state/state.h"

#include <stdbool.h>
#include <stdint.h>

struct device;
struct pci_bus;
struct loop;

/* Where a device lives; filled by the machine, outlives all devices. */
struct device_place {
	struct memory *memory;
	struct bus *ports; /* I/O ports */
	struct bus *mmio;  /* guest-physical addresses outside RAM */
	struct bus_host *host;
	struct pci_bus *pci; /* null in a machine without PCI */
	struct loop *io;     /* the loop of the device's I/O thread */
	struct loop *main;   /* the main thread's loop: control, timers, console */
};

/* Receives a device's counters: 12 kicks of its first queue come as count(sink, "queue0", "kicks",
 * 12). @group is null for the device itself; one that is no queue ("registers") stands on its own.
 * Strings are copied. */
struct stats_sink {
	void (*count)(struct stats_sink *sink, const char *group, const char *name, uint64_t value);
	void (*text)(
		struct stats_sink *sink, const char *group, const char *name, const char *value);
};

struct device_ops {
	const char *type; /* "virtio-block": in statistics, saved state and messages */
	int (*realize)(struct device *device, const struct device_place *place, struct error *err);
	/* As at power-on; its back end stays as it is. At rest. */
	void (*reset)(struct device *device);
	/* Lets it go; may be null. Where memory is logged by now (memory_is_logged()), whoever has
	 * others write there for it does so itself. */
	int (*start)(struct device *device, struct error *err);
	/* Take nothing new, and call device_at_rest() with @asking when nothing is in flight: now,
	 * or later from any thread. What the guest asked for and was not told of is finished first;
	 * with @drop, which a reset follows, what has not begun is not wanted any more. Must not
	 * wait. Null: it is always at rest. */
	void (*quiesce)(struct device *device, unsigned asking, bool drop);
	/* While it comes to rest: what is not done yet need not be done any more, the machine is
	 * about to end. Must not wait. May be null. */
	void (*hurry)(struct device *device);
	uint32_t state_version;
	void (*save)(struct device *device, struct state_writer *writer);
	/* @reader is in the device's section of version @reader->version <= state_version. */
	int (*restore)(struct device *device, struct state_reader *reader, struct error *err);
	/* Null: it can be saved and moved. Else a reason for the user, one line. */
	const char *(*unmovable)(const struct device *device);
	void (*stats)(struct device *device, struct stats_sink *sink); /* may be null */
	void (*free)(struct device *device);
};

struct device_rest;

/* The first member of each device's own struct. */
struct device {
	const struct device_ops *ops;
	char name[65];       /* "disk0", "net1": unique in the machine, set by whoever creates it */
	struct device *next; /* the machine's list */
	/* bus/rest.c's: who asked it to quiesce, and the number of the asking that awaits its
	 * answer, 0 when none does. */
	struct device_rest *rest;
	unsigned asked;
};

/* The answer to the quiesce() of that number, never 0; whoever gives it touches the device no more.
 * One that nobody awaits (any more) is ignored: it may come when the device was started and asked
 * again. Any thread. */
void device_at_rest(struct device *device, unsigned asking);

#endif
