/* SPDX-License-Identifier: Apache-2.0 */
/* The frequency of a guest's TSC, and its way from one host to another, before a KVM of the test's
 * own: ioctl() ends up here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kvm/internal.h"
#include "state/state.h"

#include <errno.h>
#include <string.h>

#define VM_FD   1000
#define VCPU_FD 1001
#define GHZ     1000000U /* in kHz */

static struct {
	uint32_t host_khz;
	uint32_t set_khz; /* by KVM_SET_TSC_KHZ; 0: was not */
	bool zeroed;
	/* Of KVM_GET_CLOCK. */
	uint64_t clock, realtime, tsc;
} kvm;

static int vcpu_request(unsigned long request, void *argument)
{
	switch (request) {
	case KVM_GET_TSC_KHZ:
		return (int)kvm.host_khz;
	case KVM_SET_TSC_KHZ:
		kvm.set_khz = (uint32_t)(uintptr_t)argument;
		return 0;
	case KVM_SET_MSRS:
		assert_int_equal(((const struct kvm_msrs *)argument)->entries[0].index, 0x10);
		assert_int_equal(((const struct kvm_msrs *)argument)->entries[0].data, 0);
		kvm.zeroed = true;
		return 1;
	default:
		fail_msg("request 0x%lx", request);
		return -1;
	}
}

/* By the linker's --wrap. */
int __wrap_ioctl(int fd, unsigned long request, void *argument);
int __wrap_ioctl(int fd, unsigned long request, void *argument)
{
	struct kvm_clock_data *clock = argument;

	if (fd == VCPU_FD)
		return vcpu_request(request, argument);
	assert_int_equal(fd, VM_FD);
	if (request == KVM_SET_CLOCK) {
		kvm.clock = clock->clock;
		return 0;
	}
	assert_int_equal(request, KVM_GET_CLOCK);
	*clock = (struct kvm_clock_data){.clock = kvm.clock,
		.realtime = kvm.realtime,
		.host_tsc = kvm.tsc,
		.flags = KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC};
	return 0;
}

static int start(struct kvm_vm *vm, uint32_t host_khz, uint32_t wanted, bool control, bool differ,
	struct error *err)
{
	struct kvm_vcpu vcpu = {.vm = vm, .fd = VCPU_FD};

	*vm = (struct kvm_vm){.fd = VM_FD,
		.host = {.tsc_control = control},
		.options = {.tsc_khz = wanted, .tsc_may_differ = differ}};
	kvm.host_khz = host_khz;
	kvm.set_khz = 0;
	kvm.zeroed = false;
	return kvm_tsc_start(&vcpu, err);
}

static void test_rates(void **state)
{
	struct error err = {0};
	struct kvm_vm vm;

	(void)state;
	/* The host's own, or as good as. */
	assert_int_equal(start(&vm, 3 * GHZ, 0, true, false, &err), 0);
	assert_int_equal(kvm_vm_tsc_khz(&vm), 3 * GHZ);
	assert_int_equal(start(&vm, 3 * GHZ, 3 * GHZ + 700, true, false, &err), 0);
	assert_int_equal(kvm_vm_tsc_khz(&vm), 3 * GHZ + 700);
	assert_int_equal(kvm.set_khz, 0);
	assert_int_equal(kvm_tsc_scaled(&vm, 12345), 12345);
	/* Scaled, both ways. */
	for (uint32_t khz = 2 * GHZ; khz <= 4 * GHZ; khz += 2 * GHZ) {
		assert_int_equal(start(&vm, 3 * GHZ, khz, true, false, &err), 0);
		assert_int_equal(kvm.set_khz, khz);
		assert_true(kvm.zeroed);
		assert_in_range(
			kvm_tsc_scaled(&vm, 3000000000ULL), khz * 1000ULL - 1, khz * 1000ULL);
	}
	/* Without scaling: forward only, or not at all, or at the host's. */
	assert_int_equal(start(&vm, 3 * GHZ, 4 * GHZ, false, false, &err), 0);
	assert_int_equal(kvm.set_khz, 4 * GHZ);
	assert_int_equal(kvm_tsc_scaled(&vm, 12345), 12345);
	assert_int_equal(start(&vm, 3 * GHZ, 2 * GHZ, false, false, &err), -ENOTSUP);
	assert_non_null(strstr(err.text, "--profile migratable"));
	assert_int_equal(start(&vm, 3 * GHZ, 2 * GHZ, false, true, &err), 0);
	assert_int_equal(kvm.set_khz, 0);
	assert_int_equal(kvm_vm_tsc_khz(&vm), 3 * GHZ);
	/* A KVM that does not say. */
	assert_int_equal(start(&vm, 0, 0, true, false, &err), 0);
	assert_int_equal(kvm_vm_tsc_khz(&vm), 0);
}

