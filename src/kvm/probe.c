/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is this KVM hardware virtualization? A payload of our own runs in ring 0 and is timed.
 *
 * A software back end answers all of KVM's questions like the real thing, but interprets ring 0:
 * microseconds for each instruction, and not all of them. The payload therefore runs a plain loop
 * (twice; the better one counts) and then the instructions that stock kernels die of there. Each
 * stage ends with an OUT, which exits, so that the stage reached tells what failed.
 */
#include "kvm/internal.h"

#include "base/bytes.h"
#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define LOOPS            20000U
#define LOOP_INSNS       (2.0 * LOOPS)
#define HARDWARE_NS_MAX  100.0
#define TIMEOUT_NS       (3 * SECOND_NS)
#define TIMER_PERIOD_NS  100000000L
#define PROBE_MEMORY     0x200000U /* one large page, mapped at 0 */
#define PROBE_CODE       0x1000U
#define PROBE_PML4       0x2000U
#define PROBE_PDPT       0x3000U
#define PROBE_PD         0x4000U
#define PROBE_OPERAND    0x5000U
#define PROBE_XSAVE      0x6000U
#define CR0_PE           (1ULL << 0)
#define CR0_ET           (1ULL << 4)
#define CR0_PG           (1ULL << 31)
#define CR4_PAE          (1ULL << 5)
#define CR4_OSFXSR       (1ULL << 9)
#define CR4_OSXSAVE      (1ULL << 18)
#define EFER_LME         (1ULL << 8)
#define EFER_LMA         (1ULL << 10)
#define CPUID1_ECX_CX16  (1U << 13)
#define CPUID1_ECX_XSAVE (1U << 26)

enum stage {
	STAGE_START = 0x80, /* ports of the OUTs */
	STAGE_LOOP,
	STAGE_LOOP_AGAIN,
	STAGE_CMPXCHG16B,
	STAGE_XRSTOR,
	STAGE_NONE = 0,
};

#define IMM32(value) (value) & 0xff, (value) >> 8 & 0xff, (value) >> 16 & 0xff, (value) >> 24 & 0xff
#define OUT_AL(port) 0xe6, (port)
/* mov $LOOPS, %ecx; 1: dec %ecx; jnz 1b */
#define LOOP 0xb9, IMM32(LOOPS), 0xff, 0xc9, 0x75, 0xfc

static const uint8_t payload[] = {
	OUT_AL(STAGE_START), LOOP, OUT_AL(STAGE_LOOP), LOOP, OUT_AL(STAGE_LOOP_AGAIN), 0xbe,
	IMM32(PROBE_OPERAND),                      /* mov $PROBE_OPERAND, %esi */
	0xf0, 0x48, 0x0f, 0xc7, 0x0e,              /* lock cmpxchg16b (%rsi) */
	OUT_AL(STAGE_CMPXCHG16B), 0xb8, IMM32(1U), /* mov $1, %eax: the x87 component */
	0x31, 0xd2,                                /* xor %edx, %edx */
	0xbe, IMM32(PROBE_XSAVE),                  /* mov $PROBE_XSAVE, %esi */
	0x0f, 0xae, 0x2e,                          /* xrstor (%rsi) */
	OUT_AL(STAGE_XRSTOR), 0xf4,                /* hlt */
};

struct run {
	struct kvm_vcpu *vcpu;
	uint8_t *memory;
	uint64_t deadline; /* clock_ns() */
	enum stage reached;
	uint64_t loop_ns;
	uint32_t last_exit;
	bool timed_out;
	bool xsave, cx16; /* in this host's CPUID */
};

static void fill_memory(uint8_t *memory)
{
	const uint64_t present_writable = 3, large = 0x80;

	memcpy(memory + PROBE_CODE, payload, sizeof(payload));
	store_le64(memory + PROBE_PML4, PROBE_PDPT | present_writable);
	store_le64(memory + PROBE_PDPT, PROBE_PD | present_writable);
	store_le64(memory + PROBE_PD, large | present_writable);
}

