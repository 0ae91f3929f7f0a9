/* SPDX-License-Identifier: Apache-2.0 */
/* Mapping guest memory before the guest touches it (KVM_PRE_FAULT_MEMORY). */
#include "kvm/internal.h"

/* #syscalls vcpu: ioctl(KVM_PRE_FAULT_MEMORY) */

int64_t kvm_vcpu_map_ahead(struct kvm_vcpu *vcpu, uint64_t gpa, uint64_t length)
{
	struct kvm_pre_fault_memory range = {.gpa = gpa, .size = length};
	int ret;

	if (!vcpu->vm->host.map_ahead)
		return -EOPNOTSUPP;
	if (length == 0)
		return 0;
	/* KVM moves gpa and size on over what it has done, also when it stops in the middle; it
	 * is a hint, so whoever asked does not ask again. */
	ret = kvm_ioctl(vcpu->fd, KVM_PRE_FAULT_MEMORY, &range);
	if (ret < 0 && range.size == length)
		return ret;
	return (int64_t)(length - range.size);
}
