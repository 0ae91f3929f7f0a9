/* SPDX-License-Identifier: Apache-2.0 */
#include "base/checked.h"
#include "base/clock.h"
#include "base/log.h"
#include "machine/internal.h"
#include "machine/numa.h"
#include "virtio/devices.h"
#include "virtio/virtio.h"
#include "x86/acpi.h"
#include "x86/cpu.h"
#include "x86/layout.h"
#include "x86/mptable.h"
#include "x86/smbios.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Operations between two waits of the loop: doorbells, a few hundred block requests. */
#define IO_LOOP_ENTRIES 256

static int add_region(
	struct machine *machine, uint64_t base, uint64_t size, const char *name, struct error *err)
{
	struct memory *memory = &machine->memory;

	if (machine->image >= 0)
		return memory_add_file(
			memory, GPA(base), size, machine->image, memory_size(memory), name, err);
	return memory_add(memory, GPA(base), size, MEMORY_ANONYMOUS, name, err);
}

static int add_memory(struct machine *machine, struct error *err)
{
	uint64_t low = min_u64(machine->config.memory, LAYOUT_LOW_RAM_MAX);
	uint64_t high = machine->config.memory - low;
	int ret = add_region(machine, 0, low, "low", err);

	if (ret == 0 && high)
		ret = add_region(machine, LAYOUT_HIGH_RAM, high, "high", err);
	if (ret == 0)
		ret = numa_bind(&machine->memory, &machine->config, err);
	if (ret == 0)
		ret = kvm_vm_map_memory(machine->vm, &machine->memory, err);
	return ret;
}

/* Doorbells of as many virtio devices as there are slots, and the calls of one. */
_Static_assert(LAYOUT_PCI_PORTS_SIZE >= (MACHINE_SLOTS - 1) * 256 + VIRTIO_CALL_PORTS,
	"each device has its ports");

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

static enum kvm_vm_pmu pmu_of(const struct machine_config *config)
{
	switch (config->pmu) {
	case PMU_PASS:
		return KVM_VM_PMU_PASS;
	case PMU_FILTER:
		return KVM_VM_PMU_FILTER;
	default:
		return KVM_VM_PMU_NONE;
	}
}

static int create_vm(struct machine *machine, struct error *err)
{
	struct kvm_vm_options options = {.irqchip = machine->config.irqchip,
		.cpus = machine->config.cpus,
		.pit = machine->config.irqchip == KVM_VM_IRQCHIP_KERNEL,
		.pmu = pmu_of(&machine->config),
		.tsc_khz = machine->config.tsc_khz,
		.tsc_may_differ = machine->config.profile == PROFILE_MIGRATABLE,
		.clock_stopped = machine->config.clock == CLOCK_STOPPED,
		.dirty_ring = machine->config.dirty == DIRTY_RING,
		.reserved_gpa = LAYOUT_KVM_RESERVED};
	int ret = kvm_host_open(&machine->kvm_host, err);

	if (ret == 0)
		ret = kvm_require_hardware(&machine->kvm_host, err);
	if (ret < 0)
		return ret;
	ret = kvm_vm_new(&machine->vm, &machine->kvm_host, &options, err);
	if (ret == 0 && options.dirty_ring && !kvm_vm_dirty_by_ring(machine->vm))
		log_warning("--dirty ring: this host's KVM has no rings (Linux 5.11 has them): "
			    "writes are logged as by --dirty log, and a move slows all vCPUs "
			    "alike");
	if (ret == 0)
		ret = add_memory(machine, err);
	/* Half of the exits that console output costs: each character's write waits in KVM for the
	 * read of the line status that follows it. A KVM that cannot do so loses nothing else. */
	if (ret == 0)
		kvm_vm_coalesce(machine->vm, true, LAYOUT_SERIAL_PORT, 1);
	return ret;
}

