/* SPDX-License-Identifier: Apache-2.0 */
/* Every device a machine can have, in one table. */
#include "virtio/devices.h"
#include "base/checked.h"
#include "emulated/e1000.h"
#include "emulated/ide.h"
#include "machine/internal.h"
#include "machine/mac.h"

#include <errno.h>
#include <stdio.h>

static void room(void *opaque)
{
	struct machine *machine = opaque;

	if (machine->owner.room)
		machine->owner.room(machine->owner.opaque);
}

static int create_serial(
	struct machine *machine, unsigned index, struct device **device, struct error *err)
{
	int ret = serial_new(device, machine->owner.output, err);

	(void)index;
	machine->serial = *device;
	if (ret == 0)
		serial_set_room(*device, room, machine);
	return ret;
}

static int create_pm(
	struct machine *machine, unsigned index, struct device **device, struct error *err)
{
	int ret = acpi_pm_new(device, &machine_power_events, machine, err);

	(void)index;
	machine->pm = *device;
	return ret;
}

static int create_keyboard(
	struct machine *machine, unsigned index, struct device **device, struct error *err)
{
	(void)index;
	return keyboard_new(device, &machine_power_events, machine, err);
}

static int create_rtc(
	struct machine *machine, unsigned index, struct device **device, struct error *err)
{
	(void)machine;
	(void)index;
	return rtc_new(device, err);
}

static int send_msi(void *opaque, uint64_t address, uint32_t data)
{
	return kvm_vm_signal_msi(opaque, address, data);
}

static int set_route(void *opaque, unsigned pin, uint64_t address, uint32_t data, bool masked)
{
	return kvm_vm_route_pin(opaque, pin, address, data, masked);
}

static void ioapic_line(void *opaque, unsigned pin, bool level)
{
	ioapic_set_line(opaque, pin, level);
}

static void ioapic_vector_done(void *opaque, unsigned vector)
{
	ioapic_eoi(opaque, vector);
}

static void pin_ended(void *opaque, unsigned pin)
{
	kvm_vm_pin_ended(opaque, pin);
}

static int create_ioapic(
	struct machine *machine, unsigned index, struct device **device, struct error *err)
{
	struct ioapic_host host = {
		.send_msi = send_msi,
		.set_route = set_route,
		.pin_ended = pin_ended,
		.opaque = machine->vm,
	};
	int ret = ioapic_new(device, &host, err);

	(void)index;
	if (ret == 0) {
		kvm_vm_set_ioapic(machine->vm, ioapic_line, *device);
		kvm_vm_set_eoi(machine->vm, ioapic_vector_done, *device);
	}
	return ret;
}

/* The place in the configuration of the @nth disk of @model; disk_count when there are fewer. */
static unsigned disk_of(const struct machine_config *config, enum disk_model model, unsigned nth)
{
	unsigned index = 0;

	for (; index < config->disk_count; index++)
		if (config->disks[index].model == model && nth-- == 0)
			break;
	return index;
}

static int open_disk(struct block **block, const struct disk_config *disk, struct error *err)
{
	struct block_options file = {.path = disk->path,
		.readonly = disk->readonly,
		.cache = disk->cache,
		.iops = disk->iops,
		.lock = true};

	return block_open(block, &file, err);
}

static int create_disk(
	struct machine *machine, unsigned nth, struct device **device, struct error *err)
{
	unsigned index = disk_of(&machine->config, DISK_VIRTIO, nth);
	const struct disk_config *disk = &machine->config.disks[index];
	struct virtio_block_options options = {.queues = disk->queues ? disk->queues : 1,
		.packed = machine->config.packed,
		.poll = disk->poll};
	char name[16];
	int ret = open_disk(&options.block, disk, err);

	if (ret < 0)
		return ret;
	snprintf(name, sizeof(name), "disk%u", index);
	snprintf(options.serial, sizeof(options.serial), "duet-%s", name);
	return virtio_block_new(device, name, &options, err);
}

static int open_drives(
	const struct machine_config *config, struct ide_options *options, struct error *err)
{
	int ret = 0;

	for (unsigned i = 0; ret == 0 && i < IDE_DRIVES_MAX; i++) {
		unsigned index = disk_of(config, DISK_IDE, i);

		if (index == config->disk_count)
			break;
		snprintf(options->drives[i].name, sizeof(options->drives[i].name), "disk%u", index);
		ret = open_disk(&options->drives[i].block, &config->disks[index], err);
	}
	return ret;
}

static int create_ide(
	struct machine *machine, unsigned index, struct device **device, struct error *err)
{
	struct ide_options options = {0};
	int ret = open_drives(&machine->config, &options, err);

	(void)index;
	if (ret == 0)
		return ide_new(device, "ide0", &options, err);
	for (unsigned i = 0; i < IDE_DRIVES_MAX; i++)
		block_close(options.drives[i].block);
	return ret;
}

/* The back end of @net, up and running. */
static int open_net(struct net **link, const struct machine *machine, const struct net_config *net,
	struct error *err)
{
	struct net_options options = {.kind = net->kind,
		.ifname = net->ifname,
		.passt = machine->config.passt,
		.forward = net->forward,
		.queues = net->queues ? net->queues : 1};
	int ret = net_open(link, &options, err);

