# SPDX-License-Identifier: Apache-2.0
"""What the lab changes in QEMU's source (10.0 and later): mends of faults, and what a host of
virtual machines needs that the emulator does not have. docs/lab.md says what each is for.

A mend finds its place by a pattern that must match exactly once; what is longer than a few lines
is in files of our own (lab/qemu/), which are put beside QEMU's."""

import re
from dataclasses import dataclass
from pathlib import Path

from ..base.cache import write_atomically
from ..base.errors import LabError
from ..base.paths import LAB

OWN_SOURCE = LAB / "qemu"

SVM = "target/i386/tcg/system/svm_helper.c"
FPU = "target/i386/tcg/system/fpu_helper.c"
MISC = "target/i386/tcg/misc_helper.c"
MSRS = "target/i386/tcg/system/misc_helper.c"
TRANSLATE = "target/i386/tcg/translate.c"
TLB = "accel/tcg/cputlb.c"
BLOCKS = "accel/tcg/tb-maint.c"
APIC = "hw/intc/apic.c"
CPU_HEADER = "target/i386/cpu.h"

# Our files, and the folders they go to.
OWN = {
    "lab-store.h": "accel/tcg",
    "lab-code.h": "accel/tcg",
    "lab-timer.h": "hw/intc",
    "lab-tsc.h": "include/hw/i386",
    "lab-pmu.h": "target/i386/tcg/system",
    "lab-pmu.c.inc": "target/i386/tcg/system",
    "lab-pmu-translate.h": "target/i386/tcg",
}


@dataclass(frozen=True)
class Mend:
    file: str
    pattern: str  # a regular expression over lines
    text: str  # takes its place: {0} is all that was found, {1} its first group


# An interrupt that helper_vmrun injects is delivered once.
_DELIVERED = [
    Mend(
        SVM,
        r"^([ \t]*)do_interrupt_x86_hardirq\(env, vector, 1\);\n",
        "{0}{1}cs->exception_index = -1; /* mended: delivered */\n",
    ),
]

# interrupt_request changes under the lock that all who change it take.
_LOCKED = [
    Mend(
        SVM,
        r"^([ \t]*)cs->interrupt_request \|= CPU_INTERRUPT_VIRQ;\n",
        "{1}bql_lock(); /* mended: other threads set bits of theirs */\n{0}{1}bql_unlock();\n",
    ),
    Mend(
        SVM,
        r"^([ \t]*)/\* Clears the V_IRQ and V_INTR_MASKING bits inside the processor. \*/\n"
        r"[ \t]*cs->interrupt_request &= ~CPU_INTERRUPT_VIRQ;\n",
        "{1}if (cs->interrupt_request & CPU_INTERRUPT_VIRQ) {{\n"
        "{1}    cpu_reset_interrupt(cs, CPU_INTERRUPT_VIRQ); /* mended: takes the lock */\n"
        "{1}}}\n",
    ),
    Mend(SVM, r'^#include "qemu/log.h"\n', '{0}#include "qemu/main-loop.h"\n'),
]

# A CPU that initialises its x87 state leaves the first CPU's word of flags alone.
_OWN_FLAGS = [
    Mend(
        FPU,
        r"^([ \t]*)env->hflags2 &= ~HF2_IGNNE_MASK;\n",
        "{1}if (env->hflags2 & HF2_IGNNE_MASK) {{ /* mended: another CPU's word */\n"
        "{1}    env->hflags2 &= ~HF2_IGNNE_MASK;\n"
        "{1}}}\n",
    ),
]


def _store_mend(bits: int) -> Mend:
    done = "*(uint8_t *)p->haddr = val;" if bits == 8 else rf"store_atom_{bits // 8}(cpu, ra, p->haddr, memop, val);"
    return Mend(
        TLB,
        rf"^([ \t]*){re.escape(done)}\n(?=    \}}\n\}}\n)",
        "{0}{1}if (unlikely(p->code)) {{ /* mended */\n{1}    lab_after_store(p);\n{1}}}\n",
    )