/* I/O thread. Nothing of any device will ever come to an end again. */
static void io_died(void *opaque, int error)
{
	struct machine *machine = opaque;

	/* First: a machine at rest ends as soon as it is told to, and must not wait for this
	 * thread. */
	lifecycle_io_died(&machine->life);
	machine_end(machine, MACHINE_FAILED, "the I/O thread: io_uring: %s", strerror(-error));
}

static int create_buses(struct machine *machine, struct error *err)
{
	const struct loop_thread_options io = {
		.name = "duet-io", .entries = IO_LOOP_ENTRIES, .died = io_died, .opaque = machine};
	struct device_place *place = &machine->place;
	int ret = bus_new(&machine->ports, "port");

	if (ret == 0)
		ret = bus_new(&machine->mmio, "mmio");
	if (ret < 0)
		return error_errno(err, -ret, "buses");
	ret = loop_thread_new(&machine->io, &io, err);
	if (ret < 0)
		return ret;
	*place = (struct device_place){
		.memory = &machine->memory,
		.ports = machine->ports,
		.mmio = machine->mmio,
		.host = kvm_vm_bus_host(machine->vm),
		.io = loop_thread_loop(machine->io),
		.main = machine->owner.loop,
	};
	machine->windows = place_windows(&machine->config);
	ret = pci_bus_new(&machine->pci, place, &machine->windows, err);
	place->pci = machine->pci;
	return ret;
}

static int write_smbios(struct machine *machine, struct error *err)
{
	const struct machine_config *config = &machine->config;
	struct smbios_config smbios = {.manufacturer = config->manufacturer,
		.product = config->product,
		.serial = config->serial_number};

	memcpy(smbios.uuid, config->uuid.bytes, sizeof(smbios.uuid));
	return smbios_write(&machine->memory, &smbios, err);
}

/* What firmware leaves in memory. */
static int write_tables(struct machine *machine, uint64_t *rsdp, struct error *err)
{
	const struct machine_config *config = &machine->config;
	const struct pci_windows *windows = &machine->windows;
	const bool pic = config->irqchip == KVM_VM_IRQCHIP_KERNEL;
	struct acpi_range ranges[ACPI_RANGES_MAX];
	struct acpi_config acpi = {
		.cpus = config->cpus,
		.ecam = windows->ecam,
		.mmio32 = windows->memory32,
		.mmio32_size = windows->memory32_size,
		.mmio64 = windows->memory64,
		.mmio64_size = windows->memory64_size,
		.pic = pic,
		.keyboard = config->keyboard,
		.eject = machine_config_device(config, DEVICE_VFIO, 0) != NULL,
		.nodes = config->numa,
		.distance = config->numa_distance,
		.ranges = ranges,
		.range_count = numa_ranges(config, ranges),
	};
	struct mptable_config mptable = {.cpus = config->cpus, .pic = pic, .slots = MACHINE_SLOTS};
	int ret = acpi_build(&machine->memory, &acpi, rsdp, err);

	if (ret == 0)
		ret = mptable_write(&machine->memory, &mptable, err);
	if (ret == 0)
		ret = write_smbios(machine, err);
	if (ret == 0)
		ret = machine_write_generation(machine, err);
	return ret == 0 ? machine_prepare_restart(machine, err) : ret;
}

int machine_load_kernel(struct machine *machine, struct error *err)
{
	const struct machine_config *config = &machine->config;
	char cmdline[4096];
	struct kernel_options kernel = {
		.cmdline = cmdline,
		.unpack = config->unpack,
		.cache = config->cache && strcmp(config->cache, "off") != 0 ? config->cache : NULL,
		.ram_size = config->memory,
	};
	int ret =
		machine_cmdline(config, kvm_vm_tsc_khz(machine->vm), cmdline, sizeof(cmdline), err);

	if (ret < 0)
		return ret;
	kernel.randomise = !machine_cmdline_has(cmdline, "nokaslr");
	ret = write_tables(machine, &kernel.rsdp, err);
	if (ret == 0)
		ret = kernel_load(&machine->memory, machine->kernel, &kernel, &machine->entry, err);
	return ret;
}

