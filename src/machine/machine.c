/* SPDX-License-Identifier: Apache-2.0 */
#include "base/checked.h"
#include "base/clock.h"
#include "base/log.h"
#include "machine/footprint.h"
#include "machine/internal.h"
#include "virtio/devices.h"
#include "x86/acpi.h"
#include "x86/cpu.h"
#include "x86/layout.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Operations between two waits of a loop: doorbells, a few hundred block requests. */
#define MAIN_LOOP_ENTRIES 16
#define IO_LOOP_ENTRIES   256

static int add_memory(struct machine *machine, struct error *err)
{
	uint64_t low = min_u64(machine->config.memory, LAYOUT_LOW_RAM_MAX);
	uint64_t high = machine->config.memory - low;
	int ret = memory_add(&machine->memory, GPA(0), low, MEMORY_ANONYMOUS, "low", err);

	if (ret == 0 && high)
		ret = memory_add(&machine->memory, GPA(LAYOUT_HIGH_RAM), high, MEMORY_ANONYMOUS,
			"high", err);
	if (ret == 0)
		ret = kvm_vm_map_memory(machine->vm, &machine->memory, err);
	return ret;
}

static struct pci_windows place_windows(const struct machine_config *config)
{
	uint64_t high =
		config->memory > LAYOUT_LOW_RAM_MAX ? config->memory - LAYOUT_LOW_RAM_MAX : 0;

	return (struct pci_windows){
		.ecam = LAYOUT_ECAM,
		.memory32 = LAYOUT_MMIO32,
		.memory32_size = LAYOUT_MMIO32_SIZE,
		.memory64 = align_up(LAYOUT_HIGH_RAM + high, 4ULL << 30),
		.memory64_size = LAYOUT_MMIO64_SIZE,
		.ports = LAYOUT_PCI_PORTS,
		.ports_size = LAYOUT_PCI_PORTS_SIZE,
	};
}

static int create_vm(struct machine *machine, struct error *err)
{
	struct kvm_vm_options options = {.irqchip = machine->config.irqchip,
		.cpus = machine->config.cpus,
		.pit = machine->config.irqchip == KVM_VM_IRQCHIP_KERNEL,
		.reserved_gpa = LAYOUT_KVM_RESERVED};
	int ret = kvm_host_open(&machine->kvm_host, err);

	if (ret == 0)
		ret = kvm_require_hardware(&machine->kvm_host, err);
	if (ret < 0)
		return ret;
	ret = kvm_vm_new(&machine->vm, &machine->kvm_host, &options, err);
	if (ret == 0)
		ret = add_memory(machine, err);
	/* Half of the exits that console output costs: each character's write waits in KVM for the
	 * read of the line status that follows it. A KVM that cannot do so loses nothing else. */
	if (ret == 0)
		kvm_vm_coalesce(machine->vm, true, LAYOUT_SERIAL_PORT, 1);
	return ret;
}

static int create_buses(struct machine *machine, struct error *err)
{
	struct device_place *place = &machine->place;
	int ret = bus_new(&machine->ports, "port");

	if (ret == 0)
		ret = bus_new(&machine->mmio, "mmio");
	if (ret < 0)
		return error_errno(err, -ret, "buses");
	ret = loop_new(&machine->main, MAIN_LOOP_ENTRIES, err);
	if (ret == 0)
		ret = loop_thread_start(&machine->io, "duet-io", IO_LOOP_ENTRIES, err);
	if (ret < 0)
		return ret;
	*place = (struct device_place){
		.memory = &machine->memory,
		.ports = machine->ports,
		.mmio = machine->mmio,
		.host = kvm_vm_bus_host(machine->vm),
		.io = loop_thread_loop(machine->io),
		.main = machine->main,
	};
	machine->windows = place_windows(&machine->config);
	ret = pci_bus_new(&machine->pci, place, &machine->windows, err);
	place->pci = machine->pci;
	return ret;
}

static int load_kernel(struct machine *machine, struct error *err)
{
	const struct machine_config *config = &machine->config;
	const struct pci_windows *windows = &machine->windows;
	char cmdline[4096];
	struct acpi_config acpi = {
		.cpus = config->cpus,
		.ecam = windows->ecam,
		.mmio32 = windows->memory32,
		.mmio32_size = windows->memory32_size,
		.mmio64 = windows->memory64,
		.mmio64_size = windows->memory64_size,
		.pic = config->irqchip == KVM_VM_IRQCHIP_KERNEL,
		/* Without kvmclock the guest needs something to measure the TSC against. */
		.pm_timer = !(config->pv & PV_CLOCK),
	};
	struct kernel_options kernel = {
		.kernel = config->kernel,
		.initrd = config->initrd,
		.cmdline = cmdline,
		.unpack = config->unpack,
		.cache = config->cache,
		.ram_size = config->memory,
	};
	int ret =
		machine_cmdline(config, kvm_vm_tsc_khz(machine->vm), cmdline, sizeof(cmdline), err);

	if (ret < 0)
		return ret;
	kernel.randomise = !machine_cmdline_has(cmdline, "nokaslr");
	ret = acpi_build(&machine->memory, &acpi, &kernel.rsdp, err);
	if (ret == 0)
		ret = kernel_load(&machine->memory, &kernel, &machine->entry, err);
	return ret;
}

