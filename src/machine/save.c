/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole machine as sections, below any format of files: "machine" and "vm", "vcpu/N" for each
 * vCPU, "counters" with --pmu pv, "pci" for the bus, and TYPE/ID for each device, of its model's
 * version. Memory is not among them.
 */
#include "base/cleanup.h"
#include "base/log.h"
#include "machine/fields.h"
#include "machine/internal.h"
#include "machine/sections.h"

#include <errno.h>
#include <stdio.h>

#define MACHINE_VERSION 3
#define VM_VERSION      1
#define VCPU_VERSION    1
#define PCI_VERSION     1

static void name_device(const struct device *device, char name[STATE_NAME_MAX + 1])
{
	snprintf(name, STATE_NAME_MAX + 1, "%s/%s", device->ops->type, device->name);
}

static void name_vcpu(unsigned index, char name[STATE_NAME_MAX + 1])
{
	snprintf(name, STATE_NAME_MAX + 1, "vcpu/%u", index);
}

/* ---- saved ---- */

int machine_check_movable(const struct machine *machine, struct error *err)
{
	const uint64_t arriving = memory_arriving(&machine->memory);

	if (arriving)
		return error_set(err, EBUSY,
			"memory: %llu pages of it are still to come from where the machine was; "
			"try again when they are here",
			(unsigned long long)arriving);
	if (machine->given_away)
		return error_set(err, EBUSY, "the machine runs elsewhere; ask it there");
	for (struct device *device = machine->devices; device; device = device->next) {
		const char *why = device->ops->unmovable ? device->ops->unmovable(device) : NULL;

		if (why)
			return error_set(err, EBUSY, "%s: %s", device->name, why);
	}
	return 0;
}

static void save_own(const struct machine *machine, struct state_writer *writer)
{
	state_section_begin(writer, "machine", MACHINE_VERSION);
	state_put_u64(writer, machine->config.memory);
	state_put_u32(writer, machine->config.cpus);
	state_put_u32(writer, machine->config.pv);
	state_put_bool(writer, machine->config.nested);
	state_put_u8(writer, machine->config.pmu);
	state_section_close(writer);
}

static int save_vm(struct machine *machine, struct state_writer *writer, struct error *err)
{
	int ret;

	state_section_begin(writer, "vm", VM_VERSION);
	ret = kvm_vm_save(machine->vm, writer);
	state_section_close(writer);
	return ret < 0 ? error_errno(err, -ret, "state of the VM") : 0;
}

static int save_vcpu(
	struct machine *machine, unsigned index, struct state_writer *writer, struct error *err)
{
	char name[STATE_NAME_MAX + 1];
	int ret;

	name_vcpu(index, name);
	state_section_begin(writer, name, VCPU_VERSION);
	ret = kvm_vcpu_save(machine->vcpus[index].kvm, machine->msrs, machine->msr_count, writer);
	state_section_close(writer);
	return ret < 0 ? error_errno(err, -ret, "state of vCPU %u", index) : 0;
}

static void save_counters(struct machine *machine, struct state_writer *writer)
{
	if (!machine->counters)
		return;
	state_section_begin(writer, "counters", COUNTERS_STATE_VERSION);
	counters_save(machine->counters, writer);
	state_section_close(writer);
}

static void save_devices(const struct machine *machine, struct state_writer *writer)
{
	char name[STATE_NAME_MAX + 1];

	state_section_begin(writer, "pci", PCI_VERSION);
	pci_bus_save(machine->pci, writer);
	state_section_close(writer);
	for (struct device *device = machine->devices; device; device = device->next) {
		name_device(device, name);
		state_section_begin(writer, name, device->ops->state_version);
		device->ops->save(device, writer);
		state_section_close(writer);
	}
}

int machine_save(struct machine *machine, struct state_writer *writer, struct error *err)
{
	int ret = machine_check_movable(machine, err);

	if (ret < 0)
		return ret;
	save_own(machine, writer);
	ret = save_vm(machine, writer, err);
	for (unsigned i = 0; ret == 0 && i < machine->config.cpus; i++)
		ret = save_vcpu(machine, i, writer, err);
	if (ret < 0)
		return ret;
	save_counters(machine, writer);
	save_devices(machine, writer);
	return writer->failed ? error_errno(err, ENOMEM, "state of the machine") : 0;
}

/* ---- restored ---- */

static int refuse_pmu(uint8_t pmu, struct error *err)
{
	return error_set(err, EINVAL,
		"saved state: it is of a machine with --pmu %s; give this one the same",
		pmu <= PMU_FILTER ? pmu_words[pmu] : "of another kind");
}

