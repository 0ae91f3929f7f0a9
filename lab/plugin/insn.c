/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A QEMU plugin that counts the instructions of the lab host by vCPU, tells
 * the host's from its guests', and notes the counts where a program marks a
 * point (see mark.h). `lab/lab count` asks for them through a unix socket.
 *
 * Counting is by translation block, inline. Host and guest are told apart at
 * `vmrun` and at the instruction after it, where #VMEXIT resumes: two calls
 * for each exit, nothing for other instructions. Lower and upper half of the
 * address space stand for user and kernel; which one a block belongs to is
 * known when it is translated.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "mark.h"
#include "qemu.h"
#include "server.h"
#include "touch.h"

#define MAX_VCPUS   64
#define MAX_MARKS   (1U << 20)
#define FIRST_VMRUN 65535 /* the mark noted at the first vmrun after a mark in the host */

/* What one vCPU executed so far, with the counts at the last switch to its guest. */
struct counters {
	uint64_t half[2];   /* all of it: lower and upper half of the addresses */
	uint64_t guest[2];  /* of finished stays in a guest */
	uint64_t entry[2];  /* half[] when the present stay began */
	const void *resume; /* where the present stay ends; NULL in the host */
	uint64_t entries;   /* stays begun */
};

struct sample {
	uint64_t host[2];
	uint64_t guest[2];
	uint64_t entries;
};

struct mark {
	uint16_t id;
	uint8_t vcpu;
	bool in_guest;
	uint64_t ns;
	struct sample *samples; /* one for each vCPU */
};

/*
 * QEMU's call-backs carry no pointer of ours for translation, so the state is
 * one static object: a plugin is loaded once into one QEMU.
 */
static struct {
	unsigned int vcpus;
	counts_t counts;
	pthread_mutex_t lock; /* for what follows */
	struct mark *marks;
	size_t n_marks, room, dropped;
	const void **resumes; /* host addresses that follow a vmrun */
	size_t n_resumes;
	bool vmrun_awaited; /* a mark in the host came after the last vmrun; read without the lock
			     */
} plugin = {.lock = PTHREAD_MUTEX_INITIALIZER};

static struct counters *counters_of(unsigned int vcpu)
{
	return counts_find(&plugin.counts, vcpu);
}

/* Other vCPUs go on meanwhile: each number is exact, the set is not one instant. */
static struct sample take(unsigned int vcpu)
{
	const volatile struct counters *c = counters_of(vcpu);
	const void *resume = c->resume;
	struct sample s = {.entries = c->entries};