void machine_waits(struct machine *machine, bool begins)
{
	if (machine->owner.waits)
		machine->owner.waits(machine->owner.opaque, begins);
}

/* All but what the guest's memory and its vCPUs begin with. */
static int build(struct machine *machine, struct error *err)
{
	int ret = create_vm(machine, err);

	if (ret == 0)
		ret = create_buses(machine, err);
	if (ret == 0 && machine->config.pmu == PMU_PV)
		ret = counters_new(&machine->counters, machine->config.cpus, err);
	if (ret == 0)
		ret = machine_create_devices(machine, err);
	if (ret == 0)
		ret = machine_create_vcpus(machine, err);
	if (ret == 0)
		machine->config.tsc_khz = kvm_vm_tsc_khz(machine->vm);
	return ret;
}

int machine_build(struct machine *machine, struct error *err)
{
	int ret = kernel_source_open(
		&machine->kernel, machine->config.kernel, machine->config.initrd, err);

	if (ret == 0)
		ret = build(machine, err);
	if (ret == 0)
		ret = machine_load_kernel(machine, err);
	if (ret == 0)
		ret = machine_boot_vcpus(machine, err);
	if (ret == 0)
		machine->life.state = MACHINE_BUILT;
	return ret;
}

int machine_build_bare(struct machine *machine, struct error *err)
{
	struct error missing = {0};

	if (kernel_source_open(&machine->kernel, machine->config.kernel, machine->config.initrd,
		    &missing) < 0) {
		log_warning("%s; a guest that resets ends here", missing.text);
		machine->kernel = NULL;
	}
	return build(machine, err);
}

int machine_build_over(struct machine *machine, int fd, struct error *err)
{
	int ret;

	machine->image = fd;
	ret = machine_build_bare(machine, err);
	machine->image = -1;
	return ret;
}

/* What the guest printed and KVM still queues: a guest that went idle makes no exit. */
static void drain_serial(struct machine *machine)
{
	kvm_vcpu_drain_coalesced(machine->vcpus[0].kvm);
}

static struct machine *machine_of(struct lifecycle *life)
{
	return container_of(life, struct machine, life);
}

static void halt(struct lifecycle *life)
{
	machine_halt_vcpus(machine_of(life));
}

static bool halted(struct lifecycle *life)
{
	struct machine *machine = machine_of(life);

	if (!gate_is_empty(&machine->gate))
		return false;
	drain_serial(machine);
	machine_coop_stopped(machine);
	return true;
}

static void go(struct lifecycle *life)
{
	machine_coop_goes_on(machine_of(life));
	machine_run_vcpus(machine_of(life));
}

static int reset(struct lifecycle *life, struct error *err)
{
	return machine_reset(machine_of(life), err);
}

static void ended(struct lifecycle *life)
{
	struct machine *machine = machine_of(life);

	sharing_end(&machine->sharing);
	if (machine->given_away)
		return;
	drain_serial(machine);
	serial_flush(machine->serial, life->killed);
	if (machine->console && !life->stuck)
		virtio_console_flush(machine->console, life->killed);
}

static void changed(struct lifecycle *life, enum machine_state state)
{
	struct machine *machine = machine_of(life);

	if (machine->owner.changed)
		machine->owner.changed(machine->owner.opaque, state);
}

static const struct lifecycle_ops lifecycle_ops = {
	.halt = halt,
	.halted = halted,
	.go = go,
	.reset = reset,
	.ended = ended,
	.changed = changed,
};

int machine_new(struct machine **out, const struct machine_config *config,
	const struct machine_owner *owner, struct error *err)
{
	struct machine *machine = calloc(1, sizeof(*machine));
	int ret;

	if (!machine || machine_config_copy(&machine->config, config) < 0) {
		free(machine);
		return error_errno(err, ENOMEM, "machine");
	}
	ret = machine_config_complete(&machine->config, err);
	if (ret < 0) {
		machine_config_free(&machine->config);
		free(machine);
		return ret;
	}
	machine->owner = *owner;
	machine->image = -1;
	machine->kvm_host.fd = -1;
	machine->last_device = &machine->devices;
	lifecycle_init(&machine->life, &lifecycle_ops, owner->loop, &machine->devices);
	gate_init(&machine->gate);
	memory_init(&machine->memory);
	vfio_container_init(&machine->passed);
	sharing_init(&machine->sharing, &machine->memory, owner->loop);
	machine->throttle.timer.expired = machine_throttle_tick;
	machine->created = clock_ns();
	*out = machine;
	return 0;
}

