/* SPDX-License-Identifier: Apache-2.0 */
/* Every device a machine can have: those of its board, and those of its configuration. */
#include "virtio/devices.h"
#include "base/checked.h"
#include "emulated/e1000/e1000.h"
#include "emulated/ide/ide.h"
#include "machine/fields.h"
#include "machine/internal.h"
#include "machine/net_policy.h"
#include "virtio/virtio.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void room(void *opaque)
{
	struct machine *machine = opaque;

	if (machine->owner.room)
		machine->owner.room(machine->owner.opaque);
}

static int create_serial(struct machine *machine, struct device **device, struct error *err)
{
	int ret = serial_new(device, machine->owner.output, err);

	machine->serial = *device;
	if (ret == 0)
		serial_set_room(*device, machine->owner.loop, room, machine);
	return ret;
}

static int create_pm(struct machine *machine, struct device **device, struct error *err)
{
	int ret = acpi_pm_new(device, &machine_power_events, machine, err);

	machine->pm = *device;
	return ret;
}

static int create_keyboard(struct machine *machine, struct device **device, struct error *err)
{
	const bool keys = machine->config.keyboard;
	int ret = keyboard_new(device, keys, &machine_power_events, machine, err);

	if (ret == 0 && keys)
		machine->keyboard = *device;
	return ret;
}

