/* SPDX-License-Identifier: Apache-2.0 */
/* Saved state of a vCPU: its MSRs, and its TSC, which is one of them but goes on meanwhile. */
#include "kvm/internal.h"

#include "base/cleanup.h"
#include "state/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* #syscalls main: ioctl(KVM_GET_MSRS) ioctl(KVM_SET_MSRS) */

#define MSR_TSC_DEADLINE 0x6e0
#define MSRS_MAX         4096

static struct kvm_msrs *new_msrs(unsigned count)
{
	return calloc(1, sizeof(struct kvm_msrs) + count * sizeof(struct kvm_msr_entry));
}

/* KVM reads up to the first MSR it refuses: leave that one out and go on. */
static int get_msrs(struct kvm_vcpu *vcpu, const uint32_t *indices, unsigned count,
	struct kvm_msr_entry *got, unsigned *kept)
{
	_cleanup_free_ struct kvm_msrs *request = new_msrs(count);
	unsigned at = 0;

	if (!request)
		return -ENOMEM;
	while (at < count) {
		int ret;

		request->nmsrs = count - at;
		for (unsigned i = 0; i < request->nmsrs; i++)
			request->entries[i] = (struct kvm_msr_entry){.index = indices[at + i]};
		ret = kvm_ioctl(vcpu->fd, KVM_GET_MSRS, request);
		if (ret < 0)
			return ret;
		memcpy(got + *kept, request->entries, (unsigned)ret * sizeof(*got));
		*kept += (unsigned)ret;
		at += (unsigned)ret + 1;
	}
	return 0;
}

int kvm_msrs_save(
	struct kvm_vcpu *vcpu, const uint32_t *indices, unsigned count, struct state_writer *writer)
{
	_cleanup_free_ struct kvm_msr_entry *got = calloc(count + 1, sizeof(*got));
	int64_t offset = 0;
	unsigned kept = 0;
	int ret = got ? get_msrs(vcpu, indices, count, got, &kept) : -ENOMEM;

	if (ret < 0)
		return ret;
	state_put_u32(writer, kept);
	for (unsigned i = 0; i < kept; i++) {
		state_put_u32(writer, got[i].index);
		state_put_u64(writer, got[i].data);
	}
	state_put_bool(writer, kvm_vcpu_tsc_offset(vcpu, &offset) == 0);
	state_put_u64(writer, (uint64_t)offset);
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

static void leave_tsc_out(struct kvm_msrs *msrs)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < msrs->nmsrs; i++)
		if (msrs->entries[i].index != MSR_TSC)
			msrs->entries[kept++] = msrs->entries[i];
	msrs->nmsrs = kept;
}

/* By its offset, where both hosts know it, the TSC has gone on; else it goes on where it was. */
static int set_moved_msrs(struct kvm_vcpu *vcpu, struct kvm_msrs *msrs, bool has_offset,
	int64_t offset, struct error *err)
{
	if (has_offset &&
		kvm_vcpu_set_tsc_offset(vcpu, kvm_clock_moved_offset(vcpu->vm, offset)) == 0)
		leave_tsc_out(msrs);
	return kvm_vcpu_set_msrs(vcpu, msrs, err);
}

int kvm_msrs_restore(struct kvm_vcpu *vcpu, const uint32_t *indices, unsigned listed_count,
	struct state_reader *reader, bool fresh, struct error *err)
{
	const uint32_t count = state_get_u32(reader);
	_cleanup_free_ struct kvm_msrs *msrs = NULL;
	int64_t offset;
	bool has_offset;
	int ret;

	if (reader->failed || count > MSRS_MAX)
		return error_set(err, EINVAL, "saved vCPU %u: %u MSRs", vcpu->index, count);
	msrs = new_msrs(count + 1);
	if (!msrs)
		return error_errno(err, ENOMEM, "saved vCPU %u", vcpu->index);
	ret = read_msrs(vcpu, indices, listed_count, reader, msrs, count, err);
	if (ret < 0)
		return ret;
	has_offset = state_get_bool(reader);
	offset = (int64_t)state_get_u64(reader);
	if (reader->failed)
		return error_set(err, EINVAL, "saved vCPU %u is cut off", vcpu->index);
	if (!fresh)
		return set_moved_msrs(vcpu, msrs, has_offset, offset, err);
	ret = set_fresh_msrs(vcpu, msrs);
	return ret < 0 ? error_errno(err, -ret, "vCPU %u: MSRs", vcpu->index) : 0;
}
