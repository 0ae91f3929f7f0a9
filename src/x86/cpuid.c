/* SPDX-License-Identifier: Apache-2.0 */
#include "x86/cpu.h"

#include "base/checked.h"

#include <errno.h>
#include <string.h>

#define LEAF_SIGNATURE      0x40000000U
#define LEAF_FEATURES       0x40000001U
#define LEAF_TIMING         0x40000010U /* as VMware has it: TSC kHz, APIC bus kHz */
#define BUS_MHZ             100
#define APIC_BUS_KHZ        1000000U /* of KVM's LAPIC timer */
#define AUTHENTIC_AMD_EBX   0x68747541U
#define HYGON_GENUINE_EBX   0x6f677948U
#define GENUINE_INTEL_EBX   0x756e6547U
#define LEAF_POWER          0x80000007U
#define LEAF_SVM            0x8000000aU
#define ECX1_VMX            (1U << 5)
#define ECX1_X2APIC         (1U << 21)
#define ECX1_TSC_DEADLINE   (1U << 24)
#define ECX1_OSXSAVE        (1U << 27)
#define ECX1_HYPERVISOR     (1U << 31)
#define EDX1_HTT            (1U << 28)
#define EAX6_ARAT           (1U << 2)
#define EDX87_INVARIANT_TSC (1U << 8)
#define ECX7_OSPKE          (1U << 4)
#define ECX81_SVM           (1U << 2)
#define ECX81_CMP_LEGACY    (1U << 1)
#define LEAF_AMD_PMU        0x80000022U
#define LEAF_INTEL_PMU      0xaU
#define LEAF_INTEL_PMU_EXT  0x23U
#define LEAF_LBR            0x1cU
#define ECX1_DTES64         (1U << 2)
#define ECX1_PDCM           (1U << 15)
#define EDX1_DS             (1U << 21)
#define EDX7_ARCH_LBR       (1U << 19)
/* Core, northbridge and last-level cache counters, and a counter of time beside them. */
#define ECX81_COUNTERS     (1U << 23 | 1U << 24 | 1U << 27 | 1U << 28)
#define LEVEL_SMT          0x100U
#define LEVEL_CORE         0x200U
#define CACHE_LEVEL_SHARED 3 /* caches below are a core's own */

struct table {
	struct kvm_cpuid2 *cpuid;
	unsigned capacity;
	const struct cpu_topology *topology;
	unsigned id_bits; /* of the APIC id within the socket */
	uint32_t vendor;  /* EBX of leaf 0 */
	uint32_t max;     /* highest basic leaf */
	int error;
};

static struct kvm_cpuid_entry2 *find(const struct table *table, uint32_t function)
{
	for (unsigned i = 0; i < table->cpuid->nent; i++)
		if (table->cpuid->entries[i].function == function)
			return &table->cpuid->entries[i];
	return NULL;
}

static void drop(struct table *table, uint32_t function)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < table->cpuid->nent; i++)
		if (table->cpuid->entries[i].function != function)
			table->cpuid->entries[kept++] = table->cpuid->entries[i];
	table->cpuid->nent = kept;
}

static void add(struct table *table, struct kvm_cpuid_entry2 entry)
{
	if (table->cpuid->nent < table->capacity)
		table->cpuid->entries[table->cpuid->nent++] = entry;
	else
		table->error = -E2BIG;
}

static void set_leaf_1(struct table *table)
{
	const struct cpu_topology *topology = table->topology;
	struct kvm_cpuid_entry2 *leaf = find(table, 1);

	if (!leaf)
		return;
	leaf->ebx = (leaf->ebx & 0xffff) | topology->cpus << 16 | topology->index << 24;
	/* KVM has the deadline timer but does not list it among what it supports; OSXSAVE follows
	 * the guest's CR4. */
	leaf->ecx |= ECX1_HYPERVISOR | ECX1_TSC_DEADLINE | ECX1_X2APIC;
	leaf->ecx &= ~ECX1_OSXSAVE;
	leaf->edx &= ~EDX1_HTT;
	if (topology->cpus > 1)
		leaf->edx |= EDX1_HTT;
}

/* The APIC timer runs always. Without the bit Linux insists on a PIT, which a machine with a split
 * irqchip does not have. */
static void set_leaf_6(struct table *table)
{
	struct kvm_cpuid_entry2 *leaf = find(table, 6);

	if (leaf)
		leaf->eax |= EAX6_ARAT;
	else if (table->max >= 6)
		add(table, (struct kvm_cpuid_entry2){.function = 6, .eax = EAX6_ARAT});
}

