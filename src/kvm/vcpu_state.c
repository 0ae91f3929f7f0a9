/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saved state of a vCPU. KVM's structs go as they are: their layout is the kernel's ABI, the same
 * on every x86 host, and each is preceded by its length.
 *
 * Order of the restore: special registers first (they hold the APIC base and so its mode), then
 * the LAPIC, then MSRs (the TSC deadline arms a timer that the LAPIC must have in that mode),
 * pending events and the run state last.
 */
#include "kvm/internal.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "state/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MSR_TSC          0x10
#define MSR_TSC_DEADLINE 0x6e0
#define MSRS_MAX         4096
#define XSAVE_MAX        65536

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

static int save_xsave(struct kvm_vcpu *vcpu, struct state_writer *writer)
{
	const unsigned size = vcpu->vm->xsave_size;
	_cleanup_free_ void *data = calloc(1, size);
	int ret;

	if (!data)
		return -ENOMEM;
	ret = kvm_ioctl(
		vcpu->fd, size > sizeof(struct kvm_xsave) ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, data);
	if (ret < 0)
		return ret;
	state_put_u32(writer, size);
	state_put_bytes(writer, data, size);
	return 0;
}

static int restore_xsave(struct kvm_vcpu *vcpu, struct state_reader *reader, struct error *err)
{
	const unsigned room = vcpu->vm->xsave_size;
	const uint32_t size = state_get_u32(reader);
	_cleanup_free_ void *data = calloc(1, XSAVE_MAX);
	int ret;

	if (!data)
		return error_errno(err, ENOMEM, "saved vCPU %u", vcpu->index);
	/* A larger area than this host's holds components that it does not have. */
	if (size < sizeof(struct kvm_xsave) || size > room || size > XSAVE_MAX)
		return error_set(err, EINVAL,
			"saved vCPU %u: %u bytes of FPU state, this host takes %u", vcpu->index,
			size, room);
	state_get_bytes(reader, data, size);
	if (reader->failed)
		return error_set(err, EINVAL, "saved vCPU %u is cut off", vcpu->index);
	ret = kvm_ioctl(vcpu->fd, KVM_SET_XSAVE, data);
	return ret < 0 ? error_errno(err, -ret, "saved vCPU %u: FPU state", vcpu->index) : 0;
}

static struct kvm_msrs *new_msrs(unsigned count)
{
	return calloc(1, sizeof(struct kvm_msrs) + count * sizeof(struct kvm_msr_entry));
}

/* KVM reads up to the first MSR it refuses: leave that one out and go on. */
static int save_msrs(
	struct kvm_vcpu *vcpu, const uint32_t *indices, unsigned count, struct state_writer *writer)
{
	_cleanup_free_ struct kvm_msrs *request = new_msrs(count);
	_cleanup_free_ struct kvm_msr_entry *got = calloc(count + 1, sizeof(*got));
	unsigned at = 0, kept = 0;

	if (!request || !got)
		return -ENOMEM;
	while (at < count) {
		int ret;

		request->nmsrs = count - at;
		for (unsigned i = 0; i < request->nmsrs; i++)
			request->entries[i] = (struct kvm_msr_entry){.index = indices[at + i]};
		ret = kvm_ioctl(vcpu->fd, KVM_GET_MSRS, request);
		if (ret < 0)
			return ret;
		memcpy(got + kept, request->entries, (unsigned)ret * sizeof(*got));
		kept += (unsigned)ret;
		at += (unsigned)ret + 1;
	}
	state_put_u32(writer, kept);
	for (unsigned i = 0; i < kept; i++) {
		state_put_u32(writer, got[i].index);
		state_put_u64(writer, got[i].data);
	}
	return 0;
}

static bool listed(const uint32_t *indices, unsigned count, uint32_t index)
{
	for (unsigned i = 0; i < count; i++)
		if (indices[i] == index)
			return true;
	return false;
}