static int build(struct machine *machine, struct error *err)
{
	int ret = create_vm(machine, err);

	if (ret == 0)
		ret = create_buses(machine, err);
	if (ret == 0)
		ret = load_kernel(machine, err);
	if (ret == 0)
		ret = machine_create_devices(machine, err);
	if (ret == 0)
		ret = machine_create_vcpus(machine, err);
	return ret;
}

int machine_new(struct machine **out, const struct machine_config *config, struct error *err)
{
	struct machine *machine = calloc(1, sizeof(*machine));
	int ret;

	if (!machine)
		return error_errno(err, ENOMEM, "machine");
	machine->config = *config;
	machine->kvm_host.fd = -1;
	machine->signal_fd = -1;
	machine->last_device = &machine->devices;
	machine_power_init(machine);
	memory_init(&machine->memory);
	vfio_container_init(&machine->passed);
	machine->created = clock_ns();
	ret = build(machine, err);
	if (ret < 0) {
		machine_free(machine);
		return ret;
	}
	*out = machine;
	return 0;
}

/* What the guest printed and KVM still queues: a guest that went idle makes no exit. */
static void drain_serial(struct machine *machine)
{
	kvm_vcpu_drain_coalesced(machine->vcpus[0].kvm);
}

static size_t typed(void *opaque, const void *bytes, size_t length)
{
	struct machine *machine = opaque;

	drain_serial(machine);
	return machine->console ? virtio_console_input(machine->console, bytes, length)
				: serial_input(machine->serial, bytes, length);
}

static void end_typed(void *opaque)
{
	machine_end(opaque, MACHINE_KILLED, "ended by Ctrl-A x");
}

static const struct terminal_events terminal_events = {.typed = typed, .end = end_typed};

static void pump(void *opaque)
{
	struct machine *machine = opaque;

	terminal_pump(&machine->terminal);
}

static int start_devices(struct machine *machine, struct error *err)
{
	for (struct device *device = machine->devices; device; device = device->next) {
		int ret = device->ops->start ? device->ops->start(device, err) : 0;

		if (ret < 0)
			return ret;
	}
	return 0;
}

static void stop_devices(struct machine *machine)
{
	for (struct device *device = machine->devices; device; device = device->next) {
		if (device->ops->stop)
			device->ops->stop(device);
	}
}

int machine_run(struct machine *machine, enum machine_end *end, struct error *err)
{
	int ret = machine_watch_signals(machine, err);

	if (ret == 0)
		ret = start_devices(machine, err);
	if (ret < 0)
		return ret;
	serial_set_room(machine->serial, pump, machine);
	terminal_start(&machine->terminal, machine->main, STDIN_FILENO, &terminal_events, machine);
	footprint_trim();
	ret = machine_start_vcpus(machine, err);
	if (ret == 0) {
		ret = loop_run(machine->main);
		if (ret < 0)
			error_errno(err, -ret, "main loop: io_uring");
	}
	machine_join_vcpus(machine);
	stop_devices(machine);
	drain_serial(machine);
	serial_flush(machine->serial);
	terminal_stop(&machine->terminal);
	machine_unwatch_signals(machine);
	if (ret < 0)
		return ret;
	*end = (enum machine_end)(atomic_load(&machine->end) - 1);
	if (*end != MACHINE_POWERED_OFF && *end != MACHINE_RESET)
		error_set(err, ECANCELED, "%s", machine->end_text);
	return 0;
}

void machine_free(struct machine *machine)
{
	if (!machine)
		return;
	machine_join_vcpus(machine);
	machine_unwatch_signals(machine);
	/* The I/O thread first: no callback runs while devices go. */
	if (machine->io)
		loop_thread_quit(machine->io);
	machine_free_devices(machine);
	if (machine->pci)
		pci_bus_free(machine->pci);
	machine_free_vcpus(machine);
	if (machine->vm)
		kvm_vm_free(machine->vm);
	if (machine->kvm_host.fd >= 0)
		kvm_host_close(&machine->kvm_host);
	memory_free(&machine->memory);
	loop_thread_stop(machine->io);
	loop_free(machine->main);
	bus_free(machine->ports);
	bus_free(machine->mmio);
	free(machine);
}
