/* SPDX-License-Identifier: Apache-2.0 */
/* The machine's parts, shared by the files of this folder only. */
#ifndef DUET_MACHINE_INTERNAL_H
#define DUET_MACHINE_INTERNAL_H

#include "bus/device.h"
#include "emulated/board.h"
#include "kvm/kvm.h"
#include "machine/machine.h"
#include "machine/terminal.h"
#include "memory/memory.h"
#include "pci/pci.h"
#include "vfio/vfio.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

struct machine_vcpu {
	struct machine *machine;
	struct kvm_vcpu *kvm;
	unsigned index;
	pthread_t thread;
	bool started;
};

struct machine {
	struct machine_config config;
	struct memory memory;
	struct kvm_host kvm_host;
	struct kvm_vm *vm;
	struct bus *ports, *mmio;
	struct pci_bus *pci;
	struct loop *main;
	struct loop_thread *io;
	struct device_place place;
	struct pci_windows windows;
	struct vfio_container passed;

	struct device *devices, **last_device; /* in order of creation */
	struct device *serial, *pm, *console, *ioapic;

	struct machine_vcpu vcpus[MACHINE_CPUS_MAX];
	struct kernel_entry entry;
	uint64_t created; /* clock_ns() */

	struct terminal terminal;
	struct loop_watch signals;
	int signal_fd;
	unsigned asked_to_end; /* signals that asked the guest to power off */

	/* How it ended: the first cause wins. Written by any thread. */
	_Atomic int end; /* enum machine_end + 1, 0 while it runs */
	_Atomic bool ending;
	struct loop_task end_task;
	char end_text[256]; /* written by who set @end first */
};

/* devices.c: the device table. */
int machine_create_devices(struct machine *machine, struct error *err);
void machine_free_devices(struct machine *machine);

/* vcpus.c */
int machine_create_vcpus(struct machine *machine, struct error *err);
int machine_start_vcpus(struct machine *machine, struct error *err);
/* Kicks them out of the guest and joins the threads. */
void machine_join_vcpus(struct machine *machine);
void machine_free_vcpus(struct machine *machine);

/* power.c. init: before anything can end the machine; machine_end(): any thread. */
void machine_power_init(struct machine *machine);
extern const struct power_events machine_power_events;
void machine_end(struct machine *machine, enum machine_end end, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* signals.c: SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGWINCH, SIGCONT through the main loop. */
int machine_watch_signals(struct machine *machine, struct error *err);
void machine_unwatch_signals(struct machine *machine);
/* First call asks the guest to power off, the second ends it. */
void machine_ask_to_end(struct machine *machine);

#endif
