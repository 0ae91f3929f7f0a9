/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saved state of a vCPU. KVM's structs go as they are: their layout is the kernel's ABI, the same
 * on every x86 host, and each is preceded by its length.
 *
 * Order of the restore: special registers first (they hold the APIC base and so its mode), then
 * the LAPIC, then MSRs (the TSC deadline arms a timer that the LAPIC must have in that mode), then
 * what a guest's own guest is doing, pending events and the run state last.
 */
#include "kvm/internal.h"

#include "base/checked.h"
#include "state/state.h"

#include <errno.h>

/*
 * #syscalls main: ioctl(KVM_GET_DEBUGREGS) ioctl(KVM_SET_DEBUGREGS) ioctl(KVM_GET_LAPIC)
 * #syscalls main: ioctl(KVM_SET_LAPIC) ioctl(KVM_GET_MP_STATE) ioctl(KVM_GET_VCPU_EVENTS)
 * #syscalls main: ioctl(KVM_SET_VCPU_EVENTS) ioctl(KVM_GET_XCRS) ioctl(KVM_SET_XCRS)
 */

struct part {
	const char *name;
	unsigned long get, set;
	uint32_t size;
	bool lapic; /* needs the in-kernel LAPIC */
};

static const struct part parts_before[] = {
	{"special registers", KVM_GET_SREGS, KVM_SET_SREGS, sizeof(struct kvm_sregs), false},
	{"registers", KVM_GET_REGS, KVM_SET_REGS, sizeof(struct kvm_regs), false},
	{"XCR0", KVM_GET_XCRS, KVM_SET_XCRS, sizeof(struct kvm_xcrs), false},
	{"debug registers", KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS, sizeof(struct kvm_debugregs),
		false},
	{"LAPIC", KVM_GET_LAPIC, KVM_SET_LAPIC, sizeof(struct kvm_lapic_state), true},
};

static const struct part parts_after[] = {
	{"events", KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS, sizeof(struct kvm_vcpu_events), false},
	{"run state", KVM_GET_MP_STATE, KVM_SET_MP_STATE, sizeof(struct kvm_mp_state), true},
};

union part_data {
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	struct kvm_xcrs xcrs;
	struct kvm_debugregs debugregs;
	struct kvm_lapic_state lapic;
	struct kvm_vcpu_events events;
	struct kvm_mp_state mp_state;
};

static bool has_part(const struct kvm_vcpu *vcpu, const struct part *part)
{
	return !part->lapic || vcpu->vm->options.irqchip != KVM_VM_IRQCHIP_NONE;
}

static int save_parts(struct kvm_vcpu *vcpu, const struct part *parts, unsigned count,
	struct state_writer *writer)
{
	for (unsigned i = 0; i < count; i++) {
		union part_data data = {0};
		int ret;

		if (!has_part(vcpu, &parts[i]))
			continue;
		ret = kvm_ioctl(vcpu->fd, parts[i].get, &data);
		if (ret < 0)
			return ret;
		state_put_u32(writer, parts[i].size);
		state_put_bytes(writer, &data, parts[i].size);
	}
	return 0;
}

#define APIC_BASE_BSP 0x100ULL
#define LAPIC_ID      0x20

/* What differs between vCPUs that were never run: the state was vCPU 0's. */
static void make_own(const struct kvm_vcpu *vcpu, const struct part *part, union part_data *data)
{
	if (part->get == KVM_GET_SREGS && vcpu->index > 0)
		data->sregs.apic_base &= ~APIC_BASE_BSP;
	if (part->get == KVM_GET_LAPIC)
		data->lapic.regs[LAPIC_ID + 3] = (char)vcpu->index;
}

static int restore_parts(struct kvm_vcpu *vcpu, const struct part *parts, unsigned count,
	struct state_reader *reader, bool fresh, struct error *err)
{
	for (unsigned i = 0; i < count; i++) {
		union part_data data = {0};
		int ret;

		if (!has_part(vcpu, &parts[i]))
			continue;
		if (state_get_u32(reader) != parts[i].size)
			return error_set(err, EINVAL, "saved vCPU %u: %s have another size",
				vcpu->index, parts[i].name);
		state_get_bytes(reader, &data, parts[i].size);
		if (reader->failed)
			return error_set(err, EINVAL, "saved vCPU %u is cut off", vcpu->index);
		if (fresh)
			make_own(vcpu, &parts[i], &data);
		ret = kvm_ioctl(vcpu->fd, parts[i].set, &data);
		if (ret < 0)
			return error_errno(err, -ret, "saved vCPU %u: KVM refuses %s", vcpu->index,
				parts[i].name);
	}
	return 0;
}

int kvm_vcpu_save(struct kvm_vcpu *vcpu, const uint32_t *msrs, unsigned msr_count,
	struct state_writer *writer)
{
	int ret = save_parts(vcpu, parts_before, ARRAY_SIZE(parts_before), writer);

	if (ret == 0)
		ret = kvm_xsave_save(vcpu, writer);
	if (ret == 0)
		ret = kvm_msrs_save(vcpu, msrs, msr_count, writer);
	if (ret == 0)
		ret = kvm_nested_save(vcpu, writer);
	if (ret == 0)
		ret = save_parts(vcpu, parts_after, ARRAY_SIZE(parts_after), writer);
	return ret;
}

static int restore(struct kvm_vcpu *vcpu, const uint32_t *msrs, unsigned msr_count,
	struct state_reader *reader, bool fresh, struct error *err)
{
	int ret = restore_parts(vcpu, parts_before, ARRAY_SIZE(parts_before), reader, fresh, err);

	if (ret == 0)
		ret = kvm_xsave_restore(vcpu, reader, err);
	if (ret == 0)
		ret = kvm_msrs_restore(vcpu, msrs, msr_count, reader, fresh, err);
	if (ret == 0)
		ret = kvm_nested_restore(vcpu, reader, err);
	if (ret == 0)
		ret = restore_parts(vcpu, parts_after, ARRAY_SIZE(parts_after), reader, fresh, err);
	return ret;
}

int kvm_vcpu_restore(struct kvm_vcpu *vcpu, const uint32_t *msrs, unsigned msr_count,
	struct state_reader *reader, struct error *err)
{
	return restore(vcpu, msrs, msr_count, reader, false, err);
}

int kvm_vcpu_restore_fresh(struct kvm_vcpu *vcpu, const uint32_t *msrs, unsigned msr_count,
	struct state_reader *reader, struct error *err)
{
	/* In VMX operation the processor refuses the CR4 of a new one. */
	int ret = kvm_nested_leave(vcpu, err);

	return ret < 0 ? ret : restore(vcpu, msrs, msr_count, reader, true, err);
}