	for (int h = 0; h < 2; h++) {
		uint64_t all = c->half[h];

		s.guest[h] = c->guest[h] + (resume ? all - c->entry[h] : 0);
		s.host[h] = all - s.guest[h];
	}
	return s;
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static bool make_room(void)
{
	size_t room = plugin.room ? plugin.room * 2 : 64;
	struct mark *more;

	if (plugin.n_marks < plugin.room)
		return true;
	if (plugin.n_marks >= MAX_MARKS)
		return false;
	more = realloc(plugin.marks, room * sizeof(*more));
	if (!more)
		return false;
	plugin.marks = more;
	plugin.room = room;
	return true;
}

static void note_mark(unsigned int vcpu, uint16_t id)
{
	struct sample *samples = calloc(plugin.vcpus, sizeof(*samples));

	pthread_mutex_lock(&plugin.lock);
	if (samples && make_room()) {
		struct mark *m = &plugin.marks[plugin.n_marks++];

		m->id = id;
		m->vcpu = (uint8_t)vcpu;
		m->in_guest = counters_of(vcpu)->resume;
		m->ns = now_ns();
		m->samples = samples;
		for (unsigned int i = 0; i < plugin.vcpus; i++)
			samples[i] = take(i);
	} else {
		plugin.dropped++;
		free(samples);
	}
	pthread_mutex_unlock(&plugin.lock);
}

/* Call-backs at execution, on the vCPU's own thread */

static void at_vmrun(unsigned int vcpu, void *resume)
{
	struct counters *c = counters_of(vcpu);

	if (c->resume) /* a guest's own vmrun: intercepted, it stays the guest */
		return;
	if (__atomic_load_n(&plugin.vmrun_awaited, __ATOMIC_RELAXED) &&
		__atomic_exchange_n(&plugin.vmrun_awaited, false, __ATOMIC_RELAXED))
		note_mark(vcpu, FIRST_VMRUN);
	c->entry[0] = c->half[0];
	c->entry[1] = c->half[1];
	c->resume = resume;
	c->entries++;
}

/* The block's own instructions are already counted: they are the host's. */
static void at_resume(unsigned int vcpu, void *block)
{
	const struct resume_block *b = block;
	struct counters *c = counters_of(vcpu);

	if (c->resume != b->address)
		return;
	c->guest[0] += c->half[0] - c->entry[0];
	c->guest[1] += c->half[1] - c->entry[1];
	c->guest[b->half] -= b->insns;
	c->resume = NULL;
}

static void at_mark(unsigned int vcpu, void *id)
{
	note_mark(vcpu, (uint16_t)(uintptr_t)id);
	if (!counters_of(vcpu)->resume)
		__atomic_store_n(&plugin.vmrun_awaited, true, __ATOMIC_RELAXED);
}

/* Translation */

static void remember_resume(const void *address)
{
	const void **more;

	pthread_mutex_lock(&plugin.lock);
	for (size_t i = 0; i < plugin.n_resumes; i++) {
		if (plugin.resumes[i] == address)
			goto out;
	}
	more = realloc(plugin.resumes, (plugin.n_resumes + 1) * sizeof(*more));
	if (more) {
		plugin.resumes = more;
		plugin.resumes[plugin.n_resumes++] = address;
	}
out:
	pthread_mutex_unlock(&plugin.lock);
}

static bool is_resume(const void *address)
{
	bool found = false;

	pthread_mutex_lock(&plugin.lock);
	for (size_t i = 0; i < plugin.n_resumes && !found; i++)
		found = plugin.resumes[i] == address;
	pthread_mutex_unlock(&plugin.lock);
	return found;
}

static void translate_insn(struct qemu_plugin_insn *insn)
{
	size_t size = qemu_plugin_insn_size(insn);
	uint8_t bytes[LAB_MARK_SIZE];
	unsigned int mark;

	if (size > sizeof(bytes))
		return;
	insn_bytes(insn, bytes, size);
	if (is_vmrun(bytes, size)) {
		char *resume = (char *)qemu_plugin_insn_haddr(insn) + size;

		remember_resume(resume);
		qemu_plugin_register_vcpu_insn_exec_cb(insn, at_vmrun, NO_REGISTERS, resume);
	} else if (is_mark(bytes, size, &mark) && mark != LAB_TOUCH) {
		qemu_plugin_register_vcpu_insn_exec_cb(
			insn, at_mark, NO_REGISTERS, (void *)(uintptr_t)mark);
	}
}

static bool asks_for_touches(struct qemu_plugin_insn *insn)
{
	size_t size = qemu_plugin_insn_size(insn);
	uint8_t bytes[LAB_MARK_SIZE];
	unsigned int mark;

	if (size != sizeof(bytes))
		return false;
	insn_bytes(insn, bytes, size);
	return is_mark(bytes, size, &mark) && mark == LAB_TOUCH;
}

static void translate_touches(struct qemu_plugin_tb *tb, size_t insns)
{
	bool asked = false;

	for (size_t i = 0; i < insns && !asked; i++)
		asked = asks_for_touches(qemu_plugin_tb_get_insn(tb, i));
	for (size_t i = 0; i < insns && asked; i++)
		touch_watch(qemu_plugin_tb_get_insn(tb, i));
}

/* Blocks that follow a vmrun are a handful: what they need is never freed. */
static void translate_resume(struct qemu_plugin_tb *tb, const void *address, unsigned int half)
{
	struct resume_block *b = malloc(sizeof(*b));

	if (!b)
		return;
	b->address = address;
	b->insns = qemu_plugin_tb_n_insns(tb);
	b->half = half;
	count_block(tb, &plugin.counts, half, b->insns);
	qemu_plugin_register_vcpu_insn_exec_cb(
		qemu_plugin_tb_get_insn(tb, 0), at_resume, NO_REGISTERS, b);
}

static void translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	size_t insns = qemu_plugin_tb_n_insns(tb);
	unsigned int half = qemu_plugin_tb_vaddr(tb) >> 63;
	const void *address = qemu_plugin_insn_haddr(qemu_plugin_tb_get_insn(tb, 0));

