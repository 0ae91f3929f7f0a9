/* SPDX-License-Identifier: Apache-2.0 */
/* What a vCPU is told to be: --pv, CPUID, registers and tables at entry. */
#include "x86/cpu.h"

#include "x86/layout.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define CAPACITY    64
#define TRAITS(...) (&(struct cpu_traits){__VA_ARGS__})

static void test_pv_parse(void **state)
{
	struct error err = {0};
	char text[80];
	unsigned set = PV_ALL;

	assert_int_equal(pv_parse("-eoi,-poll", &set, &err), 0);
	assert_int_equal(set, PV_ALL & ~(PV_EOI | PV_POLL));
	set = PV_ALL;
	assert_int_equal(pv_parse("clock,steal", &set, &err), 0);
	assert_int_equal(set, PV_CLOCK | PV_STEAL);
	set = PV_CLOCK;
	assert_int_equal(pv_parse("eoi", &set, &err), 0);
	assert_int_equal(set, PV_EOI);
	assert_int_equal(pv_parse("turbo", &set, &err), -EINVAL);
	assert_non_null(strstr(err.text, "turbo: no such feature"));
	assert_non_null(strstr(err.text, "tlbflush"));
	assert_int_equal(pv_parse("", &set, &err), -EINVAL);
	assert_int_equal(pv_parse("eoi,", &set, &err), -EINVAL);
	assert_int_equal(pv_parse("none,eoi", &set, &err), -EINVAL);
	assert_int_equal(pv_parse("-none", &set, &err), -EINVAL);
	assert_int_equal(set, PV_EOI);
	assert_int_equal(pv_parse("none", &set, &err), 0);
	assert_int_equal(set, 0);
	assert_string_equal(pv_format(PV_ALL, text, sizeof(text)),
		"clock,steal,eoi,unhalt,tlbflush,ipi,yield,asyncpf,poll");
	assert_string_equal(pv_format(0, text, sizeof(text)), "none");
}

static void test_pv_bits(void **state)
{
	/* From cpuid.rst; 1 and 15 are always on. */
	assert_int_equal(pv_cpuid_bits(0), 1 << 1 | 1 << 15);
	assert_int_equal(pv_cpuid_bits(PV_CLOCK) & ~pv_cpuid_bits(0), 1 << 0 | 1 << 3 | 1 << 24);
	assert_int_equal(pv_cpuid_bits(PV_STEAL) & ~pv_cpuid_bits(0), 1 << 5);
	assert_int_equal(pv_cpuid_bits(PV_ASYNCPF) & ~pv_cpuid_bits(0), 1 << 4 | 1 << 10 | 1 << 14);
	assert_false(pv_cpuid_bits(PV_ALL) & 1 << 17); /* migration control */
}

static struct kvm_cpuid2 *table(const struct kvm_cpuid_entry2 *entries, unsigned count)
{
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + CAPACITY * sizeof(cpuid->entries[0]));

	assert_non_null(cpuid);
	memcpy(cpuid->entries, entries, count * sizeof(entries[0]));
	cpuid->nent = count;
	return cpuid;
}

static struct kvm_cpuid_entry2 leaf(
	const struct kvm_cpuid2 *cpuid, uint32_t function, uint32_t index)
{
	for (unsigned i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == function && cpuid->entries[i].index == index)
			return cpuid->entries[i];
	fail_msg("no leaf 0x%x.%u", function, index);
	return (struct kvm_cpuid_entry2){0};
}

static const struct kvm_cpuid_entry2 intel[] = {
	{.function = 0, .eax = 0x1f, .ebx = 0x756e6547},
	{.function = 1, .ebx = 0x07400800, .ecx = 1U << 27, .edx = 0x0f8bfbff},
	{.function = 4, .index = 0, .eax = 0xfc01c121},
	{.function = 4, .index = 1, .eax = 0xfc01c163},
	{.function = 4, .index = 2, .eax = 0},
	{.function = 7, .ecx = 1 << 4 | 1 << 3},
	{.function = 0xb, .index = 0, .eax = 1, .ebx = 2, .ecx = 0x100, .edx = 9},
	{.function = 0x1f, .index = 0, .eax = 1, .ebx = 2, .ecx = 0x100, .edx = 9},
	{.function = 0x40000000, .eax = 0x40000001},
	{.function = 0x40000001, .eax = 0x0100fffb, .edx = 1},
};

