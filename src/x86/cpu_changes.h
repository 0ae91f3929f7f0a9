/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is changed of what a guest is shown of its CPU: bits of CPUID registers and of MSRs, as
 * --cpu-config has them. Pure functions; any thread.
 */
#ifndef DUET_X86_CPU_CHANGES_H
#define DUET_X86_CPU_CHANGES_H

#include "base/error.h"

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

#define CPU_CHANGES_MAX      128
#define CPU_CHANGE_TEXT_SIZE 80

/* The bits of @filter become those of @value, which has no others. */
struct cpu_change {
	bool msr;
	uint32_t index;   /* the MSR, or the leaf */
	uint32_t subleaf; /* CPUID alone, as the next */
	unsigned reg;     /* 0 to 3: EAX, EBX, ECX, EDX */
	uint64_t filter, value;
};

extern const char *const cpu_registers[5]; /* "eax" and so on; null at the end */

/* "cpuid:LEAF:SUBLEAF:REGISTER:FILTER:VALUE" and "msr:INDEX:FILTER:VALUE" with numbers in
 * hexadecimal, several joined by +. *@count of them; null is none. -EINVAL: the message says which
 * is wrong. */
int cpu_changes_parse(struct cpu_change changes[CPU_CHANGES_MAX], unsigned *count, const char *text,
	struct error *err);
const char *cpu_change_format(const struct cpu_change *change, char text[CPU_CHANGE_TEXT_SIZE]);
/* Those of CPUID, on a table that cpu_cpuid() made. A bit that is not there is not set: the host,
 * or the machine, does not have it. -ENOTSUP. */
int cpu_changes_cpuid(struct kvm_cpuid2 *cpuid, const struct cpu_change *changes, unsigned count,
	struct error *err);

#endif
