/* SPDX-License-Identifier: Apache-2.0 */
/* Running a vCPU: from KVM_RUN to the device that an exit is for, and out by a kick. */
#include "kvm/internal.h"

#include "base/checked.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

/* #syscalls vcpu: ioctl(KVM_RUN) ioctl(KVM_GET_REGS) */

const char *const kvm_exit_names[EXIT_CAUSES] = {
	[EXIT_PORT] = "port",
	[EXIT_MMIO] = "mmio",
	[EXIT_MSI_EOI] = "ioapic-eoi",
	[EXIT_HALT] = "halt",
	[EXIT_SHUTDOWN] = "shutdown",
	[EXIT_SYSTEM] = "system",
	[EXIT_MSR] = "msr",
	[EXIT_INTERRUPTED] = "interrupted",
	[EXIT_DIRTY_FULL] = "dirty-ring",
	[EXIT_UNCLAIMED] = "unclaimed",
	[EXIT_INTERNAL] = "internal",
};

static void count(struct kvm_vcpu *vcpu, enum kvm_exit_cause cause)
{
	_Atomic uint64_t *exits = &vcpu->exits[cause];

	atomic_store_explicit(
		exits, atomic_load_explicit(exits, memory_order_relaxed) + 1, memory_order_relaxed);
}

/* IN, OUT and their string forms: @count elements one after the other. */
static enum kvm_run_result exit_io(struct kvm_vcpu *vcpu)
{
	const uint16_t port = vcpu->run->io.port;
	const unsigned size = vcpu->run->io.size;
	uint8_t *data = (uint8_t *)vcpu->run + vcpu->run->io.data_offset;
	const bool out = vcpu->run->io.direction == KVM_EXIT_IO_OUT;
	bool claimed = true;

	for (uint32_t left = vcpu->run->io.count; left; left--, data += size)
		claimed &= out ? access_write(vcpu->ports, port, size, data)
			       : access_read(vcpu->ports, port, size, data);
	count(vcpu, claimed ? EXIT_PORT : EXIT_UNCLAIMED);
	return KVM_RUN_AGAIN;
}

static enum kvm_run_result exit_mmio(struct kvm_vcpu *vcpu)
{
	const uint64_t address = vcpu->run->mmio.phys_addr;
	unsigned length = vcpu->run->mmio.len;
	uint8_t *data = vcpu->run->mmio.data;
	bool claimed;

	if (length > sizeof(vcpu->run->mmio.data))
		length = sizeof(vcpu->run->mmio.data);
	claimed = vcpu->run->mmio.is_write ? access_write(vcpu->mmio, address, length, data)
					   : access_read(vcpu->mmio, address, length, data);
	count(vcpu, claimed ? EXIT_MMIO : EXIT_UNCLAIMED);
	return KVM_RUN_AGAIN;
}

static enum kvm_run_result exit_ioapic_eoi(struct kvm_vcpu *vcpu)
{
	struct kvm_vm *vm = vcpu->vm;

	count(vcpu, EXIT_MSI_EOI);
	if (vm->ioapic_eoi)
		vm->ioapic_eoi(vm->eoi_ioapic, vcpu->run->eoi.vector);
	return KVM_RUN_AGAIN;
}

static enum kvm_run_result exit_halt(struct kvm_vcpu *vcpu)
{
	count(vcpu, EXIT_HALT);
	return KVM_RUN_HALTED;
}

static enum kvm_run_result exit_shutdown(struct kvm_vcpu *vcpu)
{
	count(vcpu, EXIT_SHUTDOWN);
	return KVM_RUN_SHUTDOWN;
}

static enum kvm_run_result exit_system(struct kvm_vcpu *vcpu)
{
	count(vcpu, EXIT_SYSTEM);
	switch (vcpu->run->system_event.type) {
	case KVM_SYSTEM_EVENT_SHUTDOWN:
		return KVM_RUN_POWEROFF;
	case KVM_SYSTEM_EVENT_RESET:
		return KVM_RUN_RESET;
	case KVM_SYSTEM_EVENT_CRASH:
		return KVM_RUN_CRASH;
	default:
		return KVM_RUN_AGAIN;
	}
}