static void test_intel(void **state)
{
	struct kvm_cpuid2 *cpuid = table(intel, sizeof(intel) / sizeof(intel[0]));
	struct cpu_topology topology = {.cpus = 5, .index = 3};
	struct kvm_cpuid_entry2 got;

	assert_int_equal(cpu_cpuid(cpuid, CAPACITY, &topology,
				 TRAITS(.pv = PV_ALL, .tsc_khz = 2600000), NULL),
		0);
	got = leaf(cpuid, 1, 0);
	assert_int_equal(got.ebx, 0x03050800);
	assert_int_equal(got.ecx, 1U << 31 | 1U << 24 | 1U << 21);
	assert_true(got.edx & 1 << 28);
	assert_int_equal(leaf(cpuid, 7, 0).ecx, 1 << 3);
	assert_int_equal(leaf(cpuid, 6, 0).eax, 4); /* ARAT, which the host's table lacked */
	/* Eight ids for five cores; the first cache is a core's own, the third level everybody's.
	 */
	assert_int_equal(leaf(cpuid, 4, 0).eax, 7U << 26 | 0x121);
	assert_int_equal(leaf(cpuid, 4, 1).eax, 7U << 26 | 7 << 14 | 0x163);
	for (uint32_t function = 0xb; function <= 0x1f; function += 0x14) {
		got = leaf(cpuid, function, 0);
		assert_int_equal(got.eax, 0);
		assert_int_equal(got.ebx, 1);
		assert_int_equal(got.ecx, 0x100);
		assert_int_equal(got.edx, 3);
		got = leaf(cpuid, function, 1);
		assert_int_equal(got.eax, 3);
		assert_int_equal(got.ebx, 5);
		assert_int_equal(got.ecx, 0x201);
		assert_int_equal(leaf(cpuid, function, 2).ecx, 2);
	}
	/* TSC 2.6 GHz from the 1 GHz of KVM's APIC bus. */
	got = leaf(cpuid, 0x15, 0);
	assert_int_equal((uint64_t)got.ecx * got.ebx / got.eax, 2600000000);
	got = leaf(cpuid, 0x16, 0);
	assert_int_equal(got.eax, 2600);
	assert_int_equal(got.ebx, 2600);
	assert_int_equal(got.ecx, 100);
	free(cpuid);
}

/* Two packages of four: the id's upper bits are the package's, its caches end with it. */
static void test_packages(void **state)
{
	struct kvm_cpuid2 *cpuid = table(intel, sizeof(intel) / sizeof(intel[0]));
	struct cpu_topology topology = {.cpus = 4, .index = 6};
	struct kvm_cpuid_entry2 got;

	assert_int_equal(
		cpu_cpuid(cpuid, CAPACITY, &topology, TRAITS(.pv = PV_ALL, .tsc_khz = 0), NULL), 0);
	assert_int_equal(leaf(cpuid, 1, 0).ebx, 0x06040800);
	assert_int_equal(leaf(cpuid, 4, 1).eax, 3U << 26 | 3 << 14 | 0x163);
	got = leaf(cpuid, 0xb, 1);
	assert_int_equal(got.eax, 2); /* APIC id 6 is in package 6 >> 2 = 1 */
	assert_int_equal(got.ebx, 4);
	assert_int_equal(got.edx, 6);
	free(cpuid);
}

static void test_kvm_leaves(void **state)
{
	struct kvm_cpuid2 *cpuid = table(intel, sizeof(intel) / sizeof(intel[0]));
	struct cpu_topology topology = {.cpus = 1, .index = 0};
	struct kvm_cpuid_entry2 got;

	assert_int_equal(cpu_cpuid(cpuid, CAPACITY, &topology,
				 TRAITS(.pv = PV_EOI | PV_IPI, .tsc_khz = 2600000), NULL),
		0);
	got = leaf(cpuid, 0x40000000, 0);
	assert_int_equal(got.eax, 0x40000010);
	assert_memory_equal(&got.ebx, "KVMKVMKVM\0\0\0", 12);
	got = leaf(cpuid, 0x40000001, 0);
	assert_int_equal(got.eax, 1 << 1 | 1 << 6 | 1 << 11 | 1 << 15);
	assert_int_equal(got.edx, 0);
	assert_int_equal(leaf(cpuid, 0x40000010, 0).eax, 2600000);
	assert_false(leaf(cpuid, 1, 0).edx & 1 << 28);
	/* Again, without the frequency: no second set of leaves, and what is off stays off. */
	assert_int_equal(
		cpu_cpuid(cpuid, CAPACITY, &topology, TRAITS(.pv = PV_ALL, .tsc_khz = 0), NULL), 0);
	assert_int_equal(leaf(cpuid, 0x40000000, 0).eax, 0x40000001);
	assert_int_equal(leaf(cpuid, 0x40000001, 0).eax, 1 << 1 | 1 << 6 | 1 << 11 | 1 << 15);
	free(cpuid);
}

