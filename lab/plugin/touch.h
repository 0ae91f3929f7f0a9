/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a program's memory is: the memory accesses of blocks that contain the mark LAB_TOUCH
 * (mark.h), counted by vCPU and physical address of the lab host, in chunks. All other code runs as
 * it did, without a call. A guest's access counts at the lab host's address too: under nested
 * paging QEMU's TLB goes there at once.
 */
#ifndef LAB_PLUGIN_TOUCH_H
#define LAB_PLUGIN_TOUCH_H

#include <stddef.h>
#include <stdio.h>

#define TOUCH_CHUNK (16UL << 20)
#define TOUCH_CPUS  64

struct qemu_plugin_insn;

/* While a block is translated that has the mark: @insn is one of its instructions. */
void touch_watch(struct qemu_plugin_insn *insn);
/* {"chunk": bytes, "vcpus": [{"NUMBER OF A CHUNK": accesses, ...}, ...]}, since the start. */
void touch_answer(FILE *out, unsigned int vcpus);

#endif