int machine_ready(struct machine *machine, struct error *err)
{
	int ret = loop_thread_ready(machine->io, err);

	/* Threads open their vCPU's counters as they begin, and those come with the guest. */
	return ret < 0 || machine->counters ? ret : machine_begin_vcpus(machine, err);
}

/* All threads first: where one cannot be had, nothing of the guest has moved yet. */
int machine_start(struct machine *machine, struct error *err)
{
	int ret = loop_thread_go(machine->io, err);

	if (ret == 0)
		ret = machine_begin_vcpus(machine, err);
	return ret < 0 ? ret : lifecycle_start(&machine->life, err);
}

enum machine_state machine_state(const struct machine *machine)
{
	return machine->life.state;
}

bool machine_is_paused(const struct machine *machine)
{
	return lifecycle_is_paused(&machine->life);
}

int machine_pause(struct machine *machine, struct machine_pause *pause, uint64_t limit)
{
	return lifecycle_pause(&machine->life, pause, limit);
}

void machine_resume(struct machine *machine)
{
	lifecycle_resume(&machine->life);
}

bool machine_is_stuck(const struct machine *machine)
{
	return machine->life.stuck;
}

void machine_leave(struct machine *machine)
{
	machine->life.stuck = true;
}

/* A vCPU that passes the gate tells its guest. */
void machine_continued(struct machine *machine)
{
	machine_kick_vcpus(machine);
}

size_t machine_type(struct machine *machine, const void *bytes, size_t length)
{
	drain_serial(machine);
	return machine->console ? virtio_console_input(machine->console, bytes, length)
				: serial_input(machine->serial, bytes, length);
}

void machine_resize_console(struct machine *machine, uint16_t columns, uint16_t rows)
{
	if (machine->console)
		virtio_console_resize(machine->console, columns, rows);
}

struct memory *machine_memory(struct machine *machine)
{
	return &machine->memory;
}

struct device *machine_balloon(const struct machine *machine)
{
	return machine->balloon;
}

struct device *machine_coop(const struct machine *machine)
{
	return machine->coop;
}

const struct machine_config *machine_config(const struct machine *machine)
{
	return &machine->config;
}

void machine_free(struct machine *machine)
{
	/* Something of it is still in the kernel's hands, which might write to what is freed: it
	 * hangs, or the loop that would have brought it to rest has failed. */
	if (!machine || machine->life.stuck || machine->life.phase != DEVICES_AT_REST)
		return;
	placement_end(&machine->placement);
	loop_timer_stop(&machine->throttle.timer);
	machine_end_unplug(machine);
	machine_join_vcpus(machine);
	sharing_end(&machine->sharing);
	/* The I/O thread first: no callback runs while devices go. */
	if (machine->io)
		loop_thread_quit(machine->io);
	machine_free_announcements(machine);
	machine_free_devices(machine);
	if (machine->pci)
		pci_bus_free(machine->pci);
	machine_free_vcpus(machine);
	counters_free(machine->counters);
	if (machine->vm)
		kvm_vm_free(machine->vm);
	if (machine->kvm_host.fd >= 0)
		kvm_host_close(&machine->kvm_host);
	memory_free(&machine->memory);
	loop_thread_stop(machine->io);
	bus_free(machine->ports);
	bus_free(machine->mmio);
	kernel_source_close(machine->kernel);
	lifecycle_destroy(&machine->life);
	gate_destroy(&machine->gate);
	machine_config_free(&machine->config);
	free(machine);
}
