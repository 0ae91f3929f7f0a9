/* SPDX-License-Identifier: Apache-2.0 */
/* A VM: its interrupt controllers, clock and coalesced ranges. */
#include "kvm/internal.h"

#include "base/checked.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int create(struct kvm_vm *vm, struct error *err)
{
	int ret;

	/* Creation takes a while and a signal may interrupt it. */
	do {
		ret = kvm_ioctl_value(vm->host.fd, KVM_CREATE_VM, 0);
	} while (ret == -EINTR);
	if (ret == -EBUSY)
		return error_set(err, EBUSY,
			"/dev/kvm is busy: another hypervisor holds the processor's "
			"virtualization; stop it first");
	if (ret == -ENOMEM)
		return error_set(err, ENOMEM, "/dev/kvm: the host has no memory for another VM");
	if (ret < 0)
		return error_errno(err, -ret, "/dev/kvm: KVM_CREATE_VM");
	vm->fd = ret;
	return 0;
}

/* Pages that KVM on Intel keeps for itself in the guest's address space; elsewhere the calls do no
 * harm. */
static int reserve_pages(struct kvm_vm *vm, struct error *err)
{
	uint64_t identity = vm->options.reserved_gpa;
	int ret;

	if (!identity)
		return 0;
	ret = kvm_ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity);
	if (ret < 0 && ret != -EINVAL && ret != -ENOTTY)
		return error_errno(err, -ret, "/dev/kvm: KVM_SET_IDENTITY_MAP_ADDR");
	ret = kvm_ioctl_value(vm->fd, KVM_SET_TSS_ADDR, (unsigned long)identity + MEMORY_PAGE);
	if (ret < 0 && ret != -EINVAL && ret != -ENOTTY)
		return error_errno(err, -ret, "/dev/kvm: KVM_SET_TSS_ADDR");
	return 0;
}

static int create_irqchip(struct kvm_vm *vm, struct error *err)
{
	struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};
	int ret;

	if (vm->options.irqchip == KVM_VM_IRQCHIP_NONE)
		return 0;
	if (vm->options.irqchip == KVM_VM_IRQCHIP_SPLIT) {
		ret = kvm_enable_cap(vm->fd, KVM_CAP_SPLIT_IRQCHIP, IOAPIC_PINS);
		if (ret < 0)
			return error_errno(err, -ret, "/dev/kvm: split interrupt controller");
		return 0;
	}
	ret = kvm_ioctl_value(vm->fd, KVM_CREATE_IRQCHIP, 0);
	if (ret < 0)
		return error_errno(err, -ret, "/dev/kvm: interrupt controller");
	if (!vm->options.pit)
		return 0;
	ret = kvm_ioctl(vm->fd, KVM_CREATE_PIT2, &pit);
	if (ret < 0)
		return error_errno(err, -ret, "/dev/kvm: timer (PIT)");
	return 0;
}

/* APIC ids as wide as x2APIC has them in MSI routes and LAPIC state, and no broadcast to id 255. */
static int enable_x2apic(struct kvm_vm *vm, struct error *err)
{
	int ret;

	if (!vm->host.x2apic_api || vm->options.irqchip == KVM_VM_IRQCHIP_NONE)
		return 0;
	ret = kvm_enable_cap(vm->fd, KVM_CAP_X2APIC_API,
		KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK);
	return ret < 0 ? error_errno(err, -ret, "/dev/kvm: x2APIC") : 0;
}

static int check_options(const struct kvm_vm *vm, struct error *err)
{
	if (vm->options.cpus > vm->host.vcpus_max)
		return error_set(err, EINVAL, "--cpus %u: this host's KVM allows at most %u",
			vm->options.cpus, vm->host.vcpus_max);
	if (vm->options.irqchip == KVM_VM_IRQCHIP_SPLIT && !vm->host.split_irqchip)
		return error_set(err, ENOTSUP,
			"this host's KVM has no split interrupt controller (Linux 4.5 or later)");
	if (vm->options.irqchip == KVM_VM_IRQCHIP_NONE)
		return 0;
	if (!vm->host.irqfd || !vm->host.ioeventfd || !vm->host.immediate_exit)
		return error_set(err, ENOTSUP,
			"this host's KVM is too old: irqfd, ioeventfd and immediate_exit are "
			"needed (Linux 4.12 or later)");
	return 0;
}