static void test_amd(void **state)
{
	static const struct kvm_cpuid_entry2 amd[] = {
		{.function = 0, .eax = 0x10, .ebx = 0x68747541},
		{.function = 1},
		{.function = 0x80000001, .ecx = 1},
		{.function = 0x80000008, .eax = 0x3030, .ecx = 0x0a7f},
		{.function = 0x8000001d, .index = 3, .eax = 0x1c163},
		{.function = 0x8000001e, .eax = 77, .ebx = 0x105, .ecx = 0x301},
	};
	struct kvm_cpuid2 *cpuid = table(amd, sizeof(amd) / sizeof(amd[0]));
	struct cpu_topology topology = {.cpus = 4, .index = 2};
	struct kvm_cpuid_entry2 got;

	assert_int_equal(cpu_cpuid(cpuid, CAPACITY, &topology,
				 TRAITS(.pv = PV_ALL, .tsc_khz = 2600000), NULL),
		0);
	assert_int_equal(leaf(cpuid, 0x80000001, 0).ecx, 3);
	got = leaf(cpuid, 0x80000008, 0);
	assert_int_equal(got.ecx, 2 << 12 | 0xa00 | 3);
	assert_int_equal(got.eax, 0x3030);
	assert_int_equal(leaf(cpuid, 0x8000001d, 3).eax, 3 << 14 | 0x163);
	got = leaf(cpuid, 0x8000001e, 0);
	assert_int_equal(got.eax, 2);
	assert_int_equal(got.ebx, 2);
	assert_int_equal(got.ecx, 0);
	assert_int_equal(leaf(cpuid, 0xb, 1).ebx, 4);
	/* AMD's guests read the hypervisor's leaf. */
	assert_int_equal(leaf(cpuid, 0x40000000, 0).eax, 0x40000010);
	assert_int_equal(leaf(cpuid, 0x40000010, 0).eax, 2600000);
	for (unsigned i = 0; i < cpuid->nent; i++)
		assert_true(cpuid->entries[i].function != 0x15 &&
			    cpuid->entries[i].function != 0x16 &&
			    cpuid->entries[i].function != 0x1f);
	free(cpuid);
}

static bool has_leaf(const struct kvm_cpuid2 *cpuid, uint32_t function)
{
	for (unsigned i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == function)
			return true;
	return false;
}

/* Nested virtualization is for those who ask for it. */
static void test_nested(void **state)
{
	static const struct kvm_cpuid_entry2 both[] = {
		{.function = 0, .eax = 0x10, .ebx = 0x68747541},
		{.function = 1, .ecx = 1 << 5 | 1},
		{.function = 0x80000001, .ecx = 1 << 2 | 1},
		{.function = 0x8000000a, .eax = 1, .edx = 0xff},
	};
	struct cpu_topology topology = {.cpus = 1};

	for (unsigned nested = 0; nested < 2; nested++) {
		struct kvm_cpuid2 *cpuid = table(both, 4);

		assert_int_equal(
			cpu_cpuid(cpuid, CAPACITY, &topology, TRAITS(.nested = nested), NULL), 0);
		assert_int_equal(leaf(cpuid, 1, 0).ecx >> 5 & 1, nested);
		assert_int_equal(leaf(cpuid, 0x80000001, 0).ecx, nested << 2 | 1);
		assert_int_equal(has_leaf(cpuid, 0x8000000a), nested);
		free(cpuid);
	}
}