# Code that is stored to is translated anew: lab-store.h.
_STORES = [
    Mend(TLB, r"^    int size;\n\} MMULookupPageData;\n",
         "    int size;\n    bool code; /* the page has translations */\n}} MMULookupPageData;\n"),
    Mend(TLB, r"^\} MMULookupLocals;\n", '{0}\n#include "lab-store.h"\n'),
    Mend(TLB, r"^    data->flags = flags;\n(?=    /\* Compute haddr)", "{0}    data->code = false;\n"),
    Mend(TLB, r"^        notdirty_write\(cpu, addr, size, full, ra\);\n", "{0}        data->code = true;\n"),
    *(_store_mend(bits) for bits in (8, 16, 32, 64)),
]  # fmt: skip

# Stores beside code cost little: lab-code.h. And who looks a translation up sees that it is no
# longer valid: no CPU has to forget all that it knows, for each one.
_BESIDE_CODE = [
    Mend(BLOCKS, r"^    uintptr_t first_tb;\n\};\n(?=\nvoid page_table_config_init)",
         "    uintptr_t first_tb;\n    uint64_t lab_code;\n    unsigned lab_stores;\n}};\n"),
    Mend(BLOCKS, r"^void tb_lock_page0\(tb_page_addr_t paddr\)\n\{\n"
         r"    page_lock\(page_find_alloc\(paddr >> TARGET_PAGE_BITS, true\)\);\n",
         '#include "lab-code.h"\n\nvoid tb_lock_page0(tb_page_addr_t paddr)\n{{\n'
         "    PageDesc *p = page_find_alloc(paddr >> TARGET_PAGE_BITS, true);\n\n"
         "    page_lock(p);\n    lab_page_read(p, paddr);\n"),
    Mend(BLOCKS, r"^        page_lock\(pd1\);\n(?=        return;)", "{0}        lab_page_read(pd1, paddr1);\n"),
    Mend(BLOCKS, r"^    if \(!page_trylock\(pd1\)\) \{\n", "{0}        lab_page_read(pd1, paddr1);\n"),
    Mend(BLOCKS, r"^    page_lock\(pd1\);\n    page_lock\(pd0\);\n",
         "{0}    lab_page_read(pd1, paddr1);\n    lab_page_read(pd0, paddr0);\n"),
    Mend(BLOCKS, r"^    tb->page_next\[n\] = p->first_tb;\n(?=    page_already_protected)",
         "    lab_page_has(p, tb, n);\n{0}"),
    Mend(BLOCKS, r"^    /\* Range may not cross a page\. \*/\n", "    lab_widen(p, &start, &last);\n{0}"),
    Mend(BLOCKS, r"^    if \(!p->first_tb\) \{\n(?=        tlb_unprotect_code\(start\);)",
         "    lab_page_look(p);\n{0}"),
    Mend(BLOCKS, r"^    struct page_collection \*pages;\n\n(?=    pages = page_collection_lock\(ram_addr,)",
         "{0}    if (lab_beside_code(ram_addr, size)) {{\n        return;\n    }}\n"),
    Mend(BLOCKS, r"^        /\* A TB may be at any virtual address \*/\n        CPU_FOREACH\(cpu\) \{\n"
         r"            tcg_flush_jmp_cache\(cpu\);\n        \}\n",
         "        /* mended: CF_INVALID is enough */\n"),
]  # fmt: skip

# A timer's interrupt that got lost comes again: lab-timer.h.
_TIMER = [
    Mend(APIC, r"^static void apic_eoi\(APICCommonState \*s\)\n\{\n", '#include "lab-timer.h"\n\n{0}'),
    Mend(APIC, r"^    apic_reset_bit\(s->isr, isrv\);\n", "{0}    lab_note(s, isrv, true);\n"),
    Mend(APIC, r"^    apic_set_bit\(s->isr, intno\);\n", "{0}    lab_note(s, intno, false);\n"),
    Mend(APIC, r"^    apic_local_deliver\(s, APIC_LVT_TIMER\);\n    apic_timer_update\(s, s->next_time\);\n",
         "    if (lab_timer_looks(s)) {{\n        return;\n    }}\n{0}    lab_timer_given(s);\n"),
]  # fmt: skip

