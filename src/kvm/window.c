/* SPDX-License-Identifier: Apache-2.0 */
/* What a passed-through device needs of KVM: its memory in the guest, its group known to KVM. */
#include "kvm/internal.h"

#include "base/checked.h"

#include <errno.h>

int window_add(
	struct bus_host *host, uint64_t address, void *memory, uint64_t length, unsigned *window)
{
	struct kvm_vm *vm = container_of(host, struct kvm_vm, bus_host);
	int slot = kvm_vm_map_slot(vm, address, length, memory, false);

	if (slot < 0)
		return slot;
	*window = (unsigned)slot;
	return 0;
}

void window_remove(struct bus_host *host, unsigned window)
{
	kvm_vm_unmap_slot(container_of(host, struct kvm_vm, bus_host), (int)window);
}

/* Lock held. */
static int open_vfio_device(struct kvm_vm *vm)
{
	struct kvm_create_device create = {.type = KVM_DEV_TYPE_VFIO};
	int ret = 0;

	if (vm->vfio_fd >= 0)
		return 0;
	ret = kvm_ioctl(vm->fd, KVM_CREATE_DEVICE, &create);
	if (ret == 0)
		vm->vfio_fd = (int)create.fd;
	return ret;
}

int vfio_group(struct bus_host *host, int group, bool add)
{
	struct kvm_vm *vm = container_of(host, struct kvm_vm, bus_host);
	struct kvm_device_attr attr = {.group = KVM_DEV_VFIO_GROUP,
		.attr = add ? KVM_DEV_VFIO_GROUP_ADD : KVM_DEV_VFIO_GROUP_DEL,
		.addr = (uintptr_t)&group};
	int ret;

	pthread_mutex_lock(&vm->slots_lock);
	ret = open_vfio_device(vm);
	if (ret == 0)
		ret = kvm_ioctl(vm->vfio_fd, KVM_SET_DEVICE_ATTR, &attr);
	pthread_mutex_unlock(&vm->slots_lock);
	return ret;
}