static int create_rtc(struct machine *machine, struct device **device, struct error *err)
{
	(void)machine;
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

static int create_ioapic(struct machine *machine, struct device **device, struct error *err)
{
	struct ioapic_host host = {
		.send_msi = send_msi,
		.set_route = set_route,
		.pin_ended = pin_ended,
		.opaque = machine->vm,
	};
	int ret = ioapic_new(device, &host, err);

	if (ret == 0) {
		kvm_vm_set_ioapic(machine->vm, ioapic_line, *device);
		kvm_vm_set_eoi(machine->vm, ioapic_vector_done, *device);
	}
	return ret;
}

/* Where the back end of @config is known by. */
static struct machine_backend *backend_of(
	struct machine *machine, const struct device_config *config)
{
	return &machine->backends[config - machine->config.devices];
}

static int open_disk(struct machine *machine, struct block **block,
	const struct device_config *config, struct error *err)
{
	const struct disk_config *disk = &config->disk;
	struct block_options file = {.path = disk->path,
		.readonly = disk->readonly,
		.cache = disk->cache,
		.limits = {.operations = disk->iops, .bytes = disk->bw},
		.lock = !machine->unclaimed};
	int ret = block_open(block, &file, err);

	if (ret == 0)
		backend_of(machine, config)->block = *block;
	return ret;
}

static bool packed(const struct machine *machine)
{
	return machine->config.ring == RING_PACKED;
}

/* A disk with model=ide is the controller's; no device of its own. */
static int create_disk(struct machine *machine, const struct device_config *config,
	struct device **device, struct error *err)
{
	const struct disk_config *disk = &config->disk;
	struct virtio_block_options options = {.queues = disk->queues ? disk->queues : 1,
		.packed = packed(machine),
		.poll = disk->poll};
	int ret;

	if (disk->model == DISK_IDE)
		return 0;
	ret = open_disk(machine, &options.block, config, err);
	if (ret < 0)
		return ret;
	snprintf(options.serial, sizeof(options.serial), "duet-%.15s", config->id);
	return virtio_block_new(device, config->id, &options, err);
}

static int open_drives(struct machine *machine, struct ide_options *options, struct error *err)
{
	const struct machine_config *config = &machine->config;
	int ret = 0;

	for (unsigned i = 0; ret == 0 && i < config->device_count; i++) {
		const struct device_config *device = &config->devices[i];

		if (device->type != DEVICE_DISK || device->disk.model != DISK_IDE)
			continue;
		ret = open_disk(
			machine, &options->drives[device->disk.drive - 1].block, device, err);
		strcpy(options->drives[device->disk.drive - 1].name, device->id);
	}
	return ret;
}

static int create_ide(struct machine *machine, const struct device_config *config,
	struct device **device, struct error *err)
{
	struct ide_options options = {0};
	int ret = open_drives(machine, &options, err);

	if (ret == 0)
		return ide_new(device, config->id, &options, err);
	for (unsigned i = 0; i < IDE_DRIVES_MAX; i++)
		block_close(options.drives[i].block);
	return ret;
}

/* Before its first frame. */
static int set_policy(struct net *link, const struct net_config *net, struct error *err)
{
	struct net_policy *policy;
	int ret;

	if (!net_config_has_policy(net))
		return 0;
	ret = net_config_policy(&policy, net, err);
	if (ret == 0 && net_set_policy(link, NULL, policy) < 0)
		ret = error_errno(err, ENOMEM, "--net");
	return ret;
}

/* The back end of @net, up and running. */
static int open_net(struct net **link, struct machine *machine, const struct device_config *config,
	struct error *err)
{
	const struct net_config *net = &config->net;
	struct net_options options = {.kind = net->kind,
		.ifname = net->ifname,
		.passt = machine->config.passt,
		.forward = net->forward,
		.queues = net->queues ? net->queues : 1};
	int ret = net_open(link, &options, err);

	if (ret < 0)
		return ret;
	ret = net_ready(*link, err);
	if (ret == 0)
		ret = set_policy(*link, net, err);
	if (ret < 0)
		net_close(*link);
	else
		backend_of(machine, config)->net = *link;
	return ret;
}

static int create_virtio_net(struct machine *machine, const struct device_config *config,
	struct device **device, struct error *err)
{
	const struct net_config *net = &config->net;
	struct virtio_net_options options = {.mtu = (uint16_t)net->mtu,
		.queue_pairs = net->queues ? net->queues : 1,
		.packed = packed(machine),
		.offloads = net->offloads,
		.standby = net->standby,
		.poll = net->poll,
		.vhost = net->vhost};
	int ret = open_net(&options.net, machine, config, err);

	if (ret < 0)
		return ret;
	memcpy(options.mac, net->mac.bytes, sizeof(options.mac));
	return virtio_net_new(device, config->id, &options, err);
}

static int create_e1000(struct machine *machine, const struct device_config *config,
	struct device **device, struct error *err)
{
	struct e1000_options options = {0};
	int ret = open_net(&options.net, machine, config, err);

	if (ret < 0)
		return ret;
	memcpy(options.mac, config->net.mac.bytes, sizeof(options.mac));
	return e1000_new(device, config->id, &options, err);
}

static int create_net(struct machine *machine, const struct device_config *config,
	struct device **device, struct error *err)
{
	if (config->net.model == NET_MODEL_E1000)
		return create_e1000(machine, config, device, err);
	return create_virtio_net(machine, config, device, err);
}

static int create_console(struct machine *machine, const struct device_config *config,
	struct device **device, struct error *err)
{
	struct virtio_console_options options = {.input = -1,
		.output = machine->owner.output,
		.quiet_ms = 500,
		.packed = packed(machine)};
	int ret = virtio_console_new(device, config->id, &options, err);

	machine->console = *device;
	if (ret == 0)
		virtio_console_set_room(*device, machine->owner.loop, room, machine);
	return ret;
}

static int create_passed(struct machine *machine, const struct device_config *config,
	struct device **device, struct error *err)
{
	return vfio_new(device, config->id, &machine->passed, config->vfio.host, err);
}

static int create_balloon(struct machine *machine, const struct device_config *config,
	struct device **device, struct error *err)
{
	const struct balloon_config *balloon = &config->balloon;
	struct virtio_balloon_options options = {.size = balloon->size,
		.interval = balloon->stats,
		.deflate_on_oom = balloon->deflate_on_oom,
		.reporting = balloon->reporting,
		.hinting = balloon->hinting,
		.packed = packed(machine)};
	int ret = virtio_balloon_new(device, config->id, &options, err);

	if (ret == 0)
		machine->balloon = *device;
	return ret;
}

static int create_vsock(struct machine *machine, const struct device_config *config,
	struct device **device, struct error *err)
{
	struct virtio_vsock_options options = {.cid = config->vsock.cid, .packed = packed(machine)};
	int ret = vsock_host_open(&options.host, config->vsock.path, err);

	return ret < 0 ? ret : virtio_vsock_new(device, config->id, &options, err);
}

static int create_coop(struct machine *machine, const struct device_config *config,
	struct device **device, struct error *err)
{
	const struct coop_config *coop = &config->coop;
	struct virtio_coop_options options = {.host = machine_coop_host(machine),
		.vcpus = machine->config.cpus,
		.hints = coop->hints,
		.time = coop->time,
		.yield = coop->yield,
		.copy = coop->copy,
		.counters = coop->counters && machine_coop_counts(machine),
		.packed = packed(machine)};
	int ret = virtio_coop_new(device, config->id, &options, err);

	if (ret == 0)
		machine->coop = *device;
	return ret;
}

/* On the list before realize, so that a failure frees it with the rest. */
static int install(struct machine *machine, struct device *device, struct error *err)
{
	*machine->last_device = device;
	machine->last_device = &device->next;
	return device->ops->realize(device, &machine->place, err);
}

static int (*const board[])(struct machine *machine, struct device **device, struct error *err) = {
	create_serial,
	create_pm,
	create_keyboard,
	create_rtc,
};

static int create_board(struct machine *machine, struct error *err)
{
	bool split = machine->config.irqchip == KVM_VM_IRQCHIP_SPLIT;
	bool ejects = machine_config_device(&machine->config, DEVICE_VFIO, 0);
	struct device *device = NULL;
	int ret = split ? create_ioapic(machine, &device, err) : 0;

	if (ret == 0 && split)
		ret = install(machine, device, err);
	for (unsigned i = 0; ret == 0 && i < ARRAY_SIZE(board); i++) {
		ret = board[i](machine, &device, err);
		if (ret == 0)
			ret = install(machine, device, err);
	}
	if (ret == 0 && ejects)
		ret = machine_create_eject(machine, &device, err);
	return ret == 0 && ejects ? install(machine, device, err) : ret;
}

/* Of those that need more than a name: machine/fields.c has the others'. */
static int (*const creators[DEVICE_TYPES])(struct machine *machine,
	const struct device_config *config, struct device **device, struct error *err) = {
	[DEVICE_DISK] = create_disk,
	[DEVICE_IDE] = create_ide,
	[DEVICE_NET] = create_net,
	[DEVICE_CONSOLE] = create_console,
	[DEVICE_VFIO] = create_passed,
	[DEVICE_BALLOON] = create_balloon,
	[DEVICE_VSOCK] = create_vsock,
	[DEVICE_COOP] = create_coop,
};

static void limit_entropy(const struct machine *machine, struct device *device)
{
	const struct bucket_limits limits = {
		.bytes = machine->config.entropy_bw, .operations = machine->config.entropy_ops};

	if (bucket_limits_any(&limits))
		virtio_entropy_limit(device, &limits);
}

static int make_device(struct machine *machine, const struct device_config *config,
	struct device **device, struct error *err)
{
	const struct device_type_info *type = &device_types[config->type];
	int ret;

	if (!type->create)
		return creators[config->type](machine, config, device, err);
	ret = type->create(device, config->id, packed(machine), err);
	if (ret == 0 && config->type == DEVICE_ENTROPY)
		limit_entropy(machine, *device);
	return ret;
}

/* What a virtio device offers is fixed at its first start: it is in the configuration from then on,
 * also where this machine is moved to. */
static int fix_features(struct device *device, struct device_config *config, struct error *err)
{
	uint64_t *features = &config->features;

	if (*features)
		return virtio_offer(device, *features, err);
	*features = virtio_offered(device);
	return 0;
}

static int create_device(struct machine *machine, struct device_config *config, struct error *err)
{
	struct device *device = NULL;
	int ret = make_device(machine, config, &device, err);

	if (ret < 0 || !device)
		return ret;
	pci_want_slot(device, config->slot);
	ret = install(machine, device, err);
	if (ret == 0 && device_is_virtio(config))
		ret = fix_features(device, config, err);
	return ret;
}

int machine_create_devices(struct machine *machine, struct error *err)
{
	const struct machine_config *config = &machine->config;
	int ret = create_board(machine, err);

	for (unsigned type = 0; type < DEVICE_TYPES; type++)
		for (unsigned i = 0; ret == 0 && i < config->device_count; i++)
			if (config->devices[i].type == type)
				ret = create_device(machine, &config->devices[i], err);
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
	memset(machine->backends, 0, sizeof(machine->backends));
	machine->balloon = machine->keyboard = machine->coop = machine->eject = NULL;
	machine->devices = NULL;
	machine->last_device = &machine->devices;
}
