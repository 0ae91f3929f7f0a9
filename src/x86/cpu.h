/* SPDX-License-Identifier: Apache-2.0 */
/* What a vCPU is: CPUID leaves, registers at entry, MSRs. Pure functions on KVM's structs; the
 * ioctls are src/kvm's. Intel SDM vol. 2A CPUID, AMD APM vol. 3 appendix E,
 * Documentation/virt/kvm/x86/cpuid.rst for the 0x40000000 leaves. */
#ifndef DUET_X86_CPU_H
#define DUET_X86_CPU_H

#include "base/error.h"
#include "memory/memory.h"
#include "x86/kernel.h"

#include <linux/kvm.h>
#include <stdint.h>

/* KVM's paravirtual features as --pv names them. */
enum pv_feature {
	PV_CLOCK = 1 << 0,    /* kvmclock (both) and its stable bit */
	PV_STEAL = 1 << 1,    /* steal time */
	PV_EOI = 1 << 2,      /* EOI without an exit */
	PV_UNHALT = 1 << 3,   /* kick a halted vCPU: PV spinlocks */
	PV_TLBFLUSH = 1 << 4, /* remote TLB flush */
	PV_IPI = 1 << 5,      /* several IPIs in one hypercall */
	PV_YIELD = 1 << 6,    /* directed yield */
	PV_ASYNCPF = 1 << 7,  /* asynchronous page faults (with interrupt and vmexit bits) */
	PV_POLL = 1 << 8,     /* the guest polls before HLT (poll control MSR) */
};
#define PV_ALL 0x1ffU

/* "clock,-eoi,...": "-" items take from @set, the first plain one begins an empty set; "none" alone
 * is the empty one. */
int pv_parse(const char *text, unsigned *set, struct error *err);
/* Comma-separated names, or "none"; @buffer of at least 80 bytes. */
const char *pv_format(unsigned set, char *buffer, unsigned size);
/* The KVM_CPUID_FEATURES (0x40000001) EAX bits for @set. */
uint32_t pv_cpuid_bits(unsigned set);

struct cpu_topology {
	unsigned cpus;  /* of a package; a power of two, or there is one package */
	unsigned index; /* this vCPU among all, also its APIC id */
};

/* The same for all vCPUs of a machine. */
struct cpu_traits {
	unsigned pv;      /* enum pv_feature bits */
	unsigned tsc_khz; /* of the guest's TSC; 0: unknown */
	bool any_rate;    /* nothing is shown that holds for one frequency of the TSC alone */
	bool nested;      /* SVM and VMX are shown, where the host has them for guests */
	bool pmu;         /* performance counters are, likewise */
};

/* Turns what KVM_GET_SUPPORTED_CPUID gave into this vCPU's table: topology, APIC id, hypervisor
 * bit, x2APIC, TSC deadline, the KVM leaves with exactly @traits->pv, the leaves of the TSC's
 * frequency, nested virtualization and performance counters or none.
 * @cpuid has room for @capacity entries. */
int cpu_cpuid(struct kvm_cpuid2 *cpuid, unsigned capacity, const struct cpu_topology *topology,
	const struct cpu_traits *traits, struct error *err);

/* Registers for @entry. Page tables and GDT are written to guest memory (LAYOUT_*) by
 * cpu_boot_memory(), once; cpu_boot_registers() fills the structs for the boot vCPU, keeping the
 * rest of what KVM_GET_SREGS gave. */
int cpu_boot_memory(struct memory *memory, const struct kernel_entry *entry, struct error *err);
void cpu_boot_registers(
	const struct kernel_entry *entry, struct kvm_regs *regs, struct kvm_sregs *sregs);

/* MSRs at reset (IA32_MISC_ENABLE fast strings, MTRR default type write-back, ...): fills
 * @msrs->entries up to @capacity and sets nmsrs. */
void cpu_boot_msrs(struct kvm_msrs *msrs, unsigned capacity);

/* MSRs to be saved and moved: those of KVM_GET_MSR_INDEX_LIST that hold state. */
bool cpu_msr_is_state(uint32_t index);

#endif
