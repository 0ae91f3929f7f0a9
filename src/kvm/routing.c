/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupts of devices: lines, MSI routes and irqfds.
 *
 * KVM_SET_GSI_ROUTING replaces the whole table, so the table lives here, under a lock. A route
 * matters to KVM only while an irqfd hangs on it: it is handed over then, not before, which spares
 * one call (and KVM's wait for its readers) for every vector that a driver sets up.
 *
 * KVM refuses a table with one message that it cannot take, a guest's mistake, as a whole. So at
 * most one route is new to KVM in each table, and when that is refused it is left out: it is dead,
 * and all others are as they were.
 */
#include "kvm/internal.h"

#include "base/checked.h"
#include "base/cleanup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/*
 * #syscalls main vcpu io: ioctl(KVM_IRQ_LINE) ioctl(KVM_IRQFD) ioctl(KVM_SIGNAL_MSI)
 * #syscalls main vcpu io: ioctl(KVM_SET_GSI_ROUTING)
 */

static struct kvm_vm *vm_of(struct bus_host *host)
{
	return container_of(host, struct kvm_vm, bus_host);
}

static struct kvm_irq_routing_entry chip_entry(unsigned gsi, unsigned chip, unsigned pin)
{
	return (struct kvm_irq_routing_entry){
		.gsi = gsi,
		.type = KVM_IRQ_ROUTING_IRQCHIP,
		.u.irqchip = {.irqchip = chip, .pin = pin},
	};
}

static struct kvm_irq_routing_entry msi_entry(unsigned gsi, const struct route *route)
{
	return (struct kvm_irq_routing_entry){
		.gsi = gsi,
		.type = KVM_IRQ_ROUTING_MSI,
		.u.msi = {.address_lo = (uint32_t)route->address,
			.address_hi = (uint32_t)(route->address >> 32),
			.data = route->data},
	};
}

/* GSI n is pin n of the in-kernel IOAPIC, and of the two PICs as far as they go. */
static unsigned add_chip_pins(struct kvm_irq_routing_entry *entries)
{
	unsigned count = 0;

	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
		entries[count++] = chip_entry(pin, KVM_IRQCHIP_IOAPIC, pin);
	for (unsigned pin = 0; pin < PIC_PINS; pin++)
		entries[count++] = chip_entry(
			pin, pin < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE, pin % 8);
	return count;
}

/* Hands the table of what is live to KVM, which keeps the one before when it refuses. Lock held. */
static int commit(struct kvm_vm *vm)
{
	struct routing *routing = &vm->routing;
	_cleanup_free_ struct kvm_irq_routing *table = NULL;

	table = calloc(1, sizeof(*table) + (IOAPIC_PINS + PIC_PINS + routing->end) *
						   sizeof(table->entries[0]));
	if (!table)
		return -ENOMEM;
	if (vm->options.irqchip == KVM_VM_IRQCHIP_KERNEL)
		table->nr = add_chip_pins(table->entries);
	for (unsigned gsi = 0; gsi < routing->end; gsi++)
		if (routing->routes[gsi].live)
			table->entries[table->nr++] = msi_entry(gsi, &routing->routes[gsi]);
	return kvm_ioctl(vm->fd, KVM_SET_GSI_ROUTING, table);
}

/* Lock held. */
static int make_live(struct kvm_vm *vm, struct route *route)
{
	int ret;

	route->live = true;
	ret = commit(vm);
	route->live = ret == 0;
	return ret;
}

int routing_init(struct kvm_vm *vm)
{
	int max = kvm_ioctl_value(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_IRQ_ROUTING);

	/* In-kernel chips take up to two entries for a pin. */
	if (vm->options.irqchip == KVM_VM_IRQCHIP_NONE)
		return 0;
	if (max <= IOAPIC_PINS + PIC_PINS)
		return -ENOTSUP;
	vm->routing.max = (unsigned)max - PIC_PINS;
	if (vm->routing.max > ROUTES_MAX)
		vm->routing.max = ROUTES_MAX;
	return 0;
}

static void set_line(struct bus_host *host, unsigned gsi, bool level)
{
	struct kvm_vm *vm = vm_of(host);
	struct kvm_irq_level line = {.irq = gsi, .level = level};

	if (vm->options.irqchip == KVM_VM_IRQCHIP_KERNEL)
		kvm_ioctl(vm->fd, KVM_IRQ_LINE, &line);
	else if (vm->ioapic_set_line)
		vm->ioapic_set_line(vm->ioapic, gsi, level);
}

static int msi_add(struct bus_host *host, uint64_t address, uint32_t data, unsigned *gsi)
{
	struct routing *routing = &vm_of(host)->routing;
	unsigned free_gsi = IOAPIC_PINS;
	int ret = -ENOSPC;

	pthread_mutex_lock(&routing->lock);
	while (free_gsi < routing->max && routing->routes[free_gsi].used)
		free_gsi++;
	if (free_gsi < routing->max) {
		routing->routes[free_gsi] =
			(struct route){.address = address, .data = data, .used = true};
		if (free_gsi >= routing->end)
			routing->end = free_gsi + 1;
		*gsi = free_gsi;
		ret = 0;
	}
	pthread_mutex_unlock(&routing->lock);
	return ret;
}

/* Lock held. */
static int change(struct kvm_vm *vm, struct route *route, uint64_t address, uint32_t data)
{
	bool same = route->address == address && route->data == data;
	int ret;

	if (same && (route->live || !route->irqfds))
		return 0;
	route->address = address;
	route->data = data;
	route->live = false;
	if (!route->irqfds)
		return 0;
	ret = make_live(vm, route);
	/* The message before is not to be sent either. */
	if (ret < 0)
		commit(vm);
	return ret;
}

static int msi_change(struct bus_host *host, unsigned gsi, uint64_t address, uint32_t data)
{
	struct kvm_vm *vm = vm_of(host);
	struct routing *routing = &vm->routing;
	int ret = -EINVAL;

	pthread_mutex_lock(&routing->lock);
	if (gsi >= IOAPIC_PINS && gsi < routing->end && routing->routes[gsi].used)
		ret = change(vm, &routing->routes[gsi], address, data);
	pthread_mutex_unlock(&routing->lock);
	return ret;
}

static void msi_remove(struct bus_host *host, unsigned gsi)
{
	struct routing *routing = &vm_of(host)->routing;

	pthread_mutex_lock(&routing->lock);
	if (gsi >= IOAPIC_PINS && gsi < routing->end) {
		routing->routes[gsi] = (struct route){0};
		while (routing->end && !routing->routes[routing->end - 1].used)
			routing->end--;
	}
	pthread_mutex_unlock(&routing->lock);
}

static int irqfd(struct kvm_vm *vm, unsigned gsi, int eventfd, uint32_t flags)
{
	struct kvm_irqfd request = {.fd = (uint32_t)eventfd, .gsi = gsi, .flags = flags};

	return kvm_ioctl(vm->fd, KVM_IRQFD, &request);
}

static int attach(struct kvm_vm *vm, struct kvm_irqfd *request)
{
	struct routing *routing = &vm->routing;
	struct route *route;
	int ret = 0;

	if (request->gsi >= routing->max)
		return -EINVAL;
	route = &routing->routes[request->gsi];
	pthread_mutex_lock(&routing->lock);
	if (route->used && !route->live)
		ret = make_live(vm, route);
	if (ret == 0)
		ret = kvm_ioctl(vm->fd, KVM_IRQFD, request);
	if (ret == 0)
		route->irqfds++;
	pthread_mutex_unlock(&routing->lock);
	return ret;
}

static int irqfd_attach(struct bus_host *host, unsigned gsi, int eventfd)
{
	struct kvm_irqfd request = {.fd = (uint32_t)eventfd, .gsi = gsi};

	return attach(vm_of(host), &request);
}

static int irqfd_attach_level(struct bus_host *host, unsigned gsi, int eventfd, int resample)
{
	struct kvm_vm *vm = vm_of(host);
	struct kvm_irqfd request = {.fd = (uint32_t)eventfd,
		.gsi = gsi,
		.flags = KVM_IRQFD_FLAG_RESAMPLE,
		.resamplefd = (uint32_t)resample};

	if (vm->options.irqchip != KVM_VM_IRQCHIP_KERNEL)
		return -ENOTSUP;
	return gsi < IOAPIC_PINS ? attach(vm, &request) : -EINVAL;
}

static int eoi_watch(struct bus_host *host, struct bus_eoi_watch *watch)
{
	struct kvm_vm *vm = vm_of(host);

	if (vm->options.irqchip != KVM_VM_IRQCHIP_SPLIT)
		return -ENOTSUP;
	watch->next = vm->eoi_watches;
	vm->eoi_watches = watch;
	return 0;
}

static void eoi_unwatch(struct bus_host *host, struct bus_eoi_watch *watch)
{
	struct bus_eoi_watch **at = &vm_of(host)->eoi_watches;

	while (*at && *at != watch)
		at = &(*at)->next;
	if (*at)
		*at = watch->next;
}

void kvm_vm_pin_ended(struct kvm_vm *vm, unsigned pin)
{
	for (struct bus_eoi_watch *watch = vm->eoi_watches; watch; watch = watch->next)
		if (watch->gsi == pin)
			watch->ended(watch);
}

static void irqfd_detach(struct bus_host *host, unsigned gsi, int eventfd)
{
	struct kvm_vm *vm = vm_of(host);
	struct routing *routing = &vm->routing;

	if (gsi >= routing->max)
		return;
	pthread_mutex_lock(&routing->lock);
	if (irqfd(vm, gsi, eventfd, KVM_IRQFD_FLAG_DEASSIGN) == 0 && routing->routes[gsi].irqfds)
		routing->routes[gsi].irqfds--;
	pthread_mutex_unlock(&routing->lock);
}

int kvm_vm_route_pin(struct kvm_vm *vm, unsigned pin, uint64_t address, uint32_t data, bool masked)
{
	struct routing *routing = &vm->routing;
	struct route *route, before;
	int ret = 0;

	if (pin >= IOAPIC_PINS || vm->options.irqchip != KVM_VM_IRQCHIP_SPLIT)
		return -EINVAL;
	route = &routing->routes[pin];
	/* A level-triggered interrupt may be in service when its pin is masked, and its EOI must
	 * still come back: so a masked pin keeps the route that it had. */
	if (masked)
		return 0;
	pthread_mutex_lock(&routing->lock);
	before = *route;
	if (!route->live || route->address != address || route->data != data) {
		*route = (struct route){
			.address = address, .data = data, .used = true, .irqfds = before.irqfds};
		if (pin >= routing->end)
			routing->end = pin + 1;
		ret = make_live(vm, route);
	}
	/* As KVM has it still; asked for again it is tried again. */
	if (ret < 0)
		*route = before;
	pthread_mutex_unlock(&routing->lock);
	return ret;
}

int kvm_vm_signal_msi(struct kvm_vm *vm, uint64_t address, uint32_t data)
{
	struct kvm_msi msi = {
		.address_lo = (uint32_t)address,
		.address_hi = (uint32_t)(address >> 32),
		.data = data,
	};

	return kvm_ioctl(vm->fd, KVM_SIGNAL_MSI, &msi);
}

const struct bus_host_ops kvm_bus_host_ops = {
	.set_line = set_line,
	.msi_add = msi_add,
	.msi_change = msi_change,
	.msi_remove = msi_remove,
	.irqfd_attach = irqfd_attach,
	.irqfd_detach = irqfd_detach,
	.irqfd_attach_level = irqfd_attach_level,
	.eoi_watch = eoi_watch,
	.eoi_unwatch = eoi_unwatch,
	.doorbell_add = doorbell_add,
	.doorbell_remove = doorbell_remove,
	.window_add = window_add,
	.window_remove = window_remove,
	.vfio_group = vfio_group,
};
