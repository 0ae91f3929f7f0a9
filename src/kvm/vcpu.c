/* SPDX-License-Identifier: Apache-2.0 */
/* A vCPU's creation and its state at the start. */
#include "kvm/internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/*
 * #syscalls main: ioctl(KVM_GET_SREGS) ioctl(KVM_SET_SREGS) ioctl(KVM_GET_REGS) ioctl(KVM_SET_REGS)
 * #syscalls main: ioctl(KVM_SET_MSRS) ioctl(KVM_SET_MP_STATE)
 */

static int map_run(struct kvm_vcpu *vcpu)
{
	const struct kvm_host *host = &vcpu->vm->host;
	void *area =
		mmap(NULL, host->vcpu_mmap_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);

	if (area == MAP_FAILED)
		return -errno;
	vcpu->run = area;
	vcpu->run_size = host->vcpu_mmap_size;
	if (host->coalesced_page)
		vcpu->ring = (void *)((char *)area + host->coalesced_page * MEMORY_PAGE);
	return 0;
}

int kvm_vcpu_new(struct kvm_vcpu **out, struct kvm_vm *vm, unsigned index, struct bus *ports,
	struct bus *mmio, struct error *err)
{
	struct kvm_vcpu *vcpu = calloc(1, sizeof(*vcpu));
	int ret;

	if (!vcpu)
		return error_errno(err, ENOMEM, "vCPU %u", index);
	vcpu->vm = vm;
	vcpu->stats_fd = -1;
	vcpu->index = index;
	vcpu->ports = ports;
	vcpu->mmio = mmio;
	do {
		vcpu->fd = kvm_ioctl_value(vm->fd, KVM_CREATE_VCPU, index);
	} while (vcpu->fd == -EINTR);
	ret = vcpu->fd < 0 ? vcpu->fd : map_run(vcpu);
	if (ret < 0) {
		kvm_vcpu_free(vcpu);
		return error_errno(err, -ret, "/dev/kvm: vCPU %u cannot be made", index);
	}
	vcpu->next = vm->vcpus;
	vm->vcpus = vcpu;
	if (vm->host.binary_stats)
		vcpu->stats_fd = kvm_ioctl_value(vcpu->fd, KVM_GET_STATS_FD, 0);
	ret = kvm_tsc_start(vcpu, err);
	if (ret < 0) {
		kvm_vcpu_free(vcpu);
		return ret;
	}
	*out = vcpu;
	return 0;
}

static void leave_vm(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu **at = &vcpu->vm->vcpus;

	while (*at && *at != vcpu)
		at = &(*at)->next;
	if (*at)
		*at = vcpu->next;
}

void kvm_vcpu_free(struct kvm_vcpu *vcpu)
{
	if (!vcpu)
		return;
	leave_vm(vcpu);
	dirty_unmap_ring(vcpu);
	if (vcpu->run)
		munmap(vcpu->run, vcpu->run_size);
	if (vcpu->stats_fd >= 0)
		close(vcpu->stats_fd);
	if (vcpu->fd >= 0)
		close(vcpu->fd);
	free(vcpu);
}

int kvm_vcpu_set_cpuid(
	struct kvm_vcpu *vcpu, const struct kvm_cpuid2 *cpuid, bool enforce_pv, struct error *err)
{
	int ret;

	/* Without it the guest could use paravirtual MSRs that its CPUID does not name. */
	if (enforce_pv && vcpu->vm->host.enforce_pv) {
		ret = kvm_enable_cap(vcpu->fd, KVM_CAP_ENFORCE_PV_FEATURE_CPUID, 1);
		if (ret < 0)
			return error_errno(err, -ret, "/dev/kvm: enforcing --pv");
	}
	ret = kvm_ioctl(vcpu->fd, KVM_SET_CPUID2, (void *)(uintptr_t)cpuid);
	if (ret < 0)
		return error_errno(err, -ret, "/dev/kvm: CPUID of vCPU %u", vcpu->index);
	return 0;
}

