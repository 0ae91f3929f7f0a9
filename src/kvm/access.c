/* SPDX-License-Identifier: Apache-2.0 */
/* Accesses of an exit, and of the ring of coalesced writes, brought to the buses. */
#include "kvm/internal.h"

#include "base/bytes.h"

/* KVM_COALESCED_MMIO_MAX needs the kernel's PAGE_SIZE. */
#define RING_ENTRIES                                                                               \
	((uint32_t)((MEMORY_PAGE - sizeof(struct kvm_coalesced_mmio_ring)) /                       \
		    sizeof(struct kvm_coalesced_mmio)))

/* An access that crosses a page reaches us in pieces of any length; devices see 1, 2, 4 and 8. */
static unsigned piece(unsigned length)
{
	unsigned size = 8;

	while (size > length)
		size /= 2;
	return size;
}

bool access_read(struct bus *bus, uint64_t address, unsigned length, uint8_t *data)
{
	bool claimed = true;

	while (length) {
		unsigned size = piece(length);
		uint64_t value;

		claimed &= bus_read(bus, address, size, &value);
		store_le(data, size, value);
		address += size;
		data += size;
		length -= size;
	}
	return claimed;
}

bool access_write(struct bus *bus, uint64_t address, unsigned length, const uint8_t *data)
{
	bool claimed = true;

	while (length) {
		unsigned size = piece(length);

		claimed &= bus_write(bus, address, size, load_le(data, size));
		address += size;
		data += size;
		length -= size;
	}
	return claimed;
}

static uint32_t ring_end(const struct kvm_coalesced_mmio_ring *ring)
{
	/* Pairs with the kernel's barrier between an entry and the index. */
	return __atomic_load_n(&ring->last, __ATOMIC_ACQUIRE) % RING_ENTRIES;
}

void coalesced_drain(struct kvm_vm *vm, struct kvm_coalesced_mmio_ring *ring, struct bus *ports,
	struct bus *mmio)
{
	uint32_t first;

	if (!ring || !atomic_load_explicit(&vm->coalescing, memory_order_relaxed))
		return;
	/* An entry is given back after it was dispatched, so an empty ring means that every write
	 * has reached its device, on whichever thread. */
	if (__atomic_load_n(&ring->first, __ATOMIC_ACQUIRE) == ring_end(ring))
		return;
	pthread_mutex_lock(&vm->ring_lock);
	first = ring->first % RING_ENTRIES;
	while (first != ring_end(ring)) {
		const struct kvm_coalesced_mmio entry = ring->coalesced_mmio[first];

		if (entry.len && entry.len <= sizeof(entry.data))
			access_write(
				entry.pio ? ports : mmio, entry.phys_addr, entry.len, entry.data);
		first = (first + 1) % RING_ENTRIES;
		__atomic_store_n(&ring->first, first, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&vm->ring_lock);
}

void kvm_vcpu_drain_coalesced(struct kvm_vcpu *vcpu)
{
	coalesced_drain(vcpu->vm, vcpu->ring, vcpu->ports, vcpu->mmio);
}