	if (ret < 0)
		return ret;
	ret = net_ready(*link, err);
	if (ret < 0)
		net_close(*link);
	return ret;
}

static int create_virtio_net(struct machine *machine, unsigned index, const char *name,
	struct device **device, struct error *err)
{
	const struct net_config *net = &machine->config.nets[index];
	struct virtio_net_options options = {.mtu = net->mtu,
		.queue_pairs = net->queues ? net->queues : 1,
		.packed = machine->config.packed,
		.offloads = net->offloads,
		.poll = net->poll,
		.vhost = net->vhost};
	int ret = open_net(&options.net, machine, net, err);

	if (ret < 0)
		return ret;
	machine_mac(net, index, options.mac);
	return virtio_net_new(device, name, &options, err);
}

static int create_e1000(struct machine *machine, unsigned index, const char *name,
	struct device **device, struct error *err)
{
	const struct net_config *net = &machine->config.nets[index];
	struct e1000_options options = {0};
	int ret = open_net(&options.net, machine, net, err);

	if (ret < 0)
		return ret;
	machine_mac(net, index, options.mac);
	return e1000_new(device, name, &options, err);
}

static int create_net(
	struct machine *machine, unsigned index, struct device **device, struct error *err)
{
	char name[16];

	snprintf(name, sizeof(name), "net%u", index);
	if (machine->config.nets[index].model == NET_MODEL_E1000)
		return create_e1000(machine, index, name, device, err);
	return create_virtio_net(machine, index, name, device, err);
}

static int create_console(
	struct machine *machine, unsigned index, struct device **device, struct error *err)
{
	struct virtio_console_options options = {
		.input = -1, .output = machine->owner.output, .packed = machine->config.packed};
	int ret = virtio_console_new(device, "console0", &options, err);

	(void)index;
	machine->console = *device;
	return ret;
}

static int create_entropy(
	struct machine *machine, unsigned index, struct device **device, struct error *err)
{
	(void)index;
	return virtio_entropy_new(device, "entropy0", machine->config.packed, err);
}

static int create_passed(
	struct machine *machine, unsigned index, struct device **device, struct error *err)
{
	char name[16];

	snprintf(name, sizeof(name), "vfio%u", index);
	return vfio_new(device, name, &machine->passed, machine->config.passed[index].host, err);
}

static unsigned always(const struct machine_config *config)
{
	(void)config;
	return 1;
}

static unsigned with_split_irqchip(const struct machine_config *config)
{
	return config->irqchip == KVM_VM_IRQCHIP_SPLIT;
}

static unsigned disks(const struct machine_config *config)
{
	unsigned count = 0;

	for (unsigned i = 0; i < config->disk_count; i++)
		count += config->disks[i].model == DISK_VIRTIO;
	return count;
}

static unsigned ides(const struct machine_config *config)
{
	return disk_of(config, DISK_IDE, 0) < config->disk_count;
}

static unsigned nets(const struct machine_config *config)
{
	return config->net_count;
}

static unsigned consoles(const struct machine_config *config)
{
	return config->console == CONSOLE_VIRTIO;
}

static unsigned passed(const struct machine_config *config)
{
	return config->passed_count;
}

static unsigned entropies(const struct machine_config *config)
{
	return config->entropy;
}

/* The order is the order of PCI slots, so that a configuration always gives the same machine. */
static const struct {
	unsigned (*count)(const struct machine_config *config);
	int (*create)(
		struct machine *machine, unsigned index, struct device **device, struct error *err);
} device_table[] = {
	{with_split_irqchip, create_ioapic},
	{always, create_serial},
	{always, create_pm},
	{always, create_keyboard},
	{always, create_rtc},
	{disks, create_disk},
	{ides, create_ide},
	{nets, create_net},
	{consoles, create_console},
	{entropies, create_entropy},
	{passed, create_passed},
};

static int create_device(struct machine *machine, unsigned entry, unsigned index, struct error *err)
{
	struct device *device = NULL;
	int ret = device_table[entry].create(machine, index, &device, err);

	if (ret < 0)
		return ret;
	/* On the list before realize, so that a failure frees it with the rest. */
	*machine->last_device = device;
	machine->last_device = &device->next;
	return device->ops->realize(device, &machine->place, err);
}

int machine_create_devices(struct machine *machine, struct error *err)
{
	int ret = 0;

	for (unsigned i = 0; ret == 0 && i < ARRAY_SIZE(device_table); i++) {
		unsigned count = device_table[i].count(&machine->config);

		for (unsigned index = 0; ret == 0 && index < count; index++)
			ret = create_device(machine, i, index, err);
	}
	return ret;
}

/* The last one first: its DMA ends before memory goes, and lines are lowered at an interrupt
 * controller that is still there. */
void machine_free_devices(struct machine *machine)
{
	struct device *device = NULL;

	for (struct device *next, *at = machine->devices; at; at = next) {
		next = at->next;
		at->next = device;
		device = at;
	}
	while (device) {
		struct device *next = device->next;

		device->ops->free(device);
		device = next;
	}
	machine->devices = NULL;
	machine->last_device = &machine->devices;
}
