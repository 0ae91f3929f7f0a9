/* SPDX-License-Identifier: Apache-2.0 */
/* Memory slots: which host memory stands behind which guest-physical addresses. */
#include "kvm/internal.h"

#include "base/checked.h"

#include <errno.h>

/* #syscalls main vcpu io: ioctl(KVM_SET_USER_MEMORY_REGION) */

/* Tells KVM about slot @number as the table has it. Lock held. */
static int commit(struct kvm_vm *vm, unsigned number)
{
	const struct slot *slot = &vm->slots[number];
	struct kvm_userspace_memory_region region = {
		.slot = number,
		.flags = slot->flags,
		.guest_phys_addr = slot->gpa,
		.memory_size = slot->size,
		.userspace_addr = (uintptr_t)slot->host,
	};

	return kvm_ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region);
}

static int set_slot(struct kvm_vm *vm, unsigned number, const struct slot *wanted)
{
	int ret;

	pthread_mutex_lock(&vm->slots_lock);
	vm->slots[number] = *wanted;
	ret = commit(vm, number);
	if (ret < 0)
		vm->slots[number] = (struct slot){0};
	pthread_mutex_unlock(&vm->slots_lock);
	return ret;
}

int kvm_vm_map_memory(struct kvm_vm *vm, const struct memory *memory, struct error *err)
{
	const struct memory_region *region;

	for (unsigned i = 0; (region = memory_region(memory, i)); i++) {
		const struct slot slot = {
			.gpa = region->base.value, .size = region->size, .host = region->mapped_at};
		int ret = set_slot(vm, i, &slot);

		if (ret < 0)
			return error_errno(err, -ret,
				"/dev/kvm: %llu MiB of guest memory at 0x%llx",
				(unsigned long long)(region->size >> 20),
				(unsigned long long)region->base.value);
	}
	return 0;
}

int kvm_vm_map_slot(struct kvm_vm *vm, uint64_t gpa, uint64_t size, void *host, bool readonly)
{
	unsigned number, end = SLOTS_MAX < vm->host.memslots ? SLOTS_MAX : vm->host.memslots;
	int ret = -ENOSPC;

	if (!size || (readonly && !vm->host.readonly_memory))
		return size ? -ENOTSUP : -EINVAL;
	pthread_mutex_lock(&vm->slots_lock);
	for (number = FIRST_DEVICE_SLOT; number < end; number++)
		if (!vm->slots[number].size)
			break;
	if (number < end) {
		vm->slots[number] = (struct slot){.gpa = gpa,
			.size = size,
			.host = host,
			.flags = readonly ? KVM_MEM_READONLY : 0};
		ret = commit(vm, number);
		if (ret < 0)
			vm->slots[number].size = 0;
	}
	pthread_mutex_unlock(&vm->slots_lock);
	return ret < 0 ? ret : (int)number;
}

void kvm_vm_unmap_slot(struct kvm_vm *vm, int number)
{
	if (number < 0 || number >= SLOTS_MAX)
		return;
	pthread_mutex_lock(&vm->slots_lock);
	if (vm->slots[number].size) {
		vm->slots[number].size = 0;
		commit(vm, (unsigned)number);
		vm->slots[number] = (struct slot){0};
	}
	pthread_mutex_unlock(&vm->slots_lock);
}

int slots_log(struct kvm_vm *vm, bool enable)
{
	int ret = 0;

	/* Device memory keeps no log: it is the device's own state. */
	pthread_mutex_lock(&vm->slots_lock);
	for (unsigned i = 0; i < FIRST_DEVICE_SLOT && ret == 0; i++) {
		if (!vm->slots[i].size)
			continue;
		vm->slots[i].flags = enable ? KVM_MEM_LOG_DIRTY_PAGES : 0;
		ret = commit(vm, i);
	}
	pthread_mutex_unlock(&vm->slots_lock);
	return ret;
}
