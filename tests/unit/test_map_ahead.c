/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "kvm/internal.h"

/* The kernel: maps @maps bytes, then says @error. */
static struct {
	uint64_t maps;
	int error;
	unsigned calls;
} kernel;

int __wrap_ioctl(int fd, unsigned long request, void *argument);
int __wrap_ioctl(int fd, unsigned long request, void *argument)
{
	struct kvm_pre_fault_memory *range = argument;

	assert_int_equal(request, KVM_PRE_FAULT_MEMORY);
	assert_int_equal(range->flags, 0);
	kernel.calls++;
	range->gpa += kernel.maps;
	range->size -= kernel.maps;
	errno = kernel.error;
	return kernel.error ? -1 : 0;
}

static struct kvm_vm vm;
static struct kvm_vcpu vcpu = {.vm = &vm};

static int64_t ask(bool able, uint64_t maps, int error)
{
	vm.host.map_ahead = able;
	kernel.maps = maps;
	kernel.error = error;
	kernel.calls = 0;
	return kvm_vcpu_map_ahead(&vcpu, 0x100000, 0x4000);
}

static void says_how_far_it_came(void **state)
{
	assert_int_equal(ask(true, 0x4000, 0), 0x4000);
	assert_int_equal(ask(true, 0x1000, EINTR), 0x1000);
	assert_int_equal(ask(true, 0x3000, EAGAIN), 0x3000);
}

static void says_why_it_could_not(void **state)
{
	assert_int_equal(ask(true, 0, EOPNOTSUPP), -EOPNOTSUPP);
	assert_int_equal(ask(true, 0, ENOENT), -ENOENT);
}

static void does_not_ask_a_kernel_without_it(void **state)
{
	assert_int_equal(ask(false, 0x4000, 0), -EOPNOTSUPP);
	assert_int_equal(kernel.calls, 0);
	vm.host.map_ahead = true;
	assert_int_equal(kvm_vcpu_map_ahead(&vcpu, 0x100000, 0), 0);
	assert_int_equal(kernel.calls, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(says_how_far_it_came),
		cmocka_unit_test(says_why_it_could_not),
		cmocka_unit_test(does_not_ask_a_kernel_without_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