/* What a guest's TSC says: that of its host, scaled, and its offset. */
static uint64_t guest_tsc(const struct kvm_vm *vm, uint64_t host_tsc, int64_t offset)
{
	return kvm_tsc_scaled(vm, host_tsc) + (uint64_t)offset;
}

static int move(struct kvm_vm *from, struct kvm_vm *to, struct error *err)
{
	struct state_writer writer;
	struct state_reader reader;
	int ret;

	state_writer_init(&writer);
	state_section_begin(&writer, "vm", 1);
	kvm.clock = 5000000000ULL;
	kvm.realtime = 1000000000000ULL;
	kvm.tsc = 987654321987654ULL;
	assert_int_equal(kvm_clock_save(from, &writer), 0);
	state_section_close(&writer);
	assert_int_equal(state_writer_finish(&writer), 0);
	assert_int_equal(state_reader_init(&reader, writer.bytes, writer.length, err), 0);
	assert_int_equal(state_section_next(&reader, err), 1);
	/* A host whose TSC began otherwise. The time of day is the process's own there. */
	kvm.tsc = 123456789ULL;
	ret = kvm_clock_restore(to, &reader, err);
	state_writer_free(&writer);
	return ret;
}

/* From a host to one whose TSC counts slower or faster, and on from there. */
static void test_moved(void **state)
{
	static const uint32_t hosts[] = {3 * GHZ, 2100123, 4999999, 3 * GHZ};
	const uint32_t khz = 3 * GHZ;
	const uint64_t tsc = 987654321987654ULL;
	int64_t offset = -4242;
	struct error err = {0};
	struct kvm_vm from, to;

	(void)state;
	assert_int_equal(start(&from, hosts[0], khz, true, false, &err), 0);
	for (unsigned i = 1; i < 4; i++) {
		uint64_t before = guest_tsc(&from, tsc, offset), passed;

		assert_int_equal(start(&to, hosts[i], khz, true, false, &err), 0);
		assert_int_equal(move(&from, &to, &err), 0);
		/* As many cycles as nanoseconds have passed on its clock. */
		passed = to.to.clock - 5000000000ULL;
		assert_true(passed > 0);
		offset = kvm_clock_moved_offset(&to, offset);
		assert_int_equal(guest_tsc(&to, 123456789ULL, offset),
			before + (uint64_t)((unsigned __int128)passed * khz / 1000000));
		from = to;
	}
}

static void test_stopped(void **state)
{
	struct error err = {0};
	struct kvm_vm from, to;

	(void)state;
	assert_int_equal(start(&from, 3 * GHZ, 0, true, false, &err), 0);
	assert_int_equal(start(&to, 2 * GHZ, 3 * GHZ, true, false, &err), 0);
	to.options.clock_stopped = true;
	assert_int_equal(move(&from, &to, &err), 0);
	assert_int_equal(to.to.clock, 5000000000ULL);
	assert_int_equal(guest_tsc(&to, 123456789ULL, kvm_clock_moved_offset(&to, 7)),
		987654321987654ULL + 7);
}

static void test_other_rates(void **state)
{
	struct error err = {0};
	struct kvm_vm from, to;

	(void)state;
	assert_int_equal(start(&from, 3 * GHZ, 0, true, false, &err), 0);
	assert_int_equal(start(&to, 2 * GHZ, 0, true, false, &err), 0);
	assert_int_equal(move(&from, &to, &err), -ENOTSUP);
	assert_non_null(strstr(err.text, "counts 3000000 kHz"));
	assert_int_equal(start(&to, 2 * GHZ, 3 * GHZ, false, true, &err), 0);
	assert_int_equal(move(&from, &to, &err), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rates),
		cmocka_unit_test(test_moved),
		cmocka_unit_test(test_stopped),
		cmocka_unit_test(test_other_rates),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