static int restore_own(
	const struct machine *machine, struct state_reader *reader, struct error *err)
{
	uint64_t memory = state_get_u64(reader);
	uint32_t cpus = state_get_u32(reader), pv = state_get_u32(reader);
	/* Version 1 showed every guest what the host had. */
	bool nested = reader->version < 2 || state_get_bool(reader);
	/* ... and until 3 KVM's PMU. */
	uint8_t pmu = reader->version < 3 ? PMU_PASS : state_get_u8(reader);

	if (!reader->failed && (memory != machine->config.memory || cpus != machine->config.cpus ||
				       pv != machine->config.pv))
		return error_set(err, EINVAL,
			"saved state: it is of a machine with %u vCPUs, %llu MiB of memory and "
			"perhaps other --pv features than this one has; restore it with its own "
			"configuration",
			cpus, (unsigned long long)memory >> 20);
	if (!reader->failed && nested != machine->config.nested)
		return error_set(err, EINVAL,
			"saved state: it is of a machine with --nested %s; give this one the same",
			nested ? "on" : "off");
	if (!reader->failed && pmu != machine->config.pmu)
		return refuse_pmu(pmu, err);
	return 0;
}

static int restore_vcpu(
	struct machine *machine, unsigned index, struct sections *sections, struct error *err)
{
	char name[STATE_NAME_MAX + 1];
	struct state_reader *reader;
	int ret;

	name_vcpu(index, name);
	ret = sections_open(sections, name, VCPU_VERSION, &reader, err);
	if (ret == 0)
		ret = kvm_vcpu_restore(
			machine->vcpus[index].kvm, machine->msrs, machine->msr_count, reader, err);
	return ret < 0 ? ret : state_section_end(reader, err);
}

/* The VM's clock before the vCPUs' TSCs, which go by it. */
static int restore_vm(struct machine *machine, struct sections *sections, struct error *err)
{
	struct state_reader *reader;
	int ret = sections_open(sections, "machine", MACHINE_VERSION, &reader, err);

	if (ret == 0)
		ret = restore_own(machine, reader, err);
	if (ret == 0)
		ret = state_section_end(reader, err);
	if (ret == 0)
		ret = sections_open(sections, "vm", VM_VERSION, &reader, err);
	if (ret == 0)
		ret = kvm_vm_restore(machine->vm, reader, err);
	if (ret == 0)
		ret = state_section_end(reader, err);
	for (unsigned i = 0; ret == 0 && i < machine->config.cpus; i++)
		ret = restore_vcpu(machine, i, sections, err);
	return ret;
}

static int restore_counters(struct machine *machine, struct sections *sections, struct error *err)
{
	struct state_reader *reader;
	int ret;

	if (!machine->counters)
		return 0;
	ret = sections_open(sections, "counters", COUNTERS_STATE_VERSION, &reader, err);
	if (ret == 0)
		ret = counters_restore(machine->counters, reader, err);
	return ret < 0 ? ret : state_section_end(reader, err);
}

static int restore_device(struct device *device, struct sections *sections, struct error *err)
{
	char name[STATE_NAME_MAX + 1];
	struct state_reader *reader;
	int ret;

	name_device(device, name);
	ret = sections_open(sections, name, device->ops->state_version, &reader, err);
	if (ret == 0)
		ret = device->ops->restore(device, reader, err);
	return ret < 0 ? ret : state_section_end(reader, err);
}

static int restore_devices(struct machine *machine, struct sections *sections, struct error *err)
{
	struct state_reader *reader;
	int ret = sections_open(sections, "pci", PCI_VERSION, &reader, err);

	if (ret == 0)
		ret = pci_bus_restore(machine->pci, reader, err);
	if (ret == 0)
		ret = state_section_end(reader, err);
	for (struct device *device = machine->devices; ret == 0 && device; device = device->next)
		ret = restore_device(device, sections, err);
	return ret;
}

int machine_restore(struct machine *machine, struct state_reader *reader, struct error *err)
{
	struct sections sections;
	int ret = sections_read(&sections, reader, err);

	/* vCPUs, and with them the LAPICs, before devices, which may interrupt them at once. */
	if (ret == 0)
		ret = restore_vm(machine, &sections, err);
	if (ret == 0)
		ret = restore_counters(machine, &sections, err);
	if (ret == 0)
		ret = restore_devices(machine, &sections, err);
	if (ret == 0)
		ret = sections_all_opened(&sections, err);
	sections_free(&sections);
	if (ret == 0)
		machine->life.state = MACHINE_BUILT;
	return ret;
}