/* Nobody here implements an MSR: the guest gets the #GP that the processor would give. */
static enum kvm_run_result exit_msr(struct kvm_vcpu *vcpu)
{
	count(vcpu, EXIT_MSR);
	vcpu->run->msr.error = 1;
	return KVM_RUN_AGAIN;
}

static enum kvm_run_result exit_interrupted(struct kvm_vcpu *vcpu)
{
	count(vcpu, EXIT_INTERRUPTED);
	return KVM_RUN_AGAIN;
}

static const char *internal_words(uint32_t suberror)
{
	static const char *const words[] = {
		[KVM_INTERNAL_ERROR_EMULATION] = "an instruction that KVM cannot emulate",
		[KVM_INTERNAL_ERROR_SIMUL_EX] = "two exceptions at once",
		[KVM_INTERNAL_ERROR_DELIVERY_EV] = "a fault while an event was delivered",
		[KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON] = "an exit KVM does not know",
	};

	return suberror < ARRAY_SIZE(words) && words[suberror] ? words[suberror] : "internal error";
}

/* Where the guest was and the first bytes of the instruction: what a bug report needs. */
static void describe(struct kvm_vcpu *vcpu, const char *what, uint64_t detail)
{
	struct kvm_regs regs = {0};

	kvm_ioctl(vcpu->fd, KVM_GET_REGS, &regs);
	snprintf(vcpu->error, sizeof(vcpu->error),
		"vCPU %u: KVM gave up: %s (0x%" PRIx64 ") at rip 0x%llx", vcpu->index, what, detail,
		(unsigned long long)regs.rip);
}

/* Before the next instruction of the guest: there is room again. */
static enum kvm_run_result exit_dirty_full(struct kvm_vcpu *vcpu)
{
	int ret = dirty_full(vcpu);

	count(vcpu, EXIT_DIRTY_FULL);
	if (ret == 0)
		return KVM_RUN_AGAIN;
	describe(vcpu, "the ring of written pages cannot be emptied", (uint64_t)-ret);
	return KVM_RUN_ERROR;
}

static enum kvm_run_result exit_internal(struct kvm_vcpu *vcpu)
{
	const struct kvm_run *run = vcpu->run;
	size_t used;

	count(vcpu, EXIT_INTERNAL);
	describe(vcpu, internal_words(run->internal.suberror), run->internal.suberror);
	if (run->internal.suberror != KVM_INTERNAL_ERROR_EMULATION || run->internal.ndata < 4 ||
		!(run->emulation_failure.flags &
			KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES))
		return KVM_RUN_ERROR;
	used = strlen(vcpu->error);
	used += (size_t)snprintf(vcpu->error + used, sizeof(vcpu->error) - used, ", bytes");
	for (unsigned i = 0; i < run->emulation_failure.insn_size && i < 15; i++)
		used += (size_t)snprintf(vcpu->error + used, sizeof(vcpu->error) - used, " %02x",
			run->emulation_failure.insn_bytes[i]);
	return KVM_RUN_ERROR;
}

static enum kvm_run_result exit_fail_entry(struct kvm_vcpu *vcpu)
{
	count(vcpu, EXIT_INTERNAL);
	describe(vcpu, "the processor refuses to enter the guest",
		vcpu->run->fail_entry.hardware_entry_failure_reason);
	return KVM_RUN_ERROR;
}

static enum kvm_run_result exit_unknown(struct kvm_vcpu *vcpu)
{
	count(vcpu, EXIT_INTERNAL);
	describe(vcpu, "unexpected exit reason", vcpu->run->exit_reason);
	return KVM_RUN_ERROR;
}

