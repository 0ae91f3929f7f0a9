/* SPDX-License-Identifier: Apache-2.0 */
#include "x86/cpu.h"

#include "base/checked.h"
#include "x86/layout.h"

#include <string.h>

#define CR0_PE      (1ULL << 0)
#define CR0_ET      (1ULL << 4)
#define CR0_NE      (1ULL << 5)
#define CR0_PG      (1ULL << 31)
#define CR4_PAE     (1ULL << 5)
#define EFER_LME    (1ULL << 8)
#define EFER_LMA    (1ULL << 10)
#define RFLAGS_FIX  2ULL /* bit 1 reads as one */
#define PTE_PRESENT 1ULL
#define PTE_WRITE   2ULL
#define PTE_LARGE   0x80ULL
#define PT_ENTRIES  512
#define LARGE_PAGE  (2ULL << 20)
#define PML4        LAYOUT_PAGE_TABLES
#define PDPT        (LAYOUT_PAGE_TABLES + MEMORY_PAGE)
#define PD          (LAYOUT_PAGE_TABLES + 2 * MEMORY_PAGE) /* one for each GiB */

/* Selectors as both boot protocols of Linux want them. */
#define SELECTOR_CODE 0x10
#define SELECTOR_DATA 0x18
#define SELECTOR_TASK 0x20

#define TYPE_CODE     0xb /* execute, read, accessed */
#define TYPE_DATA     0x3 /* read, write, accessed */
#define TYPE_TSS_BUSY 0xb

static const struct kvm_segment segment_code64 = {.limit = 0xffffffff,
	.selector = SELECTOR_CODE,
	.type = TYPE_CODE,
	.present = 1,
	.s = 1,
	.l = 1,
	.g = 1};
static const struct kvm_segment segment_code32 = {.limit = 0xffffffff,
	.selector = SELECTOR_CODE,
	.type = TYPE_CODE,
	.present = 1,
	.s = 1,
	.db = 1,
	.g = 1};
static const struct kvm_segment segment_data = {.limit = 0xffffffff,
	.selector = SELECTOR_DATA,
	.type = TYPE_DATA,
	.present = 1,
	.s = 1,
	.db = 1,
	.g = 1};
static const struct kvm_segment segment_task = {
	.limit = 0x67, .selector = SELECTOR_TASK, .type = TYPE_TSS_BUSY, .present = 1};

/* The descriptor that would load @segment (base 0). */
static uint64_t descriptor(const struct kvm_segment *segment)
{
	uint64_t limit = segment->g ? segment->limit >> 12 : segment->limit;
	uint64_t flags = segment->type | segment->s << 4 | segment->dpl << 5 |
			 segment->present << 7 | segment->l << 13 | segment->db << 14 |
			 segment->g << 15;

	return (limit & 0xffff) | flags << 40 | (limit >> 16 & 0xf) << 48;
}

/* Identity map of the low RAM by 2 MiB pages: as many GiB as there are, at most four. */
static int write_page_tables(struct memory *memory)
{
	uint64_t table[PT_ENTRIES] = {PDPT | PTE_PRESENT | PTE_WRITE};
	uint64_t directories[4] = {0}, gib;
	int ret = memory_write(memory, GPA(PML4), table, sizeof(table));

	for (gib = 0; gib < 4 && ret == 0; gib++) {
		if (!memory_overlaps(memory, GPA(gib << 30), 1ULL << 30))
			break;
		for (uint64_t i = 0; i < PT_ENTRIES; i++)
			table[i] = ((gib * PT_ENTRIES + i) * LARGE_PAGE) | PTE_PRESENT | PTE_WRITE |
				   PTE_LARGE;
		directories[gib] = (PD + gib * MEMORY_PAGE) | PTE_PRESENT | PTE_WRITE;
		ret = memory_write(memory, GPA(PD + gib * MEMORY_PAGE), table, sizeof(table));
	}
	return ret < 0 ? ret : memory_write(memory, GPA(PDPT), directories, sizeof(directories));
}

int cpu_boot_memory(struct memory *memory, const struct kernel_entry *entry, struct error *err)
{
	bool longmode = entry->mode == KERNEL_ENTRY_LONG;
	uint64_t gdt[] = {0, 0, descriptor(longmode ? &segment_code64 : &segment_code32),
		descriptor(&segment_data), descriptor(&segment_task)};
	int ret = memory_write(memory, GPA(LAYOUT_BOOT_GDT), gdt, sizeof(gdt));

	if (ret == 0 && longmode)
		ret = write_page_tables(memory);
	if (ret < 0)
		return error_errno(
			err, -ret, "--memory: no RAM where the boot tables go; give more");
	return 0;
}

void cpu_boot_registers(
	const struct kernel_entry *entry, struct kvm_regs *regs, struct kvm_sregs *sregs)
{
	bool longmode = entry->mode == KERNEL_ENTRY_LONG;

	memset(regs, 0, sizeof(*regs));
	regs->rip = entry->ip;
	regs->rflags = RFLAGS_FIX;
	if (longmode)
		regs->rsi = entry->params;
	else
		regs->rbx = entry->params;
	sregs->cs = longmode ? segment_code64 : segment_code32;
	sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = segment_data;
	sregs->tr = segment_task;
	sregs->gdt.base = LAYOUT_BOOT_GDT;
	sregs->gdt.limit = 5 * sizeof(uint64_t) - 1;
	sregs->idt.base = 0;
	sregs->idt.limit = 0; /* an exception before the kernel has its own IDT is a triple fault */
	sregs->cr0 = CR0_PE | CR0_ET | (longmode ? CR0_NE | CR0_PG : 0);
	sregs->cr3 = longmode ? PML4 : 0;
	sregs->cr4 = longmode ? CR4_PAE : 0;
	sregs->efer = longmode ? EFER_LME | EFER_LMA : 0;
}

static const struct kvm_msr_entry reset_msrs[] = {
	{.index = 0x1a0, .data = 1},            /* IA32_MISC_ENABLE: fast strings */
	{.index = 0x2ff, .data = 1U << 11 | 6}, /* IA32_MTRR_DEF_TYPE: enabled, write-back */
};

void cpu_boot_msrs(struct kvm_msrs *msrs, unsigned capacity)
{
	msrs->nmsrs = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(reset_msrs) && i < capacity; i++)
		msrs->entries[msrs->nmsrs++] = reset_msrs[i];
}

/* What CPUID determines or the host's CPU is, and interfaces that duet never turns on. */
static const struct {
	uint32_t first, last;
} not_state[] = {
	{0x8b, 0x8b},             /* IA32_BIOS_SIGN_ID: microcode revision */
	{0xce, 0xce},             /* MSR_PLATFORM_INFO */
	{0x10a, 0x10a},           /* IA32_ARCH_CAPABILITIES */
	{0x345, 0x345},           /* IA32_PERF_CAPABILITIES */
	{0x480, 0x493},           /* IA32_VMX_*: capabilities */
	{0x40000000, 0x400001ff}, /* Hyper-V */
	{0xc0011029, 0xc0011029}, /* DE_CFG */
};

bool cpu_msr_is_state(uint32_t index)
{
	for (unsigned i = 0; i < ARRAY_SIZE(not_state); i++)
		if (index >= not_state[i].first && index <= not_state[i].last)
			return false;
	return true;
}