static int enter_long_mode(struct run *run, struct error *err)
{
	const struct kvm_segment code = {.limit = 0xffffffff,
		.selector = 8,
		.type = 0xb,
		.present = 1,
		.s = 1,
		.l = 1,
		.g = 1};
	const struct kvm_segment data = {.limit = 0xffffffff,
		.selector = 16,
		.type = 3,
		.present = 1,
		.s = 1,
		.db = 1,
		.g = 1};
	struct kvm_regs regs = {.rip = PROBE_CODE, .rflags = 2};
	struct kvm_sregs sregs;
	int ret = kvm_vcpu_get_sregs(run->vcpu, &sregs);

	if (ret < 0)
		return error_errno(err, -ret, "/dev/kvm: probe");
	sregs.cs = code;
	sregs.ds = sregs.es = sregs.ss = data;
	sregs.cr3 = PROBE_PML4;
	sregs.cr4 = CR4_PAE | CR4_OSFXSR | (run->xsave ? CR4_OSXSAVE : 0);
	sregs.cr0 = CR0_PE | CR0_ET | CR0_PG;
	sregs.efer = EFER_LME | EFER_LMA;
	return kvm_vcpu_set_registers(run->vcpu, &regs, &sregs, err);
}

static int set_cpuid(struct run *run, const struct kvm_host *host, struct error *err)
{
	_cleanup_free_ struct kvm_cpuid2 *cpuid =
		calloc(1, sizeof(*cpuid) + KVM_CPUID_ENTRIES * sizeof(cpuid->entries[0]));
	int ret;

	if (!cpuid)
		return error_errno(err, ENOMEM, "/dev/kvm: probe");
	ret = kvm_host_supported_cpuid(host, cpuid, KVM_CPUID_ENTRIES, err);
	if (ret < 0)
		return ret;
	for (unsigned i = 0; i < cpuid->nent; i++) {
		if (cpuid->entries[i].function != 1)
			continue;
		run->xsave = cpuid->entries[i].ecx & CPUID1_ECX_XSAVE;
		run->cx16 = cpuid->entries[i].ecx & CPUID1_ECX_CX16;
	}
	return kvm_vcpu_set_cpuid(run->vcpu, cpuid, false, err);
}

/* A periodic timer, because a single one could fire just before KVM_RUN. */
static int start_timer(timer_t *timer)
{
	struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = kick_signal()};
	const struct itimerspec period = {
		.it_interval.tv_nsec = TIMER_PERIOD_NS, .it_value.tv_nsec = TIMER_PERIOD_NS};

	event._sigev_un._tid = gettid();
	if (timer_create(CLOCK_MONOTONIC, &event, timer) < 0)
		return -errno;
	timer_settime(*timer, 0, &period, NULL);
	return 0;
}

/* Runs up to the next stage; false at the end, however it came. */
static bool run_stage(struct run *run)
{
	struct kvm_run *area = run->vcpu->run;

	for (;;) {
		int ret = kvm_ioctl_value(run->vcpu->fd, KVM_RUN, 0);

		if (ret == -EINTR) {
			run->timed_out = clock_ns() > run->deadline;
			if (run->timed_out)
				return false;
			continue;
		}
		if (ret < 0)
			return false;
		run->last_exit = area->exit_reason;
		if (area->exit_reason != KVM_EXIT_IO)
			return false;
		run->reached = area->io.port;
		return true;
	}
}

static void run_stages(struct run *run)
{
	uint64_t start = clock_ns();

	run->deadline = start + TIMEOUT_NS;
	while (run_stage(run)) {
		const uint64_t end = clock_ns();

		if (run->reached == STAGE_LOOP ||
			(run->reached == STAGE_LOOP_AGAIN && end - start < run->loop_ns))
			run->loop_ns = end - start;
		start = clock_ns();
	}
}