enum kvm_run_result exit_dispatch(struct kvm_vcpu *vcpu)
{
	static enum kvm_run_result (*const handlers[])(struct kvm_vcpu * vcpu) = {
		[KVM_EXIT_IO] = exit_io,
		[KVM_EXIT_MMIO] = exit_mmio,
		[KVM_EXIT_IOAPIC_EOI] = exit_ioapic_eoi,
		[KVM_EXIT_HLT] = exit_halt,
		[KVM_EXIT_SHUTDOWN] = exit_shutdown,
		[KVM_EXIT_SYSTEM_EVENT] = exit_system,
		[KVM_EXIT_X86_RDMSR] = exit_msr,
		[KVM_EXIT_X86_WRMSR] = exit_msr,
		[KVM_EXIT_INTR] = exit_interrupted,
		[KVM_EXIT_IRQ_WINDOW_OPEN] = exit_interrupted,
		[KVM_EXIT_SET_TPR] = exit_interrupted,
		[KVM_EXIT_DIRTY_RING_FULL] = exit_dirty_full,
		[KVM_EXIT_INTERNAL_ERROR] = exit_internal,
		[KVM_EXIT_FAIL_ENTRY] = exit_fail_entry,
	};
	const uint32_t reason = vcpu->run->exit_reason;

	coalesced_drain(vcpu->vm, vcpu->ring, vcpu->ports, vcpu->mmio);
	if (reason < ARRAY_SIZE(handlers) && handlers[reason])
		return handlers[reason](vcpu);
	return exit_unknown(vcpu);
}

/* A signal came, ours or another. The flag is lowered before @kicked is looked at: a kick in
 * between raises it again and ends the next KVM_RUN at once. */
static enum kvm_run_result interrupted(struct kvm_vcpu *vcpu)
{
	count(vcpu, EXIT_INTERRUPTED);
	coalesced_drain(vcpu->vm, vcpu->ring, vcpu->ports, vcpu->mmio);
	__atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
	if (atomic_exchange(&vcpu->kicked, false))
		return KVM_RUN_KICKED;
	/* Nobody here sent it: the process was stopped, and has been continued. */
	kvm_vcpu_was_paused(vcpu);
	return KVM_RUN_AGAIN;
}

enum kvm_run_result kvm_vcpu_run(struct kvm_vcpu *vcpu)
{
	int ret = kvm_ioctl_value(vcpu->fd, KVM_RUN, 0);

	switch (ret) {
	case 0:
		return exit_dispatch(vcpu);
	case -EINTR:
		return interrupted(vcpu);
	case -EAGAIN: /* a vCPU that waited for its start-up IPI was woken */
		return KVM_RUN_AGAIN;
	default:
		count(vcpu, EXIT_INTERNAL);
		describe(vcpu, ret == -EFAULT ? "memory it cannot reach" : "KVM_RUN failed",
			(uint64_t)-ret);
		return KVM_RUN_ERROR;
	}
}

void kvm_vcpu_kick(struct kvm_vcpu *vcpu)
{
	atomic_store(&vcpu->kicked, true);
	/* The flag catches a thread on its way into KVM_RUN, the signal one that is inside. */
	__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	if (atomic_load(&vcpu->threaded))
		pthread_kill(vcpu->thread, kick_signal());
}

static void ignore_signal(int signal)
{
	(void)signal;
}

int kick_signal(void)
{
	return SIGRTMIN;
}

void kick_signal_prepare(void)
{
	struct sigaction action = {.sa_handler = ignore_signal};
	sigset_t set;

	/* Without SA_RESTART: KVM_RUN has to come back. */
	sigemptyset(&action.sa_mask);
	sigaction(kick_signal(), &action, NULL);
	sigemptyset(&set);
	sigaddset(&set, kick_signal());
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

void kvm_vcpu_thread_init(struct kvm_vcpu *vcpu)
{
	kick_signal_prepare();
	vcpu->thread = pthread_self();
	atomic_store(&vcpu->threaded, true);
}
