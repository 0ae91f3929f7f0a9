/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every KVM ioctl of duet (Documentation/virt/kvm/api.rst).
 *
 * Threads: a struct kvm_vcpu belongs to its vCPU thread once that runs; kvm_vcpu_kick() may be
 * called from any thread. The VM's interrupt and doorbell functions (struct bus_host) are for any
 * thread. Set-up functions: main thread.
 */
#ifndef DUET_KVM_KVM_H
#define DUET_KVM_KVM_H

#include "base/error.h"
#include "bus/bus.h"
#include "bus/host.h"
#include "memory/memory.h"

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

enum kvm_vm_irqchip {
	KVM_VM_IRQCHIP_KERNEL, /* LAPIC, IOAPIC, PIC and PIT in the kernel */
	KVM_VM_IRQCHIP_SPLIT,  /* LAPIC in the kernel, IOAPIC is duet's, no PIC, no PIT */
	KVM_VM_IRQCHIP_NONE,   /* no interrupts at all, HLT comes back: probes and tests */
};

enum kvm_vm_pmu {
	KVM_VM_PMU_NONE,   /* KVM's vPMU is taken away, where that can be done */
	KVM_VM_PMU_PASS,   /* as the host has it */
	KVM_VM_PMU_FILTER, /* the same, for events of the guest's own work alone */
};

/* More than any kernel's KVM_GET_SUPPORTED_CPUID gives. */
#define KVM_CPUID_ENTRIES 256

/* What /dev/kvm says; read once. */
struct kvm_host {
	int fd;
	unsigned api_version;
	unsigned vcpus_max;
	unsigned vcpu_mmap_size;
	unsigned memslots;
	unsigned coalesced_page; /* of the ring, in pages from the vCPU's area; 0: none */
	uint32_t pv_features;    /* KVM_CPUID_FEATURES EAX bits it supports */
	bool irqfd, ioeventfd, ioeventfd_any_length, split_irqchip, immediate_exit, x2apic_api;
	bool enforce_pv, coalesced_pio, dirty_ring, manual_dirty, tsc_control, tsc_deadline;
	bool binary_stats, steal_time, readonly_memory, signal_msi;
	bool vpmu; /* there is one for guests, and it can be taken away */
	bool pmu_filter;
	bool map_ahead;    /* KVM_PRE_FAULT_MEMORY, Linux 6.11 */
	bool stable_clock; /* KVM_GET_CLOCK tells the host's TSC and time of day with it */
};

/* Opens /dev/kvm and asks it everything. Messages: absent (module not loaded or no hardware
 * virtualization: lab), denied (group kvm), API version. */
int kvm_host_open(struct kvm_host *host, struct error *err);
void kvm_host_close(struct kvm_host *host);
/* @cpuid has room for @capacity entries (KVM_CPUID_ENTRIES is enough). */
int kvm_host_supported_cpuid(const struct kvm_host *host, struct kvm_cpuid2 *cpuid,
	unsigned capacity, struct error *err);
/* The MSRs that KVM can read and write; returns how many, -ENOSPC when there are more. */
#define KVM_MSRS_MAX 1024
int kvm_host_msrs(const struct kvm_host *host, uint32_t *indices, unsigned capacity);

struct kvm_vm;
struct kvm_vm_options {
	enum kvm_vm_irqchip irqchip;
	unsigned cpus;
	bool pit;            /* in-kernel PIT, only with KVM_VM_IRQCHIP_KERNEL */
	enum kvm_vm_pmu pmu; /* -ENOTSUP when this host has none of the kind */
	/* Four pages below 4 GiB that nobody else uses, for KVM on Intel (LAYOUT_KVM_RESERVED); 0:
	 * KVM's default. */
	uint64_t reserved_gpa;
	unsigned tsc_khz;    /* of the guest's TSC; 0: the host's */
	bool tsc_may_differ; /* the guest does not go by its TSC alone: any host will do */
	/* A restored guest's clock goes on where it stopped; else as if it had run meanwhile. */
	bool clock_stopped;
	/* Writes are logged by a ring for each vCPU, where KVM has them: kvm_vm_dirty_by_ring(). */
	bool dirty_ring;
};
int kvm_vm_new(struct kvm_vm **vm, const struct kvm_host *host,
	const struct kvm_vm_options *options, struct error *err);