# TSC scaling of guests, and the frequency of the machine's own TSC: lab-tsc.h.
_TSC = [
    Mend("target/i386/cpu.c", r"^#define TCG_SVM_FEATURES \(", "{0}CPUID_SVM_TSCSCALE | "),
    Mend(MISC, r'^#include "helper-tcg.h"\n', '{0}#include "hw/i386/lab-tsc.h"\n'),
    Mend(
        MISC,
        r"^    val = cpu_get_tsc\(env\) \+ env->tsc_offset;\n(?=    env->regs\[R_EAX\] = \(uint32_t\)\(val\);\n"
        r"    env->regs\[R_EDX\] = \(uint32_t\)\(val >> 32\);\n\}\n)",
        "    val = cpu_get_tsc(env);\n"
        "    if (env->hflags & HF_GUEST_MASK) {{\n"
        "        val = lab_scale(val, env->amd_tsc_scale_msr);\n"
        "    }}\n"
        "    val += env->tsc_offset;\n",
    ),
    Mend("hw/i386/x86-cpu.c", r'^#include "hw/i386/x86.h"\n', '{0}#include "hw/i386/lab-tsc.h"\n'),
    Mend("hw/i386/x86-cpu.c", r"^    return cpus_get_elapsed_ticks\(\);\n",
         "    return lab_machine_ticks(cpus_get_elapsed_ticks());\n"),
    Mend(MSRS, r"^    switch \(\(uint32_t\)env->regs\[R_ECX\]\) \{\n(?=    case MSR_IA32_SYSENTER_CS:\n"
         r"        env->sysenter_cs = val)",
         "{0}    case MSR_AMD64_TSC_RATIO:\n        env->amd_tsc_scale_msr = val;\n        break;\n"),
    Mend(MSRS, r"^    switch \(\(uint32_t\)env->regs\[R_ECX\]\) \{\n(?=    case MSR_IA32_SYSENTER_CS:\n"
         r"        val = env->sysenter_cs)",
         "{0}    case MSR_AMD64_TSC_RATIO:\n        val = env->amd_tsc_scale_msr;\n        break;\n"),
]  # fmt: skip

