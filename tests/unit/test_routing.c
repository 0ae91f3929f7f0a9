/* SPDX-License-Identifier: Apache-2.0 */
/* The routing table before a KVM of the test's own: ioctl() ends up here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kvm/internal.h"

#include <stdlib.h>
#include <string.h>

#define VM_FD   1000
#define ADDRESS 0xfee00000ULL
#define REFUSED (1ULL << 32 | ADDRESS) /* as KVM with its x2APIC API */
#define ENTRIES 128

static struct {
	struct kvm_irq_routing_entry entries[ENTRIES]; /* as last accepted */
	unsigned count, sets;
	int attached[ENTRIES]; /* irqfds by GSI */
	int fail_sets, fail_irqfd;
} kvm;

static int set_routing(const struct kvm_irq_routing *table)
{
	kvm.sets++;
	if (kvm.fail_sets)
		return kvm.fail_sets;
	assert_true(table->nr <= ENTRIES);
	for (unsigned i = 0; i < table->nr; i++)
		if (table->entries[i].u.msi.address_hi)
			return EINVAL;
	memcpy(kvm.entries, table->entries, table->nr * sizeof(kvm.entries[0]));
	kvm.count = table->nr;
	return 0;
}

static int set_irqfd(const struct kvm_irqfd *request)
{
	if (kvm.fail_irqfd)
		return kvm.fail_irqfd;
	assert_true(request->gsi < ENTRIES);
	kvm.attached[request->gsi] += request->flags & KVM_IRQFD_FLAG_DEASSIGN ? -1 : 1;
	return 0;
}

/* By the linker's --wrap. */
int __wrap_ioctl(int fd, unsigned long request, void *argument);
int __wrap_ioctl(int fd, unsigned long request, void *argument)
{
	int code;

	assert_int_equal(fd, VM_FD);
	if (request == KVM_CHECK_EXTENSION)
		return ROUTES_MAX;
	code = request == KVM_SET_GSI_ROUTING ? set_routing(argument) : set_irqfd(argument);
	errno = code;
	return code ? -1 : 0;
}

static const struct kvm_irq_routing_entry *route_of(unsigned gsi)
{
	for (unsigned i = 0; i < kvm.count; i++)
		if (kvm.entries[i].gsi == gsi)
			return &kvm.entries[i];
	return NULL;
}

static void assert_route(unsigned gsi, uint32_t data)
{
	assert_non_null(route_of(gsi));
	assert_int_equal(route_of(gsi)->u.msi.data, data);
}

static int set_up(void **state)
{
	struct kvm_vm *vm = calloc(1, sizeof(*vm));

	memset(&kvm, 0, sizeof(kvm));
	vm->bus_host.ops = &kvm_bus_host_ops;
	vm->fd = VM_FD;
	vm->options.irqchip = KVM_VM_IRQCHIP_SPLIT;
	pthread_mutex_init(&vm->routing.lock, NULL);
	assert_int_equal(routing_init(vm), 0);
	*state = vm;
	return 0;
}

static int tear_down(void **state)
{
	free(*state);
	return 0;
}

static unsigned add(struct kvm_vm *vm, uint64_t address, uint32_t data)
{
	unsigned gsi;

	assert_int_equal(vm->bus_host.ops->msi_add(&vm->bus_host, address, data, &gsi), 0);
	return gsi;
}

static int attach(struct kvm_vm *vm, unsigned gsi)
{
	return vm->bus_host.ops->irqfd_attach(&vm->bus_host, gsi, 7);
}

static int change(struct kvm_vm *vm, unsigned gsi, uint64_t address, uint32_t data)
{
	return vm->bus_host.ops->msi_change(&vm->bus_host, gsi, address, data);
}

static void test_costs_once(void **state)
{
	struct kvm_vm *vm = *state;
	unsigned a = add(vm, ADDRESS, 1), b = add(vm, ADDRESS, 2);

	assert_int_equal(kvm.sets, 0);
	assert_int_equal(attach(vm, a), 0);
	assert_int_equal(attach(vm, b), 0);
	assert_int_equal(kvm.sets, 2);
	/* Masked and unmasked. */
	for (unsigned i = 0; i < 5; i++) {
		vm->bus_host.ops->irqfd_detach(&vm->bus_host, a, 7);
		assert_int_equal(change(vm, a, ADDRESS, 1), 0);
		assert_int_equal(attach(vm, a), 0);
	}
	assert_int_equal(kvm.sets, 2);
	vm->bus_host.ops->irqfd_detach(&vm->bus_host, a, 7);
	assert_int_equal(change(vm, a, ADDRESS, 3), 0);
	assert_int_equal(kvm.sets, 2);
	assert_int_equal(attach(vm, a), 0);
	assert_int_equal(kvm.sets, 3);
	assert_route(a, 3);
	assert_route(b, 2);
}