void kvm_vm_free(struct kvm_vm *vm);
/* Maps all regions of @memory as slots 0.. */
int kvm_vm_map_memory(struct kvm_vm *vm, const struct memory *memory, struct error *err);
/* A slot of its own for device memory (a passed-through BAR). Returns the slot or negative. */
int kvm_vm_map_slot(struct kvm_vm *vm, uint64_t gpa, uint64_t size, void *host, bool readonly);
void kvm_vm_unmap_slot(struct kvm_vm *vm, int slot);
/* Logging of the guest's writes to RAM. Any thread, while no vCPU runs. */
int kvm_vm_dirty_log(struct kvm_vm *vm, bool enable);
/* Takes and clears the log of region @region of the memory: one bit per page, 64-bit words. What a
 * vCPU in the guest has just written may be in the next one. Any thread. */
int kvm_vm_dirty_take(struct kvm_vm *vm, unsigned region, uint64_t *bitmap);
/* Whether the log tells who wrote: kvm_vcpu_dirtied(). */
bool kvm_vm_dirty_by_ring(const struct kvm_vm *vm);
/* Interrupts and doorbells for devices. GSI n below 24 is pin n of the IOAPIC (and of the PICs
 * when they are in the kernel); MSIs have the GSIs above. A route goes to KVM when an irqfd is
 * attached, so adding and changing MSIs costs one call for each attached vector. With a split
 * irqchip set_line goes to @ioapic, which the emulated IOAPIC gives. */
struct bus_host *kvm_vm_bus_host(struct kvm_vm *vm);
void kvm_vm_set_ioapic(
	struct kvm_vm *vm, void (*set_line)(void *ioapic, unsigned pin, bool level), void *ioapic);
/* Split irqchip: the message of an IOAPIC pin, from which KVM learns whose EOIs must come back. Any
 * thread. A masked pin keeps its last message. */
int kvm_vm_route_pin(struct kvm_vm *vm, unsigned pin, uint64_t address, uint32_t data, bool masked);
/* Split irqchip: pin @pin is about to end its interrupt. vCPU thread. */
void kvm_vm_pin_ended(struct kvm_vm *vm, unsigned pin);
int kvm_vm_signal_msi(struct kvm_vm *vm, uint64_t address, uint32_t data);
int kvm_vm_fd(const struct kvm_vm *vm);
/* Writes to the port or MMIO range are queued in the kernel until the next exit of any vCPU, or
 * until kvm_vcpu_drain_coalesced(): a guest that goes idle makes no exit. Writes keep their order,
 * also towards the exits of all vCPUs. -ENOTSUP when this KVM cannot. */
int kvm_vm_coalesce(struct kvm_vm *vm, bool port, uint64_t address, unsigned length);
/* 0 when KVM does not say. Needs a vCPU on kernels before 6.0. */
unsigned kvm_vm_tsc_khz(struct kvm_vm *vm);

struct kvm_vcpu;

/* Causes as the table of exits shows them. */
enum kvm_exit_cause {
	EXIT_PORT,        /* IN, OUT dispatched to a device */
	EXIT_MMIO,        /* memory-mapped access dispatched to a device */
	EXIT_MSI_EOI,     /* IOAPIC EOI (split irqchip) */
	EXIT_HALT,        /* HLT that reached user space */
	EXIT_SHUTDOWN,    /* triple fault */
	EXIT_SYSTEM,      /* KVM_EXIT_SYSTEM_EVENT */
	EXIT_MSR,         /* MSR access to user space */
	EXIT_INTERRUPTED, /* a signal or kick of the monitor's own */
	EXIT_DIRTY_FULL,  /* the ring of pages that it has written to is full */
	EXIT_UNCLAIMED,   /* port or MMIO nobody owns */
	EXIT_INTERNAL,    /* KVM_EXIT_INTERNAL_ERROR, FAIL_ENTRY, unknown */
	EXIT_CAUSES,
};
extern const char *const kvm_exit_names[EXIT_CAUSES];

