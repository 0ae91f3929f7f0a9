/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device interface: what every device model, emulated, virtio or passed through, gives the
 * machine.
 *
 * Life: the device's own create function allocates it from its configuration (files opened, no
 * guest-visible effect); realize() wires ports, BARs and interrupts, at boot and at restore alike;
 * then reset()s; start() when vCPUs are about to run; stop() before they stay paused (after it
 * returns the device touches no guest memory, raises no interrupt, has no I/O in flight);
 * save()/restore() between stop() and start(); free() at the end, after stop().
 *
 * Threads: realize, start, stop, save, restore, free: the main thread, while no vCPU runs. reset():
 * main thread or the vCPU thread that reset the machine, vCPUs paused. stats(): the main thread,
 * at any time.
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
	void (*reset)(struct device *device);
	int (*start)(struct device *device, struct error *err); /* may be null */
	void (*stop)(struct device *device);                    /* may be null */
	uint32_t state_version;
	void (*save)(struct device *device, struct state_writer *writer);
	/* @reader is in the device's section of version @reader->version <= state_version. */
	int (*restore)(struct device *device, struct state_reader *reader, struct error *err);
	/* Null: it can be saved and moved. Else a reason for the user, one line. */
	const char *(*unmovable)(const struct device *device);
	void (*stats)(struct device *device, struct stats_sink *sink); /* may be null */
	void (*free)(struct device *device);
};

/* The first member of each device's own struct. */
struct device {
	const struct device_ops *ops;
	char name[32];       /* "disk0", "net1": unique in the machine, set by whoever creates it */
	struct device *next; /* the machine's list */
};

#endif