int kvm_vcpu_get_sregs(struct kvm_vcpu *vcpu, struct kvm_sregs *sregs)
{
	return kvm_ioctl(vcpu->fd, KVM_GET_SREGS, sregs);
}

int kvm_vcpu_get_regs(struct kvm_vcpu *vcpu, struct kvm_regs *regs)
{
	return kvm_ioctl(vcpu->fd, KVM_GET_REGS, regs);
}

int kvm_vcpu_set_registers(struct kvm_vcpu *vcpu, const struct kvm_regs *regs,
	const struct kvm_sregs *sregs, struct error *err)
{
	int ret = kvm_ioctl(vcpu->fd, KVM_SET_SREGS, (void *)(uintptr_t)sregs);

	if (ret == 0)
		ret = kvm_ioctl(vcpu->fd, KVM_SET_REGS, (void *)(uintptr_t)regs);
	if (ret < 0)
		return error_errno(err, -ret, "/dev/kvm: registers of vCPU %u", vcpu->index);
	return 0;
}

int kvm_vcpu_set_msrs(struct kvm_vcpu *vcpu, const struct kvm_msrs *msrs, struct error *err)
{
	int ret = kvm_ioctl(vcpu->fd, KVM_SET_MSRS, (void *)(uintptr_t)msrs);

	if (ret < 0)
		return error_errno(err, -ret, "/dev/kvm: MSRs of vCPU %u", vcpu->index);
	if ((uint32_t)ret < msrs->nmsrs)
		return error_set(err, EINVAL, "/dev/kvm: KVM refuses MSR 0x%x = 0x%llx",
			msrs->entries[ret].index, (unsigned long long)msrs->entries[ret].data);
	return 0;
}

/* MSRs whose bits tell what the CPU does, by which guests leave out what protects them: core, arch,
 * perf and VMX capabilities. KVM takes any from its user. */
static bool is_promise(uint32_t index)
{
	return index == 0xcf || index == 0x10a || index == 0x345 ||
	       (index >= 0x480 && index <= 0x493);
}

int kvm_vcpu_change_msr(
	struct kvm_vcpu *vcpu, uint32_t index, uint64_t filter, uint64_t value, struct error *err)
{
	union one_msr msr = {.header.nmsrs = 1};
	struct kvm_msr_entry *entry = msr.header.entries;

	entry->index = index;
	if (kvm_ioctl(vcpu->fd, KVM_GET_MSRS, &msr.header) != 1)
		return error_set(err, ENOTSUP, "MSR 0x%x: KVM has none here; leave it out", index);
	if ((entry->data & filter) == value)
		return 0;
	if (is_promise(index) && value & ~entry->data)
		return error_set(err, ENOTSUP,
			"MSR 0x%x: the guest does not see the bits 0x%" PRIx64
			"; bits are only taken away",
			index, value & ~(uint64_t)entry->data);
	entry->data = (entry->data & ~filter) | value;
	return kvm_vcpu_set_msrs(vcpu, &msr.header, err);
}

int kvm_vcpu_set_runnable(struct kvm_vcpu *vcpu, bool runnable, struct error *err)
{
	struct kvm_mp_state state = {
		.mp_state = runnable ? KVM_MP_STATE_RUNNABLE : KVM_MP_STATE_UNINITIALIZED};
	int ret;

	if (vcpu->vm->options.irqchip == KVM_VM_IRQCHIP_NONE)
		return 0;
	ret = kvm_ioctl(vcpu->fd, KVM_SET_MP_STATE, &state);
	return ret < 0 ? error_errno(err, -ret, "/dev/kvm: run state of vCPU %u", vcpu->index) : 0;
}

const char *kvm_vcpu_error(const struct kvm_vcpu *vcpu)
{
	return vcpu->error;
}

uint64_t kvm_vcpu_exits(const struct kvm_vcpu *vcpu, enum kvm_exit_cause cause)
{
	return atomic_load_explicit(&vcpu->exits[cause], memory_order_relaxed);
}
