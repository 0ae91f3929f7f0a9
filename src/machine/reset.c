/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reset in place: the process, its descriptors, back ends and counters stay; what the guest sees is
 * as at power-on, and its kernel is loaded from the files that were opened then.
 */
#include "machine/internal.h"

#include <errno.h>

/* DMA and interrupts end before the memory they may reach is given away. */
static void reset_devices(struct machine *machine)
{
	for (struct device *device = machine->devices; device; device = device->next)
		if (device->ops->reset)
			device->ops->reset(device);
	pci_bus_reset(machine->pci);
	if (machine->counters)
		counters_reset(machine->counters);
}

/* KVM writes to guest memory as the guest told each vCPU: no longer, from here on. */
static int reset_vcpus(struct machine *machine, struct error *err)
{
	int ret = kvm_vm_make_fresh(machine->vm, machine->fresh, err);

	for (unsigned i = 0; ret == 0 && i < machine->config.cpus; i++)
		ret = kvm_vcpu_make_fresh(machine->vcpus[i].kvm, machine->fresh, err);
	return ret;
}

/* For as long as much memory takes to be cleared, and the kernel's storage to answer. */
static int fill_anew(struct machine *machine, struct error *err)
{
	int ret = memory_clear(&machine->memory);

	if (ret < 0)
		return error_errno(err, -ret, "reset: guest memory");
	/* Afterwards: what is gone need not be copied to be taken back. */
	sharing_reset(&machine->sharing);
	return machine_load_kernel(machine, err);
}

int machine_reset(struct machine *machine, struct error *err)
{
	int ret;

	if (!machine->kernel)
		return error_set(err, ENOENT,
			"the guest resets, and its kernel is not on this host: start it anew with "
			"--kernel");
	/* The tables that follow tell of what is left. */
	machine_take_ejected(machine);
	reset_devices(machine);
	ret = reset_vcpus(machine, err);
	if (ret < 0)
		return ret;
	machine_waits(machine, true);
	ret = fill_anew(machine, err);
	machine_waits(machine, false);
	return ret < 0 ? ret : machine_boot_vcpus(machine, err);
}
