/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of src/kvm share: the structs behind kvm.h. Not for other folders, but for the
 * unit test of exit dispatch. */
#ifndef DUET_KVM_INTERNAL_H
#define DUET_KVM_INTERNAL_H

#include "kvm/kvm.h"

#include <errno.h>
#include <pthread.h>
#include <sys/ioctl.h>

/* Of Linux 6.11, for headers that are older (api.rst, KVM_PRE_FAULT_MEMORY). */
#ifndef KVM_CAP_PRE_FAULT_MEMORY
#define KVM_CAP_PRE_FAULT_MEMORY 236
#define KVM_PRE_FAULT_MEMORY     _IOWR(KVMIO, 0xd5, struct kvm_pre_fault_memory)
struct kvm_pre_fault_memory {
	__u64 gpa;
	__u64 size;
	__u64 flags;
	__u64 padding[5];
};
#endif

#define SLOTS_MAX         64 /* memory slots in use at once */
#define FIRST_DEVICE_SLOT MEMORY_MAX_REGIONS
#define IOAPIC_PINS       24 /* GSIs 0 to 23; MSIs have the GSIs above */
#define PIC_PINS          16
#define ROUTES_MAX        4096 /* KVM_CAP_IRQ_ROUTING of all x86 kernels since 4.16 */

struct slot {
	uint64_t gpa, size; /* size 0: free */
	void *host;
	uint32_t flags;
};

/* One GSI with an MSI behind it. */
struct route {
	uint64_t address;
	uint32_t data;
	bool used;
	bool live;       /* in KVM's table as it is here */
	uint16_t irqfds; /* attached */
};

struct routing {
	pthread_mutex_t lock; /* of everything here; KVM replaces its whole table at once */
	struct route routes[ROUTES_MAX];
	unsigned max; /* GSIs that may be used */
	unsigned end; /* one past the highest GSI in use */
};

/* One instant in three clocks: kvmclock and time of day in nanoseconds, the host's TSC scaled to
 * the guest's frequency. */
struct kvm_moment {
	uint64_t clock, realtime, tsc;
};

/* KVM's rings are of a power of two of entries, 16 bytes each; 1024 at least on Intel, where the
 * processor's own log needs room. A full one costs an exit, which is little beside a fault for each
 * of its entries; but pages that are written all the time are protected anew with all the others.
 */
#define DIRTY_RING_ENTRIES 4096U

/* Of a vCPU: KVM names the pages that it writes to, one by one. By dirty_log.lock. */
struct dirty_ring {
	struct kvm_dirty_gfn *entries; /* null: not mapped */
	uint32_t next;                 /* to be gathered */
	_Atomic uint64_t count;        /* gathered so far */
};

struct dirty_log {
	bool by_ring;                         /* else by KVM's bitmaps, and nothing here is used */
	pthread_mutex_t lock;                 /* of the rings and of: */
	bool on, broken;                      /* broken: a ring named a page that is not there */
	uint64_t *bitmaps[FIRST_DEVICE_SLOT]; /* of each slot of RAM: gathered, and not taken */
};

struct kvm_vm {
	struct bus_host bus_host; /* first */
	struct kvm_host host;
	struct kvm_vm_options options;
	int fd;
	pthread_mutex_t slots_lock;
	struct slot slots[SLOTS_MAX];
	struct kvm_vcpu *vcpus; /* a list; changes while no vCPU runs and nothing is logged */
	struct dirty_log dirty;
	struct routing routing;
	struct bus_eoi_watch *eoi_watches; /* changes while no vCPU runs */
	int vfio_fd;                       /* KVM's VFIO device; -1: none yet. By slots_lock */
	void (*ioapic_set_line)(void *ioapic, unsigned pin, bool level);
	void (*ioapic_eoi)(void *ioapic, unsigned vector);
	void *ioapic, *eoi_ioapic;
	_Atomic bool coalescing;   /* some range is coalesced: look at the ring on each exit */
	pthread_mutex_t ring_lock; /* one drains at a time, so that writes keep their order */
	unsigned xsave_size, nested_size; /* bytes; 0: no nested virtualization */
	struct kvm_moment from, to; /* of a VM that was restored: where it comes from, and here */
	/* tsc.c: of the host's TSC and of the guest's; 0: KVM does not say. */
	uint32_t host_khz, tsc_khz;
	uint64_t tsc_ratio; /* of the two, with @tsc_fraction bits behind the point; 0: 1 */
	unsigned tsc_fraction;
	bool set_khz; /* each vCPU is told */
};

struct kvm_vcpu {
	struct kvm_vm *vm;
	struct kvm_vcpu *next; /* of the VM's */
	int fd;
	int stats_fd; /* -1: none */
	unsigned index;
	struct kvm_run *run;
	size_t run_size;
	struct kvm_coalesced_mmio_ring *ring; /* the VM's; null without coalescing */
	struct dirty_ring dirty;
	struct bus *ports, *mmio;
	/* Written by the vCPU thread alone, so that counting is a plain load and store. */
	_Atomic uint64_t exits[EXIT_CAUSES];
	_Atomic bool kicked;
	_Atomic bool threaded; /* @thread is valid */
	pthread_t thread;
	char error[256];
};