/* Cache leaves: 4 of Intel and 0x8000001D of AMD look the same but for the cores in 4. */
static void set_cache_leaves(struct table *table)
{
	uint32_t ids = 1U << table->id_bits;

	for (unsigned i = 0; i < table->cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *leaf = &table->cpuid->entries[i];
		unsigned level = leaf->eax >> 5 & 7;
		uint32_t sharing = level >= CACHE_LEVEL_SHARED ? ids - 1 : 0;

		if ((leaf->function != 4 && leaf->function != 0x8000001d) || !(leaf->eax & 0x1f))
			continue;
		leaf->eax = (leaf->eax & 0x3fff) | sharing << 14;
		if (leaf->function == 4)
			leaf->eax |= (ids - 1) << 26;
	}
}

/* Extended topology: one thread per core, and what is above the cores is the socket. */
static void set_topology_leaf(struct table *table, uint32_t function)
{
	const struct cpu_topology *topology = table->topology;
	struct kvm_cpuid_entry2 leaf = {.function = function,
		.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
		.ebx = 1,
		.ecx = LEVEL_SMT,
		.edx = topology->index};

	drop(table, function);
	if (table->max < function)
		return;
	add(table, leaf);
	leaf.index = 1;
	leaf.eax = table->id_bits;
	leaf.ebx = topology->cpus;
	leaf.ecx = 1 | LEVEL_CORE;
	add(table, leaf);
	leaf.index = 2;
	leaf.eax = leaf.ebx = 0;
	leaf.ecx = 2;
	add(table, leaf);
}

static void set_amd_topology(struct table *table)
{
	const struct cpu_topology *topology = table->topology;
	struct kvm_cpuid_entry2 *leaf;

	if (table->vendor != AUTHENTIC_AMD_EBX && table->vendor != HYGON_GENUINE_EBX)
		return;
	leaf = find(table, 0x80000001);
	if (leaf) {
		leaf->ecx &= ~ECX81_CMP_LEGACY;
		if (topology->cpus > 1)
			leaf->ecx |= ECX81_CMP_LEGACY;
	}
	leaf = find(table, 0x80000008);
	if (leaf)
		leaf->ecx = (leaf->ecx & ~0xf0ffU) | table->id_bits << 12 | (topology->cpus - 1);
	leaf = find(table, 0x8000001e);
	if (leaf) {
		leaf->eax = topology->index;
		leaf->ebx = topology->index % topology->cpus; /* one thread in this core */
		leaf->ecx = topology->index / topology->cpus; /* a socket is one node */
	}
}

static void set_kvm_leaves(struct table *table, unsigned pv, unsigned tsc_khz)
{
	struct kvm_cpuid_entry2 *supported = find(table, LEAF_FEATURES);
	uint32_t features = supported ? supported->eax & pv_cpuid_bits(pv) : 0;
	struct kvm_cpuid_entry2 signature = {
		.function = LEAF_SIGNATURE, .eax = tsc_khz ? LEAF_TIMING : LEAF_FEATURES};

	memcpy(&signature.ebx, "KVMK", 4);
	memcpy(&signature.ecx, "VMKV", 4);
	memcpy(&signature.edx, "M\0\0\0", 4);
	drop(table, LEAF_SIGNATURE);
	drop(table, LEAF_FEATURES);
	drop(table, LEAF_TIMING);
	add(table, signature);
	/* EDX, the hints: not "realtime", the vCPUs share the host's CPUs. */
	add(table, (struct kvm_cpuid_entry2){.function = LEAF_FEATURES, .eax = features});
	if (tsc_khz)
		add(table, (struct kvm_cpuid_entry2){
				   .function = LEAF_TIMING, .eax = tsc_khz, .ebx = APIC_BUS_KHZ});
}

/* TSC and core crystal clock. The crystal is KVM's APIC bus, so that an Intel guest without a
 * deadline timer gets the frequency of its APIC timer right as well. */
static void set_leaf_15(struct table *table, unsigned tsc_khz)
{
	if (!tsc_khz || table->vendor != GENUINE_INTEL_EBX || table->max < 0x15)
		return;
	drop(table, 0x15);
	add(table, (struct kvm_cpuid_entry2){.function = 0x15,
			   .eax = APIC_BUS_KHZ,
			   .ebx = tsc_khz,
			   .ecx = APIC_BUS_KHZ * 1000});
}

