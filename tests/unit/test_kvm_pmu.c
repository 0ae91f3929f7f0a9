/* SPDX-License-Identifier: Apache-2.0 */
/* A VM's PMU before a KVM of the test's own: ioctl() ends up here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kvm/internal.h"

#include <stdbool.h>
#include <string.h>

#define VM_FD 1000

static struct {
	bool disabled, filtered;
	uint32_t events;
	bool instructions; /* are among them */
	int fail;
} kvm;

static void set_filter(const struct kvm_pmu_event_filter *filter)
{
	kvm.filtered = true;
	kvm.events = filter->nevents;
	assert_int_equal(filter->action, KVM_PMU_EVENT_ALLOW);
	assert_int_equal(filter->flags, 0);
	for (uint32_t i = 0; i < filter->nevents; i++)
		kvm.instructions |= filter->events[i] == 0xc0;
}

/* By the linker's --wrap. */
int __wrap_ioctl(int fd, unsigned long request, void *argument);
int __wrap_ioctl(int fd, unsigned long request, void *argument)
{
	const struct kvm_enable_cap *cap = argument;

	assert_int_equal(fd, VM_FD);
	if (kvm.fail) {
		errno = kvm.fail;
		return -1;
	}
	if (request == KVM_SET_PMU_EVENT_FILTER) {
		set_filter(argument);
		return 0;
	}
	assert_int_equal(request, KVM_ENABLE_CAP);
	assert_int_equal(cap->cap, KVM_CAP_PMU_CAPABILITY);
	assert_int_equal(cap->args[0], KVM_PMU_CAP_DISABLE);
	kvm.disabled = true;
	return 0;
}

static int set_up(enum kvm_vm_pmu pmu, bool vpmu, bool filter, struct error *err)
{
	struct kvm_vm vm = {
		.fd = VM_FD, .host = {.vpmu = vpmu, .pmu_filter = filter}, .options = {.pmu = pmu}};
	int fail = kvm.fail;

	memset(&kvm, 0, sizeof(kvm));
	kvm.fail = fail;
	return pmu_set_up(&vm, err);
}

static void test_none(void **state)
{
	struct error err = {0};

	(void)state;
	assert_int_equal(set_up(KVM_VM_PMU_NONE, true, true, &err), 0);
	assert_true(kvm.disabled && !kvm.filtered);
	assert_int_equal(set_up(KVM_VM_PMU_NONE, false, false, &err), 0);
	assert_false(kvm.disabled);
}

static void test_pass(void **state)
{
	struct error err = {0};

	(void)state;
	assert_int_equal(set_up(KVM_VM_PMU_PASS, true, false, &err), 0);
	assert_false(kvm.disabled || kvm.filtered);
	assert_int_equal(set_up(KVM_VM_PMU_PASS, false, true, &err), -ENOTSUP);
	assert_non_null(strstr(err.text, "--pmu pass: "));
	assert_non_null(strstr(err.text, "use --pmu pv"));
}

static void test_filter(void **state)
{
	struct error err = {0};

	(void)state;
	assert_int_equal(set_up(KVM_VM_PMU_FILTER, true, true, &err), 0);
	assert_true(kvm.filtered && kvm.instructions && !kvm.disabled);
	assert_in_range(kvm.events, 6, 8);
	assert_int_equal(set_up(KVM_VM_PMU_FILTER, true, false, &err), -ENOTSUP);
	assert_non_null(strstr(err.text, "--pmu filter: "));
	assert_int_equal(set_up(KVM_VM_PMU_FILTER, false, true, &err), -ENOTSUP);
}

static void test_refused(void **state)
{
	struct error err = {0};

	(void)state;
	kvm.fail = EINVAL;
	assert_int_equal(set_up(KVM_VM_PMU_FILTER, true, true, &err), -EINVAL);
	assert_non_null(strstr(err.text, "--pmu filter: "));
	assert_int_equal(set_up(KVM_VM_PMU_NONE, true, true, &err), -EINVAL);
	kvm.fail = 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_none),
		cmocka_unit_test(test_pass),
		cmocka_unit_test(test_filter),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