/* As ioctl(), but returns -errno. */
static inline int kvm_ioctl(int fd, unsigned long request, void *argument)
{
	int ret = ioctl(fd, request, argument);

	return ret < 0 ? -errno : ret;
}
static inline int kvm_ioctl_value(int fd, unsigned long request, unsigned long value)
{
	int ret = ioctl(fd, request, value);

	return ret < 0 ? -errno : ret;
}
int kvm_enable_cap(int fd, uint32_t cap, uint64_t argument);

/* clock.c: in the VM's section. */
int kvm_clock_save(struct kvm_vm *vm, struct state_writer *writer);
int kvm_clock_restore(struct kvm_vm *vm, struct state_reader *reader, struct error *err);
int kvm_clock_make_fresh(struct kvm_vm *vm, struct state_reader *reader, struct error *err);
/* The offset here of a TSC that had @offset where the VM comes from. */
int64_t kvm_clock_moved_offset(struct kvm_vm *vm, int64_t offset);

/* tsc.c. start: of a new vCPU, the first one first. scaled: what a guest's TSC without an offset
 * says when the host's says @tsc. */
int kvm_tsc_start(struct kvm_vcpu *vcpu, struct error *err);
uint64_t kvm_tsc_scaled(const struct kvm_vm *vm, uint64_t tsc);
/* Apart by at most @ppm parts of a million, or not known. */
bool kvm_tsc_same_rate(uint32_t a, uint32_t b, unsigned ppm);

#define MSR_TSC 0x10

/* KVM's struct with the room behind it that its flexible array needs. */
union one_msr {
	struct kvm_msrs header;
	uint8_t room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
};

/* vcpu_msrs.c. @fresh: of a vCPU that was never run; its TSC is left alone. */
int kvm_msrs_save(struct kvm_vcpu *vcpu, const uint32_t *indices, unsigned count,
	struct state_writer *writer);
int kvm_msrs_restore(struct kvm_vcpu *vcpu, const uint32_t *indices, unsigned listed_count,
	struct state_reader *reader, bool fresh, struct error *err);

/* vcpu_areas.c: what has another size on each host. */
int kvm_xsave_save(struct kvm_vcpu *vcpu, struct state_writer *writer);
int kvm_xsave_restore(struct kvm_vcpu *vcpu, struct state_reader *reader, struct error *err);
int kvm_nested_save(struct kvm_vcpu *vcpu, struct state_writer *writer);
/* Of a vCPU that is in use: out of VMX operation and any guest of its guest. */
int kvm_nested_leave(struct kvm_vcpu *vcpu, struct error *err);
int kvm_nested_restore(struct kvm_vcpu *vcpu, struct state_reader *reader, struct error *err);

/* As kvm_vm_restore() and kvm_vcpu_restore(), of a new VM and of its vCPU 0. */
int kvm_vm_restore_fresh(struct kvm_vm *vm, struct state_reader *reader, struct error *err);
int kvm_vcpu_restore_fresh(struct kvm_vcpu *vcpu, const uint32_t *msrs, unsigned msr_count,
	struct state_reader *reader, struct error *err);

/* pmu.c: before any vCPU. */
int pmu_set_up(struct kvm_vm *vm, struct error *err);

/* dirty.c. set_up: likewise; where there are no rings it is without. end: what was not taken is
 * forgotten. full: on the thread of a vCPU that cannot go on before its ring is emptied. */
void dirty_set_up(struct kvm_vm *vm);
void dirty_end(struct kvm_vm *vm);
int dirty_full(struct kvm_vcpu *vcpu);
void dirty_unmap_ring(struct kvm_vcpu *vcpu);
/* slots.c: KVM logs writes to RAM, or does not. */
int slots_log(struct kvm_vm *vm, bool enable);

int routing_init(struct kvm_vm *vm);
extern const struct bus_host_ops kvm_bus_host_ops;
void doorbell_remove(struct bus_host *host, bool port, uint64_t address, unsigned length,
	bool match, uint64_t value, int eventfd);
int doorbell_add(struct bus_host *host, bool port, uint64_t address, unsigned length, bool match,
	uint64_t value, int eventfd);
int window_add(
	struct bus_host *host, uint64_t address, void *memory, uint64_t length, unsigned *window);
void window_remove(struct bus_host *host, unsigned window);
int vfio_group(struct bus_host *host, int group, bool add);

/* Handles the exit that vcpu->run describes; KVM_RUN has returned 0. */
enum kvm_run_result exit_dispatch(struct kvm_vcpu *vcpu);
/* Dispatches what the ring holds; @ring may be null. */
void coalesced_drain(struct kvm_vm *vm, struct kvm_coalesced_mmio_ring *ring, struct bus *ports,
	struct bus *mmio);
/* An access of any length from 1 to 8 as the accesses of power-of-two size that it consists of.
 * False when some part of it was unclaimed. */
bool access_read(struct bus *bus, uint64_t address, unsigned length, uint8_t *data);
bool access_write(struct bus *bus, uint64_t address, unsigned length, const uint8_t *data);

/* The signal that gets a thread out of KVM_RUN: handler that does nothing, not blocked. */
int kick_signal(void);
void kick_signal_prepare(void);

#endif
