/* SPDX-License-Identifier: Apache-2.0 */
#include "base/checked.h"
#include "base/thread.h"
#include "machine/internal.h"
#include "machine/numa.h"
#include "x86/cpu.h"
#include "x86/cpu_changes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CPUID_ENTRIES 128
#define MSR_ENTRIES   32
/* Dispatch goes a few frames deep and keeps no large buffers. */
#define STACK_SIZE (128U << 10)

/* KVM's structs with the room behind them that their flexible arrays need. */
union cpuid_table {
	struct kvm_cpuid2 header;
	uint8_t room[sizeof(struct kvm_cpuid2) + CPUID_ENTRIES * sizeof(struct kvm_cpuid_entry2)];
};

union msr_table {
	struct kvm_msrs header;
	uint8_t room[sizeof(struct kvm_msrs) + MSR_ENTRIES * sizeof(struct kvm_msr_entry)];
};

/* What --cpu-config takes away. */
static int change_cpuid(const struct machine *machine, struct kvm_cpuid2 *cpuid, struct error *err)
{
	struct cpu_change changes[CPU_CHANGES_MAX];
	unsigned count;
	int ret = cpu_changes_parse(changes, &count, machine->config.cpu_config, err);

	if (ret == 0)
		ret = cpu_changes_cpuid(cpuid, changes, count, err);
	return ret < 0 ? error_prefix(err, "--cpu-config: ") : 0;
}

/* A new vCPU's, for a restored one and a reset too; and after those of the boot. */
static int change_msrs(const struct machine *machine, struct machine_vcpu *vcpu, struct error *err)
{
	struct cpu_change changes[CPU_CHANGES_MAX];
	unsigned count;
	int ret = cpu_changes_parse(changes, &count, machine->config.cpu_config, err);

	for (unsigned i = 0; ret == 0 && i < count; i++)
		if (changes[i].msr)
			ret = kvm_vcpu_change_msr(vcpu->kvm, changes[i].index, changes[i].filter,
				changes[i].value, err);
	return ret < 0 ? error_prefix(err, "--cpu-config: ") : 0;
}

static int set_cpuid(struct machine *machine, const union cpuid_table *host,
	struct machine_vcpu *vcpu, struct error *err)
{
	struct cpu_topology topology = {
		.cpus = numa_cpus_of_node(&machine->config), .index = vcpu->index};
	struct cpu_traits traits = {.pv = machine->config.pv,
		.tsc_khz = kvm_vm_tsc_khz(machine->vm),
		.any_rate = machine->config.profile == PROFILE_MIGRATABLE,
		.nested = machine->config.nested,
		.pmu = machine->config.pmu == PMU_PASS || machine->config.pmu == PMU_FILTER};
	union cpuid_table table = *host;
	int ret = cpu_cpuid(&table.header, CPUID_ENTRIES, &topology, &traits, err);

	if (ret == 0)
		ret = change_cpuid(machine, &table.header, err);
	if (ret < 0)
		return ret;
	return kvm_vcpu_set_cpuid(vcpu->kvm, &table.header, machine->kvm_host.enforce_pv, err);
}

static int set_registers(struct machine *machine, struct machine_vcpu *vcpu, struct error *err)
{
	union msr_table msrs = {.room = {0}};
	struct kvm_sregs sregs;
	struct kvm_regs regs = {0};
	int ret;

	cpu_boot_msrs(&msrs.header, MSR_ENTRIES);
	ret = kvm_vcpu_set_msrs(vcpu->kvm, &msrs.header, err);
	if (ret == 0)
		ret = change_msrs(machine, vcpu, err);
	if (ret < 0 || vcpu->index > 0)
		return ret;
	ret = kvm_vcpu_get_sregs(vcpu->kvm, &sregs);
	if (ret < 0)
		return error_errno(err, -ret, "vCPU 0: KVM_GET_SREGS");
	cpu_boot_registers(&machine->entry, &regs, &sregs);
	return kvm_vcpu_set_registers(vcpu->kvm, &regs, &sregs, err);
}

int machine_boot_vcpus(struct machine *machine, struct error *err)
{
	int ret = cpu_boot_memory(&machine->memory, &machine->entry, err);

	for (unsigned i = 0; ret == 0 && i < machine->config.cpus; i++) {
		ret = set_registers(machine, &machine->vcpus[i], err);
		if (ret == 0)
			ret = kvm_vcpu_set_runnable(machine->vcpus[i].kvm, i == 0, err);
	}
	return ret;
}

static int create_vcpu(
	struct machine *machine, const union cpuid_table *host, unsigned index, struct error *err)
{
	struct machine_vcpu *vcpu = &machine->vcpus[index];
	int ret;

	vcpu->machine = machine;
	vcpu->index = index;
	boost_init(&vcpu->boost);
	ret = kvm_vcpu_new(&vcpu->kvm, machine->vm, index, machine->ports, machine->mmio, err);
	if (ret == 0)
		ret = set_cpuid(machine, host, vcpu, err);
	if (ret == 0)
		ret = change_msrs(machine, vcpu, err);
	return ret;
}

/* The MSRs to be saved, of those that this KVM knows. */
static int find_msrs(struct machine *machine, struct error *err)
{
	int count;

	machine->msrs = calloc(KVM_MSRS_MAX, sizeof(*machine->msrs));
	count = machine->msrs ? kvm_host_msrs(&machine->kvm_host, machine->msrs, KVM_MSRS_MAX)
			      : -ENOMEM;
	if (count < 0)
		return error_errno(err, -count, "/dev/kvm: its list of MSRs");
	for (int i = 0; i < count; i++)
		if (cpu_msr_is_state(machine->msrs[i]))
			machine->msrs[machine->msr_count++] = machine->msrs[i];
	return 0;
}

