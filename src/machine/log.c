/* SPDX-License-Identifier: Apache-2.0 */
/* Which pages are written to: KVM's log of the guest's writes, and the monitor's own. */
#include "machine/internal.h"

#include <errno.h>

int machine_log_start(struct machine *machine, struct error *err)
{
	int ret;

	/* Pages that a device of the host writes to by itself are in no log. */
	if (machine->memory.pins)
		return error_set(err, EBUSY,
			"memory: a function that is passed through writes to it unseen; it cannot "
			"be "
			"logged");
	ret = memory_dirty_start(&machine->memory);
	if (ret == 0)
		ret = kvm_vm_dirty_log(machine->vm, true);
	if (ret == 0)
		return 0;
	memory_dirty_stop(&machine->memory);
	return error_errno(err, -ret, "memory: log of writes");
}

void machine_log_stop(struct machine *machine)
{
	kvm_vm_dirty_log(machine->vm, false);
	memory_dirty_stop(&machine->memory);
}

int machine_log_take(struct machine *machine, unsigned region, uint64_t *bitmap, struct error *err)
{
	const struct memory_region *memory = memory_region(&machine->memory, region);
	uint64_t words;
	int ret;

	if (!memory)
		return error_set(err, EINVAL, "memory: no region %u", region);
	ret = kvm_vm_dirty_take(machine->vm, region, bitmap);
	if (ret < 0)
		return error_errno(err, -ret, "memory: log of the guest's writes");
	/* Regions begin on whole words of the bitmap: memory is a multiple of 1 MiB. */
	words = memory->size / MEMORY_PAGE / 64;
	for (uint64_t i = 0; i < words; i++)
		bitmap[i] |= memory_dirty_take(&machine->memory, memory->first_page / 64 + i);
	return 0;
}

bool machine_log_tells(const struct machine *machine, uint64_t written[MACHINE_CPUS_MAX])
{
	if (!kvm_vm_dirty_by_ring(machine->vm))
		return false;
	for (unsigned i = 0; i < machine->config.cpus; i++)
		written[i] = kvm_vcpu_dirtied(machine->vcpus[i].kvm);
	return true;
}