/* KVM lets a guest turn on what it is shown only. */
static void hide_virtualization(struct table *table)
{
	struct kvm_cpuid_entry2 *intel = find(table, 1), *amd = find(table, 0x80000001);

	if (intel)
		intel->ecx &= ~ECX1_VMX;
	if (amd)
		amd->ecx &= ~ECX81_SVM;
	drop(table, LEAF_SVM);
}

static void hide_counters(struct table *table)
{
	static const uint32_t leaves[] = {LEAF_INTEL_PMU, LEAF_INTEL_PMU_EXT, LEAF_LBR};
	struct kvm_cpuid_entry2 *basic = find(table, 1), *features = find(table, 7),
				*amd = find(table, 0x80000001);

	if (basic) {
		basic->ecx &= ~(ECX1_DTES64 | ECX1_PDCM);
		basic->edx &= ~EDX1_DS;
	}
	if (features)
		features->edx &= ~EDX7_ARCH_LBR;
	if (amd)
		amd->ecx &= ~ECX81_COUNTERS;
	drop(table, LEAF_AMD_PMU);
	/* Zeroes: an Intel CPU would show its highest leaf in place of one that is not there. */
	for (unsigned i = 0; i < ARRAY_SIZE(leaves); i++) {
		drop(table, leaves[i]);
		if (table->vendor == GENUINE_INTEL_EBX && table->max >= leaves[i])
			add(table, (struct kvm_cpuid_entry2){.function = leaves[i]});
	}
}

/* Processor frequencies, in MHz: base and highest are the TSC's, the bus is as on hardware. */
static void set_leaf_16(struct table *table, unsigned tsc_khz)
{
	if (!tsc_khz || table->vendor != GENUINE_INTEL_EBX || table->max < 0x16)
		return;
	drop(table, 0x16);
	add(table, (struct kvm_cpuid_entry2){.function = 0x16,
			   .eax = tsc_khz / 1000,
			   .ebx = tsc_khz / 1000,
			   .ecx = BUS_MHZ});
}

/* A guest that may go on where the TSC counts otherwise: neither its frequency, nor that it is
 * always the same, nor a timer that goes by it. Linux takes kvmclock and the APIC's own timer then.
 */
static void hide_frequency(struct table *table)
{
	struct kvm_cpuid_entry2 *basic = find(table, 1), *power = find(table, LEAF_POWER);

	if (basic)
		basic->ecx &= ~ECX1_TSC_DEADLINE;
	if (power)
		power->edx &= ~EDX87_INVARIANT_TSC;
	for (uint32_t leaf = 0x15; leaf <= 0x16; leaf++) {
		struct kvm_cpuid_entry2 *found = find(table, leaf);

		if (found)
			*found = (struct kvm_cpuid_entry2){.function = leaf};
	}
}

int cpu_cpuid(struct kvm_cpuid2 *cpuid, unsigned capacity, const struct cpu_topology *topology,
	const struct cpu_traits *traits, struct error *err)
{
	struct table table = {.cpuid = cpuid, .capacity = capacity, .topology = topology};
	const struct kvm_cpuid_entry2 *leaf_0 = find(&table, 0);
	struct kvm_cpuid_entry2 *leaf_7 = find(&table, 7);

	if (leaf_0) {
		table.max = leaf_0->eax;
		table.vendor = leaf_0->ebx;
	}
	while (1U << table.id_bits < topology->cpus)
		table.id_bits++;
	set_leaf_1(&table);
	set_leaf_6(&table);
	if (leaf_7)
		leaf_7->ecx &= ~ECX7_OSPKE;
	set_cache_leaves(&table);
	set_amd_topology(&table);
	set_topology_leaf(&table, 0xb);
	set_topology_leaf(&table, 0x1f);
	set_kvm_leaves(&table, traits->pv, traits->any_rate ? 0 : traits->tsc_khz);
	set_leaf_15(&table, traits->tsc_khz);
	set_leaf_16(&table, traits->tsc_khz);
	if (traits->any_rate)
		hide_frequency(&table);
	if (!traits->nested)
		hide_virtualization(&table);
	if (!traits->pmu)
		hide_counters(&table);
	if (table.error)
		return error_set(
			err, E2BIG, "the host's CPUID table has more than %u entries", capacity);
	return 0;
}
