/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hypervisor and a machine in memory, for tests and fuzzers: what struct bus_host asks of KVM is
 * recorded here, and a test plays the guest. Any thread.
 */
#ifndef DUET_TESTS_FAKE_HOST_H
#define DUET_TESTS_FAKE_HOST_H

#include "base/loop.h"
#include "bus/device.h"
#include "bus/rest.h"
#include "pci/pci.h"

#include <pthread.h>
#include <semaphore.h>

#define FAKE_HOST_LINES     32
#define FAKE_HOST_ROUTES    256
#define FAKE_HOST_DOORBELLS 256
#define FAKE_HOST_GSI_FIRST 24
#define FAKE_HOST_WINDOWS   32
/* Nothing takes so long but on a machine that is broken, or far too busy. */
#define FAKE_PATIENCE_MS 20000

struct fake_route {
	bool used;
	uint64_t address;
	uint32_t data;
	int eventfd; /* attached, or -1 */
};

struct fake_doorbell {
	bool used, port, match;
	uint64_t address, value;
	unsigned length;
	int eventfd;
};

struct fake_window {
	uint64_t address, length; /* length 0: free */
	void *memory;
};

struct fake_host {
	struct bus_host host; /* give &fake->host to the device */
	pthread_mutex_t lock;
	bool lines[FAKE_HOST_LINES];
	unsigned raised[FAKE_HOST_LINES]; /* edges from low to high */
	struct fake_route routes[FAKE_HOST_ROUTES];
	struct fake_doorbell doorbells[FAKE_HOST_DOORBELLS];
	unsigned doorbells_end; /* behind the last place that was ever used */
	struct fake_window windows[FAKE_HOST_WINDOWS]; /* by one thread at a time */
	struct bus_eoi_watch *eoi_watches;
	/* What irqfd_attach() and window_add() return if not 0; by one thread at a time. */
	int attach_error, window_error;
	/* Calls so far. */
	unsigned msi_adds, msi_changes, msi_removes, attaches, detaches;
	unsigned doorbell_adds, doorbell_removes;
};

void fake_host_init(struct fake_host *fake);
void fake_host_free(struct fake_host *fake);
bool fake_host_line(struct fake_host *fake, unsigned gsi);
/* Interrupts that came with the message @data since the last call: what attached eventfds hold. */
uint64_t fake_host_take_msi(struct fake_host *fake, uint32_t data);
/* Waits for at least one. False after FAKE_PATIENCE_MS. */
bool fake_host_wait_msi(struct fake_host *fake, uint32_t data);
unsigned fake_host_routes(struct fake_host *fake);        /* in use */
unsigned fake_host_attached(struct fake_host *fake);      /* eventfds attached */
unsigned fake_host_doorbells(struct fake_host *fake);     /* in place */
unsigned fake_host_windows(const struct fake_host *fake); /* in place */
/* The guest ends the interrupt of a level-triggered line. */
void fake_host_end_line(struct fake_host *fake, unsigned gsi);
/* As KVM does at a guest's write: true when a doorbell took it. */
bool fake_host_write(
	struct fake_host *fake, bool port, uint64_t address, unsigned size, uint64_t value);

/* A machine around it: RAM from 0, both buses, a PCI bus, an I/O loop in its own thread. */
#define FAKE_RAM_SIZE (16ULL << 20)
#define FAKE_ECAM     0xe0000000ULL
#define FAKE_MMIO32   0xc0000000ULL
struct fake_machine {
	struct fake_host host;
	struct memory memory;
	uint8_t *ram;
	struct loop_thread *io; /* null: the loop runs in fake_machine_round() alone */
	struct device_place place;
};
void fake_machine_init(struct fake_machine *machine);
/* The same without a thread, for who wants many short lives: the loop is the caller's to run. */
void fake_machine_init_here(struct fake_machine *machine);
/* A moment for the I/O loop: until something of it was done, half a millisecond at most. */
void fake_machine_round(struct fake_machine *machine);
void fake_machine_free(struct fake_machine *machine);
/* As a machine ends one: it comes to rest, and no callback runs while it goes. */
void fake_machine_end_device(struct fake_machine *machine, struct device *device);
/* Asks a device of it to come to rest, and waits until it has. */
void fake_stop(struct device *device);
void fake_machine_stop(struct fake_machine *machine, struct device *device);
/* The same in steps, for who does something in between. */
struct fake_rest {
	struct device_rest rest;
	sem_t reached;
	struct device *next;
};
void fake_rest_ask(struct fake_rest *rest, struct device *device);
bool fake_rest_is_reached(struct fake_rest *rest);
void fake_rest_await(struct fake_rest *rest, struct device *device);
/* The guest's accesses to memory-mapped registers, doorbells first. */
uint64_t fake_guest_read(struct fake_machine *machine, uint64_t address, unsigned size);
void fake_guest_write(
	struct fake_machine *machine, uint64_t address, unsigned size, uint64_t value);
uint32_t fake_guest_config_read(
	struct fake_machine *machine, unsigned slot, unsigned offset, unsigned size);
void fake_guest_config_write(struct fake_machine *machine, unsigned slot, unsigned offset,
	unsigned size, uint32_t value);

#endif