/* Counters likewise: of AMD and of Intel. */
/* Nothing of the TSC's frequency is left, on either make. */
static void test_any_rate(void **state)
{
	static const struct kvm_cpuid_entry2 of_intel[] = {
		{.function = 0, .eax = 0x16, .ebx = 0x756e6547},
		{.function = 1},
		{.function = 0x80000007, .edx = 1 << 8 | 1},
	};
	struct cpu_topology topology = {.cpus = 1};

	(void)state;
	for (unsigned any = 0; any < 2; any++) {
		struct kvm_cpuid2 *one = table(of_intel, 3);

		assert_int_equal(cpu_cpuid(one, CAPACITY, &topology,
					 TRAITS(.tsc_khz = 2000000, .any_rate = any), NULL),
			0);
		assert_int_equal(leaf(one, 1, 0).ecx >> 24 & 1, !any);
		assert_int_equal(leaf(one, 0x80000007, 0).edx, any ? 1 : 0x101);
		assert_int_equal(has_leaf(one, 0x40000010), !any);
		assert_int_equal(leaf(one, 0x15, 0).ebx, any ? 0 : 2000000);
		assert_int_equal(leaf(one, 0x16, 0).eax, any ? 0 : 2000);
		free(one);
	}
}

static void test_pmu(void **state)
{
	static const struct kvm_cpuid_entry2 amd[] = {
		{.function = 0, .eax = 0x10, .ebx = 0x68747541},
		{.function = 0x80000001, .ecx = 1 << 23 | 1 << 24 | 1 << 28 | 1},
		{.function = 0x80000022, .eax = 1, .ebx = 6},
	};
	static const struct kvm_cpuid_entry2 of_intel[] = {
		{.function = 0, .eax = 0x23, .ebx = 0x756e6547},
		{.function = 1, .ecx = 1 << 15 | 1 << 2, .edx = 1 << 21},
		{.function = 7, .edx = 1 << 19},
		{.function = 0xa, .eax = 0x07300802},
	};
	struct cpu_topology topology = {.cpus = 1};

	(void)state;
	for (unsigned pmu = 0; pmu < 2; pmu++) {
		struct kvm_cpuid2 *one = table(amd, 3), *other = table(of_intel, 4);

		assert_int_equal(cpu_cpuid(one, CAPACITY, &topology, TRAITS(.pmu = pmu), NULL), 0);
		assert_int_equal(leaf(one, 0x80000001, 0).ecx >> 23, pmu ? 0x23 : 0);
		assert_int_equal(has_leaf(one, 0x80000022), pmu);
		assert_int_equal(
			cpu_cpuid(other, CAPACITY, &topology, TRAITS(.pmu = pmu), NULL), 0);
		assert_int_equal(leaf(other, 0xa, 0).eax, pmu ? 0x07300802 : 0);
		assert_int_equal(leaf(other, 1, 0).ecx >> 15 & 1, pmu);
		assert_int_equal(leaf(other, 1, 0).edx >> 21 & 1, pmu);
		assert_int_equal(leaf(other, 7, 0).edx >> 19 & 1, pmu);
		free(one);
		free(other);
	}
}

static void test_cpuid_full(void **state)
{
	struct kvm_cpuid2 *cpuid = table(intel, sizeof(intel) / sizeof(intel[0]));
	struct cpu_topology topology = {.cpus = 1, .index = 0};

	assert_int_equal(
		cpu_cpuid(cpuid, cpuid->nent, &topology, TRAITS(.pv = PV_ALL, .tsc_khz = 1), NULL),
		-E2BIG);
	assert_int_equal(cpuid->nent, sizeof(intel) / sizeof(intel[0]));
	free(cpuid);
}

/* What the page tables at CR3 say of @address; 0 when it is not mapped. */
static uint64_t translate(struct memory *memory, uint64_t cr3, uint64_t address)
{
	uint64_t entry = cr3 | 1;

	for (int shift = 39; shift >= 21; shift -= 9) {
		if (!(entry & 1))
			return 0;
		assert_int_equal(
			memory_read(memory, GPA((entry & ~0xfffULL) + (address >> shift & 511) * 8),
				&entry, 8),
			0);
	}
	assert_true(!(entry & 1) || entry & 0x80);
	return entry & 1 ? (entry & ~0x1fffffULL) | (address & 0x1fffff) : 0;
}

