/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which pages the guest has written to: by KVM's bitmaps, or by the rings of its vCPUs (api.rst,
 * 8.29), of which bitmaps are made here. What is gathered is protected against writing again under
 * the same lock before anybody learns of it, so that who reads a page then misses no write.
 */
#include "kvm/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/*
 * #syscalls main: ioctl(KVM_GET_DIRTY_LOG)
 * #syscalls main vcpu: ioctl(KVM_RESET_DIRTY_RINGS)
 */

#define RING_BYTES (DIRTY_RING_ENTRIES * sizeof(struct kvm_dirty_gfn))

void dirty_set_up(struct kvm_vm *vm)
{
	vm->dirty.by_ring = vm->options.dirty_ring && vm->host.dirty_ring &&
			    kvm_enable_cap(vm->fd, KVM_CAP_DIRTY_LOG_RING, RING_BYTES) == 0;
}

bool kvm_vm_dirty_by_ring(const struct kvm_vm *vm)
{
	return vm->dirty.by_ring;
}

uint64_t kvm_vcpu_dirtied(const struct kvm_vcpu *vcpu)
{
	return atomic_load_explicit(&vcpu->dirty.count, memory_order_relaxed);
}

/* ---- with the lock ---- */

static void mark(struct kvm_vm *vm, uint32_t slot, uint64_t page)
{
	/* Nobody wants what was written before the log began. */
	if (!vm->dirty.on)
		return;
	if (slot >= FIRST_DEVICE_SLOT || !vm->dirty.bitmaps[slot] ||
		page >= vm->slots[slot].size / MEMORY_PAGE)
		vm->dirty.broken = true;
	else
		vm->dirty.bitmaps[slot][page / 64] |= 1ULL << page % 64;
}

/* Entries come in order, and an empty one ends them; more than the ring has are KVM's next. */
static void gather(struct kvm_vcpu *vcpu)
{
	struct dirty_ring *ring = &vcpu->dirty;
	uint64_t count = 0;

	for (; ring->entries && count < DIRTY_RING_ENTRIES; count++) {
		struct kvm_dirty_gfn *entry = &ring->entries[ring->next % DIRTY_RING_ENTRIES];

		/* KVM's word that the rest of it is there, and ours that it was read. */
		if (__atomic_load_n(&entry->flags, __ATOMIC_ACQUIRE) != KVM_DIRTY_GFN_F_DIRTY)
			break;
		mark(vcpu->vm, entry->slot, entry->offset);
		__atomic_store_n(&entry->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
		ring->next++;
	}
	atomic_fetch_add_explicit(&ring->count, count, memory_order_relaxed);
}

/* The pages are protected again, and the entries free. */
static int reset(struct kvm_vm *vm)
{
	int ret;

	/* A kick of this thread may cut it short in newer kernels, and is seen to later. */
	do
		ret = kvm_ioctl_value(vm->fd, KVM_RESET_DIRTY_RINGS, 0);
	while (ret == -EINTR);
	return ret < 0 ? ret : 0;
}

static int gather_all(struct kvm_vm *vm)
{
	for (struct kvm_vcpu *vcpu = vm->vcpus; vcpu; vcpu = vcpu->next)
		gather(vcpu);
	return reset(vm);
}

static void drop_bitmaps(struct kvm_vm *vm)
{
	for (unsigned i = 0; i < FIRST_DEVICE_SLOT; i++) {
		free(vm->dirty.bitmaps[i]);
		vm->dirty.bitmaps[i] = NULL;
	}
	vm->dirty.on = false;
}

static int make_bitmaps(struct kvm_vm *vm)
{
	drop_bitmaps(vm);
	vm->dirty.on = true;
	vm->dirty.broken = false;
	for (unsigned i = 0; i < FIRST_DEVICE_SLOT; i++) {
		const size_t words = memory_words(vm->slots[i].size);

		vm->dirty.bitmaps[i] = words ? calloc(words, sizeof(uint64_t)) : NULL;
		if (words && !vm->dirty.bitmaps[i]) {
			drop_bitmaps(vm);
			return -ENOMEM;
		}
	}
	return 0;
}

/* ---- of whoever wants the lock ---- */

int dirty_full(struct kvm_vcpu *vcpu)
{
	struct kvm_vm *vm = vcpu->vm;
	int ret;

	pthread_mutex_lock(&vm->dirty.lock);
	gather(vcpu);
	ret = reset(vm);
	pthread_mutex_unlock(&vm->dirty.lock);
	return ret;
}

/* Only now: a machine that is never logged has the pages in the kernel alone. */
static int map_ring(struct kvm_vcpu *vcpu)
{
	void *area;

	if (vcpu->dirty.entries)
		return 0;
	area = mmap(NULL, RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd,
		(off_t)(KVM_DIRTY_LOG_PAGE_OFFSET * MEMORY_PAGE));
	if (area == MAP_FAILED)
		return -errno;
	vcpu->dirty.entries = area;
	return 0;
}

void dirty_unmap_ring(struct kvm_vcpu *vcpu)
{
	if (vcpu->dirty.entries)
		munmap(vcpu->dirty.entries, RING_BYTES);
	vcpu->dirty.entries = NULL;
}

static int begin_rings(struct kvm_vm *vm)
{
	int ret = 0;

	for (struct kvm_vcpu *vcpu = vm->vcpus; vcpu && ret == 0; vcpu = vcpu->next)
		ret = map_ring(vcpu);
	pthread_mutex_lock(&vm->dirty.lock);
	/* What an earlier log has left. */
	if (ret == 0)
		ret = gather_all(vm);
	if (ret == 0)
		ret = make_bitmaps(vm);
	pthread_mutex_unlock(&vm->dirty.lock);
	return ret;
}

void dirty_end(struct kvm_vm *vm)
{
	pthread_mutex_lock(&vm->dirty.lock);
	drop_bitmaps(vm);
	pthread_mutex_unlock(&vm->dirty.lock);
}

int kvm_vm_dirty_log(struct kvm_vm *vm, bool enable)
{
	int ret = enable && vm->dirty.by_ring ? begin_rings(vm) : 0;

	if (ret == 0)
		ret = slots_log(vm, enable);
	if (vm->dirty.by_ring && (ret < 0 || !enable))
		dirty_end(vm);
	return ret;
}

static int take_from_rings(struct kvm_vm *vm, unsigned region, uint64_t *bitmap)
{
	int ret;

	pthread_mutex_lock(&vm->dirty.lock);
	ret = vm->dirty.on && region < FIRST_DEVICE_SLOT && vm->dirty.bitmaps[region] ? 0 : -ENOENT;
	if (ret == 0)
		ret = gather_all(vm);
	/* A page that is not there was written to: which one nobody knows. */
	if (ret == 0 && vm->dirty.broken)
		ret = -EPROTO;
	if (ret == 0) {
		const size_t bytes = memory_words(vm->slots[region].size) * sizeof(uint64_t);

		memcpy(bitmap, vm->dirty.bitmaps[region], bytes);
		memset(vm->dirty.bitmaps[region], 0, bytes);
	}
	pthread_mutex_unlock(&vm->dirty.lock);
	return ret;
}

int kvm_vm_dirty_take(struct kvm_vm *vm, unsigned region, uint64_t *bitmap)
{
	struct kvm_dirty_log log = {.slot = region, .dirty_bitmap = bitmap};

	return vm->dirty.by_ring ? take_from_rings(vm, region, bitmap)
				 : kvm_ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log);
}