/* Why kvm_vcpu_run() came back. */
enum kvm_run_result {
	KVM_RUN_AGAIN,    /* handled; call it again */
	KVM_RUN_KICKED,   /* kvm_vcpu_kick(): look at what is asked of the vCPU */
	KVM_RUN_SHUTDOWN, /* triple fault */
	KVM_RUN_RESET,    /* system event: reset */
	KVM_RUN_POWEROFF,
	KVM_RUN_CRASH,  /* system event: crash */
	KVM_RUN_HALTED, /* HLT without in-kernel LAPIC */
	KVM_RUN_ERROR,  /* KVM gave up: kvm_vcpu_error() tells why */
};

int kvm_vcpu_new(struct kvm_vcpu **vcpu, struct kvm_vm *vm, unsigned index, struct bus *ports,
	struct bus *mmio, struct error *err);
void kvm_vcpu_free(struct kvm_vcpu *vcpu);
int kvm_vcpu_set_cpuid(
	struct kvm_vcpu *vcpu, const struct kvm_cpuid2 *cpuid, bool enforce_pv, struct error *err);
int kvm_vcpu_get_sregs(struct kvm_vcpu *vcpu, struct kvm_sregs *sregs);
int kvm_vcpu_get_regs(struct kvm_vcpu *vcpu, struct kvm_regs *regs);
int kvm_vcpu_set_registers(struct kvm_vcpu *vcpu, const struct kvm_regs *regs,
	const struct kvm_sregs *sregs, struct error *err);
int kvm_vcpu_set_msrs(struct kvm_vcpu *vcpu, const struct kvm_msrs *msrs, struct error *err);
/* The bits of @filter become those of @value; an MSR that has them already is not written. None is
 * set (-ENOTSUP) in an MSR that tells what the CPU does. */
int kvm_vcpu_change_msr(
	struct kvm_vcpu *vcpu, uint32_t index, uint64_t filter, uint64_t value, struct error *err);
/* Sets runnable (boot vCPU) or waiting for SIPI. */
int kvm_vcpu_set_runnable(struct kvm_vcpu *vcpu, bool runnable, struct error *err);

/*
 * Runs until one exit was handled: dispatches ports and MMIO to the buses, counts. The IOAPIC EOI
 * goes to @eoi set by kvm_vm_set_eoi().
 *
 * After KVM_RUN_AGAIN an access may still be incomplete (a read whose value the guest has not yet
 * got). KVM_RUN_KICKED comes only when none is: so to pause, kick, and run until KVM_RUN_KICKED.
 */
enum kvm_run_result kvm_vcpu_run(struct kvm_vcpu *vcpu);
/* Any thread: makes a running or about to run vCPU come back with KVM_RUN_KICKED. The vCPU's
 * thread must not have been joined yet. */
void kvm_vcpu_kick(struct kvm_vcpu *vcpu);
/* On the vCPU's own thread, first. Prepares the kick signal (SIGRTMIN, process-wide handler). */
void kvm_vcpu_thread_init(struct kvm_vcpu *vcpu);
const char *kvm_vcpu_error(const struct kvm_vcpu *vcpu);
uint64_t kvm_vcpu_exits(const struct kvm_vcpu *vcpu, enum kvm_exit_cause cause);
/* How often it was the first to write to a page since that was taken from the log or protected
 * again, as far as kvm_vm_dirty_take() has seen. 0 without rings. Any thread. */
uint64_t kvm_vcpu_dirtied(const struct kvm_vcpu *vcpu);
/* Copies at most @capacity {name, value} pairs of KVM's own statistics (KVM_GET_STATS_FD). */
struct kvm_stat {
	char name[48];
	uint64_t value;
};
/* Returns how many there are, -ENOTSUP when the kernel is older than 5.14. Histograms are left out.
 * Any thread. */
int kvm_vcpu_stats(struct kvm_vcpu *vcpu, struct kvm_stat *stats, unsigned capacity);
int kvm_vm_stats(struct kvm_vm *vm, struct kvm_stat *stats, unsigned capacity);
/* Any thread: what kvm_vm_coalesce() has queued goes to the devices now. */
void kvm_vcpu_drain_coalesced(struct kvm_vcpu *vcpu);
/* Split irqchip: @eoi is called on the vCPU's thread. Before the first vCPU runs. */
void kvm_vm_set_eoi(struct kvm_vm *vm, void (*eoi)(void *ioapic, unsigned vector), void *ioapic);

