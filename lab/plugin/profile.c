/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A QEMU plugin (interface version 4) that counts executed instructions by
 * translation block, the host's and its guests' apart, so that `lab/lab
 * profile` can say which functions a piece of work went through.
 *
 * Questions on the socket:
 *   between FROM TO  the next profile: from the mark FROM to the mark TO after it
 *   state            idle, armed, running or done
 *   dump             "g|h ADDRESS INSTRUCTIONS EXECUTED" for each block, in hexadecimal
 *                    the address; of the profile when it is done, else of all so far
 *
 * Each block has a cell in a scoreboard; a profile is the difference of two
 * copies of them. A block translated anew finds its cell by its address. As
 * guests' addresses can be the host's, a block belongs to the side that was
 * running on this thread when it was translated (QEMU keeps the blocks of the
 * two sides apart).
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mark.h"
#include "qemu.h"
#include "server.h"

#define CHUNK     65536U /* cells of one scoreboard */
#define CHUNKS    64U
#define BUCKETS   (1U << 20)
#define MAX_VCPUS 64

struct block {
	uint64_t address;
	uint32_t next; /* in its bucket, as index + 1 */
	uint16_t insns;
	bool guest;
};

enum state {
	IDLE,
	ARMED,
	RUNNING,
	DONE
};

static const char *const state_names[] = {
	[IDLE] = "idle", [ARMED] = "armed", [RUNNING] = "running", [DONE] = "done"};

/* See insn.c: a plugin is loaded once into one QEMU, and call-backs carry no pointer of ours. */
static struct {
	unsigned int vcpus;
	pthread_mutex_t lock; /* for what follows */
	counts_t chunks[CHUNKS];
	struct block *blocks;
	uint32_t n_blocks;
	uint32_t *buckets;
	uint64_t *before, *after; /* copies of the cells, @n_before and @n_after of them */
	uint32_t n_before, n_after;
	enum state state;
	unsigned int from, to;
	const void **resumes; /* as in insn.c */
	size_t n_resumes;
} plugin = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Where this vCPU's present stay in a guest ends; NULL in the host. One thread is one vCPU. */
static __thread const void *resume_at;

static uint64_t cell(uint32_t index)
{
	uint64_t sum = 0;

	for (unsigned int i = 0; i < plugin.vcpus; i++) {
		const uint64_t *cells = counts_find(&plugin.chunks[index / CHUNK], i);

		sum += __atomic_load_n(&cells[index % CHUNK], __ATOMIC_RELAXED);
	}
	return sum;
}

static uint64_t *copy_cells(uint32_t *count)
{
	uint64_t *copy = malloc(((size_t)plugin.n_blocks + 1) * sizeof(*copy));

	*count = copy ? plugin.n_blocks : 0;
	for (uint32_t i = 0; i < *count; i++)
		copy[i] = cell(i);
	return copy;
}

/* Call-backs at execution */

static void at_vmrun(unsigned int vcpu, void *resume)
{
	(void)vcpu;
	if (!resume_at)
		resume_at = resume;
}

static void at_resume(unsigned int vcpu, void *address)
{
	(void)vcpu;
	if (resume_at == address)
		resume_at = NULL;
}

static void at_mark(unsigned int vcpu, void *data)
{
	unsigned int id = (unsigned int)(uintptr_t)data;

	(void)vcpu;
	pthread_mutex_lock(&plugin.lock);
	if (plugin.state == ARMED && id == plugin.from) {
		free(plugin.before);
		plugin.before = copy_cells(&plugin.n_before);
		plugin.state = RUNNING;
	} else if (plugin.state == RUNNING && id == plugin.to) {
		free(plugin.after);
		plugin.after = copy_cells(&plugin.n_after);
		plugin.state = DONE;
	}
	pthread_mutex_unlock(&plugin.lock);
}

/* Translation; the lock is held */

static bool is_resume(const void *address)
{
	for (size_t i = 0; address && i < plugin.n_resumes; i++) {
		if (plugin.resumes[i] == address)
			return true;
	}
	return false;
}

static void remember_resume(const void *address)
{
	const void **more;

	if (is_resume(address))
		return;
	more = realloc(plugin.resumes, (plugin.n_resumes + 1) * sizeof(*more));
	if (more) {
		plugin.resumes = more;
		plugin.resumes[plugin.n_resumes++] = address;
	}
}

static uint32_t bucket_of(uint64_t address, bool guest)
{
	return (uint32_t)((address * 2 + guest) * 0x9e3779b97f4a7c15ULL >> 44) % BUCKETS;
}