static bool works(const struct run *run)
{
	if (run->xsave)
		return run->reached >= STAGE_XRSTOR;
	return run->reached >= (run->cx16 ? STAGE_CMPXCHG16B : STAGE_LOOP_AGAIN);
}

static const char *missing(const struct run *run)
{
	if (run->timed_out)
		return "the payload does not come to its end";
	switch (run->reached) {
	case STAGE_NONE:
		return "not even the first instruction ran";
	case STAGE_START:
	case STAGE_LOOP:
		return "a plain loop does not run";
	case STAGE_LOOP_AGAIN:
		return "cmpxchg16b fails, which stock kernels use";
	default:
		return "xrstor fails, which stock kernels use";
	}
}

static void judge(const struct run *run, struct kvm_probe *probe)
{
	const bool timed = run->reached >= STAGE_LOOP;

	probe->ns_per_instruction = timed ? (double)run->loop_ns / LOOP_INSNS : 0;
	probe->ring0_works = works(run);
	probe->hardware =
		timed && probe->ring0_works && probe->ns_per_instruction < HARDWARE_NS_MAX;
	if (probe->hardware)
		snprintf(probe->why, sizeof(probe->why),
			"hardware virtualization: %.1f ns per ring-0 instruction",
			probe->ns_per_instruction);
	else if (!timed)
		snprintf(probe->why, sizeof(probe->why), "a software back end: %s", missing(run));
	else
		snprintf(probe->why, sizeof(probe->why),
			"a software back end: %.0f ns per ring-0 instruction%s%s",
			probe->ns_per_instruction, probe->ring0_works ? "" : "; ",
			probe->ring0_works ? "" : missing(run));
}

static int run_payload(struct run *run, const struct kvm_host *host, struct error *err)
{
	sigset_t before;
	timer_t timer;
	int ret = set_cpuid(run, host, err);

	if (ret == 0)
		ret = enter_long_mode(run, err);
	if (ret < 0)
		return ret;
	pthread_sigmask(SIG_SETMASK, NULL, &before);
	kick_signal_prepare();
	ret = start_timer(&timer);
	if (ret == 0) {
		run_stages(run);
		timer_delete(timer);
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return ret < 0 ? error_errno(err, -ret, "/dev/kvm: probe timer") : 0;
}

static int probe_vm(struct kvm_vm *vm, struct run *run, struct error *err)
{
	int ret = kvm_vm_map_slot(vm, 0, PROBE_MEMORY, run->memory, false);

	if (ret < 0)
		return error_errno(err, -ret, "/dev/kvm: probe memory");
	ret = kvm_vcpu_new(&run->vcpu, vm, 0, NULL, NULL, err);
	if (ret < 0)
		return ret;
	ret = run_payload(run, &vm->host, err);
	kvm_vcpu_free(run->vcpu);
	return ret;
}

int kvm_probe(const struct kvm_host *host, struct kvm_probe *probe, struct error *err)
{
	const struct kvm_vm_options options = {.irqchip = KVM_VM_IRQCHIP_NONE, .cpus = 1};
	struct run run = {.reached = STAGE_NONE};
	struct kvm_vm *vm;
	int ret;

	memset(probe, 0, sizeof(*probe));
	ret = kvm_vm_new(&vm, host, &options, err);
	if (ret < 0)
		return ret;
	run.memory = mmap(
		NULL, PROBE_MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (run.memory == MAP_FAILED) {
		kvm_vm_free(vm);
		return error_errno(err, ENOMEM, "/dev/kvm: probe memory");
	}
	fill_memory(run.memory);
	ret = probe_vm(vm, &run, err);
	if (ret == 0)
		judge(&run, probe);
	probe->tsc_khz = vm->host_khz;
	kvm_vm_free(vm);
	munmap(run.memory, PROBE_MEMORY);
	return ret;
}
