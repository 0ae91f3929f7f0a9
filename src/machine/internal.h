/* SPDX-License-Identifier: Apache-2.0 */
/* The machine's parts, shared by the files of this folder only. */
#ifndef DUET_MACHINE_INTERNAL_H
#define DUET_MACHINE_INTERNAL_H

#include "base/checked.h"
#include "bus/device.h"
#include "emulated/board.h"
#include "kvm/kvm.h"
#include "machine/boost.h"
#include "machine/counters.h"
#include "machine/gate.h"
#include "machine/lifecycle.h"
#include "machine/machine.h"
#include "machine/placement.h"
#include "machine/sharing.h"
#include "memory/memory.h"
#include "pci/pci.h"
#include "vfio/vfio.h"
#include "virtio/devices.h"

#include <pthread.h>
#include <stdatomic.h>

struct machine_vcpu {
	struct machine *machine;
	struct kvm_vcpu *kvm;
	unsigned index;
	pthread_t thread;
	_Atomic bool started;
	_Atomic int tid;        /* the thread's; 0: there is none */
	_Atomic pthread_t self; /* the same, for who asks whether it is on it; 0: there is none */
	struct boost boost;     /* what other vCPUs lend to it */
	_Atomic uint64_t out_until; /* it is throttled until clock_ns() is this; 0: it is not */
	bool prompt;                /* its thread's sleeps end in time; the thread's own */
};

/* What a device of the configuration stands on; the device's own. */
struct machine_backend {
	struct net *net;
	struct block *block;
};

struct machine {
	struct machine_config config;
	struct machine_owner owner;
	struct lifecycle life;
	struct gate gate; /* of the vCPU threads */
	struct memory memory;
	int image; /* of machine_build_over(), while it builds; -1: memory begins as zeroes */
	struct placement placement; /* of the memory, on the host's nodes */
	struct kvm_host kvm_host;
	struct kvm_vm *vm;
	struct kvm_fresh *fresh; /* what a reset brings back */
	struct bus *ports, *mmio;
	struct pci_bus *pci;
	struct loop_thread *io;
	struct device_place place;
	struct pci_windows windows;
	struct vfio_container passed;
	struct kernel_source *kernel; /* null: a restored machine whose files are not here */
	struct kernel_entry entry;

	struct device *devices, **last_device; /* in order of creation */
	struct device *serial, *pm, *keyboard, *console, *balloon, *coop, *eject;
	struct virtio_coop_host coop_host;
	struct sharing sharing;
	struct machine_backend backends[MACHINE_DEVICES_MAX]; /* as config.devices */

	struct machine_vcpu vcpus[MACHINE_CPUS_MAX];
	struct counters *counters; /* null: without --pmu pv */
	uint32_t *msrs;            /* those that hold state */
	unsigned msr_count;
	pthread_mutex_t boost_lock; /* of finding out: */
	struct boost_means boost_means;
	_Atomic bool boost_known;
	struct {
		struct loop_timer timer;
		uint8_t percent[MACHINE_CPUS_MAX];
	} throttle;
	struct {
		struct loop_task task;
		struct loop_timer timer; /* until the next try */
		struct machine_pause pause;
		_Atomic uint32_t slots; /* that the guest has let go of */
	} unplug;
	bool given_away; /* what it has not written yet, another process writes */
	bool unclaimed;  /* disks are opened before their turn: machine_leave_disks() */
	struct announcement *announcements; /* null: none were made */
	uint64_t created;                   /* clock_ns() */
};

/* machine.c: the parts of building that a reset repeats. */
int machine_load_kernel(struct machine *machine, struct error *err);
/* As machine_owner's. */
void machine_waits(struct machine *machine, bool begins);

/* generation.c: into the guest's memory. */
int machine_write_generation(struct machine *machine, struct error *err);

/* devices.c: the device table. */
int machine_create_devices(struct machine *machine, struct error *err);
void machine_free_devices(struct machine *machine);

/* vcpus.c */
int machine_create_vcpus(struct machine *machine, struct error *err);
/* Registers at the kernel's entry, and who waits for a start-up IPI. At rest. */
int machine_boot_vcpus(struct machine *machine, struct error *err);
/* The threads, before the gate, which is shut. Once; what had begun when it fails ends with the
 * machine. */
int machine_begin_vcpus(struct machine *machine, struct error *err);
/* Opens the gate. */
void machine_run_vcpus(struct machine *machine);
/* Shuts the gate and gets everybody out; any thread. */
void machine_halt_vcpus(struct machine *machine);
/* Gets one, or everybody, out for a moment, whatever the gate says; any thread. */
void machine_kick_vcpu(struct machine_vcpu *vcpu);
void machine_kick_vcpus(struct machine *machine);
/* The threads end. */
void machine_join_vcpus(struct machine *machine);
void machine_free_vcpus(struct machine *machine);

/* power.c: what the guest asks of its machine; any thread. */
extern const struct power_events machine_power_events;
/* A vCPU has shut down. */
void machine_triple_fault(struct machine *machine, unsigned vcpu);
/* Into the guest's memory, before each start: by what its restarts are told apart. At rest. */
int machine_prepare_restart(struct machine *machine, struct error *err);
void machine_end(struct machine *machine, enum machine_end end, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* coop.c: the host as the cooperation device sees it; and what the device is told, if there is one:
 * no vCPU runs any more, the vCPUs are about to run. At rest. */
struct virtio_coop_host *machine_coop_host(struct machine *machine);
bool machine_coop_counts(const struct machine *machine); /* it has counters to offer */
void machine_coop_stopped(struct machine *machine);
void machine_coop_goes_on(struct machine *machine);

/* throttle.c: of its timer; and on a vCPU's thread, before it enters the guest. */
void machine_throttle_tick(struct loop_timer *timer);
void machine_stay_out(struct machine_vcpu *vcpu);

/* unplug.c: the device by which the guest is asked, in a machine with functions passed through. And
 * what is under way ends, before the devices do. */
int machine_create_eject(struct machine *machine, struct device **device, struct error *err);
void machine_end_unplug(struct machine *machine);
/* Frees what the guest has let go of. At rest. */
void machine_take_ejected(struct machine *machine);

/* announce.c: after the I/O loop. */
void machine_free_announcements(struct machine *machine);

/* reset.c: as at power-on; at rest. */
int machine_reset(struct machine *machine, struct error *err);

#endif
