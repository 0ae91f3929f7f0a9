/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The frequency of the guest's TSC, which is its own for life where KVM can scale it. A TSC that
 * goes on elsewhere must be known to the cycle; so the host's is scaled here as KVM scales it: by
 * a fixed-point ratio, with as many bits behind the point as the processor has.
 */
#include "kvm/internal.h"

#include "base/log.h"

#include <cpuid.h>
#include <errno.h>

/* In parts of a million: KVM scales nothing for less (its parameter tsc_tolerance_ppm). */
#define UNSCALED_PPM      250
#define FRACTION_BITS_SVM 32
#define FRACTION_BITS_VMX 48
#define GENUINE_INTEL_EBX 0x756e6547U

bool kvm_tsc_same_rate(uint32_t a, uint32_t b, unsigned ppm)
{
	uint64_t apart = a > b ? a - b : b - a;

	/* 0: KVM does not say. */
	return !a || !b || apart * 1000000 <= (uint64_t)ppm * b;
}

static unsigned fraction_bits(void)
{
	unsigned eax, ebx = 0, ecx, edx;

	__get_cpuid(0, &eax, &ebx, &ecx, &edx);
	return ebx == GENUINE_INTEL_EBX ? FRACTION_BITS_VMX : FRACTION_BITS_SVM;
}

/* -ENOTSUP: this host has no such rate for a guest. */
static int decide(struct kvm_vm *vm, struct error *err)
{
	uint32_t wanted = vm->options.tsc_khz;

	vm->tsc_khz = wanted ? wanted : vm->host_khz;
	if (kvm_tsc_same_rate(wanted, vm->host_khz, UNSCALED_PPM))
		return 0;
	vm->set_khz = true;
	if (vm->host.tsc_control) {
		vm->tsc_fraction = fraction_bits();
		vm->tsc_ratio =
			(uint64_t)(((unsigned __int128)wanted << vm->tsc_fraction) / vm->host_khz);
		return 0;
	}
	if (wanted > vm->host_khz) {
		log_warning("--tsc-khz %u: this host's TSC counts %u kHz and cannot be scaled; the "
			    "guest's is put forward each time that it has fallen behind",
			wanted, vm->host_khz);
		return 0;
	}
	if (!vm->options.tsc_may_differ)
		return error_set(err, ENOTSUP,
			"--tsc-khz %u: this host's TSC counts %u kHz and cannot be slowed down; "
			"run the guest on another host, or with --profile migratable from its "
			"start",
			wanted, vm->host_khz);
	log_warning("--tsc-khz %u: the guest's TSC counts %u kHz from here on, as this host's, "
		    "which cannot be slowed down; its PV clock is right, a program that reads the "
		    "TSC is not",
		wanted, vm->host_khz);
	vm->set_khz = false;
	vm->tsc_khz = vm->host_khz;
	return 0;
}

/* From zero, together: KVM takes a zero written to one after the other for one instant. */
static int set_rate(struct kvm_vcpu *vcpu, struct error *err)
{
	union one_msr msr = {.header.nmsrs = 1};
	int ret = kvm_ioctl_value(vcpu->fd, KVM_SET_TSC_KHZ, vcpu->vm->tsc_khz);

	if (ret < 0)
		return error_errno(err, -ret, "--tsc-khz %u: KVM", vcpu->vm->tsc_khz);
	msr.header.entries[0].index = MSR_TSC;
	return kvm_vcpu_set_msrs(vcpu, &msr.header, err);
}

int kvm_tsc_start(struct kvm_vcpu *vcpu, struct error *err)
{
	struct kvm_vm *vm = vcpu->vm;
	int ret = 0;

	if (vcpu->index == 0) {
		ret = kvm_ioctl_value(vcpu->fd, KVM_GET_TSC_KHZ, 0);
		vm->host_khz = ret > 0 ? (uint32_t)ret : 0;
		ret = decide(vm, err);
	}
	return ret == 0 && vm->set_khz ? set_rate(vcpu, err) : ret;
}

uint64_t kvm_tsc_scaled(const struct kvm_vm *vm, uint64_t tsc)
{
	if (!vm->tsc_ratio)
		return tsc;
	return (uint64_t)((unsigned __int128)tsc * vm->tsc_ratio >> vm->tsc_fraction);
}

unsigned kvm_vm_tsc_khz(struct kvm_vm *vm)
{
	return vm->tsc_khz;
}
