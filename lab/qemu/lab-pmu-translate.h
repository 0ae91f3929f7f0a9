/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A part of the lab's QEMU, included by target/i386/tcg/translate.c: see lab-pmu.h. */
#include "system/lab-pmu.h"

/* Adds a number to lab_insns that is known only when the block is complete. Null without a PMU. */
static TCGOp *lab_count_start(void)
{
    TCGv_i64 count;
    TCGOp *op;

    if (!lab_pmu_there()) {
        return NULL;
    }
    count = tcg_temp_new_i64();
    tcg_gen_ld_i64(count, tcg_env, offsetof(CPUX86State, lab_insns));
    tcg_gen_add_i64(count, count, tcg_constant_i64(0));
    op = tcg_last_op();
    tcg_gen_st_i64(count, tcg_env, offsetof(CPUX86State, lab_insns));
    return op;
}

static void lab_count_stop(TCGOp *op, int insns)
{
    if (op) {
        tcg_set_insn_param(op, 2, tcgv_i64_arg(tcg_constant_i64(insns)));
    }
}
