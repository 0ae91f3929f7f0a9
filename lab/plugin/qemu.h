/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The few functions of QEMU's plugin interface that insn.c and profile.c use, declared here
 * because Debian ships no header for them: version 4 (QEMU 9.1 to 10) and
 * version 1 (QEMU 7.2). LAB_PLUGIN_API chooses; what differs is wrapped below.
 */
#ifndef LAB_PLUGIN_QEMU_H
#define LAB_PLUGIN_QEMU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "mark.h"

typedef uint64_t qemu_plugin_id_t;

typedef struct {
	const char *target_name;
	struct {
		int min, cur;
	} version;
	bool system_emulation;
	union {
		struct {
			int smp_vcpus, max_vcpus;
		} system;
	};
} qemu_info_t;

struct qemu_plugin_tb;
struct qemu_plugin_insn;

enum qemu_plugin_op {
	ADD_U64
};
enum qemu_plugin_cb_flags {
	NO_REGISTERS
};

/* A block that begins where a vmrun resumes; see insn.c. */
struct resume_block {
	const void *address;
	uint64_t insns;
	unsigned int half;
};

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t index);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);
void *qemu_plugin_insn_haddr(const struct qemu_plugin_insn *insn);
void qemu_plugin_register_vcpu_tb_trans_cb(
	qemu_plugin_id_t id, void (*cb)(qemu_plugin_id_t id, struct qemu_plugin_tb *tb));
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn,
	void (*cb)(unsigned int vcpu, void *data), enum qemu_plugin_cb_flags flags, void *data);

__attribute__((visibility("default"))) int qemu_plugin_version = LAB_PLUGIN_API;

#if LAB_PLUGIN_API >= 4

struct qemu_plugin_scoreboard;
typedef struct {
	struct qemu_plugin_scoreboard *score;
	size_t offset;
} qemu_plugin_u64;
typedef struct qemu_plugin_scoreboard *counts_t;

struct qemu_plugin_scoreboard *qemu_plugin_scoreboard_new(size_t size);
void *qemu_plugin_scoreboard_find(struct qemu_plugin_scoreboard *score, unsigned int vcpu);
void qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(
	struct qemu_plugin_tb *tb, enum qemu_plugin_op op, qemu_plugin_u64 entry, uint64_t value);
size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *insn, void *dest, size_t size);

static inline int counts_new(counts_t *counts, size_t size)
{
	*counts = qemu_plugin_scoreboard_new(size);
	return 0;
}

static inline void *counts_find(counts_t *counts, unsigned int vcpu)
{
	return qemu_plugin_scoreboard_find(*counts, vcpu);
}

/* Adds @insns to the word @cell of the vCPU's counters each time the block is entered. */
static inline void count_block(
	struct qemu_plugin_tb *tb, counts_t *counts, unsigned int cell, uint64_t insns)
{
	qemu_plugin_u64 entry = {*counts, cell * sizeof(uint64_t)};

	qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(tb, ADD_U64, entry, insns);
}

static inline void insn_bytes(struct qemu_plugin_insn *insn, void *dest, size_t size)
{
	qemu_plugin_insn_data(insn, dest, size);
}

#else

/*
 * Version 1 adds inline only to one counter for all vCPUs, without a lock: a
 * call for each block it is, several times slower and exact. The static state
 * is the plugin's, loaded once.
 */
typedef struct {
	char *elements;
	size_t size;
} counts_t;

const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb,
	void (*cb)(unsigned int vcpu, void *data), enum qemu_plugin_cb_flags flags, void *data);
void *calloc(size_t n, size_t size);

static counts_t *all_counts;

static inline int counts_new(counts_t *counts, size_t size)
{
	/* Cache lines of their own for the vCPUs. */
	counts->size = (size + 63) / 64 * 64;
	counts->elements = calloc(64, counts->size);
	all_counts = counts;
	return counts->elements ? 0 : -1;
}

static inline void *counts_find(counts_t *counts, unsigned int vcpu)
{
	return counts->elements + vcpu * counts->size;
}

static void add_block(unsigned int vcpu, void *data)
{
	uint64_t *half = counts_find(all_counts, vcpu);

	half[(uintptr_t)data & 1] += (uintptr_t)data >> 1;
}

static inline void count_block(
	struct qemu_plugin_tb *tb, counts_t *counts, unsigned int half, uint64_t insns)
{
	(void)counts;
	qemu_plugin_register_vcpu_tb_exec_cb(
		tb, add_block, NO_REGISTERS, (void *)(uintptr_t)(insns << 1 | half));
}

static inline void insn_bytes(struct qemu_plugin_insn *insn, void *dest, size_t size)
{
	memcpy(dest, qemu_plugin_insn_data(insn), size);
}

#endif

static inline bool is_vmrun(const uint8_t *bytes, size_t size)
{
	static const uint8_t vmrun[] = {0x0f, 0x01, 0xd8};

	return size == sizeof(vmrun) && memcmp(bytes, vmrun, size) == 0;
}

static inline bool is_mark(const uint8_t *bytes, size_t size, unsigned int *id)
{
	uint32_t word;

	if (size != LAB_MARK_SIZE || bytes[0] != 0x0f || bytes[1] != 0x1f || bytes[2] != 0x80)
		return false;
	memcpy(&word, bytes + 3, sizeof(word));
	*id = word & 0xffff;
	return word >> 16 == LAB_MARK_MAGIC >> 16;
}

#endif