/* Saved state of one vCPU: registers, FPU/XSAVE, MSRs, LAPIC, events, MP state. vCPU paused (see
 * kvm_vcpu_run()), CPUID set. @msrs: those that hold state, of kvm_host_msrs(); a stream with
 * others is refused. The caller opens and closes the section. */
struct state_writer;
struct state_reader;
int kvm_vcpu_save(struct kvm_vcpu *vcpu, const uint32_t *msrs, unsigned msr_count,
	struct state_writer *writer);
int kvm_vcpu_restore(struct kvm_vcpu *vcpu, const uint32_t *msrs, unsigned msr_count,
	struct state_reader *reader, struct error *err);
/* The VM's own: kvmclock, in-kernel PIC, IOAPIC and PIT. All vCPUs paused. To be restored before
 * the vCPUs, whose TSCs go by its clock: as if the guest had run meanwhile. */
int kvm_vm_save(struct kvm_vm *vm, struct state_writer *writer);
int kvm_vm_restore(struct kvm_vm *vm, struct state_reader *reader, struct error *err);

/*
 * What a reset brings back: the state of a vCPU, and of the chips in the kernel, that were never
 * run. Taken once of vCPU 0, CPUID set, registers not; @msrs as for kvm_vcpu_save().
 */
struct kvm_fresh;
int kvm_fresh_take(struct kvm_fresh **fresh, struct kvm_vcpu *vcpu, const uint32_t *msrs,
	unsigned msr_count, struct error *err);
void kvm_fresh_free(struct kvm_fresh *fresh);
/* Gives it to the VM's chips, to a vCPU. All vCPUs paused. After the vCPU's KVM writes nothing to
 * guest memory any more (steal time, clock) until the guest asks anew. The TSC goes on. */
int kvm_vm_make_fresh(struct kvm_vm *vm, const struct kvm_fresh *fresh, struct error *err);
int kvm_vcpu_make_fresh(struct kvm_vcpu *vcpu, const struct kvm_fresh *fresh, struct error *err);

/* The guest's next access to [@gpa, @gpa + @length) makes no nested fault, as far as KVM came: a
 * hint, for RAM that this process has already. Page multiples. On the vCPU's thread, outside
 * KVM_RUN. Bytes that were mapped, or -EOPNOTSUPP (also where shadow paging is used), -EINTR before
 * the first when a kick is pending, -ENOENT where no slot is. */
int64_t kvm_vcpu_map_ahead(struct kvm_vcpu *vcpu, uint64_t gpa, uint64_t length);

/* The guest did not run for a while and could not know (KVM_KVMCLOCK_CTRL): its watchdogs are not
 * to bark. On the vCPU's thread, or paused. */
void kvm_vcpu_was_paused(struct kvm_vcpu *vcpu);
/* The VM's kvmclock, in nanoseconds. Any thread. */
int kvm_vm_clock(struct kvm_vm *vm, uint64_t *clock_ns);
/* The guest's TSC less the host's (scaled) one: -ENOTSUP before Linux 5.16. Paused. */
int kvm_vcpu_tsc_offset(struct kvm_vcpu *vcpu, int64_t *offset);
int kvm_vcpu_set_tsc_offset(struct kvm_vcpu *vcpu, int64_t offset);

/* Ring-0 speed: runs a short payload of our own and measures. @ns_per_instruction tells hardware
 * (below 100) from a software back end. */
struct kvm_probe {
	double ns_per_instruction; /* ring 0, simple loop */
	bool hardware;
	bool ring0_works; /* cmpxchg16b, xrstor as stock kernels use them */
	unsigned tsc_khz; /* of the host's TSC; 0: KVM does not say */
	char why[160];
};
int kvm_probe(const struct kvm_host *host, struct kvm_probe *probe, struct error *err);
/* Before a machine is built: refuses a software back end, in which stock kernels die. Costs two
 * CPUID instructions where the CPU shows VMX or SVM, and a probe only where it shows neither. */
int kvm_require_hardware(const struct kvm_host *host, struct error *err);

#endif
