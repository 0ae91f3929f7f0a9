/* SPDX-License-Identifier: Apache-2.0 */
/* Saved state of a vCPU: areas whose size is the host's, FPU state and that of nested guests. */
#include "kvm/internal.h"

#include "base/cleanup.h"
#include "state/state.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/*
 * #syscalls main: ioctl(KVM_GET_XSAVE) ioctl(KVM_GET_XSAVE2) ioctl(KVM_SET_XSAVE)
 * #syscalls main: ioctl(KVM_GET_NESTED_STATE) ioctl(KVM_SET_NESTED_STATE)
 */

#define AREA_MAX 65536

int kvm_xsave_save(struct kvm_vcpu *vcpu, struct state_writer *writer)
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

int kvm_xsave_restore(struct kvm_vcpu *vcpu, struct state_reader *reader, struct error *err)
{
	const unsigned room = vcpu->vm->xsave_size;
	const uint32_t size = state_get_u32(reader);
	_cleanup_free_ void *data = calloc(1, AREA_MAX);
	int ret;

	if (!data)
		return error_errno(err, ENOMEM, "saved vCPU %u", vcpu->index);
	/* A larger area than this host's holds components that it does not have. */
	if (size < sizeof(struct kvm_xsave) || size > room || size > AREA_MAX)
		return error_set(err, EINVAL,
			"saved vCPU %u: %u bytes of FPU state, this host takes %u", vcpu->index,
			size, room);
	state_get_bytes(reader, data, size);
	if (reader->failed)
		return error_set(err, EINVAL, "saved vCPU %u is cut off", vcpu->index);
	ret = kvm_ioctl(vcpu->fd, KVM_SET_XSAVE, data);
	return ret < 0 ? error_errno(err, -ret, "saved vCPU %u: FPU state", vcpu->index) : 0;
}

/* A guest may be a host itself: what KVM keeps of that. */
int kvm_nested_save(struct kvm_vcpu *vcpu, struct state_writer *writer)
{
	const unsigned room = vcpu->vm->nested_size;
	_cleanup_free_ struct kvm_nested_state *nested = calloc(1, room + sizeof(*nested));
	int ret;

	if (!nested)
		return -ENOMEM;
	if (room) {
		nested->size = room;
		ret = kvm_ioctl(vcpu->fd, KVM_GET_NESTED_STATE, nested);
		if (ret < 0)
			return ret;
	}
	state_put_u32(writer, nested->size);
	state_put_bytes(writer, nested, nested->size);
	return 0;
}

/* Of what it reads now only the format counts: AMD's or Intel's. */
int kvm_nested_leave(struct kvm_vcpu *vcpu, struct error *err)
{
	const unsigned room = vcpu->vm->nested_size;
	_cleanup_free_ struct kvm_nested_state *nested = calloc(1, room + sizeof(*nested));
	int ret;

	if (!room)
		return 0;
	if (!nested)
		return error_errno(err, ENOMEM, "vCPU %u", vcpu->index);
	nested->size = room;
	ret = kvm_ioctl(vcpu->fd, KVM_GET_NESTED_STATE, nested);
	nested->size = sizeof(*nested);
	nested->flags = 0;
	if (nested->format == KVM_STATE_NESTED_FORMAT_SVM) {
		nested->flags = KVM_STATE_NESTED_GIF_SET;
	} else {
		memset(&nested->hdr, 0, sizeof(nested->hdr));
		nested->hdr.vmx.vmxon_pa = nested->hdr.vmx.vmcs12_pa = UINT64_MAX;
	}
	if (ret == 0)
		ret = kvm_ioctl(vcpu->fd, KVM_SET_NESTED_STATE, nested);
	return ret < 0 ? error_errno(err, -ret, "vCPU %u: nested virtualization", vcpu->index) : 0;
}

int kvm_nested_restore(struct kvm_vcpu *vcpu, struct state_reader *reader, struct error *err)
{
	const unsigned room = vcpu->vm->nested_size;
	const uint32_t size = state_get_u32(reader);
	_cleanup_free_ struct kvm_nested_state *nested = calloc(1, AREA_MAX);
	int ret;

	if (!nested)
		return error_errno(err, ENOMEM, "saved vCPU %u", vcpu->index);
	if (size > room || size > AREA_MAX || (size && size < sizeof(*nested)))
		return error_set(err, EINVAL,
			"saved vCPU %u: %u bytes of nested virtualization, this host takes %u",
			vcpu->index, size, room);
	state_get_bytes(reader, nested, size);
	if (reader->failed || nested->size != size)
		return error_set(err, EINVAL, "saved vCPU %u is cut off", vcpu->index);
	if (!size)
		return 0;
	ret = kvm_ioctl(vcpu->fd, KVM_SET_NESTED_STATE, nested);
	return ret < 0 ? error_errno(err, -ret, "saved vCPU %u: nested virtualization", vcpu->index)
		       : 0;
}