static bool make_room(uint32_t index)
{
	unsigned int chunk = index / CHUNK;
	struct block *more;

	if (index % CHUNK || plugin.chunks[chunk])
		return true;
	more = realloc(plugin.blocks, ((size_t)index + CHUNK) * sizeof(*more));
	if (!more)
		return false;
	plugin.blocks = more;
	return counts_new(&plugin.chunks[chunk], CHUNK * sizeof(uint64_t)) == 0;
}

/* The block's index, or -1 when there is no room. */
static int64_t find_block(uint64_t address, bool guest, size_t insns)
{
	uint32_t *bucket = &plugin.buckets[bucket_of(address, guest)];
	uint32_t index;

	for (index = *bucket; index; index = plugin.blocks[index - 1].next) {
		const struct block *b = &plugin.blocks[index - 1];

		if (b->address == address && b->guest == guest && b->insns == insns)
			return index - 1;
	}
	index = plugin.n_blocks;
	if (index >= CHUNK * CHUNKS || !make_room(index))
		return -1;
	plugin.blocks[index] = (struct block){
		.address = address, .guest = guest, .insns = (uint16_t)insns, .next = *bucket};
	plugin.n_blocks++;
	*bucket = index + 1;
	return index;
}

static void translate_insn(struct qemu_plugin_insn *insn)
{
	uint8_t bytes[LAB_MARK_SIZE] = {0};
	size_t size = qemu_plugin_insn_size(insn);
	unsigned int mark;

	if (size > sizeof(bytes))
		return;
	insn_bytes(insn, bytes, size);
	if (is_vmrun(bytes, size)) {
		char *resume = (char *)qemu_plugin_insn_haddr(insn) + size;

		remember_resume(resume);
		qemu_plugin_register_vcpu_insn_exec_cb(insn, at_vmrun, NO_REGISTERS, resume);
	} else if (is_mark(bytes, size, &mark)) {
		qemu_plugin_register_vcpu_insn_exec_cb(
			insn, at_mark, NO_REGISTERS, (void *)(uintptr_t)mark);
	}
}

static void translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	size_t insns = qemu_plugin_tb_n_insns(tb);
	struct qemu_plugin_insn *first = qemu_plugin_tb_get_insn(tb, 0);
	void *address = qemu_plugin_insn_haddr(first);
	bool resumes;
	int64_t index;

	(void)id;
	pthread_mutex_lock(&plugin.lock);
	resumes = is_resume(address);
	index = find_block(qemu_plugin_tb_vaddr(tb), resume_at && !resumes, insns);
	for (size_t i = 0; i < insns; i++)
		translate_insn(qemu_plugin_tb_get_insn(tb, i));
	pthread_mutex_unlock(&plugin.lock);
	if (resumes)
		qemu_plugin_register_vcpu_insn_exec_cb(first, at_resume, NO_REGISTERS, address);
	if (index >= 0)
		count_block(tb, &plugin.chunks[index / CHUNK], (uint32_t)index % CHUNK, insns);
}

/* Answers; the lock is held */

static void dump(FILE *out)
{
	bool done = plugin.state == DONE;

	for (uint32_t i = 0; i < plugin.n_blocks; i++) {
		const struct block *b = &plugin.blocks[i];
		uint64_t insns = done ? (i < plugin.n_after ? plugin.after[i] : 0) : cell(i);

		if (done && i < plugin.n_before)
			insns -= plugin.before[i];
		if (insns)
			fprintf(out, "%c %" PRIx64 " %" PRIu64 " %" PRIu64 "\n",
				b->guest ? 'g' : 'h', b->address, insns, insns / b->insns);
	}
}

static void answer(FILE *out, const char *line)
{
	unsigned int from, to;

	pthread_mutex_lock(&plugin.lock);
	if (sscanf(line, "between %u %u", &from, &to) == 2) {
		plugin.from = from;
		plugin.to = to;
		plugin.state = ARMED;
	}
	if (!strcmp(line, "dump\n"))
		dump(out);
	else
		fprintf(out, "%s\n", state_names[plugin.state]);
	pthread_mutex_unlock(&plugin.lock);
}

__attribute__((visibility("default"))) int qemu_plugin_install(
	qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
	const char *path = argc == 1 && !strncmp(argv[0], "socket=", 7) ? argv[0] + 7 : NULL;

	if (!path || strcmp(info->target_name, "x86_64") || !info->system_emulation) {
		fputs("profile plugin: for qemu-system-x86_64, with socket=PATH\n", stderr);
		return -1;
	}
	plugin.vcpus = (unsigned int)info->system.max_vcpus;
	plugin.buckets = calloc(BUCKETS, sizeof(*plugin.buckets));
	if (!plugin.buckets || plugin.vcpus > MAX_VCPUS || server_start(path, answer))
		return -1;
	qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
	return 0;
}
