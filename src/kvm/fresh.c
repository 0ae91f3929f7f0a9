/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reset. What a processor's reset does to each register is long to tell and differs between CPUID
 * tables; KVM has just done it when a vCPU is new. So that state is kept, as saved state (some 8
 * KiB), and restored.
 */
#include "kvm/internal.h"

#include "state/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct kvm_fresh {
	struct state_writer vm, vcpu; /* a section each */
	uint32_t *msrs;
	unsigned msr_count;
	bool has_offset;
	int64_t tsc_offset;
};

static int take(struct kvm_fresh *fresh, struct kvm_vcpu *vcpu)
{
	int ret, finished;

	state_section_begin(&fresh->vm, "vm", 1);
	ret = kvm_vm_save(vcpu->vm, &fresh->vm);
	state_section_close(&fresh->vm);
	state_section_begin(&fresh->vcpu, "vcpu", 1);
	if (ret == 0)
		ret = kvm_vcpu_save(vcpu, fresh->msrs, fresh->msr_count, &fresh->vcpu);
	state_section_close(&fresh->vcpu);
	finished = state_writer_finish(&fresh->vm) | state_writer_finish(&fresh->vcpu);
	fresh->has_offset = kvm_vcpu_tsc_offset(vcpu, &fresh->tsc_offset) == 0;
	if (ret == 0 && finished < 0)
		ret = -ENOMEM;
	return ret;
}

int kvm_fresh_take(struct kvm_fresh **out, struct kvm_vcpu *vcpu, const uint32_t *msrs,
	unsigned msr_count, struct error *err)
{
	struct kvm_fresh *fresh = calloc(1, sizeof(*fresh));
	int ret;

	if (!fresh)
		return error_errno(err, ENOMEM, "vCPU %u", vcpu->index);
	state_writer_init(&fresh->vm);
	state_writer_init(&fresh->vcpu);
	fresh->msrs = calloc(msr_count + 1, sizeof(*msrs));
	if (fresh->msrs)
		memcpy(fresh->msrs, msrs, msr_count * sizeof(*msrs));
	fresh->msr_count = msr_count;
	ret = fresh->msrs ? take(fresh, vcpu) : -ENOMEM;
	if (ret < 0) {
		kvm_fresh_free(fresh);
		return error_errno(err, -ret, "/dev/kvm: state of a new vCPU");
	}
	*out = fresh;
	return 0;
}

void kvm_fresh_free(struct kvm_fresh *fresh)
{
	if (!fresh)
		return;
	state_writer_free(&fresh->vm);
	state_writer_free(&fresh->vcpu);
	free(fresh->msrs);
	free(fresh);
}

static int open_section(
	const struct state_writer *state, struct state_reader *reader, struct error *err)
{
	int ret = state_reader_init(reader, state->bytes, state->length, err);

	if (ret == 0)
		ret = state_section_next(reader, err);
	return ret < 0 ? ret : 0;
}

int kvm_vm_make_fresh(struct kvm_vm *vm, const struct kvm_fresh *fresh, struct error *err)
{
	struct state_reader reader;
	int ret = open_section(&fresh->vm, &reader, err);

	return ret < 0 ? ret : kvm_vm_restore_fresh(vm, &reader, err);
}

int kvm_vcpu_make_fresh(struct kvm_vcpu *vcpu, const struct kvm_fresh *fresh, struct error *err)
{
	struct state_reader reader;
	int ret = open_section(&fresh->vcpu, &reader, err);

	if (ret == 0)
		ret = kvm_vcpu_restore_fresh(vcpu, fresh->msrs, fresh->msr_count, &reader, err);
	/* A guest may have moved one vCPU's TSC against another's. */
	if (ret == 0 && fresh->has_offset)
		kvm_vcpu_set_tsc_offset(vcpu, fresh->tsc_offset);
	return ret;
}