static void test_long_entry(void **state)
{
	struct kernel_entry entry = {
		.mode = KERNEL_ENTRY_LONG, .ip = 0x1000040, .params = LAYOUT_ZERO_PAGE};
	struct kvm_sregs sregs = {.apic_base = 0xfee00900};
	struct memory memory;
	struct kvm_regs regs;
	uint64_t gdt[3];

	memory_init(&memory);
	assert_int_equal(
		memory_add(&memory, GPA(0), (1ULL << 30) + 4096, MEMORY_ANONYMOUS, "low", NULL), 0);
	assert_int_equal(cpu_boot_memory(&memory, &entry, NULL), 0);
	cpu_boot_registers(&entry, &regs, &sregs);
	assert_int_equal(regs.rip, entry.ip);
	assert_int_equal(regs.rsi, LAYOUT_ZERO_PAGE);
	assert_int_equal(regs.rflags, 2);
	assert_int_equal(sregs.cr0 & 0x80000001, 0x80000001);
	assert_true(sregs.cr4 & 1 << 5);
	assert_int_equal(sregs.efer, 0x500);
	assert_int_equal(sregs.cs.l, 1);
	assert_int_equal(sregs.apic_base, 0xfee00900);
	assert_int_equal(translate(&memory, sregs.cr3, 0x1000040), 0x1000040);
	assert_int_equal(translate(&memory, sregs.cr3, 0x40000123), 0x40000123);
	assert_int_equal(translate(&memory, sregs.cr3, 0x80000000), 0);
	assert_int_equal(memory_read(&memory, GPA(sregs.gdt.base), gdt, sizeof(gdt)), 0);
	assert_int_equal(gdt[sregs.cs.selector / 8], 0x00af9b000000ffff);
	memory_free(&memory);
}

static void test_pvh_entry(void **state)
{
	struct kernel_entry entry = {
		.mode = KERNEL_ENTRY_PVH32, .ip = 0x1000080, .params = LAYOUT_PVH_INFO};
	struct kvm_sregs sregs = {0};
	struct memory memory;
	struct kvm_regs regs;
	struct error err = {0};
	uint64_t gdt[4];

	memory_init(&memory);
	assert_true(cpu_boot_memory(&memory, &entry, &err) < 0);
	assert_non_null(strstr(err.text, "--memory"));
	assert_int_equal(memory_add(&memory, GPA(0), 1 << 20, MEMORY_ANONYMOUS, "low", NULL), 0);
	assert_int_equal(cpu_boot_memory(&memory, &entry, &err), 0);
	cpu_boot_registers(&entry, &regs, &sregs);
	assert_int_equal(regs.rbx, LAYOUT_PVH_INFO);
	assert_int_equal(sregs.cr0 & 0x80000001, 1);
	assert_int_equal(sregs.efer, 0);
	assert_int_equal(sregs.cs.l, 0);
	assert_int_equal(sregs.cs.db, 1);
	assert_int_equal(memory_read(&memory, GPA(sregs.gdt.base), gdt, sizeof(gdt)), 0);
	assert_int_equal(gdt[2], 0x00cf9b000000ffff);
	assert_int_equal(gdt[3], 0x00cf93000000ffff);
	memory_free(&memory);
}

static void test_msrs(void **state)
{
	struct kvm_msrs *msrs = calloc(1, sizeof(*msrs) + 8 * sizeof(struct kvm_msr_entry));

	assert_non_null(msrs);
	cpu_boot_msrs(msrs, 8);
	assert_true(msrs->nmsrs >= 2);
	cpu_boot_msrs(msrs, 1);
	assert_int_equal(msrs->nmsrs, 1);
	free(msrs);
	assert_true(cpu_msr_is_state(0x10));       /* TSC */
	assert_true(cpu_msr_is_state(0x4b564d03)); /* steal time */
	assert_false(cpu_msr_is_state(0x480));     /* VMX_BASIC */
	assert_false(cpu_msr_is_state(0x40000000));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pv_parse),
		cmocka_unit_test(test_pv_bits),
		cmocka_unit_test(test_intel),
		cmocka_unit_test(test_packages),
		cmocka_unit_test(test_kvm_leaves),
		cmocka_unit_test(test_amd),
		cmocka_unit_test(test_nested),
		cmocka_unit_test(test_pmu),
		cmocka_unit_test(test_any_rate),
		cmocka_unit_test(test_cpuid_full),
		cmocka_unit_test(test_long_entry),
		cmocka_unit_test(test_pvh_entry),
		cmocka_unit_test(test_msrs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