	(void)id;
	if (address && is_resume(address))
		translate_resume(tb, address, half);
	else
		count_block(tb, &plugin.counts, half, insns);
	for (size_t i = 0; i < insns; i++)
		translate_insn(qemu_plugin_tb_get_insn(tb, i));
	translate_touches(tb, insns);
}

/* Answers */

static void print_samples(FILE *out, const struct sample *samples)
{
	fputs("\"vcpus\":[", out);
	for (unsigned int i = 0; i < plugin.vcpus; i++) {
		const struct sample *s = &samples[i];

		fprintf(out,
			"%s{\"host_user\":%" PRIu64 ",\"host_kernel\":%" PRIu64
			",\"guest_low\":%" PRIu64 ",\"guest_high\":%" PRIu64 ",\"vmruns\":%" PRIu64
			"}",
			i ? "," : "", s->host[0], s->host[1], s->guest[0], s->guest[1], s->entries);
	}
	fputs("]", out);
}

static void answer_count(FILE *out)
{
	struct sample samples[MAX_VCPUS];

	for (unsigned int i = 0; i < plugin.vcpus; i++)
		samples[i] = take(i);
	fprintf(out, "{\"ns\":%" PRIu64 ",", now_ns());
	print_samples(out, samples);
	fputs("}\n", out);
}

static void answer_marks(FILE *out)
{
	pthread_mutex_lock(&plugin.lock);
	fprintf(out, "{\"dropped\":%zu,\"marks\":[", plugin.dropped);
	for (size_t i = 0; i < plugin.n_marks; i++) {
		struct mark *m = &plugin.marks[i];

		fprintf(out, "%s\n{\"id\":%u,\"vcpu\":%u,\"in_guest\":%s,\"ns\":%" PRIu64 ",",
			i ? "," : "", m->id, m->vcpu, m->in_guest ? "true" : "false", m->ns);
		print_samples(out, m->samples);
		fputs("}", out);
		free(m->samples);
	}
	plugin.n_marks = 0;
	plugin.dropped = 0;
	pthread_mutex_unlock(&plugin.lock);
	fputs("]}\n", out);
}

static void answer(FILE *out, const char *line)
{
	if (!strcmp(line, "marks\n"))
		answer_marks(out);
	else if (!strcmp(line, "touches\n"))
		touch_answer(out, plugin.vcpus);
	else
		answer_count(out);
}

__attribute__((visibility("default"))) int qemu_plugin_install(
	qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
	const char *path = argc == 1 && !strncmp(argv[0], "socket=", 7) ? argv[0] + 7 : NULL;

	if (!path || strcmp(info->target_name, "x86_64") || !info->system_emulation) {
		fputs("insn plugin: for qemu-system-x86_64, with socket=PATH\n", stderr);
		return -1;
	}
	plugin.vcpus = (unsigned int)info->system.max_vcpus;
	if (plugin.vcpus > MAX_VCPUS || counts_new(&plugin.counts, sizeof(struct counters)))
		return -1;
	if (server_start(path, answer))
		return -1;
	qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
	return 0;
}