/* One message that KVM refuses: all others go on being routed, and a pin too. */
static void test_refused_from_the_start(void **state)
{
	struct kvm_vm *vm = *state;
	unsigned bad = add(vm, REFUSED, 1), good = add(vm, ADDRESS, 2);

	assert_int_equal(attach(vm, bad), -EINVAL);
	assert_int_equal(kvm.attached[bad], 0);
	assert_int_equal(attach(vm, good), 0);
	assert_route(good, 2);
	assert_int_equal(kvm_vm_route_pin(vm, 9, ADDRESS, 0x8031, false), 0);
	assert_route(9, 0x8031);
	assert_int_equal(change(vm, good, ADDRESS, 3), 0);
	assert_route(good, 3);
	assert_null(route_of(bad));
	assert_int_equal(change(vm, bad, ADDRESS, 1), 0);
	assert_int_equal(attach(vm, bad), 0);
	assert_route(bad, 1);
}

static void test_refused_while_attached(void **state)
{
	struct kvm_vm *vm = *state;
	unsigned bad = add(vm, ADDRESS, 1), good = add(vm, ADDRESS, 2);

	assert_int_equal(attach(vm, bad), 0);
	assert_int_equal(attach(vm, good), 0);
	assert_int_equal(change(vm, bad, REFUSED, 1), -EINVAL);
	/* Not the message from before either. */
	assert_null(route_of(bad));
	assert_route(good, 2);
	assert_int_equal(change(vm, bad, REFUSED, 1), -EINVAL);
	assert_int_equal(change(vm, bad, ADDRESS, 1), 0);
	assert_route(bad, 1);
	/* Its number is free for others. */
	assert_int_equal(change(vm, bad, REFUSED, 1), -EINVAL);
	vm->bus_host.ops->irqfd_detach(&vm->bus_host, bad, 7);
	vm->bus_host.ops->msi_remove(&vm->bus_host, bad);
	assert_int_equal(add(vm, ADDRESS, 4), bad);
	assert_int_equal(attach(vm, bad), 0);
	assert_route(bad, 4);
}

/* A pin whose route was refused keeps the one it had, and is tried again. */
static void test_pin_refused(void **state)
{
	struct kvm_vm *vm = *state;

	assert_int_equal(kvm_vm_route_pin(vm, 4, ADDRESS, 0x8031, false), 0);
	kvm.fail_sets = ENOMEM;
	assert_int_equal(kvm_vm_route_pin(vm, 4, ADDRESS, 0x8032, false), -ENOMEM);
	assert_int_equal(kvm_vm_route_pin(vm, 5, ADDRESS, 0x8033, false), -ENOMEM);
	kvm.fail_sets = 0;
	assert_int_equal(kvm_vm_route_pin(vm, 6, ADDRESS, 0x8034, false), 0);
	assert_route(4, 0x8031);
	assert_null(route_of(5));
	assert_int_equal(kvm_vm_route_pin(vm, 4, ADDRESS, 0x8032, false), 0);
	assert_int_equal(kvm_vm_route_pin(vm, 5, ADDRESS, 0x8033, false), 0);
	assert_route(4, 0x8032);
	assert_route(5, 0x8033);
}

static void test_irqfd_fails(void **state)
{
	struct kvm_vm *vm = *state;
	unsigned gsi = add(vm, ADDRESS, 1);

	kvm.fail_irqfd = EMFILE;
	assert_int_equal(attach(vm, gsi), -EMFILE);
	vm->bus_host.ops->msi_remove(&vm->bus_host, gsi);
	kvm.fail_irqfd = 0;
	assert_int_equal(add(vm, ADDRESS, 2), gsi);
	assert_int_equal(attach(vm, gsi), 0);
	assert_route(gsi, 2);
	assert_int_equal(kvm.count, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_costs_once, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_refused_from_the_start, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_refused_while_attached, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_pin_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_irqfd_fails, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
