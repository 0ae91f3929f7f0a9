/* SPDX-License-Identifier: Apache-2.0 */
/*
 * At build time: makes a filter in BPF for each kind of thread, by libseccomp, of the rules that
 * syscalls.py has found; writes them to standard output as C, with the names of all system calls.
 */
#include "base/checked.h"
#include "base/thread.h"
#include "sandbox/constants.h"

#include <errno.h>
#include <linux/filter.h>
#include <seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONDITIONS_MAX 4
#define NAME_SIZE      24
#define NAMES_MAX      512

struct rule {
	const char *where, *call;
	unsigned kinds; /* a bit for each of enum thread_kind */
	int error;      /* how it fails; 0: it is allowed */
	unsigned count;
	struct scmp_arg_cmp conditions[CONDITIONS_MAX];
};

#include "rules.h"

static const char *const kinds[] = {[THREAD_MAIN] = "main",
	[THREAD_CALLER] = "caller",
	[THREAD_VCPU] = "vcpu",
	[THREAD_IO] = "io",
	[THREAD_DISCARD] = "discard",
	[THREAD_ARRIVE] = "arrive"};

/* Looked at in this order, then the others. Those without conditions cost nothing in any order from
 * Linux 5.11 on, which remembers them; ioctl, the vCPUs' only frequent call, has conditions. */
static const char *const frequent[] = {
	"ioctl", "io_uring_enter", "write", "read", "futex", "writev", "readv", "sendmsg"};

static int set_order(scmp_filter_ctx filter)
{
	int ret = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(frequent) && ret == 0; i++)
		ret = seccomp_syscall_priority(
			filter, seccomp_syscall_resolve_name(frequent[i]), (uint8_t)(255 - i));
	return ret;
}

static int add(scmp_filter_ctx filter, const struct rule *rule)
{
	const int number = seccomp_syscall_resolve_name(rule->call);
	const uint32_t action =
		rule->error ? SCMP_ACT_ERRNO((unsigned)rule->error) : SCMP_ACT_ALLOW;
	int ret = number < 0 ? -ENOSYS
			     : seccomp_rule_add_exact_array(
				       filter, action, number, rule->count, rule->conditions);

	if (ret < 0)
		fprintf(stderr, "%s: %s: %s\n", rule->where, rule->call, strerror(-ret));
	return ret;
}

static int add_all(scmp_filter_ctx filter, unsigned kind)
{
	int ret = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(rules) && ret == 0; i++)
		if (rules[i].kinds & 1U << kind)
			ret = add(filter, &rules[i]);
	return ret;
}

static void print_step(const struct sock_filter *step)
{
	printf("\t{0x%02x, %u, %u, 0x%08x},\n", step->code, step->jt, step->jf, step->k);
}

/* libseccomp compares an ioctl's request with all that are allowed, in an order of its own; a vCPU
 * makes one far more often than the others. */
static void print_kvm_run(void)
{
	static const struct sock_filter steps[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SCMP_ARCH_X86_64, 0, 5),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SCMP_SYS(ioctl), 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, KVM_RUN, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};

	for (unsigned i = 0; i < ARRAY_SIZE(steps); i++)
		print_step(&steps[i]);
}

static int print_code(FILE *code, unsigned kind)
{
	struct sock_filter one;

	printf("static const struct sock_filter filter_%s[] = {\n", kinds[kind]);
	if (kind == THREAD_VCPU)
		print_kvm_run();
	rewind(code);
	while (fread(&one, sizeof(one), 1, code) == 1)
		print_step(&one);
	printf("};\n\n");
	return ferror(code) ? -EIO : 0;
}

static int print_filter(unsigned kind)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_TRAP);
	FILE *code = tmpfile();
	int ret = filter && code ? set_order(filter) : -ENOMEM;

	if (ret == 0)
		ret = add_all(filter, kind);
	if (ret == 0)
		ret = seccomp_export_bpf(filter, fileno(code));
	if (ret == 0)
		ret = print_code(code, kind);
	if (code)
		fclose(code);
	seccomp_release(filter);
	return ret;
}

static void print_names(void)
{
	printf("static const char call_names[][%u] = {\n", NAME_SIZE);
	for (int number = 0; number < NAMES_MAX; number++) {
		char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_X86_64, number);

		if (name && strlen(name) < NAME_SIZE)
			printf("\t[%d] = \"%s\",\n", number, name);
		free(name);
	}
	printf("};\n");
}

int main(void)
{
	int ret = 0;

	for (unsigned kind = 0; kind < THREAD_KINDS && ret == 0; kind++)
		ret = print_filter(kind);
	if (ret < 0) {
		fprintf(stderr, "filters of system calls: %s\n", strerror(-ret));
		return 1;
	}
	print_names();
	return 0;
}