int machine_create_vcpus(struct machine *machine, struct error *err)
{
	union cpuid_table host = {.room = {0}};
	int ret = kvm_host_supported_cpuid(&machine->kvm_host, &host.header, CPUID_ENTRIES, err);

	pthread_mutex_init(&machine->boost_lock, NULL);
	if (ret == 0)
		ret = find_msrs(machine, err);
	for (unsigned i = 0; ret == 0 && i < machine->config.cpus; i++)
		ret = create_vcpu(machine, &host, i, err);
	if (ret == 0)
		ret = kvm_fresh_take(&machine->fresh, machine->vcpus[0].kvm, machine->msrs,
			machine->msr_count, err);
	return ret;
}

/* What the end of a vCPU means for the machine. */
static void vcpu_ended(struct machine_vcpu *vcpu, enum kvm_run_result result)
{
	struct machine *machine = vcpu->machine;

	switch (result) {
	case KVM_RUN_SHUTDOWN:
		machine_triple_fault(machine, vcpu->index);
		break;
	case KVM_RUN_RESET:
		machine_power_events.reset(machine);
		break;
	case KVM_RUN_POWEROFF:
		machine_power_events.power_off(machine);
		break;
	case KVM_RUN_CRASH:
		machine_end(machine, MACHINE_PANICKED, "the guest reported a crash");
		break;
	case KVM_RUN_HALTED:
		machine_end(machine, MACHINE_FAILED, "vCPU %u halted for good", vcpu->index);
		break;
	default:
		machine_end(machine, MACHINE_FAILED, "%s", kvm_vcpu_error(vcpu->kvm));
		break;
	}
}

static void gate_emptied(void *opaque)
{
	struct machine *machine = opaque;

	lifecycle_poke(&machine->life);
}

/* In the guest until somebody wants something of this vCPU. */
static void run_until_kicked(struct machine_vcpu *vcpu)
{
	enum kvm_run_result result;

	do
		result = kvm_vcpu_run(vcpu->kvm);
	while (result == KVM_RUN_AGAIN);
	if (result != KVM_RUN_KICKED)
		vcpu_ended(vcpu, result);
}

static void *run_vcpu(void *opaque)
{
	struct machine_vcpu *vcpu = opaque;
	struct machine *machine = vcpu->machine;
	char name[16];

	snprintf(name, sizeof(name), "vcpu%u", vcpu->index);
	pthread_setname_np(pthread_self(), name);
	atomic_store(&vcpu->tid, gettid());
	atomic_store(&vcpu->self, pthread_self());
	kvm_vcpu_thread_init(vcpu->kvm);
	if (machine->counters)
		counters_begin(machine->counters, vcpu->index);
	thread_confine(THREAD_VCPU);
	while (gate_pass(&machine->gate, gate_emptied, machine)) {
		machine_stay_out(vcpu);
		kvm_vcpu_was_paused(vcpu->kvm);
		run_until_kicked(vcpu);
	}
	atomic_store(&vcpu->tid, 0);
	atomic_store(&vcpu->self, 0);
	return NULL;
}

static int start_vcpu(struct machine_vcpu *vcpu)
{
	int ret;

	gate_enter(&vcpu->machine->gate);
	/* Before it may run: another one may have to be stopped, and all with it, at once. */
	vcpu->started = true;
	ret = thread_start(&vcpu->thread, STACK_SIZE, run_vcpu, vcpu);
	if (ret) {
		vcpu->started = false;
		gate_forget(&vcpu->machine->gate);
	}
	return ret;
}

int machine_begin_vcpus(struct machine *machine, struct error *err)
{
	for (unsigned i = 0; i < machine->config.cpus; i++) {
		int ret = machine->vcpus[i].started ? 0 : start_vcpu(&machine->vcpus[i]);

		if (ret)
			return error_errno(err, ret, "--cpus: thread of vCPU %u", i);
	}
	return 0;
}

void machine_run_vcpus(struct machine *machine)
{
	gate_set(&machine->gate, GATE_OPEN);
}

int machine_vcpu_thread(const struct machine *machine, unsigned index)
{
	return index < machine->config.cpus ? atomic_load(&machine->vcpus[index].tid) : 0;
}

void machine_kick_vcpu(struct machine_vcpu *vcpu)
{
	if (vcpu->started)
		kvm_vcpu_kick(vcpu->kvm);
}

void machine_kick_vcpus(struct machine *machine)
{
	for (unsigned i = 0; i < machine->config.cpus; i++)
		machine_kick_vcpu(&machine->vcpus[i]);
}

void machine_halt_vcpus(struct machine *machine)
{
	if (gate_set(&machine->gate, GATE_SHUT))
		machine_kick_vcpus(machine);
}

void machine_join_vcpus(struct machine *machine)
{
	gate_set(&machine->gate, GATE_LEAVE);
	machine_kick_vcpus(machine);
	for (unsigned i = 0; i < machine->config.cpus; i++) {
		if (machine->vcpus[i].started)
			pthread_join(machine->vcpus[i].thread, NULL);
		machine->vcpus[i].started = false;
	}
}

void machine_free_vcpus(struct machine *machine)
{
	kvm_fresh_free(machine->fresh);
	free(machine->msrs);
	for (unsigned i = 0; i < machine->config.cpus; i++) {
		kvm_vcpu_free(machine->vcpus[i].kvm);
		boost_destroy(&machine->vcpus[i].boost);
	}
	pthread_mutex_destroy(&machine->boost_lock);
}