static int set_up(struct kvm_vm *vm, struct error *err)
{
	int ret = check_options(vm, err);

	if (ret == 0)
		ret = create(vm, err);
	if (ret == 0)
		ret = reserve_pages(vm, err);
	if (ret == 0)
		ret = pmu_set_up(vm, err);
	if (ret == 0)
		ret = create_irqchip(vm, err);
	if (ret == 0)
		ret = enable_x2apic(vm, err);
	if (ret == 0)
		dirty_set_up(vm); /* without rings there are KVM's bitmaps */
	if (ret == 0 && routing_init(vm) < 0)
		ret = error_set(err, ENOTSUP, "/dev/kvm: no interrupt routing");
	return ret;
}

int kvm_vm_new(struct kvm_vm **out, const struct kvm_host *host,
	const struct kvm_vm_options *options, struct error *err)
{
	struct kvm_vm *vm = calloc(1, sizeof(*vm));
	int ret;

	if (!vm)
		return error_errno(err, ENOMEM, "VM");
	vm->bus_host.ops = &kvm_bus_host_ops;
	vm->host = *host;
	vm->options = *options;
	vm->fd = -1;
	vm->vfio_fd = -1;
	pthread_mutex_init(&vm->slots_lock, NULL);
	pthread_mutex_init(&vm->ring_lock, NULL);
	pthread_mutex_init(&vm->routing.lock, NULL);
	pthread_mutex_init(&vm->dirty.lock, NULL);
	ret = set_up(vm, err);
	if (ret < 0) {
		kvm_vm_free(vm);
		return ret;
	}
	ret = kvm_ioctl_value(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);
	vm->xsave_size =
		ret > (int)sizeof(struct kvm_xsave) ? (unsigned)ret : sizeof(struct kvm_xsave);
	ret = kvm_ioctl_value(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_NESTED_STATE);
	vm->nested_size = ret > 0 ? (unsigned)ret : 0;
	*out = vm;
	return 0;
}

void kvm_vm_free(struct kvm_vm *vm)
{
	if (!vm)
		return;
	if (vm->vfio_fd >= 0)
		close(vm->vfio_fd);
	if (vm->fd >= 0)
		close(vm->fd);
	dirty_end(vm);
	pthread_mutex_destroy(&vm->slots_lock);
	pthread_mutex_destroy(&vm->ring_lock);
	pthread_mutex_destroy(&vm->routing.lock);
	pthread_mutex_destroy(&vm->dirty.lock);
	free(vm);
}

struct bus_host *kvm_vm_bus_host(struct kvm_vm *vm)
{
	return &vm->bus_host;
}

void kvm_vm_set_ioapic(
	struct kvm_vm *vm, void (*set_line)(void *ioapic, unsigned pin, bool level), void *ioapic)
{
	vm->ioapic = ioapic;
	vm->ioapic_set_line = set_line;
}

void kvm_vm_set_eoi(struct kvm_vm *vm, void (*eoi)(void *ioapic, unsigned vector), void *ioapic)
{
	vm->eoi_ioapic = ioapic;
	vm->ioapic_eoi = eoi;
}

int kvm_vm_fd(const struct kvm_vm *vm)
{
	return vm->fd;
}

int kvm_vm_coalesce(struct kvm_vm *vm, bool port, uint64_t address, unsigned length)
{
	struct kvm_coalesced_mmio_zone zone = {.addr = address, .size = length, .pio = port};
	int ret;

	if (!vm->host.coalesced_page || (port && !vm->host.coalesced_pio))
		return -ENOTSUP;
	ret = kvm_ioctl(vm->fd, KVM_REGISTER_COALESCED_MMIO, &zone);
	if (ret == 0)
		atomic_store(&vm->coalescing, true);
	return ret;
}