/* Reads @count MSRs; the TSC deadline last: KVM measures it against the TSC. */
static int read_msrs(struct kvm_vcpu *vcpu, const uint32_t *indices, unsigned listed_count,
	struct state_reader *reader, struct kvm_msrs *msrs, uint32_t count, struct error *err)
{
	struct kvm_msr_entry deadline = {0};

	for (uint32_t i = 0; i < count; i++) {
		struct kvm_msr_entry entry = {.index = state_get_u32(reader)};

		entry.data = state_get_u64(reader);
		if (reader->failed || !listed(indices, listed_count, entry.index))
			return error_set(err, EINVAL,
				"saved vCPU %u: MSR 0x%x is none that this host saves", vcpu->index,
				entry.index);
		if (entry.index == MSR_TSC_DEADLINE)
			deadline = entry;
		else
			msrs->entries[msrs->nmsrs++] = entry;
	}
	if (deadline.index)
		msrs->entries[msrs->nmsrs++] = deadline;
	return 0;
}

union one_msr {
	struct kvm_msrs header;
	uint8_t room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
};

/* One that is as new as before, or that KVM lets nobody set, is as it is. */
static int set_fresh_msrs(struct kvm_vcpu *vcpu, const struct kvm_msrs *msrs)
{
	for (unsigned i = 0; i < msrs->nmsrs; i++) {
		union one_msr one = {.header.nmsrs = 1};
		int ret;

		if (msrs->entries[i].index == MSR_TSC)
			continue;
		one.header.entries[0] = msrs->entries[i];
		ret = kvm_ioctl(vcpu->fd, KVM_SET_MSRS, &one);
		if (ret < 0)
			return ret;
	}
	return 0;
}

static int restore_msrs(struct kvm_vcpu *vcpu, const uint32_t *indices, unsigned listed_count,
	struct state_reader *reader, bool fresh, struct error *err)
{
	const uint32_t count = state_get_u32(reader);
	_cleanup_free_ struct kvm_msrs *msrs = NULL;
	int ret;

	if (reader->failed || count > MSRS_MAX)
		return error_set(err, EINVAL, "saved vCPU %u: %u MSRs", vcpu->index, count);
	msrs = new_msrs(count + 1);
	if (!msrs)
		return error_errno(err, ENOMEM, "saved vCPU %u", vcpu->index);
	ret = read_msrs(vcpu, indices, listed_count, reader, msrs, count, err);
	if (ret < 0)
		return ret;
	if (!fresh)
		return kvm_vcpu_set_msrs(vcpu, msrs, err);
	ret = set_fresh_msrs(vcpu, msrs);
	return ret < 0 ? error_errno(err, -ret, "vCPU %u: MSRs", vcpu->index) : 0;
}

int kvm_vcpu_save(struct kvm_vcpu *vcpu, const uint32_t *msrs, unsigned msr_count,
	struct state_writer *writer)
{
	int ret = save_parts(vcpu, parts_before, ARRAY_SIZE(parts_before), writer);

	if (ret == 0)
		ret = save_xsave(vcpu, writer);
	if (ret == 0)
		ret = save_msrs(vcpu, msrs, msr_count, writer);
	if (ret == 0)
		ret = save_parts(vcpu, parts_after, ARRAY_SIZE(parts_after), writer);
	return ret;
}

static int restore(struct kvm_vcpu *vcpu, const uint32_t *msrs, unsigned msr_count,
	struct state_reader *reader, bool fresh, struct error *err)
{
	int ret = restore_parts(vcpu, parts_before, ARRAY_SIZE(parts_before), reader, fresh, err);

	if (ret == 0)
		ret = restore_xsave(vcpu, reader, err);
	if (ret == 0)
		ret = restore_msrs(vcpu, msrs, msr_count, reader, fresh, err);
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
	return restore(vcpu, msrs, msr_count, reader, true, err);
}