# Performance counters: lab-pmu.h.
_PMU = [
    Mend(
        CPU_HEADER,
        r"^    /\* Fields up to this point are cleared by a CPU reset \*/\n",
        "    uint64_t lab_insns, lab_seen, lab_sel[4], lab_ctr[4]; /* lab-pmu.h */\n"
        "    bool lab_on;\n\n{0}",
    ),
    Mend(
        CPU_HEADER,
        r"^static inline void cpu_x86_load_seg_cache\(CPUX86State \*env,\n",
        "void cpu_lab_pmu_fold(CPUX86State *env);\n"
        "bool cpu_lab_pmu_counter(CPUX86State *env, uint32_t index, uint64_t *value);\n\n{0}",
    ),
    Mend(
        CPU_HEADER,
        r"^    unsigned int new_hflags;\n\n    sc = &env->segs\[seg_reg\];\n",
        "    unsigned int new_hflags;\n\n"
        "    if (env->lab_on && (seg_reg == R_CS || seg_reg == R_SS)) {{\n"
        "        cpu_lab_pmu_fold(env);\n"
        "    }}\n"
        "    sc = &env->segs[seg_reg];\n",
    ),
    Mend(SVM, r"^    env->hflags \|= HF_GUEST_MASK;\n", "    cpu_lab_pmu_fold(env);\n{0}"),
    Mend(SVM, r"^void do_vmexit\(CPUX86State \*env\)\n\{\n    CPUState \*cs = env_cpu\(env\);\n",
         "{0}\n    cpu_lab_pmu_fold(env);\n"),
    Mend(MSRS, r'^#include "hw/i386/apic.h"\n', '{0}#include "lab-pmu.c.inc"\n'),
    Mend(MSRS, r"^    default:\n(?=(?:(?!^    \}).*\n){0,4}.*MSR_MC0_CTL(?:(?!^    \}).*\n){0,14}.*= val;\n)",
         "{0}        if (lab_pmu_has(env->regs[R_ECX])) {{\n"
         "            lab_pmu_write(env, env->regs[R_ECX], val);\n"
         "            break;\n        }}\n"),
    Mend(MSRS, r"^    default:\n(?=(?:(?!^    \}).*\n){0,4}.*MSR_MC0_CTL(?:(?!^    \}).*\n){0,6}.*val = env->mce_banks)",
         "{0}        if (lab_pmu_has(env->regs[R_ECX])) {{\n"
         "            val = lab_pmu_read(env, env->regs[R_ECX]);\n"
         "            break;\n        }}\n"),
    Mend("target/i386/helper.h", r"^DEF_HELPER_FLAGS_1\(rdpmc, TCG_CALL_NO_WG, noreturn, env\)\n",
         "DEF_HELPER_1(rdpmc, void, env)\n"),
    Mend(MISC, r"^G_NORETURN void helper_rdpmc\(CPUX86State \*env\)\n\{\n",
         "void helper_rdpmc(CPUX86State *env)\n{{\n    uint64_t val;\n\n"),
    Mend(MISC, r"^    /\* currently unimplemented \*/\n(?=.*unimplemented rdpmc)",
         "    if (cpu_lab_pmu_counter(env, env->regs[R_ECX], &val)) {{\n"
         "        env->regs[R_EAX] = (uint32_t)val;\n"
         "        env->regs[R_EDX] = (uint32_t)(val >> 32);\n"
         "        return;\n    }}\n"),
    Mend("target/i386/tcg/emit.c.inc",
         r"^    gen_helper_rdpmc\(tcg_env\);\n    s->base.is_jmp = DISAS_NORETURN;\n",
         "    gen_helper_rdpmc(tcg_env);\n"),
    Mend(TRANSLATE, r'^#include "exec/helper-info.c.inc"\n(?:#undef.*\n)?', '{0}\n#include "lab-pmu-translate.h"\n'),
    Mend(TRANSLATE, r"^typedef struct DisasContext \{\n    DisasContextBase base;\n",
         "{0}    TCGOp *lab_count;\n"),
    Mend(TRANSLATE, r"^static void i386_tr_tb_start\(DisasContextBase \*db, CPUState \*cpu\)\n\{\n\}\n",
         "static void i386_tr_tb_start(DisasContextBase *db, CPUState *cpu)\n{{\n"
         "    container_of(db, DisasContext, base)->lab_count = lab_count_start();\n}}\n"),
    Mend(TRANSLATE, r"^static void i386_tr_tb_stop\(DisasContextBase \*dcbase, CPUState \*cpu\)\n\{\n"
         r"    DisasContext \*dc = container_of\(dcbase, DisasContext, base\);\n",
         "{0}\n    lab_count_stop(dc->lab_count, dcbase->num_insns);\n"),
]  # fmt: skip

MENDS = _DELIVERED + _LOCKED + _OWN_FLAGS + _STORES + _BESIDE_CODE + _TIMER + _TSC + _PMU


def words() -> list[str]:
    """All that makes one mended QEMU another than the next."""
    mends = [word for mend in MENDS for word in (mend.file, mend.pattern, mend.text)]
    return mends + [f"{name} {folder} {(OWN_SOURCE / name).read_text()}" for name, folder in OWN.items()]


def apply(source: Path) -> None:
    """Put the mends in; refuse a source where one of them has not exactly one place."""
    for name in sorted({mend.file for mend in MENDS}):
        path = source / name
        if not path.exists():
            raise LabError(f"{source} has no {name}: the mends must be adapted")
        kept = path.with_name(path.name + ".orig")  # so that another recipe's mends do not add up
        if not kept.exists():
            write_atomically(kept, path.read_bytes())
        text = mended(kept.read_text(), path, [mend for mend in MENDS if mend.file == name])
        write_atomically(path, text.encode())
    for name, folder in OWN.items():
        write_atomically(source / folder / name, (OWN_SOURCE / name).read_bytes())


def mended(text: str, path: Path, mends: list[Mend]) -> str:
    for mend in mends:
        found = list(re.finditer(mend.pattern, text, re.MULTILINE))
        if len(found) != 1:
            raise LabError(
                f"{path}: {len(found)} places match {mend.pattern!r} instead of one: "
                "the mends must be adapted"
            )
        match = found[0]
        put = mend.text.format(match.group(0), *match.groups())
        text = text[: match.start()] + put + text[match.end() :]
    return text
