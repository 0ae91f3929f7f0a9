/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Time, as it is saved and goes on elsewhere. A guest has two clocks that must agree: kvmclock,
 * which is the VM's, and the TSC, which is each vCPU's offset to the host's. Both are tied to one
 * instant where they come from and to one where they go on; so vCPUs stay as they were to each
 * other, to the cycle.
 */
#include "kvm/internal.h"

#include "state/state.h"

#include <time.h>
#include <x86intrin.h>

/*
 * #syscalls vcpu: ioctl(KVM_KVMCLOCK_CTRL)
 * #syscalls main: ioctl(KVM_GET_CLOCK) ioctl(KVM_SET_CLOCK) ioctl(KVM_GET_DEVICE_ATTR)
 * #syscalls main: ioctl(KVM_SET_DEVICE_ATTR)
 */

#define NS_PER_S 1000000000ULL
/* In parts of a million: what two measurements of one crystal differ by at most. */
#define SAME_CRYSTAL_PPM 500

static int tsc_attribute(struct kvm_vcpu *vcpu, unsigned long request, int64_t *offset)
{
	struct kvm_device_attr attribute = {
		.group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)offset};
	int ret = kvm_ioctl(vcpu->fd, request, &attribute);

	return ret == -ENXIO || ret == -ENOTTY ? -ENOTSUP : ret;
}

int kvm_vcpu_tsc_offset(struct kvm_vcpu *vcpu, int64_t *offset)
{
	return tsc_attribute(vcpu, KVM_GET_DEVICE_ATTR, offset);
}

int kvm_vcpu_set_tsc_offset(struct kvm_vcpu *vcpu, int64_t offset)
{
	return tsc_attribute(vcpu, KVM_SET_DEVICE_ATTR, &offset);
}

void kvm_vcpu_was_paused(struct kvm_vcpu *vcpu)
{
	/* Refused when the guest uses no kvmclock; then there is nobody to tell. */
	kvm_ioctl_value(vcpu->fd, KVM_KVMCLOCK_CTRL, 0);
}

static uint64_t realtime_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static int moment_now(struct kvm_vm *vm, struct kvm_moment *moment)
{
	struct kvm_clock_data clock = {0};
	int ret = kvm_ioctl(vm->fd, KVM_GET_CLOCK, &clock);

	if (ret < 0)
		return ret;
	*moment = (struct kvm_moment){
		.clock = clock.clock, .realtime = clock.realtime, .tsc = clock.host_tsc};
	/* A KVM that cannot tell: the closest that can be had from here. */
	if (!(clock.flags & KVM_CLOCK_REALTIME))
		moment->realtime = realtime_ns();
	if (!(clock.flags & KVM_CLOCK_HOST_TSC))
		moment->tsc = __rdtsc();
	moment->tsc = kvm_tsc_scaled(vm, moment->tsc);
	return 0;
}

int kvm_vm_clock(struct kvm_vm *vm, uint64_t *clock_ns)
{
	struct kvm_moment moment = {0};
	int ret = moment_now(vm, &moment);

	*clock_ns = moment.clock;
	return ret;
}

int kvm_clock_save(struct kvm_vm *vm, struct state_writer *writer)
{
	struct kvm_moment moment;
	int ret = moment_now(vm, &moment);

	if (ret < 0)
		return ret;
	state_put_u64(writer, moment.clock);
	state_put_u64(writer, moment.realtime);
	state_put_u64(writer, moment.tsc);
	state_put_u32(writer, kvm_vm_tsc_khz(vm));
	return 0;
}

/* The clock goes on as if the guest had run all the time, but never backwards; or as if no time had
 * passed. */
static int move_clock(struct kvm_vm *vm, struct error *err)
{
	struct kvm_moment *from = &vm->from;
	uint64_t now = realtime_ns();
	struct kvm_clock_data clock = {.clock = from->clock};
	int ret;

	if (now > from->realtime && !vm->options.clock_stopped)
		clock.clock += now - from->realtime;
	ret = kvm_ioctl(vm->fd, KVM_SET_CLOCK, &clock);
	if (ret == 0)
		ret = moment_now(vm, &vm->to);
	return ret < 0 ? error_errno(err, -ret, "saved VM: clock") : 0;
}

int kvm_clock_restore(struct kvm_vm *vm, struct state_reader *reader, struct error *err)
{
	uint32_t khz, own = kvm_vm_tsc_khz(vm);

	vm->from.clock = state_get_u64(reader);
	vm->from.realtime = state_get_u64(reader);
	vm->from.tsc = state_get_u64(reader);
	khz = state_get_u32(reader);
	if (reader->failed)
		return error_set(err, EINVAL, "saved VM: clock: is cut off");
	if (!kvm_tsc_same_rate(khz, own, SAME_CRYSTAL_PPM) && !vm->options.tsc_may_differ)
		return error_set(err, ENOTSUP,
			"saved VM: its TSC counts %u kHz, this machine's %u; restore it on a host "
			"that can have its frequency, or start it with --profile migratable from "
			"the first",
			khz, own);
	return move_clock(vm, err);
}

int kvm_clock_make_fresh(struct kvm_vm *vm, struct state_reader *reader, struct error *err)
{
	struct kvm_clock_data clock = {.clock = state_get_u64(reader)};
	int ret;

	state_get_u64(reader);
	state_get_u64(reader);
	state_get_u32(reader);
	ret = kvm_ioctl(vm->fd, KVM_SET_CLOCK, &clock);
	return ret < 0 ? error_errno(err, -ret, "clock of a new VM") : 0;
}

int64_t kvm_clock_moved_offset(struct kvm_vm *vm, int64_t offset)
{
	const struct kvm_moment *from = &vm->from, *to = &vm->to;
	unsigned __int128 passed = to->clock - from->clock;
	uint64_t cycles = (uint64_t)(passed * kvm_vm_tsc_khz(vm) / 1000000);

	return (int64_t)((uint64_t)offset + from->tsc - to->tsc + cycles);
}
